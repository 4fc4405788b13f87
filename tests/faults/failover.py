#!/usr/bin/env python3
"""How long no write is taken when the leader goes: etcd and trivet by turns, with their default timers.

    ./dev bench failover [--rounds N] [--kinds trivet,etcd] [--json FILE]

What strikes the leader:

  kill     kill -9: its connections break                    bound: 1.0 s in the median
  term     SIGTERM: it hands its leadership over first       bound: 50 ms in the median
  stop     SIGSTOP: nothing breaks, the election timeout has to pass            (no bound)
  cut      what it sends to the other members and they to it is lost            (no bound)

Measured is the time from the signal to the answer of the first write that was begun after it, by
writers that each time try the next member after 100 ms without an answer (tests/clients/go/failover).
The bounds are trivet's, and are judged with two rounds and more.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import cluster  # noqa: E402
import netns  # noqa: E402

STRIKES = ("kill", "term", "stop", "cut")
BOUNDS_MS = {"kill": 1000, "term": 50}


class Writers:
    def __init__(self, nodes):
        self.process = subprocess.Popen(
            [os.path.join(cluster.TOOLS, "failover"), "-endpoints", nodes.endpoints()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=cluster.die_with_parent)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()


def leader_of(nodes):
    for _ in range(200):
        for node in nodes.nodes:
            result = cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "--command-timeout",
                                  "2s", "endpoint", "status", "-w", "json"], capture_output=True, text=True)
            try:
                status = json.loads(result.stdout)[0]["Status"]
            except (ValueError, IndexError, TypeError):  # "null": nobody answered
                continue
            if status.get("leader", 0) == status["header"]["member_id"] != 0:
                return node
        time.sleep(0.05)
    raise cluster.ClusterError("nobody leads")


def one(nodes, writers, net, what):
    """Strike the leader once and make everything well again; what was measured."""
    nodes.wait_healthy()
    time.sleep(2)  # all followers know all, and timers are where they are in the long run
    leader = leader_of(nodes)
    writers.ask("arm")
    numbers = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
    if what == "cut":
        net.isolate(leader.place)
        measured = writers.ask("mark")
        net.heal()
    else:
        measured = writers.ask("strike %d %d" % (leader.process.pid, numbers[what]))
        if what == "stop":
            leader.send(signal.SIGCONT)
        else:
            status = leader.wait(30)
            if what == "term" and status not in (0, -signal.SIGTERM):
                raise cluster.ClusterError("SIGTERM ended it with %d\n%s" % (status, leader.log_tail()))
            leader.start()
    if "error" in measured:
        raise cluster.ClusterError("%s: %s\n%s" % (what, measured["error"], leader.log_tail()))
    return measured


def report(results, kinds):
    print("\nms to the first write begun after the signal: median (smallest-largest); longest gap between "
          "answers: median")
    for what in STRIKES:
        for kind in kinds:
            measured = results[kind].get(what, [])
            if measured:
                first = [m["first_ms"] for m in measured]
                print("%-6s %-7s %8.1f (%.1f-%.1f)   gap %8.1f   %d runs" % (
                    what, kind, statistics.median(first), min(first), max(first),
                    statistics.median(m["gap_ms"] for m in measured), len(first)))


def run(args, tally):
    net = netns.Network.try_new(3 * len(args.kinds))
    strikes = [s for s in STRIKES if s in args.strikes and (net or s != "cut")]
    if net is None:
        print("NO NETWORK NAMESPACES HERE (%s): NO LEADER IS CUT OFF" % netns.why)
    results = {kind: {what: [] for what in strikes} for kind in args.kinds}
    clusters, writers = {}, {}
    try:
        for position, kind in enumerate(args.kinds):
            nodes = clusters[kind] = cluster.Cluster(kind)
            if net:
                net.attach(nodes, 3 * position)
            nodes.start()
        for number in range(args.rounds):
            for what in strikes:
                for kind in args.kinds if number % 2 == 0 else args.kinds[::-1]:
                    load = Writers(clusters[kind])  # the other cluster is idle meanwhile
                    try:
                        results[kind][what].append(one(clusters[kind], load, net, what))
                    finally:
                        load.close()
                    print("%d %s %s %s" % (number + 1, what, kind, results[kind][what][-1]), flush=True)
        for kind in args.kinds:
            clusters[kind].wait_healthy()
    except cluster.ClusterError as error:
        tally.check(False, "failover", str(error))
        for nodes in clusters.values():
            nodes.keep()
    finally:
        for nodes in clusters.values():
            nodes.close()
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="trivet,etcd", type=lambda text: text.split(","))
    parser.add_argument("--strikes", default=",".join(STRIKES), type=lambda text: text.split(","))
    parser.add_argument("--json")
    args = parser.parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    args.kinds = [kind for kind in args.kinds if cluster.available(kind)]
    results = run(args, tally)
    report(results, args.kinds)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)
    for what, measured in results.get("trivet", {}).items():
        tally.check(len(measured) == args.rounds, "all rounds of " + what)
        if what in BOUNDS_MS and len(measured) >= 2:
            median = statistics.median(m["first_ms"] for m in measured)
            tally.check(median <= BOUNDS_MS[what], "%s: %.1f ms in the median, at most %d" %
                        (what, median, BOUNDS_MS[what]))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
