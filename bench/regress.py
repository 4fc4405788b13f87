#!/usr/bin/env python3
"""What an operation costs now, and what it cost in the previous release.

    ./dev bench regress [--base COMMIT] [--only NAME,...] [--json FILE]
    ./dev bench regress --record [COMMIT]

Counted are instructions, under callgrind; the cycles are an estimate from them and from simulated caches
and branches. The status is 1 when an operation grew by more than 10 % in either, in two measurements.

The base is the last release (a tag v...) that this commit follows, or else the commit of
bench/regress.json. That file has figures that `--record` wrote, here or elsewhere. Where they were
measured of the same commit, in the same way and with the same compiler and libraries, they are taken;
otherwise the base is built from git's history and measured here, once.

A growth that is worth it is written into bench/regress.json, and holds until the next release:
    "accepted": {"put-1": {"base": "v0.1.0", "percent": 15, "why": "..."}}

callgrind's files are kept: callgrind_annotate .dev/regress/now/put.leader.callgrind
"""

import argparse
import json
import os
import sys

import regress_base
import regress_measure
from regress_measure import FIGURES, LOADS

GROWTH_PERCENT_MAX = 10
NOW = os.path.join(regress_base.FOLDER, "now")


def say(text):
    print(text, flush=True)


def percent(base, now):
    return (now / base - 1) * 100


def compare(base, now, accepted):
    """[{load, role, base, now, change, allowed, ok}]: every load and role of either side. One that only
    one side has is not ok: nothing may drop out of the comparison unseen. `accepted`: {load: percent}."""
    rows = []
    for load in list(base) + [name for name in now if name not in base]:
        roles = list(base.get(load, {}))
        for role in roles + [r for r in now.get(load, {}) if r not in roles]:
            row = {"load": load, "role": role, "base": base.get(load, {}).get(role),
                   "now": now.get(load, {}).get(role), "change": None, "ok": False,
                   "allowed": max(GROWTH_PERCENT_MAX, accepted.get(load, 0))}
            if row["base"] and row["now"]:
                row["change"] = {f: percent(row["base"][f], row["now"][f]) for f in FIGURES}
                row["ok"] = all(change <= row["allowed"] for change in row["change"].values())
            rows.append(row)
    return rows


def cells(row, figure):
    base, now = (row[side] and row[side][figure] for side in ("base", "now"))
    return "%10s %10s %9s" % ("-" if base is None else "{:,.0f}".format(base),
                              "-" if now is None else "{:,.0f}".format(now),
                              "-" if row["change"] is None else "%+.1f %%" % row["change"][figure])


def print_table(rows):
    texts = {load.name: load.text for load in LOADS}
    say("%-18s %-37s %-9s %-31s %-31s" % ("", "", "", "instructions: base, now, change",
                                          "cycles: base, now, change"))
    last = None
    for row in rows:
        name = row["load"] if row["load"] != last else ""
        verdict = ""
        if row["change"] is None:
            verdict = "  NOT MEASURED"
        elif not row["ok"]:
            verdict = "  GREW BY MORE THAN %g %%" % row["allowed"]
        say("%-18s %-37s %-9s %s %s%s" % (name, texts.get(name, ""), row["role"],
                                          cells(row, "instructions"), cells(row, "cycles"), verdict))
        last = row["load"]


def lower(first, second):
    """Of two measurements the lower figures: noise only ever adds to both by accident."""
    return {load: {role: {figure: min(value, second.get(load, {}).get(role, {}).get(figure, value))
                          for figure, value in figures.items()}
                   for role, figures in roles.items()} for load, roles in first.items()}


def measure_now(only):
    os.makedirs(NOW, exist_ok=True)
    return regress_measure.measure(regress_base.built_trivetd(), only, NOW, say)


def run(base_commit=None, only=None):
    """The rows of compare()."""
    base = regress_base.find(base_commit, say)
    say("base: %s" % base.name)
    figures = {load: roles for load, roles in base.figures(say).items() if not only or load in only}
    say("measuring what is built")
    now = measure_now(only)
    rows = compare(figures, now, base.accepted)
    grown = sorted({row["load"] for row in rows if row["change"] is not None and not row["ok"]})
    if grown:
        say("measuring again: %s" % ", ".join(grown))
        rows = compare(figures, lower(now, measure_now(grown)), base.accepted)
    print_table(rows)
    return rows


def parse_args():
    names = [load.name for load in LOADS]
    parser = argparse.ArgumentParser(prog="./dev bench regress", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", metavar="COMMIT", help="compare with this commit instead")
    parser.add_argument("--only", default="", help="of: " + ", ".join(names))
    parser.add_argument("--json", metavar="FILE", help="write the rows to this file")
    parser.add_argument("--record", metavar="COMMIT", nargs="?", const="HEAD",
                        help="measure this commit and write bench/regress.json")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    for name in options.only:
        if name not in names:
            parser.error("no such operation: %s (there are %s)" % (name, ", ".join(names)))
    return options


def main():
    options = parse_args()
    regress_measure.clusters.exit_on_signals()
    try:
        if options.record:
            regress_base.record(options.record, say)
            return 0
        rows = run(options.base, options.only or None)
    except (regress_base.BaseError, regress_measure.MeasureError,
            regress_measure.clusters.ClusterError) as error:
        sys.exit("regress: %s" % error)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(rows, out, indent=1)
            out.write("\n")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
