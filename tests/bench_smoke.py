#!/usr/bin/env python3
"""Every command of trivet-bench for a moment, against three nodes: it works, and its counts agree with
what the servers then hold. How fast it was is not looked at."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
import cluster  # noqa: E402
import prometheus  # noqa: E402

BENCH = os.path.join(cluster.build_dir(), "bench", "trivet-bench")


def bench(args):
    return cluster.run([BENCH] + args, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True)


def load(tally, nodes, name, args):
    """Run one load; the parsed result, or {} when it failed."""
    done = bench(args + ["--endpoints", nodes.endpoints(), "--json", "-", "--quiet"])
    ok = tally.check(done.returncode == 0, name, done.stderr)
    result = json.loads(done.stdout) if ok else {}
    tally.check(result.get("errors") == 0, name + ": no call failed", str(result))
    return result


def loads(tally, nodes):
    short = ["--duration", "0.5", "--warmup", "0.1", "--conns", "4", "--streams", "3"]
    for name, args in [
            ("put", ["put"] + short),
            ("two threads", ["put", "--threads", "2"] + short),
            ("zipf", ["mixed", "--key-dist", "zipf", "--mix", "put=1,get=1"] + short),
            ("open loop", ["put", "--rate", "200"] + short),
            ("txn", ["txn", "--prefix", "/txn/", "--keys", "100"] + short)]:
        result = load(tally, nodes, name, args)
        tally.check(result.get("operations", 0) > 0, name + ": did something", str(result))
    result = load(tally, nodes, "to the leader", ["put", "--to", "leader", "--total", "50"])
    tally.check(result.get("cpu_seconds", 0) > 0, "own CPU is told", str(result))
    result = load(tally, nodes, "large values", ["put", "--value-size", "100000", "--total", "10",
                                                 "--keys", "10", "--key-dist", "seq",
                                                 "--warmup", "0", "--prefix", "/large/"])
    result = load(tally, nodes, "list of large values", ["list", "--prefix", "/large/",
                                                         "--total", "1"])
    tally.check(result.get("listed_keys") == 10 and result["listed_bytes"] > 1000000,
                "large values are whole", str(result))
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


def sent_to_watchers(nodes):
    """(events, responses)"""
    pages = [prometheus.fetch(node.endpoint()) for node in nodes.nodes]
    return (sum(page.value("etcd_debugging_mvcc_events_total") for page in pages),
            sum(page.value("grpc_server_msg_sent_total", grpc_method="Watch") or 0 for page in pages))


def gathered_events(tally, nodes):
    """Few puts that follow one another have a response each; with many events, several share one."""
    for name, args, low, high in [
            ("few", ["--watchers", "3", "--conns", "1", "--rate", "100"], 0.9, 1.5),
            ("many", ["--watchers", "90", "--conns", "9", "--streams", "5", "--rate", "3000"], 2, 1e9)]:
        before = sent_to_watchers(nodes)
        load(tally, nodes, name + " events", ["watch", "--duration", "2", "--warmup", "0",
                                              "--prefix", "/gathered/" + name] + args)
        events, responses = (b - a for a, b in zip(before, sent_to_watchers(nodes)))
        tally.check(low * responses < events < high * responses, name + " events: what a response holds",
                    "%d events in %d responses" % (events, responses))


def watched_keys(tally, nodes):
    """Which puts have an event, and for how many watchers."""
    watch = ["watch", "--watchers", "20", "--conns", "2", "--streams", "3", "--warmup", "0", "--keys",
             "100", "--key-dist", "seq", "--writers", "5", "--rate", "0", "--total", "200"]
    for keys, each in [("all", 20), ("slice", 1), ("one", 0.2)]:
        result = load(tally, nodes, "watch-keys " + keys, watch + [
            "--watch-keys", keys, "--prefix", "/watch-%s/" % keys])
        tally.check(result.get("events_in_all") == 200 * each and not result["events_missing"],
                    "watch-keys %s: as many events as there should be" % keys, str(result))
    result = load(tally, nodes, "watchers that only receive", [
        "watch", "--writers", "0", "--duration", "0.3", "--warmup", "0"])
    tally.check(result.get("events_in_all") == 0, "nobody wrote", str(result))


def leases(tally, nodes):
    count = ["--leases", "250", "--conns", "2", "--streams", "5"]
    result = load(tally, nodes, "grant", ["grant", "--ttl", "60"] + count)
    tally.check(result.get("operations") == 250, "grant: each", str(result))
    listed = etcdctl(nodes, "lease", "list").stdout.splitlines()
    tally.check(len(listed) == 1 + 250, "grant: the servers have them", "%d lines" % len(listed))
    keep = ["keepalive", "--every", "0.5", "--duration", "1", "--warmup", "0"]
    result = load(tally, nodes, "keepalive", keep + count)
    tally.check(result.get("operations") == 500, "keepalive: each lease twice", str(result))
    lost = json.loads(bench(keep + ["--leases", "10", "--seed", "2", "--json", "-", "--quiet",
                                    "--endpoints", nodes.endpoints()]).stdout)
    tally.check(lost["errors"] > 0 and lost["operations"] == 0,
                "keepalive: leases that were never granted are lost", str(lost))


def compactions(tally, nodes):
    load(tally, nodes, "put before", ["put", "--total", "100"])
    result = load(tally, nodes, "compact", ["compact", "--every", "0.1", "--total", "2"])
    tally.check(result.get("operations") == 2, "compact: twice", str(result))
    old = etcdctl(nodes, "get", "x", "--rev", "2")
    tally.check("has been compacted" in old.stderr, "compact: the history is gone", old.stderr)
    load(tally, nodes, "compact again", ["compact", "--every", "0.1", "--total", "2"])


def snapshots(tally, nodes):
    done = bench(["snapshot", "--total", "1", "--json", "-", "--quiet", "--endpoints", nodes.endpoints()])
    result = json.loads(done.stdout)
    tally.check(result["listed_bytes"] > 0 or result["errors_by_code"] == {"12": 1},
                "snapshot: it is read, or the server has none", str(result))


def etcdctl(nodes, *args):
    return cluster.run([cluster.ETCDCTL, "--endpoints", nodes.endpoints()] + list(args),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def drivers(tally):
    """The programs that compare: they run through, and a figure comes out."""
    for name, args in [
            ("compare.py", ["--rounds", "1", "--scale", "0.001", "--duration", "0.2", "--kinds",
                            "trivet", "--only", "put-1,watch-each,list-memory,restart,keepalive"]),
            ("growth.py", ["--scale", "0.001", "--duration", "0.2", "--only", "connections"]),
            ("fairness.py", ["--kinds", "trivet", "--duration", "0.5", "--scale", "0.01", "--only",
                             "reader"])]:
        done = cluster.run([sys.executable, os.path.join(cluster.ROOT, "bench", name)] + args,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
        tally.check(done.returncode == 0 and "FAILED" not in done.stdout, name,
                    done.stdout + done.stderr)


def refusals(tally):
    for args in [[], ["dance"], ["put", "--keys", "0"], ["put", "--dance"], ["put", "more"],
                 ["put", "--conns"], ["put", "--json"],
                 ["put", "--key-size", "8"], ["put", "--endpoints", "localhost"],
                 ["put", "--threads", "2"], ["put", "--key-dist", "normal"],
                 ["put", "--to", "nobody"], ["put", "--rate", "5", "--every", "1"],
                 ["watch", "--watch-keys", "some"], ["watch", "--watch-keys", "one", "--keys", "9"],
                 ["keepalive", "--rate", "5"], ["fill", "--total", "5"],
                 ["compact", "--conns", "2"], ["put", "--stream"]]:
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
        gathered_events(tally, nodes)
        watched_keys(tally, nodes)
        leases(tally, nodes)
        compactions(tally, nodes)
        snapshots(tally, nodes)
        nodes.check_running()
    drivers(tally)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
