#!/usr/bin/env python3
"""Three members in three zones, and many clients of libtrivet: a zone is lost, members are restarted one after
another, one is slow; and who reads where when all is well.

    python3 tests/faults/zones.py [--only PART,...] [--seconds N] [--json FILE]

  follower   all packets of a follower's zone are dropped, no RST: no call fails, reads go on
  leader     the same of the leader's zone: no call fails, writes are back in time
  clientv3   the same two with Go's clientv3, for comparison: printed, not judged
  rolling    SIGTERM and a new start of all three: no call fails, and none of the seconds is bad
  slow       a member that runs for a fiftieth of the time: reads are hardly slower
  narrow     a member whose network passes a fiftieth of what it is asked for: the same
  disk       a follower whose writes and syncs take fifty times as long: the same, and writes go on
  even       without zones every member gets the same number of reads, from 3 clients and from 300
  near       with zones reads stay in the own one

Half of the calls are puts; their caller says that they may be repeated (call_options.idempotent), for a put that
had left when its member was lost is unknown otherwise. A scene that misses a bound of time is played again,
twice at most: other programs may have had the processors. What is lost, or fails, fails at once.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import cluster as clusters  # noqa: E402
import faultdisk  # noqa: E402
import netns  # noqa: E402
from cluster import Cluster, ClusterError, Tally  # noqa: E402

SCENES = os.path.join(clusters.build_dir(), "tests", "clients", "libtrivet_scenes")
ZONELOAD = os.path.join(clusters.TOOLS, "zoneload")
# The followers wait for 1.1 to 1.5 election timeouts of a second, and the first of the two that wakes is elected.
WRITES_BACK_S = 1.5
# A p99 that without any fault only other programs on the processors account for. Then a member may well be slower
# than the others, and reads leave it: bounds are wide.
BUSY_MS = 20
tally = Tally()
figures = {}


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


class Call:
    __slots__ = ("is_write", "began", "took", "status")

    def __init__(self, line):
        kind, began, took, status = line.split()
        self.is_write = kind == "w"
        self.began = int(began) / 1000  # seconds, of time.monotonic()
        self.took = int(took) / 1000    # ms
        self.status = int(status)

    def ended(self):
        return self.began + self.took / 1000


class Load:
    """A process that makes calls until its time is over."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True,
                                        preexec_fn=clusters.die_with_parent)
        self.began = threading.Event()
        self.lines = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        if not self.began.wait(30):
            raise ClusterError("the clients do not begin\n" + "\n".join(self.lines[-20:]))

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("running"):
                self.began.set()

    def finish(self, timeout=60):
        self.thread.join(timeout)
        if self.process.poll() is None:
            self.process.wait(10)
        self.calls = [Call(line) for line in self.lines if re.match(r"[rw] \d", line)]
        if self.process.returncode != 0 or not self.calls:
            raise ClusterError("the clients ended with %s\n%s" % (
                self.process.returncode, "\n".join(self.lines[-20:])))
        self.first = min(call.began for call in self.calls)
        self.members = [int(line.split()[2]) for line in self.lines if line.startswith("member ")]
        return self

    def failed(self):
        return [call for call in self.calls if call.status != 0]

    def said(self):
        """What the clients said about calls that failed, and their sums."""
        return "\n".join([line for line in self.lines if " after " in line][:10] +
                         [line for line in self.lines if line.startswith("retries")])


def libtrivet(nodes, seconds, zones=3, only=None, **options):
    endpoints = ",".join("%s;zone=z%d" % (node.endpoint(), node.index) if zones else node.endpoint()
                         for node in nodes.nodes if only in (None, node))
    options = dict({"zones": zones, "clients": 64}, **options)
    return Load([SCENES, "load", endpoints, str(seconds)] + ["%s=%s" % o for o in options.items()])


def clientv3(nodes, seconds):
    return Load([ZONELOAD, "-endpoints", nodes.endpoints(), "-seconds", str(seconds)])


