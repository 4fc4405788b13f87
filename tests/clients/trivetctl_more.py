#!/usr/bin/env python3
"""What trivetctl has that etcdctl lacks: top, check, copy, watch --resume, completion, progress.

Each scene has real processes: clusters of trivet and of etcd, terminals, shells. The last line counts.
"""

import base64
import concurrent.futures
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
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import certs  # noqa: E402
import cluster as clusters  # noqa: E402
import trivetctl  # noqa: E402
import trivetctl_leases as leases  # noqa: E402
from cluster import Cluster  # noqa: E402
from trivetctl import CTL, PATIENCE, all_keys, check, ctl, endpoints_of, start, wait_for  # noqa: E402

HAS_ETCD = clusters.available("etcd")



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
    check(writer.rounds > 5, "writes were made", writer.rounds)
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


# --- watch --resume ---

def watched(path):
    """The keys and values of the puts that a watch has printed, in order."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    return [(lines[i + 1], lines[i + 2]) for i in range(0, len(lines) - 3, 3)]


def scene_resume():
    """A watch is killed at any moment, again and again: its output has each event once."""
    folder = tempfile.mkdtemp(prefix="trivet-resume-")
    try:
        with Cluster("trivet", size=3) as cluster:
            cluster.start()
            e = endpoints_of(cluster)
            out, state = os.path.join(folder, "out"), os.path.join(folder, "state")
            args = ["watch", "--prefix", "/w/", "--resume", state]
            total = 400
            source = random.Random(11)

            def put_all():
                for begin in range(0, total, 10):
                    lines = "".join("put /w/%d %d\n" % (i % 37, i) for i in range(begin, begin + 10))
                    for _ in range(10):  # a txn may meet an election
                        if ctl(e, "txn", "-i", stdin=("\n" + lines + "\n\n").encode())[0] == 0:
                            break

            # The first one says where the watch begins.
            with open(out, "ab") as f:
                watch = start(e, *args, stdout=f, stderr=subprocess.DEVNULL)
                check(wait_for(lambda: os.path.exists(state) and os.path.getsize(state) > 0),
                      "the state is there from the beginning")
                busy = start(e, *args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                check(b"in use" in busy.communicate(timeout=PATIENCE)[1], "one file, one watch")
                watch.kill()
                watch.wait()
            writer = threading.Thread(target=put_all, daemon=True)
            writer.start()
            kills = 0
            while writer.is_alive() or kills < 8:
                with open(out, "ab") as f:
                    watch = start(e, *args, stdout=f, stderr=subprocess.DEVNULL)
                time.sleep(source.uniform(0.02, 0.5))
                watch.kill()
                watch.wait()
                kills += 1
                if kills == 4:
                    cluster.kill(0)
                    cluster.start_node(0)
            with open(out, "ab") as f:
                watch = start(e, *args, stdout=f, stderr=subprocess.DEVNULL)
            wanted = [("/w/%d" % (i % 37), str(i)) for i in range(total)]
            wait_for(lambda: len(watched(out)) >= total)
            time.sleep(0.5)
            watch.send_signal(signal.SIGTERM)
            watch.wait()
            got = watched(out)
            check(got == wanted, "each event once, in order, after %d kills" % kills,
                  (len(got), [p for p in zip(got, wanted) if p[0] != p[1]][:3]))

            status, _, err = ctl(e, "watch", "--prefix", "/else/", "--resume", state)
            check(status == 3 and "other keys" in err, "a state of other keys", (status, err))
            junk = os.path.join(folder, "junk")
            with open(junk, "w", encoding="utf-8") as f:
                f.write("dear diary, today I have eaten\n" * 40)
            status, _, err = ctl(e, "watch", "/x", "--resume", junk)
            check(status == 3 and "no file of watch" in err, "somebody's file", (status, err))
            check("dear diary" in open(junk, encoding="utf-8").read(), "is left alone")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- completion ---

BASH = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
read -ra COMP_WORDS <<<"$2"
[[ $2 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_trivetctl 2>/dev/null
printf '%s\n' "${COMPREPLY[@]}"
"""

