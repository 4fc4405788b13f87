#!/usr/bin/env python3
"""etcd and trivet side by side: the same loads, in turn, on this machine.

    ./dev bench compare [--rounds N] [--duration S] [--only NAME,...] [--skip NAME,...] [--json FILE]

In each round each of the two gets a fresh cluster of three nodes with the same settings, and every load
once; which of them begins changes from round to round. Shown is the median over the rounds, and how far
the rounds lay apart. Only figures of one run are comparable: machines differ, and so do their hours.

What a server's CPU costs is utime + stime of all three processes (/proc/PID/stat), divided by the
operations of the load, its warm-up included.

ETCD=PATH names another etcd, TRIVET_BUILD=FOLDER another build of trivet, TRIVET_TEST_DIR the folder
(and so the disk) for the data.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "tests", "lib"))
import cluster as clusters  # noqa: E402

KINDS = ("etcd", "trivet")
LIST_KEYS = 100000
RSS_KEYS = 1000000
TICKS = os.sysconf("SC_CLK_TCK")

MANY = ["--conns", "100", "--streams", "10"]
# name, what it is, arguments of trivet-bench
LOADS = [
    ("put", "puts, 100 connections x 10", ["put"] + MANY),
    ("put-100x1", "puts, 100 connections x 1", ["put", "--conns", "100"]),
    ("put-1", "puts, one at a time", ["put"]),
    ("txn", "Kubernetes' txn, 100 x 10", ["txn", "--prefix", "/txn/", "--keys", "20000"] + MANY),
    ("get", "linearizable gets of one key, 100 x 10", ["get", "--keys", "1"] + MANY),
    ("get-serializable", "serializable gets of one key, 100 x 10",
     ["get", "--keys", "1", "--serializable"] + MANY),
    ("mixed", "9 gets to 1 put, 100 x 10", ["mixed"] + MANY),
    ("watch", "100 watchers, 100 puts/s", ["watch", "--watchers", "100", "--rate", "100"]),
    ("list", "LIST of 100,000 keys of 256 B", ["list", "--prefix", "/list/"]),
    ("list-stream", "the same by RangeStream", ["list", "--prefix", "/list/", "--stream"]),
]
OTHERS = [
    ("rss", "with 1,000,000 keys of 256 B"),
]


def bench_binary():
    return os.path.join(clusters.build_dir(), "bench", "trivet-bench")


def use_etcd_of_environment():
    path = os.environ.get("ETCD")
    if path:
        usual = clusters.binary
        clusters.binary = lambda kind: path if kind == "etcd" else usual(kind)


def cpu_seconds(cluster):
    total = 0
    for node in cluster.nodes:
        with open("/proc/%d/stat" % node.process.pid) as stat:
            # The name may have spaces; the fields after it are counted from its closing bracket.
            fields = stat.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def bench(cluster, args):
    command = [bench_binary()] + args + ["--endpoints", cluster.endpoints(), "--json", "--quiet"]
    done = clusters.run(command, timeout=1800, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                        text=True)
    cluster.check_running()
    if done.returncode != 0:
        raise clusters.ClusterError("%s\n%s" % (" ".join(command), done.stderr))
    return json.loads(done.stdout)


def latency_of(result, args):
    name = "event" if args[0] == "watch" else args[0]
    if name == "mixed":
        name = "put"
    return result["latency"].get(name) or {}


def run_load(cluster, args, options):
    before = cpu_seconds(cluster)
    result = bench(cluster, args + ["--duration", str(options.duration)])
    cpu = cpu_seconds(cluster) - before
    latency = latency_of(result, args)
    watched = args[0] == "watch"
    done = result["events_in_all"] if watched else result["done_in_all"]
    return {
        "per_second": latency.get("per_second", 0) if watched else result["per_second"],
        "p50_ms": latency.get("p50_ms"),
        "p99_ms": latency.get("p99_ms"),
        "cpu_us_per_op": cpu * 1e6 / done if done else None,
        "errors": result["errors"],
        "error_text": result["error_text"],
    }


def fill(cluster, prefix, keys):
    result = bench(cluster, ["fill", "--prefix", prefix, "--keys", str(keys),
                             "--conns", "8", "--streams", "4"])
    return result["seconds"]


def rss(cluster):
    """Resident bytes of a node (mean of the three), after a fill and a rest."""
    seconds = fill(cluster, "/rss/", RSS_KEYS)
    time.sleep(5)
    cluster.check_running()
    return {"rss_mb": statistics.mean(n.rss_bytes() for n in cluster.nodes) / 1e6,
            "fill_seconds": seconds, "errors": 0, "error_text": ""}


def wanted(name, options):
    return (not options.only or name in options.only) and name not in options.skip


def run_kind(kind, options):
    """Every wanted load on a fresh cluster; the memory on another one."""
    results = {}
    loads = [load for load in LOADS if wanted(load[0], options)]
    if loads:
        with clusters.Cluster(kind) as cluster:
            cluster.start()
            # The keys that are read exist.
            fill(cluster, "/bench/", 10000)
            bench(cluster, ["put", "--keys", "1", "--total", "1", "--warmup", "0"])
            filled = False
            for name, _, args in loads:
                if args[0] == "list" and not filled:
                    fill(cluster, "/list/", LIST_KEYS)
                    filled = True
                results[name] = run_load(cluster, args, options)
                say_one(kind, name, results[name])
    if wanted("rss", options):
        with clusters.Cluster(kind) as cluster:
            cluster.start()
            results["rss"] = rss(cluster)
            say_one(kind, "rss", results["rss"])
    return results


def say(text):
    print(text, file=sys.stderr, flush=True)


def say_one(kind, name, result):
    if "rss_mb" in result:
        figures = "%.0f MB" % result["rss_mb"]
    else:
        figures = "%.0f/s, p50 %s ms, p99 %s ms, CPU %s us" % (
            result["per_second"], number(result["p50_ms"]), number(result["p99_ms"]),
            number(result["cpu_us_per_op"]))
    errors = "  %d FAILED: %s" % (result["errors"], result["error_text"]) if result["errors"] else ""
    say("  %-7s %-17s %s%s" % (kind, name, figures, errors))


# --- the summary ---

def number(value):
    if value is None:
        return "-"
    return "%.3g" % value if value < 100 else "%.0f" % value


def spread(values):
    """The median, and how far apart the rounds lay."""
    values = [v for v in values if v is not None]
    if not values:
        return None, ""
    apart = "" if len(values) == 1 else " (%s..%s)" % (number(min(values)), number(max(values)))
    return statistics.median(values), apart


def ratio(a, b):
    return "-" if not a or not b else "%.2fx" % (b / a)


# name of a figure, key, what it is called
FIGURES = [
    ("per_second", "/s"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("cpu_us_per_op", "CPU us/op"),
    ("rss_mb", "MB resident"),
]


def summarize(rounds):
    """[{load, figure, etcd, trivet, ratio}], medians over the rounds."""
    rows = []
    for name, text in [(load[0], load[1]) for load in LOADS] + OTHERS:
        for key, unit in FIGURES:
            row = {"load": name, "text": text, "figure": key, "unit": unit}
            for kind in KINDS:
                row[kind], row[kind + "_spread"] = spread(
                    [r[kind].get(name, {}).get(key) for r in rounds if kind in r])
            if row["etcd"] is None and row["trivet"] is None:
                continue
            row["trivet_to_etcd"] = (row["trivet"] / row["etcd"]
                                     if row["etcd"] and row["trivet"] else None)
            rows.append(row)
    return rows


def print_summary(rows):
    print("%-40s %-12s %26s %26s %10s" % ("", "", "etcd", "trivet", "trivet/etcd"))
    last = None
    for row in rows:
        label = row["text"] if row["load"] != last else ""
        last = row["load"]
        print("%-40s %-12s %26s %26s %10s" % (
            label, row["unit"], number(row["etcd"]) + row["etcd_spread"],
            number(row["trivet"]) + row["trivet_spread"], ratio(row["etcd"], row["trivet"])))


def version_of(kind):
    try:
        done = subprocess.run([clusters.binary(kind), "--version"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=10)
        return done.stdout.splitlines()[0] if done.stdout else "?"
    except (OSError, subprocess.TimeoutExpired):
        return "?"


def parse_args():
    names = [load[0] for load in LOADS] + [other[0] for other in OTHERS]
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=5, help="seconds of each load")
    parser.add_argument("--kinds", default=",".join(KINDS), help="etcd,trivet")
    parser.add_argument("--only", default="", help="of: " + ", ".join(names))
    parser.add_argument("--skip", default="")
    parser.add_argument("--json", help="write everything measured to this file")
    options = parser.parse_args()
    options.kinds = options.kinds.split(",")
    options.only = [n for n in options.only.split(",") if n]
    options.skip = [n for n in options.skip.split(",") if n]
    for name in options.only + options.skip:
        if name not in names:
            parser.error("no such load: %s (there are %s)" % (name, ", ".join(names)))
    for kind in options.kinds:
        if kind not in KINDS:
            parser.error("--kinds is of etcd,trivet")
    if options.rounds < 1 or options.duration <= 0:
        parser.error("--rounds and --duration must be above 0")
    return options


def main():
    options = parse_args()
    use_etcd_of_environment()
    clusters.exit_on_signals()
    for path in [clusters.binary(kind) for kind in options.kinds] + [bench_binary()]:
        if not os.access(path, os.X_OK):
            sys.exit("compare: %s is not there" % path)
    versions = {kind: version_of(kind) for kind in options.kinds}
    say("%s cores; %s" % (os.cpu_count(), "; ".join(versions.values())))
    rounds = []
    try:
        for i in range(options.rounds):
            say("round %d of %d" % (i + 1, options.rounds))
            order = options.kinds if i % 2 == 0 else options.kinds[::-1]
            rounds.append({})
            for kind in order:
                rounds[-1][kind] = run_kind(kind, options)
    except clusters.ClusterError as error:
        sys.exit("compare: %s" % error)
    rows = summarize(rounds)
    print_summary(rows)
    if options.json:
        with open(options.json, "w") as out:
            json.dump({"machine": {"cores": os.cpu_count(), "kernel": platform.release()},
                       "versions": versions, "duration_seconds": options.duration,
                       "rounds": rounds, "summary": rows}, out, indent=1)
            out.write("\n")
    failed = sum(result["errors"] for r in rounds for kind in r.values() for result in kind.values())
    if failed:
        sys.exit("compare: %d calls failed; the figures do not count" % failed)


if __name__ == "__main__":
    main()