def leader_of(nodes):
    """By the metrics of each, which are there without a quorum."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for node in nodes.nodes:
            answer = clusters.http_get(node.client_port, "/metrics", 2, node.host)
            if answer is not None and re.search(r"^etcd_server_is_leader 1$", answer[1], re.M):
                return node
        time.sleep(0.1)
    raise ClusterError("nobody leads")


def again(name, scene, *args):
    """Played until its bounds hold, three times at most; `scene` returns what is missed, as texts."""
    for _ in range(3):
        missed = scene(*args)
        if not missed:
            break
        print("%s: missed: %s" % (name, "; ".join(missed)), flush=True)
    tally.check(not missed, name, "; ".join(missed))


# --- a zone is lost ---

def lose_zone(net, nodes, make_load, strike_leader, quiet_s=4.0):
    """(load, when it was lost, when it was back)"""
    nodes.wait_healthy()
    leader = leader_of(nodes)
    struck = leader if strike_leader else nodes.nodes[(leader.index + 1) % 3]
    load = make_load(nodes, int(quiet_s) + 4)
    time.sleep(2)
    lost = time.monotonic()
    net.silence(struck.place)
    time.sleep(quiet_s)
    back = time.monotonic()
    net.heal()
    load.finish()
    return load, lost, back


def measure_loss(load, lost, back):
    before = [c.took for c in load.calls if not c.is_write and c.ended() < lost]
    reads = [c.took for c in load.calls if not c.is_write and lost + 1 <= c.began < back]
    early = [c.took for c in load.calls if not c.is_write and lost <= c.began < lost + 1]
    answered = [c.ended() for c in load.calls if c.is_write and c.status == 0]
    # The first write that began after the loss: those before may have been under way.
    writes = [c.ended() for c in load.calls if c.is_write and c.status == 0 and c.began >= lost]
    around = sorted(t for t in answered if lost - 1 <= t <= back + 2)
    gap = max((b - a for a, b in zip(around, around[1:])), default=99.0)
    return {"calls": len(load.calls), "failed": len(load.failed()),
            "before_p99_ms": percentile(before, 0.99), "reads_p99_ms": percentile(reads, 0.99), "reads_max_ms": max(reads, default=0.0),
            "reads_first_second_p99_ms": percentile(early, 0.99),
            "writes_back_s": min(writes, default=lost + 99) - lost, "writes_gap_s": gap}


def show(name, found):
    figures[name] = found
    print("%s: %s" % (name, ", ".join(
        "%s %s" % (k, round(v, 1 if k.endswith("ms") else 3)) for k, v in found.items())), flush=True)


def zone_lost(net, nodes, strike_leader):
    name = "the leader's zone is lost" if strike_leader else "a follower's zone is lost"
    load, lost, back = lose_zone(net, nodes, libtrivet, strike_leader)
    found = measure_loss(load, lost, back)
    show(name, found)
    tally.check(found["failed"] == 0, name + ": no call fails", load.said())
    missed = []
    # Where the processors are busy with other things reads are slow without any fault.
    bound = max(100, 3 * found["before_p99_ms"])
    # Linearizable reads need a leader; how long there is none is what the next bound is about.
    if found["reads_p99_ms"] > bound and not strike_leader:
        missed.append("reads p99 %.1f ms" % found["reads_p99_ms"])
    if strike_leader:
        later = [c.took for c in load.calls if not c.is_write and lost + 1.5 <= c.began < back]
        if percentile(later, 0.99) > bound:
            missed.append("reads p99 %.1f ms" % percentile(later, 0.99))
    if found["writes_gap_s"] > WRITES_BACK_S:
        missed.append("writes are back after %.2f s" % found["writes_gap_s"])
    return missed


def compare(net, nodes):
    for strike_leader in (False, True):
        load, lost, back = lose_zone(net, nodes, clientv3, strike_leader)
        show("clientv3, %s zone is lost" % ("the leader's" if strike_leader else "a follower's"),
             measure_loss(load, lost, back))


# --- rolling restart ---

def rolling(nodes):
    nodes.wait_healthy()
    load = libtrivet(nodes, 14)
    time.sleep(1)
    for index in range(3):
        nodes.stop(index)
        nodes.start_node(index)
        nodes.wait_healthy([index])
        time.sleep(1)
    load.finish()
    seconds = {}
    for call in load.calls:
        seconds.setdefault(int(call.ended()), []).append(call.took)
    worst = max(percentile(took, 0.99) for took in seconds.values() if len(took) > 100)
    first = percentile([c.took for c in load.calls if c.began < load.first + 1], 0.99)
    show("all members are restarted", {"calls": len(load.calls), "failed": len(load.failed()),
                                       "first_second_p99_ms": first, "worst_second_p99_ms": worst})
    tally.check(not load.failed(), "all members are restarted: no call fails", load.said())
    return [] if worst <= (200 if first < BUSY_MS else 1000) else ["p99 of the worst second %.1f ms" % worst]


# --- a slow member ---

class Slowed:
    """A process that runs for a fiftieth of the time."""

    def __init__(self, node):
        self.node = node
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            self.node.send(signal.SIGSTOP)
            self.over.wait(0.049)
            self.node.send(signal.SIGCONT)
            time.sleep(0.001)

    def stop(self):
        self.over.set()
        self.thread.join()
        self.node.send(signal.SIGCONT)


class Narrowed:
    """A network that passes 20 kbit a second, of the 1,000 that a third of these reads and their answers are."""

    def __init__(self, net, node):
        self.net = net
        net.throttle(node.place, 20)

    def stop(self):
        self.net.heal()


class SlowDisk:
    """Each write and each sync takes fifty times as long as this disk takes for both, and 20 ms at least."""

    def __init__(self, disk, folder):
        self.disk = disk
        self.delay_ms = max(20, round(50 * faultdisk.sync_ms(folder)))
        disk.say(b"d", self.delay_ms)

    def stop(self):
        self.calls = self.disk.struck()
        self.disk.say(b"\0")
        figures["a slow disk's calls"] = {"delay_ms": self.delay_ms, "calls": self.calls}
        tally.check(self.calls > 10, "a slow disk: %d calls took %d ms each" % (self.calls, self.delay_ms))


LATE_MS, QUIET_MS = 15, 5


def slower(name, what, healthy, load, is_write):
    """What is missed, as texts: p99 at most twice that of the healthy; of writes, that are fewer, how many are
    late."""
    # Each client has to find out by itself: the first answers are not counted.
    took = [[c.took for c in l.calls if c.is_write == is_write and c.began > l.first + 2] for l in (healthy, load)]
    p99 = [percentile(t, 0.99) for t in took]
    late = [sum(t > LATE_MS for t in of) / max(len(of), 1) for of in took]
    show("%s, %s" % (name, what), {"calls": len(took[1]), "healthy_p99_ms": p99[0], "slow_p99_ms": p99[1],
                                   "healthy_late_percent": late[0] * 100, "slow_late_percent": late[1] * 100})
    # Where the processors are busy p99 is theirs. A third of the reads would be late if it were just used.
    if not is_write and p99[0] < QUIET_MS and p99[1] > 2 * p99[0]:
        return ["%s p99 %.2f ms, %.2f when all are well" % (what, p99[1], p99[0])]
    return [] if late[1] <= 2 * late[0] + 0.03 else ["%.1f %% of the %s were late" % (late[1] * 100, what)]


def slow(nodes, name, make_slow, writes=0):
    nodes.wait_healthy()
    follower = nodes.nodes[(leader_of(nodes).index + 1) % 3]
    healthy = libtrivet(nodes, 6, zones=0, writes=writes, clients=32).finish()
    load = libtrivet(nodes, 8, zones=0, writes=writes, clients=32)
    slowed = make_slow(follower)
    try:
        load.finish()
    finally:
        slowed.stop()
    tally.check(not load.failed(), name + ": no call fails", load.said())
    missed = slower(name, "reads", healthy, load, False)
    return missed + slower(name, "writes", healthy, load, True) if writes > 0 else missed


def reads_at_slow(nodes, name, make_slow):
    """Linearizable reads of clients that know the slow member alone, while others write: it need not have on
    its disk what the other two have."""
    nodes.wait_healthy()
    follower = nodes.nodes[(leader_of(nodes).index + 1) % 3]
    writes = libtrivet(nodes, 12, zones=0, writes=100, clients=16)
    healthy = libtrivet(nodes, 5, zones=0, only=follower, writes=0, clients=8).finish()
    slowed = make_slow(follower)
    try:
        load = libtrivet(nodes, 5, zones=0, only=follower, writes=0, clients=8).finish()
    finally:
        slowed.stop()
    writes.finish()
    failed = load.failed() + writes.failed()
    tally.check(not failed, name + ": no call fails", load.said() + writes.said())
    return slower(name, "reads there", healthy, load, False)


def slow_disk():
    with Cluster("trivet", size=3) as nodes:
        disks = [faultdisk.FailingDisk(node) for node in nodes.nodes]
        nodes.start()
        make_slow = lambda node: SlowDisk(disks[node.index], nodes.dir)  # noqa: E731
        again("a slow disk", slow, nodes, "a slow disk", make_slow, 20)
        again("a slow disk's member", reads_at_slow, nodes, "a slow disk's member", make_slow)
        nodes.check_running()


# --- who reads where ---

def even(nodes, clients):
    nodes.wait_healthy()
    load = libtrivet(nodes, 5, zones=0, writes=10, clients=clients,
                     think_ms=3 if clients < 10 else 200).finish()
    total = sum(load.members)
    off = max(abs(reads - total / 3) / (total / 3) for reads in load.members)
    show("reads of %d clients" % clients, {"members": 0, "reads": total, "off_even_percent": off * 100})
    print("  of each member: %s" % load.members)
    tally.check(not load.failed(), "reads of %d clients: none fails" % clients, load.said())
    p99 = percentile([c.took for c in load.calls], 0.99)
    return [] if off <= (0.05 if p99 < BUSY_MS else 0.7) else ["%.1f %% off even: %s" % (off * 100, load.members)]


def near(nodes):
    nodes.wait_healthy()
    load = libtrivet(nodes, 5, writes=10, clients=30, think_ms=20).finish()
    far, reads = [int(n) for n in next(line for line in load.lines if line.startswith("far ")).split()[1:]]
    show("reads from other zones", {"reads": reads, "far_percent": 100 * far / reads})
    tally.check(not load.failed(), "reads in zones: none fails", load.said())
    return [] if far <= 0.05 * reads else ["%d of %d reads went to another zone" % (far, reads)]


PARTS = ("follower", "leader", "clientv3", "rolling", "slow", "narrow", "disk", "even", "near")


def run(args, net):
    with Cluster("trivet", size=3) as nodes:
        if net is not None:
            net.attach(nodes)
        nodes.start()
        for part in args.only:
            if part == "follower" and net:
                again("a follower's zone is lost", zone_lost, net, nodes, False)
            elif part == "leader" and net:
                again("the leader's zone is lost", zone_lost, net, nodes, True)
            elif part == "clientv3" and net and os.access(ZONELOAD, os.X_OK):
                compare(net, nodes)
            elif part == "rolling":
                again("all members are restarted", rolling, nodes)
            elif part == "slow":
                again("a slow member", slow, nodes, "a slow member", Slowed)
            elif part == "narrow" and net:
                again("a slow network", slow, nodes, "a slow network", lambda node: Narrowed(net, node))
            elif part == "disk" and faultdisk.available():
                slow_disk()
            elif part == "even":
                again("reads of 3 clients are even", even, nodes, 3)
                again("reads of 300 clients are even", even, nodes, 300)
            elif part == "near":
                again("reads stay in the zone", near, nodes)
            else:
                print("NOT PLAYED HERE: %s" % part)
        nodes.check_running()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=PARTS, type=lambda text: text.split(","))
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    clusters.exit_on_signals()
    net = netns.Network.try_new(3)
    if net is None:
        print("NO NETWORK NAMESPACES HERE (%s): NO ZONE IS LOST" % netns.why)
    try:
        run(args, net)
    except ClusterError as error:
        tally.check(False, "zones", str(error))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(figures, f, indent=1)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