# zsh completes in a terminal alone; so the functions that find the words are asked.
ZSH = r"""
compdef() { : }
source $1
words=(${(z)2})
[[ $2 == *' ' ]] && words+=('')
CURRENT=${#words}
compset() { : }
_files() { print FILES }
compadd() { [[ $1 == -a ]] && print -l -- ${(P)2} }
_describe() { local name=${@[-1]}; print -l -- ${${(P)name}%%:*} }
_trivetctl
"""


def complete(shell, script, line):
    if shell == "bash":
        args = ["bash", "--norc", "-c", BASH, "bash", script, line]
    elif shell == "zsh":
        args = ["zsh", "-f", "-c", ZSH, "zsh", script, line]
    else:
        args = ["fish", "--no-config", "-c", "source %s; complete -C %s" %
                (script, "'" + line.replace("'", "\\'") + "'")]
    env = dict(os.environ, PATH=os.path.dirname(CTL) + ":" + os.environ["PATH"], HOME="/nonexistent")
    done = subprocess.run(args, capture_output=True, timeout=PATIENCE, check=False, env=env)
    words = [w.split("\t")[0].strip() for w in done.stdout.decode().split("\n") if w.strip()]
    if shell == "zsh" and line.split(" ")[-1]:
        last = line.split(" ")[-1].split("=")[-1]
        words = [w for w in words if w.startswith(last)]
    return words


def scene_completion():
    folder = tempfile.mkdtemp(prefix="trivet-completion-")
    for shell in ("bash", "zsh", "fish"):
        status, text, err = ctl("127.0.0.1:1", "completion", shell)
        check(status == 0 and len(text) > 3000, "completion " + shell, err)
        if shutil.which(shell) is None:
            print("  SKIPPED IN TRIVETCTL-MORE: THERE IS NO %s" % shell.upper())
            continue
        script = os.path.join(folder, shell)
        with open(script, "w", encoding="utf-8") as f:
            f.write(text)
        checked = subprocess.run([shell, "-n", script], capture_output=True, check=False)
        check(checked.returncode == 0, shell + " reads its script", checked.stderr)
        def gives(line, *wanted, but=(), shell=shell, script=script):
            got = {w.split("=")[-1] if "=" in w else w for w in complete(shell, script, line)}
            check(all(w in got for w in wanted) and not any(w in got for w in but),
                  "%s completes %r" % (shell, line), sorted(got)[:40])

        gives("trivetctl ", "get", "put", "top", "member", "snapshot", "completion", but=["add"])
        gives("trivetctl me", "member", but=["get"])
        gives("trivetctl member ", "add", "list", "promote", but=["get"])
        gives("trivetctl lease g", "grant", but=["get", "revoke"])
        gives("trivetctl --endpoints a:1,b:2 member pro", "promote")
        gives("trivetctl -w json snapshot s", "save", "status", but=["restore"])
        gives("trivetctl --endpoints=a:1 user grant", "grant-role")
        gives("trivetctl get --pre", "--prefix", but=["--rev"])
        gives("trivetctl top --sort ", "lag", "cpu", "memory", but=["get"])
        gives("trivetctl -w ", "json", "table", "simple", but=["get"])
        gives("trivetctl get k --write-out=ta", "table", but=["json"])
        gives("trivetctl watch --re", "--rev", "--resume")
    shutil.rmtree(folder, ignore_errors=True)


# --- top, and progress: in a terminal ---

