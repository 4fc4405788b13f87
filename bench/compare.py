#!/usr/bin/env python3
"""etcd and trivet side by side: the same loads, in turn, on this machine.

    ./dev bench compare [--rounds N] [--duration S] [--only NAME,...] [--skip NAME,...] [--json FILE]

In each round each of the two gets fresh clusters of three nodes with the same settings, and every load
once; which of them begins changes from round to round. Shown is the median over the rounds, how far the
rounds lay apart, and, where scenarios.py has a floor and a goal for a figure, whether it is reached.
Some loads take minutes and run in the first rounds only, as scenarios.py says. Only figures of one run
are comparable: machines differ, and so do their hours.

What a server's CPU costs is utime + stime of all three processes (/proc/PID/stat), divided by the
operations of the load, its warm-up included. A load of which a call failed has no figures.

ETCD=PATH names another etcd, TRIVET_BUILD=FOLDER another build of trivet, TRIVET_TEST_DIR the folder
(and so the disk) for the data.
"""

import argparse
import json
import os
import platform
import sys

import measure
import scenarios
from measure import KINDS, clusters, number, say, spread


# --- the rounds ---

def wanted(scenario, kind, options, round_number):
    return (scenario.name in options.scenarios and kind in scenario.kinds and
            round_number < scenario.rounds_max)


def run_scenario(scenario, run):
    """{figures: {key: number}, failure: text or None, notes: [text]}"""
    result = {"figures": {}, "failure": None, "notes": run.notes}
    try:
        result["figures"] = scenario.run(run)
    except measure.LoadFailed as failed:
        result["failure"] = str(failed)
    except scenarios.LeftOut as why:
        run.notes.append("LEFT OUT: %s" % why)
    return result


def run_group(group, kind, options, round_number, results):
    """Fills results[kind] with the group's scenarios. When a node ends by itself, the rest fails."""
    todo = [s for s in group.scenarios if wanted(s, kind, options, round_number)]
    if not todo:
        return
    figures = {k: {name: r["figures"] for name, r in done.items()} for k, done in results.items()}
    try:
        with measure.fresh_cluster(kind, group.tls) as cluster:
            group.prepare(scenarios.Run(cluster, options, figures))
            while todo:
                result = run_scenario(todo[0], scenarios.Run(cluster, options, figures))
                say_result(kind, todo[0], result)
                results[kind][todo.pop(0).name] = result
    except (clusters.ClusterError, measure.LoadFailed) as error:
        say("%s\n  %-7s %s: the rest of these failed" % (error, kind, group.name))
        for scenario in todo:
            results[kind][scenario.name] = {"figures": {}, "notes": [],
                                            "failure": str(error).splitlines()[0]}


def run_round(round_number, options):
    """{kind: {scenario: result}}"""
    kinds = options.kinds if round_number % 2 == 0 else options.kinds[::-1]
    results = {kind: {} for kind in kinds}
    for group in scenarios.GROUPS:
        for kind in kinds:
            run_group(group, kind, options, round_number, results)
    return results


def say_result(kind, scenario, result):
    texts = ["%s %s" % (number(result["figures"][f.key]), f.unit)
             for f in scenario.figures if f.key in result["figures"]]
    if result["failure"]:
        texts.append("FAILED: " + result["failure"])
    say("  %-7s %-17s %s" % (kind, scenario.name, ", ".join(texts + result["notes"])))


# --- the summary ---

def reached(figure, value):
    """'goal', 'floor' or 'MISSED'; '' when nothing is asked of it or there is no value."""
    if figure.floor is None or value is None:
        return ""
    for name, bound in (("goal", figure.goal), ("floor", figure.floor)):
        if value >= bound if figure.higher_is_better else value <= bound:
            return name
    return "MISSED"


def row_of(scenario, figure, rounds):
    row = {"load": scenario.name, "text": scenario.text, "figure": figure.key, "unit": figure.unit,
           "floor": figure.floor, "goal": figure.goal, "absolute": figure.absolute}
    failed = False
    for kind in KINDS:
        results = [r[kind][scenario.name] for r in rounds if scenario.name in r.get(kind, {})]
        row[kind], row[kind + "_spread"] = spread([r["figures"].get(figure.key) for r in results])
        failed = failed or any(r["failure"] for r in results)
    both = row["etcd"] and row["trivet"] is not None and not failed
    row["trivet_to_etcd"] = row["trivet"] / row["etcd"] if both else None
    row["reached"] = "FAILED" if failed else reached(
        figure, row["trivet"] if figure.absolute else row["trivet_to_etcd"])
    return row


