#!/usr/bin/env python3
"""kill -9 under load, round after round: one node, the leader, two, or all three at once.

After every round all nodes are started again and the load program (tests/clients/go/faultload) proves
that every acknowledged write is there, that no watcher missed or repeated an event, and that the three
nodes hold the same. The seed decides who is killed and when; it cannot decide what the nodes were
doing at that moment, so a failing seed is a hint and not a replay.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402


class Load:
    """The load program; one line in, one line out."""

    def __init__(self, nodes, seed):
        self.process = subprocess.Popen(
            [os.path.join(cluster.TOOLS, "faultload"), "--endpoints", nodes.endpoints(),
             "--seed", str(seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=cluster.die_with_parent)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        while answer.startswith("FAILED "):  # what failed; a last line without a text follows
            print(answer, flush=True)
            answer = self.process.stdout.readline().strip()
        return answer

    def finish(self):
        output, _ = self.process.communicate("quit\n", timeout=60)
        return output, self.process.returncode


def leader_of(nodes):
    """The index of the node that says it leads, or None."""
    for node in nodes.nodes:
        result = cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "endpoint", "status",
                              "-w", "json"], capture_output=True, text=True)
        if result.returncode != 0:
            continue
        status = json.loads(result.stdout)[0]["Status"]
        if status.get("leader", 0) == status["header"]["member_id"] != 0:
            return node.index
    return None


def choose(nodes, rng):
    """(what it is called, which nodes)."""
    kind = rng.choices(["one", "leader", "two", "all"], [35, 25, 15, 25])[0]
    everyone = list(range(len(nodes.nodes)))
    if kind == "leader":
        leader = leader_of(nodes)
        return kind, [leader] if leader is not None else [0]
    count = {"one": 1, "two": 2, "all": len(everyone)}[kind]
    return kind, sorted(rng.sample(everyone, count))


def round_of(nodes, load, rng):
    time.sleep(rng.uniform(0.1, 0.8))
    kind, victims = choose(nodes, rng)
    nodes.kill(*victims)
    if rng.random() < 0.6:
        time.sleep(rng.uniform(0, 2.5))  # the rest elects a leader and goes on, or waits
    if rng.random() < 0.25:  # and once more, on the way up
        nodes.start_node(victims[0])
        time.sleep(rng.uniform(0, 0.3))
        nodes.kill(victims[0])
    rng.shuffle(victims)
    for victim in victims:
        nodes.start_node(victim)
        time.sleep(rng.choice([0, 0, 0.1]))
    nodes.wait_healthy()
    nodes.check_running()
    return kind, victims, load.ask("check")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("flags", nargs="*", help="for every node, after --")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    print("seed %d, %d rounds" % (seed, args.rounds), flush=True)
    rng = random.Random(seed)
    cluster.exit_on_signals()
    begin = time.monotonic()
    with cluster.Cluster(args.kind, flags=args.flags) as nodes:
        nodes.start()
        load = Load(nodes, seed)
        failed = 0
        for number in range(1, args.rounds + 1):
            try:
                kind, victims, answer = round_of(nodes, load, rng)
            except cluster.ClusterError as error:
                print("FAILED round %d: %s" % (number, error), flush=True)
                failed += 1
                break
            if args.verbose or not answer.startswith("ok"):
                print("round %d: killed %s %s: %s" % (number, kind, victims, answer), flush=True)
            if not answer.startswith("ok"):
                failed += 1
                break
        output, status = load.finish()
        lines = output.strip().split("\n")
        for line in lines[:-1]:
            print(line)
        print("%.1f s" % (time.monotonic() - begin))
        if failed or status != 0:
            nodes.keep()
        passed = int(lines[-1].split()[0]) if lines[-1].endswith("failed") else 0
        print("%d passed, %d failed" % (passed, max(failed, 1 if status != 0 else 0)))
    return 1 if failed or status != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