def scene_top():
    with Cluster("trivet", size=3) as cluster:
        cluster.start()
        e = cluster.nodes[0].endpoint()
        zoned = ",".join("%s;zone=z%d" % (n.endpoint(), n.index) for n in cluster.nodes)
        stopping = threading.Event()

        def load():
            bench = os.path.join(clusters.build_dir(), "bench", "trivet-bench")
            while not stopping.is_set():
                subprocess.run([bench, "mixed", "--endpoints", endpoints_of(cluster), "--duration", "1",
                                "--conns", "3", "--rate", "600", "--prefix", "/hot/spot/"],
                               capture_output=True, check=False)
        loader = threading.Thread(target=load, daemon=True)
        loader.start()
        try:
            # One object a look; the third one has had the time to hear of clients.
            status, out, err = ctl(zoned, "top", "-o", "json", "--count", "4", "--interval", "700ms")
            looks = [json.loads(line) for line in out.split("\n") if line]
            check(status == 0 and len(looks) == 4, "four looks", (status, err))
            last = looks[-1]
            members = {m["name"]: m for m in last["members"]}
            check(sorted(members) == ["n0", "n1", "n2"] and
                  sorted(m["role"] for m in members.values()) == ["follower", "follower", "leader"],
                  "all members and one leader", last["members"])
            check([members["n%d" % i]["zone"] for i in range(3)] == ["z0", "z1", "z2"], "zones")
            check(all(sum(look["members"][i]["puts_per_second"] for look in looks) > 0 and
                      look["members"][i]["memory_bytes"] > 1e6 for look in looks for i in range(3)),
                  "rates", looks)
            hot = [base64.b64decode(p["prefix"]) for p in last["prefixes"]]
            check(b"/hot/" in hot[:3] and b"/hot/spot/" in hot[:3], "hot prefixes", hot)
            check(any(c["calls_per_second"] > 20 for look in looks for c in look["busy_clients"]),
                  "busy clients", last["busy_clients"])
            check(any(c["worst_ms"] > 0 for look in looks for c in look["slow_clients"]), "slow clients")

            status, out, err = ctl(e, "top", "--once")
            check(status == 0 and out.count("follower") == 2 and "leader: n" in out and
                  "\033" not in out, "--once is plain text", (out, err))

            terminal_top(e)
        finally:
            stopping.set()
            loader.join()
        cluster.kill(2)
        status, out, _ = ctl(e, "top", "--once")
        check(status == 0 and re.search(r"n2\s.*down", out) and "2 of 3 members up" in out,
              "a member that is down", out)


def terminal_top(e):
    t = Terminal([CTL, "--endpoints", e, "top", "--interval", "300ms"], rows=40, columns=200)
    try:
        check(t.read_until(rb"\x1b\[\?1049h"), "the alternate screen", t.text[:200])
        check(t.read_until(rb"MEMBER.*leader"), "members on it", t.text[-500:])
        check(t.flags() & (termios.ICANON | termios.ECHO) == 0, "keys come one by one, unseen")
        t.keys(b"s")
        check(t.read_until(rb"by lag"), "s: another order")
        t.keys(b"r")
        check(t.read_until(rb"reversed"), "r: the other way round")
        t.keys(b"h")
        check(t.read_until(rb"this page, and back"), "h: help")
        t.keys(b"h")
        t.keys(b"p")
        check(t.read_until(rb"STANDING STILL"), "p: pause")
        t.resize(12, 50)
        os.kill(t.pid, signal.SIGWINCH)
        check(t.read_until(rb"\x1b\[H"), "drawn anew for another size")
        piece = t.text.split(b"\x1b[H")[-1]
        lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", piece).decode().split("\n")
        lines = [line.rstrip("\r") for line in lines]
        check(len(lines) <= 12 and all(len(line) <= 50 for line in lines), "and fits into it", lines)
        t.keys(b"q")
        check(t.end() == 0, "q: the end")
        check(t.text.rstrip().endswith(b"\x1b[?1049l"), "the screen is as it was", t.text[-100:])
    finally:
        t.close()
    # Ended by a signal the terminal is put back in order, too.
    t = Terminal([CTL, "--endpoints", e, "top"], rows=40, columns=200)
    try:
        t.read_until(rb"MEMBER")
        os.kill(t.pid, signal.SIGTERM)
        check(t.end() == -signal.SIGTERM and b"\x1b[?1049l" in t.text[-100:], "SIGTERM", t.text[-100:])
    finally:
        t.close()


