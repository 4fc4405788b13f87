#!/usr/bin/env python3
"""A member is away for longer than the log is kept, comes back under load, and takes a snapshot.

Three nodes keep little of their logs. One is killed or paused while far more than that is written; it
must come back by a snapshot, which is cut off on the way by killing either side. After every round the
load program (tests/clients/go/faultload) proves that every acknowledged write is there, that no watcher
missed or repeated an event, and that the nodes hold the same. A watch that hangs on the paused node all
the time must be sent everything that happened meanwhile, without a gap, or be told that it is compacted.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402
from killer import Load, leader_of  # noqa: E402

FLAGS = ["--log-segment-bytes", str(16 << 20), "--max-wals", "3", "--snapshot-count", "100",
         "--snapshot-catchup-entries", "100"]
VALUE_BYTES = 64 << 10
BULK_PUTS = 4000  # 250 MiB: several times what the log and RocksDB's next commit hold
# What a paused node finds in its sockets when it goes on: 64 MiB, and what was not full.
IN_FLIGHT_SEGMENTS = 5
CUT_TIMEOUT = 180  # a snapshot to the member that stands still has to be given up first
SNAPSHOT_TIMEOUT = 120


def etcdctl(endpoint, *args):
    return cluster.run([cluster.ETCDCTL, "--endpoints", endpoint] + list(args),
                       capture_output=True, text=True)


class Snapshots:
    """What a node's log says of snapshots."""

    def __init__(self, node):
        self.node = node
        self.offset = os.path.getsize(node.log_path) if os.path.exists(node.log_path) else 0

    def count(self, text):
        with open(self.node.log_path, "rb") as log:
            log.seek(self.offset)
            return log.read().count(text.encode())

    def wait(self, text, above=0, timeout=SNAPSHOT_TIMEOUT):
        deadline = time.monotonic() + timeout
        while self.count(text) <= above:
            if not self.node.running():
                raise cluster.ClusterError("%s ended by itself\n%s" %
                                           (self.node.name, self.node.log_tail()))
            if time.monotonic() > deadline:
                raise cluster.ClusterError("%s: no '%s' within %d s\n%s" % (
                    self.node.name, text, timeout, self.node.log_tail(30)))
            time.sleep(0.02)


RECEIVING, INSTALLED = "receiving a snapshot", "installed a snapshot"


def segments(node):
    """The numbers of the log's files, oldest first."""
    return sorted(int(name[:-4], 16)
                  for name in os.listdir(os.path.join(node.data_dir, "member", "wal"))
                  if name.endswith(".wal"))


def write_bulk(nodes, away):
    """Much more than the logs keep, at the nodes that are there; until they are cut. Returns a
    revision that all of them have."""
    there = [n for n in nodes.nodes if n.index != away]
    needed = {n.index: segments(n)[-1] + IN_FLIGHT_SEGMENTS for n in there}
    bench = os.path.join(cluster.build_dir(), "bench", "trivet-bench")
    result = cluster.run([bench, "put", "--endpoints", ",".join(n.endpoint() for n in there),
                          "--conns", "2", "--streams", "8", "--total", str(BULK_PUTS),
                          "--keys", "500", "--warmup", "0", "--value-size", str(VALUE_BYTES),
                          "--prefix", "/bulk/"], capture_output=True, text=True, timeout=600)
    if result.returncode != 0:
        raise cluster.ClusterError("the bulk could not be written\n" + result.stdout + result.stderr)
    deadline = time.monotonic() + CUT_TIMEOUT
    for node in there:
        while segments(node)[0] <= needed[node.index]:
            if time.monotonic() > deadline:
                raise cluster.ClusterError("%s does not cut its log: %s, needed beyond %d" % (
                    node.name, segments(node), needed[node.index]))
            time.sleep(0.05)
    status = etcdctl(there[0].endpoint(), "endpoint", "status", "-w", "json").stdout
    return json.loads(status)[0]["Status"]["header"]["revision"]


def follower_of(nodes, rng):
    leader = leader_of(nodes)
    return rng.choice([n.index for n in nodes.nodes if n.index != leader])


def killed_and_back(nodes, rng):
    away = follower_of(nodes, rng)
    nodes.kill(away)
    write_bulk(nodes, away)
    back = Snapshots(nodes.nodes[away])
    nodes.start_node(away)
    back.wait(INSTALLED)
    return "%s was away" % nodes.nodes[away].name


def cut_off(nodes, rng):
    """Either side is killed while the snapshot is on its way."""
    away = follower_of(nodes, rng)
    nodes.kill(away)
    write_bulk(nodes, away)
    receiver = nodes.nodes[away]
    whole = Snapshots(receiver)
    kills = []
    for seen in range(4):  # each transfer that is seen is cut off, unless it is faster
        if not receiver.running():
            nodes.start_node(away)
        whole.wait(RECEIVING, above=seen)
        time.sleep(rng.uniform(0, 0.25))
        if whole.count(INSTALLED):
            break
        victim = away if rng.random() < 0.5 else leader_of(nodes)
        if victim is None:
            continue
        kills.append("receiver" if victim == away else "sender")
        nodes.kill(victim)
        if victim != away:
            time.sleep(0.5)
            nodes.start_node(victim)
    if not receiver.running():
        nodes.start_node(away)
    nodes.wait_healthy(timeout=120)
    whole.wait(INSTALLED)
    return "killed %s on the way" % (", ".join(kills) or "nobody in time")


