#!/usr/bin/env python3
"""What a greedy client does to another one.

    ./dev bench fairness [--only writer,reader] [--kinds trivet,etcd] [--duration S] [--rounds N]

A polite client puts 100 times a second, 256 B, in an open loop: first alone, then beside the greedy one.
Shown is by how much its p99 grows; trivet is to keep it below 3x. With several rounds, each on clusters
of its own, these are medians, and in brackets how far the rounds lay apart.

  writer   10,000 puts of 1 MB under way at any time, over 100 connections; the keys are few, and their
           history is dropped each second
  small    10,000 puts of 256 B under way
  reader   lists 100,000 keys of 256 B again and again, on 10 connections
"""

import argparse
import sys
import threading

import measure
from measure import LoadFailed, clusters, number, say

RATIO_MAX = 3
GREEDY_KEYS = 20
LIST_KEYS = 100000
LINE = "%-8s %-8s %20s %20s %18s %16s  %s"
POLITE = ("put", "--rate", 100, "--prefix", "/polite/", "--keys", 1000, "--conns", 4, "--streams", 16)


def writer(options):
    return ("put", "--value-size", 1000000, "--keys", GREEDY_KEYS, "--prefix", "/greedy/",
            "--conns", options.conns, "--streams", options.streams)


def small(options):
    return ("put", "--value-size", 256, "--keys", 10000, "--prefix", "/greedy/",
            "--conns", options.conns, "--streams", options.streams)


def reader(_):
    return ("list", "--prefix", "/list/", "--conns", 10)


GREEDY = {"writer": writer, "small": small, "reader": reader}


class MemoryGuard:
    """Ends the greedy client when the machine's memory runs out, which would hit everybody on it; and
    sees how much the servers took."""

    MEMORY_PART_MIN = 0.15

    def __init__(self, cluster, greedy):
        self.cluster = cluster
        self.greedy = greedy
        self.peak_bytes = 0
        self.gave_up = False
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over.set()
        self.thread.join()

    def _watch(self):
        while not self.over.wait(0.1):
            try:
                self.peak_bytes = max(self.peak_bytes, measure.rss_bytes(self.cluster))
            except OSError:
                return  # a server has ended; who measures sees it, too
            if memory_part_free() < self.MEMORY_PART_MIN:
                self.gave_up = True
                self.greedy.process.kill()
                return


def memory_part_free():
    return measure.memory_info("MemAvailable") / measure.memory_info("MemTotal")


def p99_of_polite(cluster, options):
    measure.touch_memory(options.scale)
    result = measure.run_load(cluster, *POLITE, "--duration", options.duration)
    return result["latency"]["put"]["p99_ms"]


def beside_greedy(cluster, name, options):
    """(p99 of the polite client, peak memory of the servers, the greedy client's last line)"""
    with measure.Background(cluster, *GREEDY[name](options), greedy=True) as greedy, \
            MemoryGuard(cluster, greedy) as guard:
        p99 = p99_of_polite(cluster, options)
        if guard.gave_up:
            raise LoadFailed("the servers took the machine's memory: %d MB" %
                             (guard.peak_bytes / 1e6))
        if greedy.process.poll() is not None:
            raise LoadFailed("the greedy client ended: " + greedy.last_words[0])
    return p99, guard.peak_bytes, greedy.last_words[0].strip()


def measure_variant(kind, name, options):
    with measure.fresh_cluster(kind) as cluster:
        measure.fill(cluster, "/list/", round(LIST_KEYS * options.scale))
        alone = p99_of_polite(cluster, options)
        with measure.Background(cluster, "compact", "--every", 1, greedy=True):
            beside, peak, words = beside_greedy(cluster, name, options)
        cluster.check_running()
    say("  %-7s %s: the greedy client's last second: %s" % (kind, name, words))
    return {"alone": alone, "beside": beside, "ratio": beside / alone, "peak_mb": peak / 1e6}


def print_row(kind, name, results, failure):
    if failure:
        print("%-8s %-8s FAILED: %s" % (kind, name, failure))
        return
    columns = {key: measure.spread([r[key] for r in results]) for key in results[0]}
    verdict = "" if kind != "trivet" else "ok" if columns["ratio"][0] <= RATIO_MAX else "MISSED"
    print(LINE % ((kind, name) + tuple(number(median) + apart for median, apart in columns.values()) +
                  (verdict,)), flush=True)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GREEDY), help="of " + ", ".join(GREEDY))
    parser.add_argument("--kinds", default="trivet,etcd")
    parser.add_argument("--duration", type=float, default=20, help="seconds of the polite client")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--conns", type=int, default=100, help="of the writers")
    parser.add_argument("--streams", type=int, default=100, help="of each connection of the writers")
    parser.add_argument("--scale", type=float, default=1,
                        help="times the number of listed keys: 0.01 tries that it works")
    options = parser.parse_args()
    if options.rounds < 1 or options.duration <= 0:
        parser.error("--rounds and --duration must be above 0")
    options.only = options.only.split(",")
    options.kinds = measure.parse_kinds(parser, options.kinds)
    for name in options.only:
        if name not in GREEDY:
            parser.error("no such client: %s (there are %s)" % (name, ", ".join(GREEDY)))
    return options


def main():
    options = parse_args()
    measure.prepare(options.kinds)
    failed = 0
    print(LINE % ("", "greedy", "p99 alone, ms", "p99 beside", "ratio", "MB, 3 servers", ""))
    for name in options.only:
        results = {kind: [] for kind in options.kinds}
        failures = {}
        for _ in range(options.rounds):
            for kind in options.kinds:
                try:
                    results[kind].append(measure_variant(kind, name, options))
                except (clusters.ClusterError, LoadFailed) as error:
                    failures[kind] = error
        failed += len(failures)
        for kind in options.kinds:
            print_row(kind, name, results[kind], failures.get(kind))
    if failed:
        sys.exit("fairness: %d of them failed" % failed)


if __name__ == "__main__":
    main()
