#!/usr/bin/env python3
"""What trivetctl has that etcdctl lacks: top, check, copy, watch --resume, completion, progress.

Each scene has real processes: clusters of trivet and of etcd, terminals, shells. The last line counts.
"""

import fcntl
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import cluster as clusters  # noqa: E402
from cluster import Cluster  # noqa: E402

CTL = os.environ.get("TRIVETCTL", os.path.join(clusters.build_dir(), "client", "trivetctl"))
HAS_ETCD = clusters.available("etcd")
PATIENCE = 60

passed, failed = 0, 0


def check(condition, text, detail=""):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print("FAILED: %s %s" % (text, str(detail)[:3000]), flush=True)


def ctl(endpoints, *args, timeout=PATIENCE, stdin=None):
    done = subprocess.run([CTL, "--endpoints", endpoints, *args], capture_output=True, timeout=timeout,
                          input=stdin, check=False)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def start(endpoints, *args, **more):
    return subprocess.Popen([CTL, "--endpoints", endpoints, *args], stdin=subprocess.DEVNULL,
                            preexec_fn=clusters.die_with_parent, **more)


def endpoints_of(cluster):
    return ",".join(node.endpoint() for node in cluster.nodes)


def all_keys(endpoints, prefix="", strip=""):
    """{key: value} under a prefix, without `strip` in front."""
    status, out, err = ctl(endpoints, "get", prefix, "--prefix", "-w", "json") if prefix else \
        ctl(endpoints, "get", "", "--from-key", "-w", "json")
    if status != 0:
        raise RuntimeError(err)
    import base64
    found = {}
    for kv in json.loads(out).get("kvs", []):
        key = base64.b64decode(kv["key"]).decode()
        found[key[len(strip):]] = base64.b64decode(kv.get("value", "")).decode()
    return found


def wait_for(what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


# --- a terminal ---

class Terminal:
    """A program in a pseudo-terminal, and what it writes to it."""

    def __init__(self, args, rows=30, columns=160):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            clusters.die_with_parent()
            os.environ["TERM"] = "xterm"
            os.execv(args[0], args)
        self.resize(rows, columns)
        self.text = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, wanted, seconds=PATIENCE):
        """True when `wanted` (a pattern) is written from now on."""
        seen = b""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([self.fd], [], [], 0.2)
            if ready:
                try:
                    piece = os.read(self.fd, 65536)
                except OSError:
                    break
                if not piece:
                    break
                seen += piece
                self.text += piece
            if re.search(wanted, seen, re.S):
                return True
        return re.search(wanted, seen, re.S) is not None

    def keys(self, text):
        os.write(self.fd, text)

    def flags(self):
        return termios.tcgetattr(self.fd)[3]

    def end(self, seconds=PATIENCE):
        """The exit status; negative: a signal."""
        self.read_until(b"\0never\0", 0)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.fd], [], [], 0.05)
            if ready:
                try:
                    self.text += os.read(self.fd, 65536)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None

    def close(self):
        os.close(self.fd)


# --- scenes ---

class Writer(threading.Thread):
    """Puts and deletes at random, by a process for each few; knows what must be there in the end."""

    def __init__(self, endpoints, prefix, seed):
        super().__init__(daemon=True)
        self.endpoints, self.prefix = endpoints, prefix
        self.random = random.Random(seed)
        self.stopping = False
        self.rounds = 0

    def run(self):
        while not self.stopping:
            lines = []
            for key in self.random.sample(range(200), 20):
                name = "%sk%d" % (self.prefix, key)
                if self.random.random() < 0.3:
                    lines.append("del %s" % name)
                else:
                    lines.append("put %s v%d-%d" % (name, self.rounds, key))
            text = "\n" + "\n".join(lines) + "\n\n\n"
            done = subprocess.run([CTL, "--endpoints", self.endpoints, "--command-timeout", "20s", "txn",
                                   "-i"], input=text.encode(), capture_output=True, check=False)
            self.rounds += done.returncode == 0

    def stop(self):
        self.stopping = True
        self.join()


def fill(endpoints, prefix, count):
    for begin in range(0, count, 100):
        lines = ["put %sf%05d value-%d" % (prefix, i, i) for i in range(begin, min(begin + 100, count))]
        status, _, err = ctl(endpoints, "txn", "-i", stdin=("\n" + "\n".join(lines) + "\n\n\n").encode())
        if status != 0:
            raise RuntimeError(err)