def scene_progress():
    folder = tempfile.mkdtemp(prefix="trivet-progress-")
    with Cluster("trivet", size=1) as cluster:
        cluster.start()
        e = endpoints_of(cluster)
        bench = os.path.join(clusters.build_dir(), "bench", "trivet-bench")
        subprocess.run([bench, "fill", "--endpoints", e, "--keys", "20000", "--value-size", "1000"],
                       capture_output=True, check=False)
        path = os.path.join(folder, "snap.db")
        t = Terminal([CTL, "--endpoints", e, "snapshot", "save", path])
        status = t.end()
        check(status == 0 and os.path.getsize(path) > 1 << 20, "snapshot save", t.text[-300:])
        check(re.search(rb"saving  \[[#.]{20}\] +\d+%  [0-9.]+ [kMG]?B of ", t.text) or
              b"saving  " in t.text, "a bar in a terminal", t.text[-500:])
        t.close()
        t = Terminal([CTL, "snapshot", "restore", path, "--data-dir", os.path.join(folder, "d")])
        check(t.end() == 0 and b"restoring  [" in t.text, "a bar while restoring", t.text[-500:])
        t.close()
        status, _, err = ctl(e, "snapshot", "save", path + "2")
        check(status == 0 and "saving  " not in err and "\r" not in err, "none without one", err)
        t = Terminal([CTL, "--endpoints", e, "defrag"])
        check(t.end() == 0 and b"defragmenting " in t.text and b"Finished" in t.text, "defrag", t.text)
        t.close()
        with Cluster("trivet", size=1) as dest:
            dest.start()
            t = Terminal([CTL, "--endpoints", endpoints_of(dest), "copy", e, "--once", "--verify"])
            check(t.end() == 0 and b"copying  [" in t.text and b"comparing  [" in t.text,
                  "bars of copy", t.text[-500:])
            t.close()
    shutil.rmtree(folder, ignore_errors=True)


# --- check ---

def found(endpoints, *args, cert_args=()):
    """(exit status, {check: severity}) of `trivetctl check`."""
    status, out, err = ctl(endpoints, *cert_args, "check", "-o", "json", *args)
    if not out:
        raise RuntimeError("check said nothing: %d %s" % (status, err))
    answer = json.loads(out)
    findings = {}
    for f in answer["findings"]:
        check(f["what"] and f["why"] and f["do"], "a finding has its three sentences", f)
        findings[f["check"]] = max(findings.get(f["check"], ""), f["severity"], key=["", "warn",
                                                                                   "bad"].index)
    check({"ok": 0, "warn": 1, "bad": 2}[answer["status"]] == status, "the exit status", answer)
    check(not set(answer["passed"]) & set(findings), "found or passed", answer)
    return status, findings


# What a busy machine may bring about by itself.
WEATHER = {"disk-sync", "round-trip", "leader-steady", "proposals", "lag", "terms", "watchers"}


def scene_check():
    with Cluster("trivet", size=3) as cluster:
        cluster.start()
        e = endpoints_of(cluster)
        status, f = found(e, "--hash")
        check(status == 1 and set(f) - WEATHER == {"places", "auth"}, "a healthy cluster", f)
        status, out, _ = ctl(e, "check")
        check(status == 1 and "works, but" in out and "      do:  " in out, "as text", out)
        check("do" not in out.split("\n")[-2], "the sum is last")

        # One that was never started.
        # In the first seconds members are not connected for long enough to have another one added.
        check(wait_for(lambda: ctl(e, "member", "add", "late", "--peer-urls=http://127.0.0.1:1")[0] == 0),
              "member add")
        status, f = found(e)
        check("started" in f and "member-count" in f, "an even number, and one that is not started", f)
        listed = json.loads(ctl(e, "member", "list", "-w", "json")[1])["members"]
        late = next(m["ID"] for m in listed if not m.get("name"))
        ctl(e, "member", "remove", "%x" % late)

        ctl(e, "user", "add", "root:secret")
        ctl(e, "user", "grant-role", "root", "root")
        ctl(e, "auth", "enable")
        root = ("--user", "root:secret")
        status, f = found(e, cert_args=root)
        check("auth" not in f, "authentication is on", f)
        check(clusters.http_get(cluster.nodes[0].client_port, "/debug/top")[0] == 401,
              "/debug/top is for root alone")
        status, out, err = ctl(e, *root, "top", "-o", "json", "--count", "1", "--interval", "300ms")
        check(status == 0 and all("puts_per_second" in m for m in json.loads(out)["members"]),
              "top as root", err)
        ctl(e, *root, "auth", "disable")

        cluster.kill(2)
        status, f = found(cluster.nodes[0].endpoint())
        check(status == 2 and f.get("reachable") == "bad", "one member is away", f)
        cluster.kill(1)
        status, f = found(cluster.nodes[0].endpoint())
        check(status == 2 and f.get("reachable") == "bad", "no majority", f)
        cluster.kill(0)
        status, f = found(cluster.nodes[0].endpoint())
        check(status == 2 and f.get("member-list") == "bad", "nobody", f)
    # A small quota that is full; one member.
    with Cluster("trivet", size=1, flags=["--quota-backend-bytes", "300000"]) as cluster:
        cluster.start()
        e = endpoints_of(cluster)
        for i in range(40):
            if ctl(e, "put", "k%d" % i, "x" * 10000)[0] != 0:
                break
        status, f = found(e)
        check(f.get("alarms") == "bad" and f.get("quota") in ("warn", "bad") and
              f.get("member-count") == "warn", "no space", f)
    check_tls()
    if HAS_ETCD:
        with Cluster("etcd", size=1) as cluster:
            cluster.start()
            status, f = found(endpoints_of(cluster), "--hash")
            check(status == 1 and set(f) - WEATHER == {"auth", "member-count"}, "an etcd", f)


