#!/usr/bin/env python3
"""A member with much data is wiped, and comes back by a snapshot while the others serve puts.

Three members are filled; puts go on at a fixed rate (an open loop: each latency counts from the moment
the put was due), first with all members, then while one follower is killed, its data deleted, and it is
started again with the same flags and an empty folder. It must come back by itself, under whichever id,
and hold what the others hold. Reported are the puts' latencies before and meanwhile, the time to come
back, and what memory both sides took.

    tests/faults/bigsnapshot.py --mib 5000 --rate 5000 --before 60    # the figure that is promised: twice
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

VALUE_BYTES = 4096
PATIENCE_S = 900
SETTLE_S = 120
MEMORY_LEFT_MIN = 512 << 20  # of the machine: below it what is measured is not the members
CAUGHT_UP = 0.5  # seconds of puts that a member which has caught up may be behind


def status_of(node):
    result = cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "--command-timeout", "3s",
                          "endpoint", "status", "-w", "json"], capture_output=True, text=True)
    try:
        return json.loads(result.stdout)[0]["Status"]
    except (ValueError, IndexError, TypeError):  # "null": nobody answered
        return None


def leader_of(nodes):
    for node in nodes.nodes:
        status = status_of(node)
        if status and status.get("leader", 0) == status["header"]["member_id"] != 0:
            return node
    raise cluster.ClusterError("nobody leads")


def leader_elsewhere(nodes):
    """The leader, which is not the first member: its leadership is moved if it is."""
    leader = leader_of(nodes)
    if leader is nodes.nodes[0]:
        to = status_of(nodes.nodes[1])["header"]["member_id"]
        cluster.run([cluster.ETCDCTL, "--endpoints", leader.endpoint(), "move-leader", "%x" % to],
                    capture_output=True, check=True)
        leader = leader_of(nodes)
    return leader


class Quiet:
    """True once the servers together took less than a tenth of a processor for a second."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.samples = []

    def __call__(self):
        now = time.monotonic()
        self.samples.append((now, sum(n.cpu_seconds() for n in self.nodes.nodes)))
        while len(self.samples) > 2 and self.samples[1][0] <= now - 1:
            self.samples.pop(0)
        begin, used = self.samples[0]
        return now - begin >= 1 and self.samples[-1][1] - used < 0.1 * (now - begin)