def killed_in_the_switch(nodes, rng):
    """The receiver is killed while the new store takes the old one's place."""
    away = follower_of(nodes, rng)
    nodes.kill(away)
    write_bulk(nodes, away)
    receiver = nodes.nodes[away]
    old = os.path.join(receiver.data_dir, "member", "lsm.old")
    seen = Snapshots(receiver)
    nodes.start_node(away)
    deadline = time.monotonic() + SNAPSHOT_TIMEOUT
    while not os.path.exists(old) and not seen.count(INSTALLED):
        if time.monotonic() > deadline:
            raise cluster.ClusterError("no switch within %d s" % SNAPSHOT_TIMEOUT)
    time.sleep(rng.choice([0, 0, 0.002, 0.01, 0.05]))
    nodes.kill(away)
    caught = os.path.exists(old)
    nodes.start_node(away)
    nodes.wait_healthy(timeout=120)
    return "%s was killed %s the switch" % (receiver.name, "in" if caught else "after")


class Watch:
    """etcdctl watching on one node, through everything."""

    def __init__(self, node, prefix):
        self.process = subprocess.Popen(
            [cluster.ETCDCTL, "--endpoints", node.endpoint(), "--keepalive-time", "1h",
             "watch", "--prefix", prefix],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=cluster.die_with_parent)
        time.sleep(1)

    def expect(self, values):
        """The values of the events that come, in this order, and no other."""
        for value in values:
            lines = [self.process.stdout.readline().strip() for _ in range(3)]
            if lines[0] != "PUT" or lines[2] != value:
                return "expected %s, came %s" % (value, lines)
        return None

    def stop(self):
        self.process.kill()
        self.process.wait()


def paused(nodes, rng):
    """The node keeps its memory, its watchers and its connections; its store is replaced."""
    away = follower_of(nodes, rng)
    node = nodes.nodes[away]
    prefix = "/watched-%d/" % rng.randrange(1 << 30)
    watch = Watch(node, prefix)
    other = nodes.nodes[leader_of(nodes)].endpoint()
    before = Snapshots(node)
    try:
        values = []

        def put(count):
            for _ in range(count):
                values.append("v%d" % len(values))
                result = etcdctl(other, "put", prefix + "k%d" % (len(values) % 7), values[-1])
                if result.returncode != 0:
                    raise cluster.ClusterError("put: " + result.stderr)
        put(3)
        nodes.pause(away)
        put(5)
        write_bulk(nodes, away)
        put(5)
        nodes.resume(away)
        before.wait(INSTALLED)
        put(3)
        nodes.wait_healthy()
        wrong = watch.expect(values)
        if wrong:
            raise cluster.ClusterError("the watch on the paused node: " + wrong)
    finally:
        watch.stop()
    return "%s was paused, its watch saw all %d events" % (node.name, len(values))


def paused_and_compacted(nodes, rng):
    """What the watch missed is compacted: it must be told, not left waiting."""
    away = follower_of(nodes, rng)
    node = nodes.nodes[away]
    watch = Watch(node, "/elsewhere/")
    before = Snapshots(node)
    try:
        nodes.pause(away)
        revision = write_bulk(nodes, away)
        other = nodes.nodes[leader_of(nodes)].endpoint()
        etcdctl(other, "compact", str(revision))
        write_bulk(nodes, away)  # so that the compaction is in the snapshot
        nodes.resume(away)
        before.wait(INSTALLED)
        nodes.wait_healthy()
        try:
            output, _ = watch.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            raise cluster.ClusterError("the watch was not told of the compaction") from None
        if "compacted" not in output:
            raise cluster.ClusterError("the watch ended with: " + output)
    finally:
        watch.stop()
    return "%s was paused beyond a compaction, its watch was told" % node.name


def hashes_of(nodes):
    """HashKV of every node, at one revision."""
    hashes = []
    for node in nodes.nodes:
        revision = json.loads(etcdctl(node.endpoint(), "get", "x", "-w", "json").stdout)
        result = etcdctl(node.endpoint(), "endpoint", "hashkv", "-w", "json", "--rev",
                         str(revision["header"]["revision"]))
        hashes.append(json.loads(result.stdout)[0]["HashKV"]["hash"])
    return hashes


SCENARIOS = [killed_and_back, cut_off, paused, killed_in_the_switch]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=4, help="each is one of the four scenarios with a load")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("flags", nargs="*", help="for every node, after --")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    print("seed %d, %d rounds" % (seed, args.rounds), flush=True)
    rng = random.Random(seed)
    cluster.exit_on_signals()
    tally = cluster.Tally()
    begin = time.monotonic()
    with cluster.Cluster("trivet", flags=FLAGS + args.flags) as nodes:
        nodes.start()
        load = Load(nodes, seed)
        for number in range(args.rounds):
            scenario = SCENARIOS[number % len(SCENARIOS)]
            began = time.monotonic()
            try:
                what = scenario(nodes, rng)
                nodes.wait_healthy()
                nodes.check_running()
                answer = load.ask("check")
            except cluster.ClusterError as error:
                what, answer = "", str(error)
            print("round %d: %s (%.1f s): %s" % (number + 1, what or scenario.__name__,
                                                 time.monotonic() - began, answer), flush=True)
            if not tally.check(answer.startswith("ok"), scenario.__name__, answer):
                break
        output, status = load.finish()
        lines = output.strip().split("\n")
        tally.check(status == 0 and lines[-1].endswith(" 0 failed"), "the load", output)
        if tally.failed == 0:  # the load's own watchers would be told of the compaction too
            try:
                print(paused_and_compacted(nodes, rng), flush=True)
                hashes = hashes_of(nodes)
                tally.check(len(set(hashes)) == 1, "hashes", str(hashes))
            except cluster.ClusterError as error:
                tally.check(False, "paused_and_compacted", str(error))
        if tally.failed:
            nodes.keep()
        print("the load: %s; %.1f s" % (lines[-1], time.monotonic() - begin))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
