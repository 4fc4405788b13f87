#!/usr/bin/env python3
"""What an operator does with etcdctl and etcdutl from end to end, against etcd and against trivet: users and
roles, locks and elections, leases kept alive, members, downgrades, snapshots, mirrors from one to the other,
and every form of output. What etcdctl_diff.py compares, and how, holds here."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
sys.path.insert(0, os.path.dirname(__file__))
import cluster  # noqa: E402
import etcdctl_diff as diff  # noqa: E402
from etcdctl_diff import do  # noqa: E402

LINES_TIMEOUT_S = 15
ROOT, ALICE = ("--user", "root:pw"), ("--user", "alice:pa")
FORMATS = ("simple", "json", "fields", "table")
ETCDUTL = os.path.join(cluster.TOOLS, "etcdutl")


class Side(diff.Side):
    def clean(self, text):
        # How often the client tried, and on which connection, is its own affair.
        text = "\n".join(line for line in text.split("\n") if '"level":"warn"' not in line)
        text = super().clean(text)
        text = re.sub(r"\b[0-9.]+(ms|µs|s)\b", "TIME", text)
        text = re.sub(r'"(cluster_id|member_id|raft_term)":\d+', r'"\1":N', text)
        text = re.sub(r"(?<=/)[0-9a-f]{12,16}\b", "ID", text)
        # The hash is the server's own; keys of locks have the number of a lease.
        return re.sub(r'"(hash|Hash)" ?: ?\d+|, \d{6,10}$', "HASH", text)


class Background:
    """etcdctl until it has printed so many lines; then Ctrl-C, as a person would."""

    def __init__(self, side, args, stdin=""):
        self.side = side
        self.process = subprocess.Popen(side.etcdctl(args), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=side.environment(),
                                        preexec_fn=cluster.die_with_parent)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.process.stdin.write(stdin.encode())
        self.process.stdin.flush()
        self.output = b""

    def wait_lines(self, count):
        deadline = time.monotonic() + LINES_TIMEOUT_S
        while self.output.count(b"\n") < count and time.monotonic() < deadline:
            self.output += self.process.stdout.read() or b""
            if self.process.poll() is not None:
                break
            time.sleep(0.02)

    def end(self, count):
        self.wait_lines(count)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output += self.process.stdout.read() or b""
        self.process.stdin.close()
        self.process.stdout.close()
        return self.side.clean(self.output.decode(errors="backslashreplace"))


def background(*args, lines, then=(), first=0, stdin=""):
    """A step: a command that goes on; after its `first` lines the other steps; until it has `lines`."""
    return ("background", list(args), lines, then, first, stdin)


def each_format(*args):
    return [do(*args, "-w", form) for form in FORMATS]


CASES = [
    ("forms", [
        do("put", "f/a", "1"), do("put", "f/b", "2"),
        *[step for command in (("put", "f/c", "3", "--prev-kv"), ("get", "--prefix", "f/"), ("get", "f/none"),
                               ("del", "f/none", "--prev-kv"), ("del", "f/c", "--prev-kv"),
                               ("lease", "grant", "6000"), ("lease", "timetolive", "LEASE0", "--keys"),
                               ("lease", "keep-alive", "--once", "LEASE0"),
                               ("alarm", "list"), ("member", "list"), ("endpoint", "health"),
                               ("endpoint", "hashkv", "--rev", "1"), ("auth", "status"),
                               ("user", "list"), ("role", "list"), ("compaction", "1"))
          for step in each_format(*command)],
        do("get", "--prefix", "f/", "--hex"), do("get", "f/a", "--hex", "-w", "fields"),
        do("get", "f/a", "--hex", "-w", "json"), do("get", "f/a", "-w", "nonsense"),
        do("get", "--prefix", "f/", "--keys-only", "--hex"), do("put", "f/h", stdin="\x01\x02"),
        do("get", "f/h", "--hex"), do("version"), do("get", "f/a", "--print-value-only", "--hex"),
        do("get", "f/a", "--command-timeout", "1ns"), do("lease", "revoke", "LEASE0")]),
    ("watch, interactive and with commands", [
        background("watch", "-i", stdin="watch wi/a\nwatch --prefix wi/p\n", lines=6, first=0, then=[
            do("put", "wi/ready", "x"), do("put", "wi/a", "1"), do("put", "wi/p1", "2")]),
        background("watch", "wx", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE",
                   lines=8, then=[do("put", "wx", "1"), do("del", "wx")]),
        background("watch", "wx", "--progress-notify", "--prev-kv", "-w", "fields", lines=10,
                   then=[do("put", "wx", "3"), do("put", "wx", "4")])]),
    ("leases kept alive", [
        do("lease", "grant", "3"), background("lease", "keep-alive", "LEASE1", lines=2),
        do("lease", "revoke", "LEASE1"), background("lease", "keep-alive", "LEASE1", lines=1)]),
    ("locks", [
        do("lock", "lk", "--", "sh", "-c", 'test -n "$ETCD_LOCK_KEY" && echo $ETCD_LOCK_REV && exit 3'),
        do("lock", "lk", "echo", "had it"), do("lock", "--ttl", "5", "lk", "true"),
        background("lock", "lk", lines=1, first=1,
                   then=[do("get", "--prefix", "lk", "--count-only", "-w", "fields")]),
        do("get", "--prefix", "lk", "--keys-only")]),
    ("elections", [
        background("elect", "el", "one", lines=2, first=2, then=[background("elect", "--listen", "el", lines=2)]),
        do("get", "--prefix", "el", "--keys-only")]),
    ("members", [
        do("member", "add", "new", "--learner"), do("member", "add", "new", "--peer-urls", "nonsense"),
        do("member", "remove", "123"), do("member", "remove", "x"), do("member", "promote", "123"),
        do("member", "update", "123", "--peer-urls", "http://127.0.0.1:1"),
        do("move-leader", "123"), do("move-leader", "x")]),
    ("maintenance", [
        do("defrag"), do("defrag", "ALL"), do("alarm", "list"), do("alarm", "disarm"),
        do("downgrade", "validate", "3.6.0"), do("downgrade", "validate", "3.5"), do("downgrade", "validate", "4.0"),
        do("downgrade", "validate", "x"), do("downgrade", "cancel"), do("downgrade", "enable", "3.4"),
        do("endpoint", "health", "ALL", "-w", "table"), do("endpoint", "health", "--cluster"),
        do("check", "datascale", "--load", "nonsense"), do("check", "perf", "--load", "nonsense")]),
    ("users and roles", [
        do("role", "add", "reader"), do("role", "add", "reader"), do("role", "add", "writer"),
        do("role", "grant-permission", "reader", "read", "k/", "--prefix"),
        do("role", "grant-permission", "writer", "readwrite", "w/1"),
        do("role", "grant-permission", "writer", "write", "x/", "--from-key"),
        do("role", "grant-permission", "writer", "write", "y/1", "y/9"),
        do("role", "grant-permission", "writer", "nonsense", "z"),
        do("role", "grant-permission", "nobody", "read", "z"),
        *[s for args in (("role", "get", "reader"), ("role", "get", "writer"), ("role", "list"))
          for s in each_format(*args)],
        do("role", "get", "nobody"), do("role", "revoke-permission", "writer", "y/1", "y/9"),
        do("role", "revoke-permission", "writer", "y/1", "y/9"),
        do("user", "add", "root:pw"), do("user", "add", "alice", "--new-user-password", "pa"),
        do("user", "add", "alice:pa"), do("user", "add", "cert", "--no-password"),
        do("user", "add", "bob", "--interactive=false", stdin="pb\n"), do("user", "add", ":x"),
        do("user", "grant-role", "alice", "reader"), do("user", "grant-role", "alice", "nobody"),
        do("user", "grant-role", "nobody", "reader"), do("user", "grant-role", "bob", "writer"),
        *[s for args in (("user", "get", "alice"), ("user", "get", "alice", "--detail"), ("user", "list"))
          for s in each_format(*args)],
        do("user", "passwd", "bob", "--interactive=false", stdin="pb2\n"),
        do("auth", "enable"), do("user", "grant-role", "root", "root"), do("auth", "enable"),
        do("auth", "status"), do("auth", "status", *ROOT), do("auth", "enable", *ROOT),
        do("put", "k/1", "x"), do("put", "k/1", "x", *ROOT), do("get", "k/1", *ALICE),
        do("put", "k/1", "y", *ALICE), do("get", "other", *ALICE), do("get", "--prefix", "k/", *ALICE),
        do("get", "--prefix", "", *ALICE), do("get", "k/1", "--user", "alice:wrong"),
        do("get", "k/1", "--user", "alice", "--password", "pa"), do("get", "k/1", "--user", "nobody:x"),
        do("put", "w/1", "x", "--user", "bob:pb2"), do("put", "x/z", "x", "--user", "bob:pb2"),
        do("get", "x/z", "--user", "bob:pb2"), do("txn", *ALICE, stdin="\nput k/1 z\n\n\n"),
        do("user", "list", *ALICE), do("user", "get", "alice", *ALICE), do("user", "get", "bob", *ALICE),
        do("role", "get", "reader", *ALICE), do("role", "get", "writer", *ALICE),
        do("member", "list", *ALICE), do("endpoint", "status", *ALICE), do("endpoint", "health", *ALICE),
        do("endpoint", "health"), do("defrag", *ALICE), do("alarm", "list", *ALICE), do("lease", "list", *ALICE),
        do("compaction", "1", *ALICE), do("move-leader", "123", *ALICE), do("auth", "disable", *ALICE),
        background("watch", "--prefix", "k/", *ALICE, lines=3, then=[do("put", "k/2", "w", *ROOT)]),
        do("watch", "other", *ALICE), do("lock", "k/lock", "true", *ALICE), do("lock", "lk", "true", *ROOT),
        do("user", "revoke-role", "alice", "reader", *ROOT), do("get", "k/1", *ALICE),
        do("user", "delete", "alice", *ROOT), do("get", "k/1", *ALICE), do("user", "delete", "root", *ROOT),
        do("role", "delete", "reader", *ROOT), do("role", "delete", "root", *ROOT),
        do("auth", "disable", *ROOT), do("get", "k/1"), do("auth", "status"), do("auth", "disable"),
        do("user", "list"), do("role", "list")]),
]


def run_step(sides, step):
    if step[0] != "background":
        return diff.run_step(sides, step)
    _, args, lines, then, first, stdin = step
    running = [Background(side, args, stdin) for side in sides]
    results = []
    if first:
        for one in running:
            one.wait_lines(first)
    elif then:
        time.sleep(0.7)  # until a watch surely is there
    for inner in then:
        results += run_step(sides, inner)
    outcomes = [(0, one.end(lines), "") for one in running]
    if "-i" in args:  # two watches on two streams: in any order
        outcomes = [(code, "\n".join(sorted(out.split("\n"))), err) for code, out, err in outcomes]
    return results + [("etcdctl %s ..." % " ".join(args), *outcomes)]


def lead(side):
    """Have the first member lead: what a member says to move-leader depends on it."""
    ask = {"capture_output": True, "text": True, "env": side.environment(), "timeout": 30}
    everywhere = [cluster.ETCDCTL, "--endpoints", side.nodes.endpoints()]
    status = json.loads(cluster.run(everywhere + ["endpoint", "status", "-w", "json"], **ask).stdout)[0]["Status"]
    if status["header"]["member_id"] != status["leader"]:
        cluster.run(everywhere + ["move-leader", "%x" % status["header"]["member_id"]], check=True, **ask)


def mirror(tally, source, target):
    """What is there, and what comes, goes from one to the other; under another prefix, too."""
    name = "mirror from %s to %s" % (source.kind, target.kind)
    for side in (source, target):
        side.run(["del", "--prefix", "mi"])
    for i in range(5):
        source.run(["put", "mi/%d" % i, "v%d" % i])
    made = subprocess.Popen(source.etcdctl(["make-mirror", target.nodes.nodes[0].endpoint(), "--prefix", "mi/",
                                            "--dest-prefix", "mirrored/"]),
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=source.environment(),
                            preexec_fn=cluster.die_with_parent)
    try:
        def has(count):
            deadline = time.monotonic() + LINES_TIMEOUT_S
            while time.monotonic() < deadline:
                out = target.run(["get", "--prefix", "mirrored/"])[1]
                if out.count("\n") == 2 * count:
                    return out
                time.sleep(0.05)
            return "%d keys never came: %s" % (count, out)
        tally.check("mirrored/4\nv4" in has(5), name + ": what is there", has(5))
        source.run(["put", "mi/new", "n"])
        source.run(["del", "mi/0"])
        source.run(["txn"], "\nput mi/t1 a\nput mi/t2 b\n\n\n")
        got = has(7)
        tally.check("mirrored/t2\nb" in got and "mirrored/0\n" not in got, name + ": what comes", got)
        tally.check(made.poll() is None, name + ": it goes on")
    finally:
        made.kill()
        made.wait()
    target.run(["del", "--prefix", "mirrored/"])


def snapshots(tally, sides):
    """Saved by etcdctl, looked at by etcdutl."""
    outcomes = []
    for side in sides:
        path = os.path.join(side.nodes.dir, "saved")
        saved = side.run(["snapshot", "save", path])
        # Of the log only what tells no file and no size.
        said = sorted(set(re.findall(r'"msg":"([^"]*)"', saved[2]))), re.sub(r"/\S+", "PATH", saved[1])
        status = cluster.run([ETCDUTL, "snapshot", "status", path, "-w", "fields"], capture_output=True,
                             text=True, timeout=60)
        outcomes.append((saved[0], said, status.returncode,
                         re.sub(r'"(Hash|Size|Revision|Keys)" : \d+', r'"\1" : N', status.stdout)))
    tally.check(outcomes[0] == outcomes[1], "snapshot save", "  want %s\n  got  %s" % tuple(outcomes))


def checks(tally, sides, full):
    """etcdctl's own: they are about speed, so what counts is that they come to an end and clean up."""
    commands = [["check", "datascale", "--load", "s"]] + ([["check", "perf", "--load", "s"]] if full else [])
    for args in commands:
        for side in sides:
            done = cluster.run(side.etcdctl(args), capture_output=True, text=True, env=side.environment(),
                               timeout=180)
            tally.check(("PASS" in done.stdout or "FAIL" in done.stdout), " ".join(args) + ": " + side.kind,
                        done.stdout + done.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--want", default="etcd", choices=("trivet", "etcd"))
    parser.add_argument("--got", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--case", help="only cases whose name has this")
    parser.add_argument("--full", action="store_true", help="check perf, too: two minutes")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    sides = [Side(args.want), Side(args.got)]
    for side in sides:
        side.nodes.flags += ["--bcrypt-cost", "4"]
        side.nodes.start()
        lead(side)
    for name, steps in CASES:
        if args.case and args.case not in name:
            continue
        for step in steps:
            for what, want, got in run_step(sides, step):
                if args.verbose:
                    print("%s: %s\n%s\n%s" % (name, what, want[1], want[2]))
                tally.check(want == got, "%s: %s" % (name, what), "  want %s\n  got  %s" % (
                    str(want)[:1500], str(got)[:1500]))
    if not args.case:
        mirror(tally, *sides)
        mirror(tally, *reversed(sides))
        snapshots(tally, sides)
        checks(tally, sides, args.full)
    for side in sides:
        side.nodes.check_running()
        side.nodes.close()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
