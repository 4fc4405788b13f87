#!/usr/bin/env python3
"""How much of raft/, the log and the disks the tests run: lines and branches. `./dev coverage` builds
with gcov's counters and runs this; see docs/coverage.md for what is left out, and why.

What is not counted: the failure branch of ASSERT and its like, which no test can take and go on, and the
one inside PROBE. Both by the pattern below, on the line they are on.
"""

import argparse
import json
import os
import subprocess
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
BUILD = os.path.join(ROOT, "build-coverage")
NOT_COUNTED = r".*\b(ASSERT|ASSERT_SLOW|PROBE)\(.*"
UNIT = ["raft", "raft_conf", "raft_random", "wal", "wal_crash", "wal_open", "wal_damage", "disk", "core",
        "snapshot"]
GROUPS = [("raft", "raft/src/"), ("log", "storage/src/wal"), ("disks", "storage/src/disk")]
BRANCHES_MIN = {"raft": 95.0, "log": 95.0}


def run_tests(seeds):
    for base, _, files in os.walk(BUILD):
        for name in files:
            if name.endswith(".gcda"):
                os.unlink(os.path.join(base, name))
    stories = os.path.join(ROOT, "tests", "interaction")
    commands = [[os.path.join(BUILD, "tests/unit/test_" + name)] for name in UNIT]
    commands.append([os.path.join(BUILD, "tests/interaction/run_interaction")] +
                    sorted(os.path.join(stories, n) for n in os.listdir(stories) if n.endswith(".txt")))
    commands.append([os.path.join(BUILD, "tests/sim/sim"), "--seeds", str(seeds), "--no-shrink"])
    failed = 0
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            print("FAILED: %s" % " ".join(command[:3]))
            failed += 1
    return failed


def measure():
    command = ["gcovr", "--root", ROOT, BUILD, "--json", "-", "--exclude-branches-by-pattern",
               NOT_COUNTED]
    for _, prefix in GROUPS:
        command += ["--filter", prefix]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return json.loads(out)["files"]


class Sum:
    def __init__(self):
        self.lines = self.lines_run = self.branches = self.branches_run = 0
        self.missing = []

    def add_line(self, line):
        if line.get("gcovr/noncode"):
            return
        self.lines += 1
        self.lines_run += line["count"] > 0
        taken = [b["count"] > 0 for b in line["branches"]]
        self.branches += len(taken)
        self.branches_run += sum(taken)
        if not all(taken) or line["count"] == 0:
            self.missing.append(line["line_number"])

    def add(self, other):
        self.lines += other.lines
        self.lines_run += other.lines_run
        self.branches += other.branches
        self.branches_run += other.branches_run


def percent(part, whole):
    return 100.0 * part / whole if whole else 100.0


def show(name, s, missing):
    print("%-32s %5d %6.1f %%  %5d %6.1f %%  %s" %
          (name, s.lines, percent(s.lines_run, s.lines), s.branches,
           percent(s.branches_run, s.branches),
           ",".join(str(n) for n in s.missing) if missing else ""))


def main():
    parser = argparse.ArgumentParser(prog="./dev coverage")
    parser.add_argument("--seeds", type=int, default=300, help="of the simulator")
    parser.add_argument("--missing", action="store_true", help="print the lines, too")
    args = parser.parse_args()
    failed = run_tests(args.seeds)
    files = {}
    for f in measure():
        s = files.setdefault(f["file"], Sum())
        for line in f["lines"]:
            s.add_line(line)
    print("%-32s %5s %8s  %8s %5s" % ("", "lines", "run", "branches", "taken"))
    good = 0
    for group, prefix in GROUPS:
        whole = Sum()
        for name in sorted(files):
            if name.startswith(prefix) and files[name].lines > 0:
                show(name, files[name], args.missing)
                whole.add(files[name])
        show("  " + group, whole, False)
        least = BRANCHES_MIN.get(group, 0.0)
        if percent(whole.branches_run, whole.branches) < least:
            print("  below %.0f %% of branches" % least)
            failed += 1
        else:
            good += 1
    print("%d passed, %d failed" % (good, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
