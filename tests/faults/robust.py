#!/usr/bin/env python3
"""Linearizability and the guarantees of watches, under every fault this machine can make.

Three nodes serve the clients of tests/clients/go/robust, round after round, while they are killed, stopped,
cut off from each other, and their disks fail, stall and fill up. After each round the faults end, and
the clients judge all that they were answered since the last one; how is said at the head of its main.go.
What strikes and when comes from the seed; what the nodes were doing at that moment does not, so a failing
seed is a hint and not a replay. A failing round leaves the history, porcupine's picture of it and the
nodes' logs in .dev/test/robust-SEED.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402
import faultdisk  # noqa: E402
import fulldisk  # noqa: E402
import netns  # noqa: E402

SECONDS_DEFAULT = 75  # of rounds, where their number is not given
RESERVE_BYTES = 150 << 20
FLAGS = ["--watch-progress-notify-interval", "1s", "--snapshot-count", "1000",
         "--snapshot-catchup-entries", "1000"]
TRIVET_FLAGS = ["--log-segment-bytes", str(16 << 20), "--max-wals", "4",
                "--disk-reserve-bytes", str(RESERVE_BYTES)]
ENDS_WITHIN_S = 20  # a node whose disk has failed


class Load:
    """The clients; one line in, one line out."""

    def __init__(self, nodes, seed, out):
        self.process = subprocess.Popen(
            [os.path.join(cluster.TOOLS, "robust"), "-endpoints", nodes.endpoints(), "-seed", str(seed),
             "-out", out],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=cluster.die_with_parent)

    def check(self):
        self.process.stdin.write("check\n")
        self.process.stdin.flush()
        while True:  # what is wrong comes before the line that says so
            answer = self.process.stdout.readline()
            if answer == "" or answer.startswith("ok ") or answer == "FAILED\n":
                return answer.strip()
            print("  " + answer.rstrip(), flush=True)

    def finish(self):
        output, _ = self.process.communicate("quit\n", timeout=60)
        return output.strip().split("\n"), self.process.returncode


class Faults:
    """Each method begins a fault and returns (what it is, how long, what ends it); None: not now."""

    def __init__(self, nodes, rng, net, full_disk, tally):
        self.nodes, self.rng, self.net, self.tally = nodes, rng, net, tally
        self.full_disk = full_disk  # of node 0
        self.disks = {}
        self.stalled_calls = 0
        self.busy = set()  # nodes that are dead, stopped or waited for

    def kinds(self):
        kinds = [self.kill_one, self.kill_leader, self.kill_two, self.kill_all, self.kill_twice,
                 self.stop_one, self.stop_leader, self.stutter, self.terminate, self.terminate_leader]
        if self.net:
            kinds += [self.isolate_one, self.isolate_leader, self.cut_link, self.one_way_in,
                      self.one_way_out, self.one_way_leader, self.loss, self.all_apart]
            if self.net.has_netem:
                kinds += [self.delay]
        if self.disks:
            kinds += [self.writes_fail, self.syncs_fail, self.half_writes, self.disk_stalls]
        if self.full_disk:
            kinds += [self.nearly_full, self.full]
        return kinds

    # --- whom ---

    def free(self):
        return [i for i in range(len(self.nodes.nodes)) if i not in self.busy]

    def leader(self):
        for i in self.free():
            try:
                result = cluster.run([cluster.ETCDCTL, "--endpoints", self.nodes.nodes[i].endpoint(),
                                      "--command-timeout", "2s", "endpoint", "status", "-w", "json"],
                                     capture_output=True, text=True)
                status = json.loads(result.stdout)[0]["Status"]
            except (ValueError, IndexError, KeyError, TypeError):  # "null": nobody answered
                continue
            if status.get("leader", 0) == status["header"]["member_id"] != 0:
                return i
        return None

    def one(self):
        return self.rng.choice(self.free()) if self.free() else None

    def leader_or_one(self):
        leader = self.leader()
        return leader if leader is not None else self.one()

    # --- processes ---

    def _kill(self, victims, seconds):
        if not victims or None in victims:
            return None
        self.nodes.kill(*victims)
        self.busy.update(victims)

        def back():
            self.rng.shuffle(victims)
            for i in victims:
                self.nodes.start_node(i)
                time.sleep(self.rng.choice([0, 0, 0.2]))
                self.busy.discard(i)
        return "kill -9 of %s" % sorted(victims), seconds, back

    def kill_one(self):
        return self._kill([self.one()], self.rng.uniform(0, 3))

    def kill_leader(self):
        return self._kill([self.leader_or_one()], self.rng.uniform(0, 3))

    def kill_two(self):
        return self._kill(self.rng.sample(self.free(), min(2, len(self.free()))), self.rng.uniform(0, 2))

    def kill_all(self):
        return self._kill(self.free(), self.rng.uniform(0, 1))

    def kill_twice(self):
        """And once more on its way up."""
        victim = self.one()
        begun = self._kill([victim], self.rng.uniform(0, 1))
        if begun is None:
            return None

        def back():
            self.nodes.start_node(victim)
            time.sleep(self.rng.uniform(0, 0.4))
            self.nodes.kill(victim)
            begun[2]()
        return begun[0] + ", twice", begun[1], back

    def _stop(self, victim, seconds):
        if victim is None:
            return None
        self.nodes.pause(victim)
        self.busy.add(victim)

        def back():
            self.nodes.resume(victim)
            self.busy.discard(victim)
        return "SIGSTOP of %d for %.1f s" % (victim, seconds), seconds, back

    def stop_one(self):
        return self._stop(self.one(), self.rng.uniform(1, 6))

    def stop_leader(self):
        return self._stop(self.leader_or_one(), self.rng.choice([1, 1.5, 3, 10]))

    def stutter(self):
        """Short stops, again and again: a machine that swaps, or a network with a large delay."""
        victim = self.leader_or_one()
        if victim is None:
            return None
        for _ in range(15):
            self.nodes.pause(victim)
            time.sleep(self.rng.uniform(0.02, 0.25))
            self.nodes.resume(victim)
            time.sleep(self.rng.uniform(0, 0.05))
        return "%d stutters" % victim, 0, lambda: None

    def _terminate(self, victim):
        if victim is None:
            return None
        young = time.monotonic() - self.nodes.nodes[victim].started < 2
        statuses = self.nodes.stop(victim)
        # On its way up it may not have got so far as to end in order.
        self.tally.check(statuses == [-signal.SIGTERM] and
                         (young or '"msg":"stopped"' in self.nodes.nodes[victim].log_tail()), "SIGTERM of %d ends it with %s" % (victim, statuses),
                         self.nodes.nodes[victim].log_tail())
        self.busy.add(victim)

        def back():
            self.nodes.start_node(victim)
            self.busy.discard(victim)
        return "SIGTERM of %d" % victim, self.rng.uniform(0, 1), back

    def terminate(self):
        return self._terminate(self.one())

    def terminate_leader(self):
        return self._terminate(self.leader_or_one())

    # --- the network between the members ---

    def _net(self, what, seconds=None):
        seconds = seconds or self.rng.uniform(1, 5)
        return what + " for %.1f s" % seconds, seconds, self.net.heal

    def isolate_one(self):
        victim = self.rng.randrange(3)
        self.net.isolate(victim)
        return self._net("%d isolated" % victim)

    def isolate_leader(self):
        victim = self.leader_or_one()
        if victim is None:
            return None
        self.net.isolate(victim)
        return self._net("leader %d isolated" % victim, self.rng.uniform(2, 6))

    def all_apart(self):
        for i in range(3):
            self.net.isolate(i)
        return self._net("all apart")

    def cut_link(self):
        a, b = self.rng.sample(range(3), 2)
        self.net.cut(a, b)
        self.net.cut(b, a)
        return self._net("nothing between %d and %d" % (a, b))

    def _one_way(self, victim, outwards):
        for other in range(3):
            if other != victim:
                self.net.cut(*((victim, other) if outwards else (other, victim)))
        return self._net("%d %s" % (victim, "hears and is not heard" if outwards else
                                    "is heard and does not hear"))

    def one_way_out(self):
        return self._one_way(self.rng.randrange(3), True)

    def one_way_in(self):
        return self._one_way(self.rng.randrange(3), False)

    def one_way_leader(self):
        victim = self.leader_or_one()
        return None if victim is None else self._one_way(victim, self.rng.random() < 0.5)

    def loss(self):
        percent = self.rng.choice([2, 10, 25])
        for i in range(3):
            self.net.lose(i, percent)
        return self._net("%d%% of packets lost" % percent)

    def delay(self):
        delay_ms = self.rng.choice([5, 50, 300])
        for i in range(3):
            self.net.delay(i, delay_ms, delay_ms // 2)
        return self._net("packets take %d ms longer" % delay_ms)

    # --- disks ---

    def _disk_fails(self, what, mode):
        """The node must end itself, and come back when the disk works again."""
        candidates = [i for i in self.disks if i not in self.busy]
        if not candidates:
            return None
        victim = self.rng.choice(candidates)
        node = self.nodes.nodes[victim]
        self.disks[victim].say(mode)
        self.busy.add(victim)

        def back():
            try:
                status = node.wait(ENDS_WITHIN_S)
            except cluster.ClusterError:
                status = None
            self.tally.check(status not in (None, 0, -signal.SIGKILL) and self.disks[victim].struck() > 0,
                             "%s: %s: it ended with %s, %d calls failed" %
                             (node.name, what, status, self.disks[victim].struck()), node.log_tail())
            self.disks[victim].say(b"\0")
            if status is not None:
                self.nodes.start_node(victim)
            self.busy.discard(victim)
        back.comes_last = True  # it notices when it is asked to write: that takes a leader, and so a network
        return "%s at %d" % (what, victim), self.rng.uniform(0, 2), back

    def writes_fail(self):
        return self._disk_fails("writes fail", b"w")

    def syncs_fail(self):
        return self._disk_fails("syncs fail", b"s")

    def half_writes(self):
        return self._disk_fails("writes fail half-way", b"h")

    def disk_stalls(self):
        candidates = [i for i in self.disks if i not in self.busy]
        if not candidates:
            return None
        victim, ms = self.rng.choice(candidates), self.rng.choice([20, 300, 2000])
        self.disks[victim].say(b"d", ms)

        def back():
            if self.disks[victim].mode != b"d":
                return  # it fails by now
            self.stalled_calls += self.disks[victim].struck()  # none while nobody leads
            self.disks[victim].say(b"\0")
        return "each write at %d takes %d ms" % (victim, ms), self.rng.uniform(3, 5), back

    def _room(self, what, room):
        if 0 in self.busy:
            return None
        self.full_disk.leave(room)

        def back():
            self.full_disk.leave(fulldisk.DISK_BYTES * 3 // 4)
        return what, self.rng.uniform(2, 5), back

    def nearly_full(self):
        return self._room("the disk of 0 is nearly full", RESERVE_BYTES // 2)

    def full(self):
        return self._room("the disk of 0 is full", 0)


def round_of(faults, queue, rng):
    """One or two of the faults; two may overlap. Returns what they were."""
    time.sleep(rng.uniform(0.1, 0.5))
    said, ends = [], []
    for _ in range(rng.choice([1, 2, 2, 3])):
        if not queue:
            queue.extend(rng.sample(faults.kinds(), len(faults.kinds())))
        begun = queue.pop()()
        if begun is None:
            continue
        what, seconds, end = begun
        said.append(what)
        if hasattr(end, "comes_last") or (rng.random() < 0.4 and len(faults.busy) < 3):
            said[-1] += " (goes on)"
            ends.append((seconds, end))
            continue
        time.sleep(seconds)
        end()
    rng.shuffle(ends)
    ends.sort(key=lambda e: hasattr(e[1], "comes_last"))
    for seconds, end in ends:
        time.sleep(seconds / 2)
        end()
    return "; ".join(said)


def prepare(args, rng, tally):
    """(nodes, faults, disk), not started."""
    net = netns.Network.try_new(3)
    if net is None:
        print("NO NETWORK NAMESPACES HERE (%s): NO PARTITIONS, NO LOST PACKETS" % netns.why)
    elif not net.has_netem:
        print("NO NETEM IN THIS KERNEL: NO DELAYED PACKETS; loss by nft, stutters by signals")
    trivet = args.kind == "trivet"
    nodes = cluster.Cluster(args.kind, flags=FLAGS + (TRIVET_FLAGS if trivet else []) + args.flags)
    if net:
        net.attach(nodes)
    disk = None
    if trivet and os.geteuid() == 0:
        try:
            disk = fulldisk.Disk()
            nodes.nodes[0].data_dir = os.path.join(disk.dir, "data")
        except subprocess.CalledProcessError:
            pass
    if disk is None:
        print("NO DISK THAT FILLS UP: %s" % ("a tmpfs cannot be mounted here" if trivet else args.kind))
    faults = Faults(nodes, rng, net, disk, tally)
    if trivet and faultdisk.available():
        faults.disks = {i: faultdisk.FailingDisk(nodes.nodes[i]) for i in (1, 2)}
    else:
        print("NO DISKS THAT FAIL: nothing to preload into %s" % args.kind)
    return nodes, faults, disk


def rounds(args, nodes, faults, load, rng, tally):
    queue = []
    begin = time.monotonic()
    number = 0
    while number < args.rounds if args.rounds else time.monotonic() - begin < SECONDS_DEFAULT:
        number += 1
        began = time.monotonic()
        try:
            what = round_of(faults, queue, rng)
            nodes.wait_healthy()
            nodes.check_running()
        except cluster.ClusterError as error:
            tally.check(False, "round %d" % number, str(error))
            return
        took = time.monotonic() - began
        answer = load.check()
        print("round %d (%.1f s): %s: %s" % (number, took, what, answer), flush=True)
        if not tally.check(answer.startswith("ok"), "round %d" % number) or tally.failed:
            return


def keep_logs(nodes, out):
    for node in nodes.nodes:
        if os.path.exists(node.log_path):
            shutil.copy(node.log_path, out)
    nodes.keep()
    print("the history, porcupine's picture and the logs are in %s" % os.path.relpath(out, cluster.ROOT))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--rounds", type=int, default=0, help="default: %d s of them" % SECONDS_DEFAULT)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", help="kinds of fault, separated by commas")
    parser.add_argument("flags", nargs="*", help="for every node, after --")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    print("seed %d" % seed, flush=True)
    rng = random.Random(seed)
    cluster.exit_on_signals()
    tally = cluster.Tally()
    result = cluster.run([os.path.join(cluster.TOOLS, "robust"), "-seed", str(seed), "selftest"],
                         capture_output=True, text=True, timeout=300)
    print("self-test of the judges: " + result.stdout.strip(), flush=True)
    tally.check(result.returncode == 0, "the judges find every lie")
    out = os.path.join(cluster.ROOT, ".dev", "test", "robust-%d" % seed)
    os.makedirs(out, exist_ok=True)
    nodes, faults, disk = prepare(args, rng, tally)
    if args.only:
        chosen = [getattr(faults, name) for name in args.only.split(",")]
        faults.kinds = lambda: chosen
    try:
        with nodes:
            nodes.start()
            load = Load(nodes, seed, out)
            rounds(args, nodes, faults, load, rng, tally)
            lines, status = load.finish()
            print("\n".join(lines[:-1]))
            print("%d calls of slow disks" % faults.stalled_calls)
            counts = lines[-1].split()
            if lines[-1].endswith(" failed"):
                tally.passed += int(counts[0])
            tally.check(status == 0, "the clients", lines[-1])
            if tally.failed:
                keep_logs(nodes, out)
    finally:
        if disk:
            disk.close()
    if not tally.failed:
        shutil.rmtree(out, ignore_errors=True)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
