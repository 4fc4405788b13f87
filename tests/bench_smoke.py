#!/usr/bin/env python3
"""Every command of trivet-bench for a moment, against three nodes: it works, and its counts agree with
what the servers then hold. How fast it was is not looked at."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
import cluster  # noqa: E402

BENCH = os.path.join(cluster.build_dir(), "bench", "trivet-bench")


def bench(args):
    return cluster.run([BENCH] + args, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True)


def load(tally, nodes, name, args):
    """Run one load; the parsed result, or {} when it failed."""
    done = bench(args + ["--endpoints", nodes.endpoints(), "--json", "--quiet"])
    ok = tally.check(done.returncode == 0, name, done.stderr)
    result = json.loads(done.stdout) if ok else {}
    tally.check(result.get("errors") == 0, name + ": no call failed", str(result))
    return result


def loads(tally, nodes):
    short = ["--duration", "0.5", "--warmup", "0.1", "--conns", "4", "--streams", "3"]
    for name, args in [
            ("put", ["put"] + short),
            ("two threads", ["put", "--threads", "2"] + short),
            ("zipf", ["mixed", "--key-dist", "zipf", "--read-percent", "50"] + short),
            ("open loop", ["put", "--rate", "200"] + short),
            ("txn", ["txn", "--prefix", "/txn/", "--keys", "100"] + short)]:
        result = load(tally, nodes, name, args)
        tally.check(result.get("operations", 0) > 0, name + ": did something", str(result))
    result = load(tally, nodes, "total", ["put", "--total", "123", "--streams", "5"])
    tally.check(result.get("operations") == 123, "total is kept to", str(result))


def lists(tally, nodes):
    load(tally, nodes, "fill", ["fill", "--keys", "1234", "--prefix", "/fill/"])
    for name, args in [("list", []), ("list in pages", ["--limit", "100"]),
                       ("serializable list", ["--serializable"]), ("streamed list", ["--stream"]),
                       ("streamed list in pages", ["--stream", "--limit", "100"])]:
        # A member that answers by itself may lag, but not behind what it has just listed.
        result = load(tally, nodes, name,
                      ["list", "--prefix", "/fill/", "--total", "3"] + args)
        tally.check(result.get("listed_keys") == 3 * 1234, name + ": every key", str(result))
    load(tally, nodes, "put in order", ["put", "--key-dist", "seq", "--keys", "300", "--total", "300",
                                        "--warmup", "0", "--streams", "7", "--prefix", "/seq/"])
    result = load(tally, nodes, "list of those", ["list", "--prefix", "/seq/", "--total", "1"])
    tally.check(result.get("listed_keys") == 300, "put: each key was put", str(result))
    result = load(tally, nodes, "get", ["get", "--keys", "1234", "--prefix", "/fill/",
                                        "--total", "500", "--streams", "10"])
    tally.check(result.get("empty") == 0, "get: every key is there", str(result))


def watches(tally, nodes):
    result = load(tally, nodes, "watch", [
        "watch", "--watchers", "7", "--conns", "2", "--rate", "100", "--duration", "1",
        "--warmup", "0", "--prefix", "/watch/"])
    latency = result.get("latency", {})
    puts = latency.get("put", {}).get("count", 0)
    tally.check(puts > 0 and latency.get("event", {}).get("count") == 7 * puts,
                "watch: an event for each put and watcher", str(result))


def refusals(tally):
    for args in [[], ["dance"], ["put", "--keys", "0"], ["put", "--dance"], ["put", "more"],
                 ["put", "--conns"], ["put", "--json=1"],
                 ["put", "--key-size", "8"], ["put", "--endpoints", "localhost"],
                 ["put", "--threads", "2"], ["put", "--key-dist", "normal"], ["put", "--stream"]]:
        done = bench(args)
        tally.check(done.returncode == 2 and done.stderr.startswith("trivet-bench"),
                    "refused: " + " ".join(args), done.stderr)
    done = bench(["--help"])
    tally.check(done.returncode == 0 and "--endpoints" in done.stdout, "help")


def main():
    cluster.exit_on_signals()
    tally = cluster.Tally()
    refusals(tally)
    with cluster.Cluster("trivet") as nodes:
        nodes.start()
        loads(tally, nodes)
        lists(tally, nodes)
        watches(tally, nodes)
        nodes.check_running()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
