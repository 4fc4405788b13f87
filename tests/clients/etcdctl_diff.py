#!/usr/bin/env python3
"""The same etcdctl commands against etcd and against trivet; what they print must be the same.

A case is a list of steps on two new clusters that go through all cases in step. Replaced before the
comparison: ids, raft terms and indexes, addresses, sizes of files, durations; leases by the order in
which they were granted.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

STEP_TIMEOUT_S = 30
WATCH_TIMEOUT_S = 15

# Fields of JSON answers that may differ.
JSON_LOOSE = {"cluster_id", "member_id", "raft_term", "ID", "leader", "raftIndex", "raftTerm",
              "raftAppliedIndex", "dbSize", "dbSizeInUse", "took", "peerURLs", "clientURLs", "Endpoint",
              "endpoint", "ts", "caller", "target", "error"}
# etcd and trivet may be of different build: what they say about that is looked at by itself.
TEXT_LOOSE = [
    (re.compile(r'"(ClusterID|MemberID|RaftTerm|ID)" : [0-9a-f]+'), r'"\1" : N'),  # few digits look like hex
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"\b[0-9a-f]{12,16}\b"), "ID"),
    (re.compile(r"took = [0-9.µmns]+s"), "took = TIME"),
    (re.compile(r"\b\d+(\.\d+)? [kMGT]?B\b"), "SIZE"),
    (re.compile(r"\b\d+%"), "PERCENT"),
    (re.compile(r'"ts":"[^"]*"'), '"ts":""'),
    (re.compile(r'"took":"[^"]*"'), '"took":""'),
    (re.compile(r"remaining\(\d+s\)"), "remaining(REST)"),
    (re.compile(r"0x[0-9a-f]{6,}"), "POINTER"),
    (re.compile(r'"caller":"[^"]*"'), '"caller":""'),
    (re.compile(r"[─]+"), "-"),
    (re.compile(r"attached keys\(\[(.*)\]\)"),
     lambda m: "attached keys([%s])" % " ".join(sorted(m.group(1).split()))),
]


class Side:
    """One cluster and what is known of its leases."""

    def __init__(self, kind):
        self.kind = kind
        self.nodes = cluster.Cluster(kind)
        self.leases = []

    def etcdctl(self, args):
        named = [self.insert_leases(a) for a in args]
        endpoints = self.nodes.nodes[0].endpoint()
        if "ALL" in named:
            named.remove("ALL")
            endpoints = self.nodes.endpoints()
        return [cluster.ETCDCTL, "--endpoints", endpoints] + named

    def environment(self):
        return self.nodes.environment()

    def insert_leases(self, text):
        return re.sub(r"LEASE(\d)", lambda m: self.leases[int(m.group(1))], text)

    def clean(self, text):
        """What remains to be compared."""
        granted = re.match(r"lease ([0-9a-f]+) granted", text)
        if granted and granted.group(1) not in self.leases:
            self.leases.append(granted.group(1))
        granted = re.search(r'"ID":(\d+),"TTL":', text)
        if granted and "%016x" % int(granted.group(1)) not in self.leases:
            self.leases.append("%016x" % int(granted.group(1)))
        for i, lease in enumerate(self.leases):
            text = text.replace(lease, "LEASE%d" % i)
            text = re.sub(r"\b%d\b" % int(lease, 16), '"LEASE%d"' % i, text)
        try:
            return json.dumps(clean_json(json.loads(text)), sort_keys=True)
        except ValueError:
            pass
        if text.startswith("{"):
            try:
                return "\n".join(json.dumps(clean_json(json.loads(line)), sort_keys=True)
                                 for line in text.strip().split("\n"))
            except ValueError:
                pass
        for pattern, name in TEXT_LOOSE:
            text = pattern.sub(name, text)
        return "\n".join(re.sub(r" +", " ", line) for line in text.split("\n"))

    def run(self, args, stdin=""):
        result = cluster.run(self.etcdctl(args), input=stdin.encode(), capture_output=True,
                             env=self.environment(), timeout=STEP_TIMEOUT_S)
        return (result.returncode, self.clean(result.stdout.decode(errors="backslashreplace")),
                self.clean(result.stderr.decode(errors="backslashreplace")))


def clean_json(value, name=""):
    if name in JSON_LOOSE:
        return "LOOSE"
    if isinstance(value, dict):
        return {k: clean_json(v, k) for k, v in value.items()}
    if isinstance(value, list):
        items = [clean_json(v) for v in value]
        if name in ("members", "leases"):  # etcd gives them in no order
            items.sort(key=str)
        return items
    return value


class Watch:
    """etcdctl watch in the background, until it has printed so many lines."""

    def __init__(self, side, args):
        self.side = side
        self.process = subprocess.Popen(side.etcdctl(["watch"] + args), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=side.environment(),
                                        preexec_fn=cluster.die_with_parent)
        os.set_blocking(self.process.stdout.fileno(), False)

    def lines(self, count):
        output = b""
        deadline = time.monotonic() + WATCH_TIMEOUT_S
        while output.count(b"\n") < count and time.monotonic() < deadline:
            output += self.process.stdout.read() or b""
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        time.sleep(0.1)  # for what should not come
        output += self.process.stdout.read() or b""
        ended = self.process.poll()
        self.process.kill()
        _, errors = self.process.communicate()
        return (ended, self.side.clean(output.decode(errors="backslashreplace")),
                self.side.clean(errors.decode(errors="backslashreplace")))


def do(*args, stdin=""):
    """A step: one command."""
    return ("run", list(args), stdin)


def watch(*args, lines, then=(), wait=0.5):
    """A step: start a watch, wait until it surely is there, do the other steps, look at its output."""
    return ("watch", list(args), lines, then, wait)


def sorts():
    steps = [do("put", "s/%s" % k, v) for k, v in
             [("c", "3"), ("a", "9"), ("b", "1"), ("d", "5"), ("a", "2"), ("d", "7"), ("d", "4")]]
    for target in ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION"):
        for order in ("ASCEND", "DESCEND"):
            # Equal versions have no order of their own.
            prefix = "s/d" if target == "VERSION" else "s/"
            steps.append(do("get", "--prefix", prefix, "--sort-by", target, "--order", order))
    return steps + [do("get", "--prefix", "s/", "--sort-by", "bogus"),
                    do("get", "--prefix", "s/", "--order", "bogus"),
                    do("get", "--prefix", "s/", "--order", "DESCEND", "--limit", "2"),
                    do("get", "--prefix", "s/", "--sort-by", "VALUE", "--limit", "2", "-w", "json")]


CASES = [
    ("put and get", [
        do("put", "a", "1"), do("get", "a"), do("get", "missing"), do("put", "a", "2", "--prev-kv"),
        do("put", "b", stdin="from standard input"), do("get", "b"), do("put", "empty", ""),
        do("get", "empty"), do("get", "a", "-w", "json"), do("get", "a", "-w", "fields"),
        do("get", "a", "--print-value-only"), do("get", "a", "--hex"), do("put", "u/ключ", "значение"),
        do("get", "u/ключ"), do("get", "u/ключ", "-w", "json"), do("put", "c", "3", "-w", "json"),
        do("put", "a", "--ignore-value"), do("put", "nokey", "--ignore-value"),
        do("put", "a", "4", "--ignore-lease"), do("put", "-w", "json", "a", "5", "--prev-kv"),
        do("put", "big", stdin="x" * 100000), do("get", "big", "--print-value-only"),
        do("put", "too-big", stdin="x" * 1600000), do("put", "too-big", stdin="x" * 3000000)]),
    ("get, many", [
        *[do("put", "k/%02d" % i, "v%d" % i) for i in range(12)],
        do("get", "--prefix", "k/"), do("get", "--prefix", "k/", "--limit", "3"),
        do("get", "--prefix", "k/", "--limit", "3", "-w", "json"),
        do("get", "--prefix", "k/", "--keys-only"), do("get", "--prefix", "k/", "--count-only"),
        do("get", "--prefix", "k/", "--count-only", "-w", "fields"),
        do("get", "--prefix", "k/", "--keys-only", "-w", "json"), do("get", "k/03", "k/06"),
        do("get", "--from-key", "k/09"), do("get", "--prefix", ""), do("get", "--from-key", ""),
        do("get", "k/06", "k/03"), do("get", "--prefix", "k/", "--consistency", "s"),
        do("get", "--prefix", "k/", "--consistency", "x"), do("get", "k/", "--from-key", "--prefix"),
        do("get", "--prefix", "k/", "--min-mod-rev", "30"),
        do("get", "--prefix", "k/", "--max-mod-rev", "30", "--min-create-rev", "20")]),
    ("sorted", sorts()),
    ("old revisions", [
        do("put", "r", "1"), do("put", "r", "2"), do("del", "r"), do("put", "r", "3"),
        *[do("get", "r", "--rev", str(rev), "-w", "json") for rev in range(40, 56)],
        do("get", "r", "--rev", "100000"), do("get", "r", "--rev", "-1"),
        do("get", "--prefix", "", "--rev", "20")]),
    ("delete", [
        *[do("put", "d/%d" % i, "v%d" % i) for i in range(6)],
        do("del", "d/0"), do("del", "d/0"), do("del", "d/1", "--prev-kv"), do("del", "d/2", "d/4"),
        do("del", "--prefix", "d/", "--prev-kv"), do("del", "--prefix", "d/", "-w", "json"),
        do("put", "d/9", "x"), do("del", "d/9", "--prev-kv", "-w", "json"),
        do("del", "--from-key", "zzz"), do("del", "")]),
    ("transactions", [
        do("txn", "-i", stdin='value("a") = "5"\n\nput a 6\nget a\n\nput a 7\n\n'),
        do("txn", "-i", stdin='value("a") = "nothing"\n\nput a 6\n\nget a\nget --prefix k/0\n\n'),
        do("txn", stdin='ver("a") > "0"\nmod("a") > "1"\ncreate("a") < "1000"\n\ndel a --prev-kv\nput t 1\n\n\n'),
        do("txn", stdin='create("t2") = "0"\n\nput t2 x\nget t2\ndel t\n\nget t2\n\n'),
        do("txn", "-w", "json", stdin='create("t2") = "0"\n\nput t2 x\n\nget t2\n\n'),
        do("txn", stdin='lease("t2") = "0"\n\nget t2\n\n\n'), do("txn", stdin="\n\n\n"),
        do("txn", stdin='\nput t3 a\nput t3 b\n\n\n'), do("txn", stdin='\nput t3 a\ndel t3\n\n\n'),
        do("txn", stdin='nonsense\n\n\n\n'), do("txn", stdin='\nget --rev 100000 a\n\n\n')]),
    ("leases", [
        do("lease", "grant", "3600"), do("put", "l/1", "x", "--lease", "LEASE0"),
        do("put", "l/2", "y", "--lease", "LEASE0"), do("get", "l/1", "-w", "json"),
        do("lease", "timetolive", "LEASE0"), do("lease", "timetolive", "LEASE0", "--keys"),
        do("lease", "keep-alive", "--once", "LEASE0"), do("lease", "list"),
        do("lease", "grant", "7200", "-w", "json"), do("lease", "grant", "600"),
        do("lease", "timetolive", "LEASE1", "--keys"), do("lease", "revoke", "LEASE0"),
        do("get", "--prefix", "l/"), do("lease", "revoke", "LEASE0"),
        do("lease", "timetolive", "LEASE0"), do("lease", "keep-alive", "--once", "LEASE0"),
        do("put", "l/3", "z", "--lease", "LEASE0"), do("put", "l/3", "z", "--lease", "nonsense"),
        do("lease", "grant", "0"), do("lease", "grant", "-5"), do("lease", "grant", "9000000001"),
        do("lease", "grant", "x"), do("lease", "list", "-w", "json"),
        do("lease", "timetolive", "1234567")]),
    ("a lease that ends", [
        do("lease", "grant", "2"), do("put", "l/short", "x", "--lease", "LEASE4"),
        watch("l/short", lines=2, wait=0), do("get", "l/short"),
        do("lease", "timetolive", "LEASE4")]),
    ("watches", [
        watch("w/1", lines=6, then=[do("put", "w/1", "a"), do("put", "w/2", "b"), do("del", "w/1")]),
        watch("--prefix", "w/", "--rev", "60", lines=9, wait=0),
        watch("--prefix", "w/", "--prev-kv", lines=10,
              then=[do("put", "w/3", "a"), do("put", "w/3", "b"), do("del", "--prefix", "w/")]),
        watch("--prefix", "w/", "-w", "json", lines=2,
              then=[do("put", "w/4", "a"), do("del", "w/4")]),
        watch("w/a", "w/c", lines=3, then=[do("put", "w/c", "1"), do("put", "w/b", "2")]),
        watch("--prefix", "w/", lines=6,
              then=[do("txn", stdin="\nput w/5 x\nput w/6 y\n\n\n"), do("put", "other", "z")]),
        watch("--prefix", "w/", "--rev", "1000000", lines=0, wait=0),
        watch("w/5", "--rev", "1", "-w", "json", lines=1, wait=0)]),
    ("compaction", [
        do("put", "c", "1"), do("put", "c", "2"), do("compaction", "60"),
        do("get", "c", "--rev", "59"), do("get", "c", "--rev", "60"), do("compaction", "60"),
        do("compaction", "20"), do("compaction", "100000"), do("compaction", "x"),
        do("compaction", "70", "--physical"), do("get", "c"), do("compaction", "-1"),
        watch("c", "--rev", "10", lines=1, wait=0),
        do("txn", stdin='\nget --rev 5 a\n\n\n')]),
    ("cluster", [
        do("endpoint", "health"), do("endpoint", "health", "-w", "json"),
        do("endpoint", "health", "ALL"),
        do("member", "list", "-w", "simple"), do("member", "list", "-w", "json"),
        do("member", "list", "-w", "table"), do("member", "list", "-w", "fields"),
        do("endpoint", "status", "-w", "fields"), do("endpoint", "status", "-w", "json"),
        do("endpoint", "status"), do("endpoint", "status", "-w", "table")]),
    ("mistakes", [
        do("put", "", "x"), do("get", ""), do("put", "a"), do("get"), do("nonsense"),
        do("get", "a", "--rev", "x"), do("get", "a", "--limit", "-1"), do("put", "a", "b", "c")]),
]

# Lines of `endpoint status` that tell about the moment or the build.
STATUS_LOOSE = re.compile(
    r'^"?(MemberID|Leader|RaftIndex|RaftTerm|RaftAppliedIndex|DBSize|DBSizeInUse|ClusterID|Revision)"?'
    r'.*$', re.M)


def loosen_status(args, output):
    if args[:2] == ["endpoint", "status"]:
        output = STATUS_LOOSE.sub(r"\1", output)
        output = re.sub(r"\b(true|false)\b", "BOOL", output)
        output = re.sub(r"(?<=[,│ ]) ?\d+(?= ?[,│])", "N", output)
    if args[:2] == ["member", "list"]:
        output = re.sub(r'"ID" : \d+', '"ID" : N', output)
        lines = output.split("\n")
        return "\n".join(sorted(lines))
    if args[:2] == ["lease", "list"] or "health" in args:
        return "\n".join(sorted(output.split("\n")))
    return output


def run_step(sides, step):
    """The outcomes on both sides: a list of (what, outcome, outcome)."""
    if step[0] == "run":
        _, args, stdin = step
        both = [side.run(args, stdin) for side in sides]
        both = [(code, loosen_status(args, out), err) for code, out, err in both]
        return [("etcdctl " + " ".join(args) + (" <<< %.80r" % stdin if stdin else ""), *both)]
    _, args, count, then, wait = step
    watches = [Watch(side, args) for side in sides]
    time.sleep(wait)
    results = []
    for inner in then:
        results += run_step(sides, inner)
    results.append(("etcdctl watch " + " ".join(args), *[w.lines(count) for w in watches]))
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--want", default="etcd", choices=("trivet", "etcd"))
    parser.add_argument("--got", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--case", help="only cases whose name has this; revisions then differ")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    sides = [Side(args.want), Side(args.got)]
    for side in sides:
        side.nodes.start()
    for name, steps in CASES:
        if args.case and args.case not in name:
            continue
        for step in steps:
            for what, want, got in run_step(sides, step):
                if args.verbose:
                    print("%s: %s\n%s\n%s" % (name, what, want[1], want[2]))
                tally.check(want == got, "%s: %s" % (name, what),
                            "  want %d %s\n       %s\n  got  %d %s\n       %s" % (
                                want[0] or 0, want[1][:2000], want[2][:1000],
                                got[0] or 0, got[1][:2000], got[2][:1000]))
    for side in sides:
        side.nodes.check_running()
        side.nodes.close()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
