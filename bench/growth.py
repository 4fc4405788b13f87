#!/usr/bin/env python3
"""How the cost of a put grows with the number of keys, the size of values, the number of connections.

    ./dev bench growth [--only keys,values,connections] [--kinds trivet,etcd] [--duration S] [--json FILE]

For each point of a curve: puts a second in a closed loop, 1,000 under way; then the p99 of an open loop
at half of that; the servers' CPU for each put, and the resident memory of one of three nodes. Where a
curve should be flat, the worst point's puts a second are shown as a part of the best one's.
"""

import argparse
import dataclasses
import json
import sys

import measure
from measure import MANY, clusters, number, say

KILO, MEGA = 1 << 10, 1 << 20
DATA_BYTES_MAX = 512 * MEGA  # of the values of one point; larger values: fewer keys


@dataclasses.dataclass(frozen=True)
class Point:
    name: str
    keys: int = 10000
    value_size: int = 256
    spread: tuple = MANY  # connections and streams
    flat: bool = True     # belongs to the part of the curve that should be flat


def points_of_keys(options):
    return [Point("%d keys" % n, keys=max(1, round(n * options.scale)))
            for n in (10000, 100000, 1000000, 4000000)]


def points_of_values(_):
    return [Point("%d B" % n, value_size=n, keys=min(10000, DATA_BYTES_MAX // n), flat=n <= KILO)
            for n in (64, 256, KILO, 16 * KILO, 1000000)]


def points_of_connections(_):
    """Always 1,000 puts under way."""
    return [Point("%d connections" % n, spread=("--conns", n, "--streams", 1000 // n))
            for n in (1, 10, 100, 1000)]


CURVES = {"keys": points_of_keys, "values": points_of_values, "connections": points_of_connections}


def measure_point(cluster, point, options):
    put = ("put", "--keys", point.keys, "--value-size", point.value_size, *point.spread,
           "--duration", options.duration)
    measure.fill(cluster, "/bench/", point.keys, "--value-size", point.value_size,
                 "--batch", max(1, min(64, MEGA // point.value_size)))
    measure.compact_now(cluster)
    # Large values fill the quota with history within seconds.
    with measure.Background(cluster, "compact", "--every", 1):
        before = measure.cpu_seconds(cluster)
        closed = measure.run_load(cluster, *put)
        cpu = measure.cpu_seconds(cluster) - before
        rate = max(1, round(closed["per_second"] / 2))
        paced = measure.run_load(cluster, *put, "--rate", rate)
    return {"per_second": closed["per_second"], "rate": rate,
            "p99_ms": paced["latency"]["put"]["p99_ms"],
            "cpu_us": cpu * 1e6 / closed["done_in_all"],
            "rss_mb": measure.rss_bytes(cluster) / len(cluster.nodes) / 1e6}


def measure_curve(kind, name, options):
    """[(point, figures)]; each point has a cluster of its own, so that none is in another's debt."""
    results = []
    for point in CURVES[name](options):
        with measure.fresh_cluster(kind) as cluster:
            figures = measure_point(cluster, point, options)
        say("  %-7s %-20s %s/s" % (kind, point.name, number(figures["per_second"])))
        results.append((point, figures))
    return results


def print_curve(kind, name, results):
    print("%s, by %s" % (kind, name))
    print("  %-20s %10s %20s %12s %12s" % ("", "puts/s", "p99 ms at half", "CPU us/put",
                                           "MB resident"))
    for point, f in results:
        print("  %-20s %10s %20s %12s %12s" % (
            point.name, number(f["per_second"]), "%s (%d/s)" % (number(f["p99_ms"]), f["rate"]),
            number(f["cpu_us"]), number(f["rss_mb"])))
    flat = [(point, f["per_second"]) for point, f in results if point.flat]
    print("  worst to best, %s .. %s: %.2f" % (
        flat[0][0].name, flat[-1][0].name, min(v for _, v in flat) / max(v for _, v in flat)))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CURVES), help="of " + ", ".join(CURVES))
    parser.add_argument("--kinds", default="trivet", help="trivet,etcd")
    parser.add_argument("--duration", type=float, default=5, help="seconds of each load")
    parser.add_argument("--scale", type=float, default=1,
                        help="times the numbers of keys: 0.01 tries that it works")
    parser.add_argument("--json", help="write everything measured to this file")
    options = parser.parse_args()
    options.only = options.only.split(",")
    options.kinds = measure.parse_kinds(parser, options.kinds)
    for name in options.only:
        if name not in CURVES:
            parser.error("no such curve: %s (there are %s)" % (name, ", ".join(CURVES)))
    if options.duration <= 0 or options.scale <= 0:
        parser.error("--duration and --scale must be above 0")
    return options


def main():
    options = parse_args()
    measure.prepare(options.kinds)
    measured = []
    try:
        for kind in options.kinds:
            for name in options.only:
                results = measure_curve(kind, name, options)
                print_curve(kind, name, results)
                measured += [dict(figures, kind=kind, curve=name, point=point.name)
                             for point, figures in results]
    except (clusters.ClusterError, measure.LoadFailed) as error:
        sys.exit("growth: %s" % error)
    if options.scale != 1:
        print("SCALED BY %g: the numbers of keys are not what ran" % options.scale)
    if options.json:
        with open(options.json, "w") as out:
            json.dump(measured, out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    main()