def scene_copy(source_kind):
    with Cluster(source_kind, size=3) as source, Cluster("trivet", size=3) as dest:
        source.start()
        dest.start()
        s, d = endpoints_of(source), endpoints_of(dest)
        fill(s, "/src/", 700)
        ctl(s, "put", "/other/x", "not ours")
        ctl(d, "put", "/dst/extra", "goes")
        ctl(d, "put", "/dst/f00001", "value-1")  # as it is at the source
        ctl(d, "put", "/keep", "stays")
        lease = ctl(s, "lease", "grant", "1000")[1].split()[1]
        ctl(s, "put", "/src/leased", "x", "--lease=" + lease)

        status, out, err = ctl(d, "copy", s, "--prefix", "/src/", "--dest-prefix", "/dst/", "--once",
                               "--delete", "--verify", "-o", "json")
        check(status == 0, "copy --once", (status, err))
        sums = json.loads(out) if status == 0 else {}
        check(sums.get("written") == 700 and sums.get("unchanged") == 1 and sums.get("deleted") == 1 and
              sums.get("without_lease") == 1 and sums.get("same") is True, "what copy counts", out)
        check(all_keys(s, "/src/", "/src/") == all_keys(d, "/dst/", "/dst/"), "the copy is one")
        check(all_keys(d, "/keep") == {"/keep": "stays"}, "other keys are left alone")
        check(all_keys(d, "/other/") == {}, "what is outside of the prefix is not copied")

        # A key changed behind its back is found.
        ctl(d, "put", "/dst/f00002", "wrong")
        status, _, err = ctl(d, "copy", s, "--prefix", "/src/", "--dest-prefix", "/dst/", "--once",
                             "--verify")
        check(status == 1 and " 1 different" in err, "--verify finds a difference", (status, err))
        status, _, err = ctl(d, "copy", s, "--prefix", "/src/", "--dest-prefix", "/dst/", "--once",
                             "--verify", "--restart", "--delete")
        check(status == 0, "--restart mends it", (status, err))
        status, _, err = ctl(d, "copy", s, "--prefix", "/else/", "--dest-prefix", "/dst/", "--once")
        check(status == 1 and "--restart" in err, "the state is of another copy", (status, err))
        status, _, err = ctl(d, "copy", d, "--once")
        check(status == 128 and "overlap" in err, "a copy into itself is refused", (status, err))

        copy_under_writes(source, dest, s, d)


def copy_under_writes(source, dest, s, d):
    """Writes go on while the copier is killed, and members of both sides."""
    args = ["copy", s, "--prefix", "/src/", "--dest-prefix", "/dst/", "--delete"]
    writer = Writer(s, "/src/", seed=7)
    writer.start()
    source_kill, dest_kill = 0, 1
    for round_number in range(3):
        copier = start(d, *args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.7)
        if round_number == 1:
            source.kill(source_kill)
            dest.kill(dest_kill)
            time.sleep(2)
        copier.kill()
        copier.wait()
        if round_number == 1:
            source.start_node(source_kill)
            dest.start_node(dest_kill)
    copier = start(d, *args, "--verify", "-o", "json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    rounds = writer.rounds
    wait_for(lambda: writer.rounds > rounds + 5)
    writer.stop()
    wanted = all_keys(s, "/src/", "/src/")
    check(writer.rounds > 10, "writes were made", writer.rounds)
    check(wait_for(lambda: all_keys(d, "/dst/", "/dst/") == wanted, 30),
          "after kills of the copier and of members both sides are the same")
    copier.send_signal(signal.SIGINT)
    try:
        out, err = copier.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        copier.kill()
        out, err = copier.communicate()
    check(copier.returncode == 0 and b'"same":true' in out, "verified at the end",
          (copier.returncode, out, err))


def scene_two_copiers():
    """Of two copiers to one place one gives up, and nothing is mixed up."""
    with Cluster("trivet", size=1) as source, Cluster("trivet", size=1) as dest:
        source.start()
        dest.start()
        s, d = endpoints_of(source), endpoints_of(dest)
        fill(s, "/a/", 50)
        first = start(d, "copy", s, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        check(wait_for(lambda: len(all_keys(d, "/a/")) == 50), "copied")
        second = start(d, "copy", s, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(0.5)
        for i in range(200):
            ctl(s, "put", "/a/new", str(i))
            if first.poll() is not None or second.poll() is not None:
                break
        ended = [p for p in (first, second) if p.poll() is not None]
        check(len(ended) == 1 and b"another copy" in ended[0].stderr.read(), "one of two gives up")
        check(wait_for(lambda: all_keys(d, "/a/") == all_keys(s, "/a/")), "the other one goes on")

        # What was compacted away while nobody copied is said, and mended with --delete.
        for p in (first, second):
            p.kill()
            p.wait()
        ctl(s, "del", "/a/f00001")
        revision = json.loads(ctl(s, "get", "x", "-w", "json")[1])["header"]["revision"]
        ctl(s, "put", "/a/f00002", "later")
        ctl(s, "compaction", str(revision + 1))
        status, _, err = ctl(d, "copy", s, "--once")
        check(status == 1 and "compacted" in err, "compacted revisions are said", (status, err))
        status, _, err = ctl(d, "copy", s, "--once", "--delete", "--verify")
        check(status == 0 and all_keys(d, "/a/") == all_keys(s, "/a/"), "and mended", (status, err))
        status, _, err = ctl(d, "copy", s, "--once", "--forget")
        check(status == 0 and all_keys(d, "trivetctl/") == {}, "--forget", (status, err))


SCENES = {
    "copy": lambda: scene_copy("etcd" if HAS_ETCD else "trivet"),
    "two-copiers": scene_two_copiers,
}


def main():
    wanted = sys.argv[1:] or list(SCENES)
    for name in wanted:
        begun = time.monotonic()
        try:
            SCENES[name]()
        except Exception as e:  # pylint: disable=broad-except
            import traceback
            check(False, "scene %s: %r" % (name, e), traceback.format_exc())
        print("%s: %.1f s" % (name, time.monotonic() - begun), flush=True)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