def check_tls():
    """A certificate that ends in some days; and a client's certificate that is asked for."""
    folder = tempfile.mkdtemp(prefix="trivet-check-")
    try:
        authority = certs.Authority(folder, "ca")
        server = authority.issue("server", sans=["DNS:localhost", "IP:127.0.0.1"])
        client = authority.issue("client")
        flags = ["--cert-file", server.cert, "--key-file", server.key]
        trust = ("--cacert", authority.cert)
        with Cluster("trivet", size=1, flags=flags) as cluster:
            cluster.client_scheme = "https"
            cluster.start_node(0)
            e = "https://" + cluster.nodes[0].endpoint()
            wait_for(lambda: ctl(e, *trust, "get", "x")[0] == 0)
            _, f = found(e, cert_args=trust)
            check(f.get("certificates") == "warn" and "metrics" not in f and "auth" in f,
                  "a certificate that ends soon", f)
        with Cluster("trivet", size=1, flags=flags + ["--client-cert-auth", "--trusted-ca-file",
                                                        authority.cert]) as cluster:
            cluster.client_scheme = "https"
            cluster.start_node(0)
            e = "https://" + cluster.nodes[0].endpoint()
            trust += ("--cert", client.cert, "--key", client.key)
            wait_for(lambda: ctl(e, *trust, "get", "x")[0] == 0)
            _, f = found(e, cert_args=trust)
            check("auth" not in f and f.get("certificates") == "warn", "client certificates", f)
            status, out, err = ctl(e, *trust, "top", "--once")
            check(status == 0 and "leader: n0" in out, "top by TLS", (out, err))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SCENES = {
    "copy": lambda: scene_copy("etcd" if HAS_ETCD else "trivet"),
    "leases-etcd": lambda: leases.scene_leases("etcd" if HAS_ETCD else "trivet"),
    "leases-trivet": lambda: leases.scene_leases("trivet"),
    "lease-of-others": leases.scene_lease_of_others,
    "many-leases": leases.scene_many_leases,
    "copy-users": lambda: leases.scene_copy_users("etcd" if HAS_ETCD else "trivet"),
    "copy-users-trivet": lambda: leases.scene_copy_users("trivet"),
    "two-copiers": scene_two_copiers,
    "resume": scene_resume,
    "completion": scene_completion,
    "top": scene_top,
    "progress": scene_progress,
    "check": scene_check,
}


AT_ONCE = 3


def play(name):
    begun = time.monotonic()
    try:
        SCENES[name]()
    except Exception as e:  # pylint: disable=broad-except
        check(False, "scene %s: %r" % (name, e), traceback.format_exc())
    print("%s: %.1f s" % (name, time.monotonic() - begun), flush=True)


def play_apart(name):
    """In a process of its own; returns what it counted."""
    done = subprocess.run([sys.executable, os.path.realpath(__file__), name], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, preexec_fn=clusters.die_with_parent)
    lines = done.stdout.strip().split("\n")
    print("\n".join(lines[:-1]), flush=True)
    counts = re.match(r"(\d+) passed, (\d+) failed", lines[-1])
    return (int(counts[1]), int(counts[2])) if counts else (0, 1)


def main():
    if sys.argv[1:]:
        for name in sys.argv[1:]:
            play(name)
    else:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for good, bad in pool.map(play_apart, SCENES):
                trivetctl.count(good, bad)
    return trivetctl.finish()


if __name__ == "__main__":
    sys.exit(main())
