#!/usr/bin/env python3
"""Does the simulator find bugs? Each patch in tests/sim/mutants breaks the code in one way; each must
be found. `./dev sim --mutants [NAME...]`.

A mutant is built in a copy of the sources under .dev/mutants, one for each job; the simulator then
runs seed after seed until one fails. The number of seeds that took is printed, and what it saw.

A patch begins with one line that says what it breaks. Where the simulator has no way to it yet, a line
"Found by: PROGRAM..." names the test programs that must fail instead. --table writes the results to
tests/sim/mutants/README.md.
"""

import argparse
import os
import re
import subprocess
import sys
import threading

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
PATCHES = os.path.join(ROOT, "tests", "sim", "mutants")
WORK = os.path.join(ROOT, ".dev", "mutants")
FAILED = re.compile(r"^seed (\d+).* FAILED after \d+ ms: (.*)", re.M)
FOUND_BY = re.compile(r"^Found by: (.*)", re.M)
TABLE = os.path.join(PATCHES, "README.md")
TABLE_HEAD = """# Deliberate bugs

Each patch here breaks the code in one way, and each must be found: `./dev sim --mutants` builds them one
after the other and runs the simulator from seed 1 on until a seed fails. Each line is what
`./dev sim --mutants --table [NAME...]` saw when it was last asked about that mutant.

| mutant | what it breaks | seeds | what saw it |
|---|---|---|---|
"""


def run(args, folder, log, timeout=1800):
    with open(log, "ab") as f:
        f.write(("$ %s\n" % " ".join(args)).encode())
        f.flush()
        return subprocess.run(args, cwd=folder, stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                              timeout=timeout, check=False).returncode


def refresh(folder):
    """Bring the copy up to date; files that are the same stay untouched, so that little is built."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT,
                           check=True, capture_output=True, text=True).stdout.split("\0")
    wanted = {n for n in names if n and os.path.isfile(os.path.join(ROOT, n))}
    for base, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(base, name)
            if os.path.relpath(path, folder) not in wanted:
                os.unlink(path)
    for name in wanted:
        source, copy = os.path.join(ROOT, name), os.path.join(folder, name)
        with open(source, "rb") as f:
            content = f.read()
        if os.path.exists(copy):
            with open(copy, "rb") as f:
                if f.read() == content:
                    continue
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        with open(copy, "wb") as f:
            f.write(content)


class Job(threading.Thread):
    def __init__(self, number, queue, args, results):
        super().__init__()
        self.queue, self.args, self.results = queue, args, results
        self.source = os.path.join(WORK, str(number), "source")
        self.build = os.path.join(WORK, str(number), "build")
        self.log = os.path.join(WORK, "%d.log" % number)

    def compile(self, targets):
        if not os.path.exists(os.path.join(self.build, "build.ninja")):
            if run(["meson", "setup", self.build, self.source], self.source, self.log) != 0:
                return False
        return run(["ninja", "-j1", "-C", self.build] + targets, self.source, self.log) == 0

    def simulate(self):
        """(seeds, what it saw), or None."""
        command = [os.path.join(self.build, "tests", "sim", "sim"), "--seed", "1", "--seeds",
                   str(self.args.seeds), "--jobs", "1", "--stop", "--no-shrink"]
        done = subprocess.run(command, cwd=self.source, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        failed = FAILED.search(done.stdout)
        return failed and (failed.group(1), failed.group(2))

    def run_tests(self, programs):
        for program in programs:
            command = [os.path.join(self.build, program)]
            if program.endswith("run_interaction"):
                folder = os.path.join(self.source, "tests", "interaction")
                command += sorted(os.path.join(folder, n) for n in os.listdir(folder)
                                  if n.endswith(".txt"))
            if run(command, self.source, self.log) != 0:
                return "-", os.path.basename(program)
        return None

    def judge(self, name):
        """(seeds, what it saw); (None, why) when it was not found."""
        path = os.path.join(PATCHES, name + ".patch")
        patch = ["patch", "-p1", "--batch", "-i", path]
        with open(path, encoding="utf-8") as f:
            by = FOUND_BY.search(f.read())
        programs = by.group(1).split() if by else []
        if run(patch + ["--dry-run"], self.source, self.log) != 0:
            return None, "the patch does not apply: see %s" % os.path.relpath(self.log, ROOT)
        run(patch, self.source, self.log)
        try:
            if not self.compile(programs or ["tests/sim/sim"]):
                return None, "does not build: see %s" % os.path.relpath(self.log, ROOT)
            found = self.run_tests(programs) if programs else self.simulate()
        finally:
            run(patch + ["-R"], self.source, self.log)
        return found or (None, "NOT FOUND in %d seeds" % self.args.seeds)

    def run(self):
        os.makedirs(self.source, exist_ok=True)
        refresh(self.source)  # once: the sources may change while this runs
        while True:
            try:
                name = self.queue.pop(0)
            except IndexError:
                return
            seeds, text = self.judge(name)
            self.results[name] = (seeds, text)
            print("%-34s %s" % (name, text if seeds is None else "%5s seeds: %s" % (seeds, text)),
                  flush=True)


def what_it_breaks(name):
    with open(os.path.join(PATCHES, name + ".patch"), encoding="utf-8") as f:
        return f.readline().strip()


def read_table():
    """What earlier runs saw, but of mutants that are gone."""
    rows = {}
    if os.path.exists(TABLE):
        with open(TABLE, encoding="utf-8") as f:
            for line in f:
                cells = line.strip().strip("|").split(" | ")
                name = cells[0].strip()
                if len(cells) == 4 and os.path.exists(os.path.join(PATCHES, name + ".patch")):
                    rows[name] = (cells[2], cells[3].strip())
    return rows


def write_table(results):
    rows = read_table()
    for name, (seeds, text) in results.items():
        rows[name] = (seeds or "-", text.replace("|", "\\|"))
    with open(TABLE, "w", encoding="utf-8") as f:
        f.write(TABLE_HEAD)
        for name in sorted(rows):
            f.write("| %s | %s | %s | %s |\n" % ((name, what_it_breaks(name)) + rows[name]))


def main():
    parser = argparse.ArgumentParser(prog="./dev sim --mutants")
    parser.add_argument("names", nargs="*", help="which; default all")
    parser.add_argument("--seeds", type=int, default=2000, help="give up after so many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", action="store_true", help="note the results in the table")
    args = parser.parse_args()
    known = sorted(n[:-6] for n in os.listdir(PATCHES) if n.endswith(".patch"))
    unknown = [n for n in args.names if n not in known]
    if unknown:
        parser.error("no such mutant: %s" % ", ".join(unknown))
    os.makedirs(WORK, exist_ok=True)
    queue, results = list(args.names or known), {}
    jobs = [Job(i, queue, args, results) for i in range(min(args.jobs, len(queue)))]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    missed = [name for name in results if results[name][0] is None]
    if args.table:
        write_table(results)
    print("%d passed, %d failed" % (len(results) - len(missed), len(missed)))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