def summarize(rounds, options):
    rows = [row_of(scenario, figure, rounds) for scenario in scenarios.SCENARIOS
            for figure in scenario.figures if scenario.name in options.scenarios]
    return [row for row in rows if row["reached"] or row["etcd"] is not None
            or row["trivet"] is not None]


def bound(row, value):
    if value is None:
        return ""
    if row["absolute"]:
        return number(value)
    parts = round(1 / value) if value < 1 else 0
    return "1/%d" % parts if parts and abs(value * parts - 1) < 1e-9 else "%gx" % value


def print_summary(rows):
    line = "%-46s %-20s %24s %24s %8s %6s %6s  %s"
    print(line % ("", "", "etcd", "trivet", "ratio", "floor", "goal", ""))
    last = None
    for row in rows:
        ratio = row["trivet_to_etcd"]
        print((line % (
            row["text"] if row["load"] != last else "", row["unit"],
            number(row["etcd"]) + row["etcd_spread"], number(row["trivet"]) + row["trivet_spread"],
            "-" if ratio is None else "%.2fx" % ratio, bound(row, row["floor"]),
            bound(row, row["goal"]), row["reached"])).rstrip())
        last = row["load"]


def print_notes(rounds, options):
    """What is to be known about the figures, each once; returns how many loads failed."""
    failed, seen = 0, set()
    if options.scale != 1:
        print("SCALED BY %g: the texts' numbers of keys, watchers and leases are not what ran"
              % options.scale)
    for results in rounds:
        for kind, done in results.items():
            for name, result in done.items():
                failed += result["failure"] is not None
                words = result["notes"] + (["FAILED: " + result["failure"]] if result["failure"]
                                           else [])
                seen.update("%s, %s: %s" % (name, kind, text) for text in words)
    for text in sorted(seen):
        print(text)
    return failed


# --- the command line ---

def with_needed(names):
    """The names, and those of the scenarios that they build on."""
    return set(names).union(*(scenarios.BY_NAME[name].needs for name in names))


def parse_names(parser, text):
    names = [n for n in text.split(",") if n]
    for name in names:
        if name not in scenarios.BY_NAME:
            parser.error("no such load: %s (there are %s)" % (name, ", ".join(scenarios.BY_NAME)))
    return names


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=5, help="seconds of each load")
    parser.add_argument("--kinds", default=",".join(KINDS), help="etcd,trivet")
    parser.add_argument("--only", default="", help="of: " + ", ".join(scenarios.BY_NAME))
    parser.add_argument("--skip", default="")
    parser.add_argument("--scale", type=float, default=1,
                        help="times the number of keys, watchers, leases: 0.01 tries that it works")
    parser.add_argument("--json", help="write everything measured to this file")
    options = parser.parse_args()
    options.kinds = measure.parse_kinds(parser, options.kinds)
    only = parse_names(parser, options.only) or list(scenarios.BY_NAME)
    skip = parse_names(parser, options.skip)
    options.scenarios = with_needed([n for n in only if n not in skip])
    if options.rounds < 1 or options.duration <= 0 or options.scale <= 0:
        parser.error("--rounds, --duration and --scale must be above 0")
    return options


def write_json(options, versions, rounds, rows):
    with open(options.json, "w") as out:
        json.dump({"machine": {"cores": os.cpu_count(), "kernel": platform.release()},
                   "versions": versions, "duration_seconds": options.duration,
                   "scale": options.scale, "rounds": rounds, "summary": rows}, out, indent=1)
        out.write("\n")


def main():
    options = parse_args()
    measure.prepare(options.kinds)
    versions = {kind: measure.version_of(kind) for kind in options.kinds}
    say("%s cores; %s" % (os.cpu_count(), ", ".join("%s: %s" % v for v in versions.items())))
    rounds = []
    for i in range(options.rounds):
        say("round %d of %d" % (i + 1, options.rounds))
        rounds.append(run_round(i, options))
    rows = summarize(rounds, options)
    print_summary(rows)
    failed = print_notes(rounds, options)
    if options.json:
        write_json(options, versions, rounds, rows)
    if failed:
        sys.exit("compare: %d loads failed; they have no ratio" % failed)


if __name__ == "__main__":
    main()