class Memory(threading.Thread):
    """The largest resident size of each member, looked at ten times a second, and what the machine had
    left."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes, self.over = nodes, threading.Event()
        self.largest = {}
        self.left_min = 1 << 62
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            for node in self.nodes.nodes:
                try:
                    self.largest[node.name] = max(self.largest.get(node.name, 0), node.rss_bytes())
                except (OSError, AttributeError, ValueError, IndexError):
                    pass  # it is down
            with open("/proc/meminfo", encoding="ascii") as f:
                left = next(int(line.split()[1]) << 10 for line in f if line.startswith("MemAvailable"))
            self.left_min = min(self.left_min, left)

    def forget(self):
        self.largest = {}


def bench(args):
    return [os.path.join(cluster.build_dir(), "bench", "trivet-bench")] + args + ["--json", "-", "--quiet"]


class Puts:
    """Puts at a rate, until they are stopped."""

    def __init__(self, nodes, rate):
        self.process = subprocess.Popen(
            bench(["put", "--endpoints", ",".join(n.endpoint() for n in nodes), "--rate", str(rate),
                   "--conns", "8", "--streams", "128", "--keys", "20000", "--value-size", "256",
                   "--prefix", "/load/", "--duration", "100000", "--warmup", "1"]),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=cluster.die_with_parent)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=60)
        if self.process.returncode != 0:
            raise cluster.ClusterError("the puts: " + err)
        return json.loads(out)


def fill(nodes, mib):
    keys = (mib << 20) // VALUE_BYTES
    result = cluster.run(bench(["fill", "--endpoints", nodes.endpoints(), "--keys", str(keys),
                                "--value-size", str(VALUE_BYTES), "--prefix", "/fill/", "--batch", "64",
                                "--conns", "2", "--streams", "4", "--timeout", "60"]),
                         capture_output=True, text=True, timeout=3600)
    if result.returncode != 0 or json.loads(result.stdout)["errors"]:
        raise cluster.ClusterError("the fill: " + result.stdout + result.stderr)
    return json.loads(result.stdout)["seconds"]


def wait_for(what, condition, timeout):
    if not cluster.wait_until(condition, timeout):
        raise cluster.ClusterError("not within %d s: %s" % (timeout, what))


def let_write(leader, count):
    """Until so many revisions more are there."""
    def revision():
        status = status_of(leader)
        return status["header"]["revision"] if status else 0
    goal = revision() + count
    wait_for("%d puts more" % count, lambda: revision() >= goal, PATIENCE_S)


def has_caught_up(node, leader, rate):
    if not node.running():
        raise cluster.ClusterError("%s ended by itself\n%s" % (node.name, node.log_tail(30)))
    ahead, behind = status_of(leader), status_of(node)
    return bool(ahead and behind and node.healthy() and ahead["header"]["revision"] -
                behind["header"]["revision"] <= max(rate * CAUGHT_UP, 100))


def hash_at(node, revision):
    result = cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "--command-timeout", "120s",
                          "endpoint", "hashkv", "--rev", str(revision), "-w", "json"],
                         capture_output=True, text=True, timeout=180)
    return json.loads(result.stdout)[0]["HashKV"]["hash"] if result.returncode == 0 else result.stderr


def hashes(nodes):
    """Of each member, at one revision; what one says that cannot, when that lasts."""
    found = {}

    def all_know():
        revision = status_of(leader_of(nodes))["header"]["revision"]
        found.update({node.name: hash_at(node, revision) for node in nodes.nodes})
        return all(isinstance(h, int) for h in found.values())
    cluster.wait_until(all_know, 60)
    return found


def latency(result):
    return result["latency"]["put"]


def describe(name, result):
    put = latency(result)
    return "%-8s %6.0f puts/s, p50 %.2f, p99 %.2f, p99.9 %.2f, max %.0f ms; %d never begun, %d errors" % (
        name, put["per_second"], put["p50_ms"], put["p99_ms"], put["p99_9_ms"], put["max_ms"],
        result["never_begun"], result["errors"])


def story(args, nodes, tally):
    if args.apart:
        nodes.nodes[0].data_dir = os.path.join(args.apart, "n0")
    nodes.start()
    took = fill(nodes, args.mib)
    print("filled %d MiB in %.0f s" % (args.mib, took), flush=True)
    tally.check(cluster.wait_until(Quiet(nodes), SETTLE_S), "the servers come to rest")
    memory = Memory(nodes)
    puts = Puts(nodes.nodes, args.rate)
    let_write(leader_of(nodes), args.rate * (1 + args.before))
    before = puts.stop()
    full = dict(memory.largest)
    print(describe("before", before), flush=True)

    victim, leader = nodes.nodes[0], leader_elsewhere(nodes)
    others = [n for n in nodes.nodes if n is not victim]
    memory.forget()
    puts = Puts(others, args.rate)
    let_write(leader, args.rate * 2)
    began = time.monotonic()
    nodes.kill(victim.index)
    os.rename(victim.data_dir, victim.data_dir + ".gone")  # to delete it is work for the disk of all
    victim.start()
    wait_for("the wiped member has caught up\n" + victim.log_tail(),
             lambda: has_caught_up(victim, leader, args.rate), PATIENCE_S)
    back = time.monotonic() - began
    meanwhile = puts.stop()
    memory.over.set()
    ratio = latency(meanwhile)["p99_ms"] / latency(before)["p99_ms"]
    print(describe("meanwhile", meanwhile))
    print("p99 %.2f times that of before; back after %.1f s" % (ratio, back))
    print("memory at most, MiB: leader %d (%d before), wiped member %d (%d before); the machine had %d left" %
          tuple(n >> 20 for n in (memory.largest.get(leader.name, 0), full.get(leader.name, 0),
                                  memory.largest.get(victim.name, 0), full.get(victim.name, 0),
                                  memory.left_min)))
    if memory.left_min < MEMORY_LEFT_MIN:
        print("THE MACHINE RAN OUT OF MEMORY: the figures say nothing about the members")
    nodes.check_running()
    found = hashes(nodes)
    tally.check(len(set(found.values())) == 1, "the members hold the same", str(found))
    tally.check(latency(meanwhile)["count"] > 0.9 * args.rate * back * 0.9, "the puts went on",
                str(meanwhile))
    tally.check(meanwhile["errors"] == 0, "no put failed", str(meanwhile))
    with open(victim.log_path, encoding="utf-8", errors="replace") as log:
        tally.check("installed a snapshot" in log.read() or args.kind == "etcd", "it came by a snapshot")
    tally.check(ratio <= args.bound, "p99 is %.2f times that of before, at most %.1f" % (ratio, args.bound))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--before", type=float, default=8, help="seconds")
    parser.add_argument("--apart", help="a folder on another disk, for the member that will be wiped: as "
                        "in a cluster, its writes then do not stand in the way of the others'")
    parser.add_argument("--bound", type=float, default=2, help="of the ratio of both p99")
    parser.add_argument("flags", nargs="*", help="for every node, after --")
    args = parser.parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    try:
        with cluster.Cluster(args.kind, flags=["--quota-backend-bytes", str(64 << 30)] + args.flags) as nodes:
            story(args, nodes, tally)
            if tally.failed:
                nodes.keep()
    except cluster.ClusterError as error:
        tally.check(False, "bigsnapshot", str(error))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
