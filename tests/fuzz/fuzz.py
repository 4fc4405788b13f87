#!/usr/bin/env python3
"""Runs the fuzz targets of build-fuzz: from their seeds (seeds.py), from the inputs that are kept in
corpus/<target>.tar.xz, and from what earlier runs left in .dev/fuzz/<target>.

`--seconds` each, `--jobs` at once. `--keep` puts what was found since into corpus/, minimized. An input
that fails lies in .dev/fuzz/<target>-*; one that failed once and is repaired goes to found/<target>/,
and is run first.
"""

import argparse
import concurrent.futures
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, "..", ".."))
BUILT = os.path.join(ROOT, "build-fuzz", "tests", "fuzz")
WORK = os.path.join(ROOT, ".dev", "fuzz")
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import cluster  # noqa: E402
import seeds  # noqa: E402

NODES = {"grpc", "http1", "http2"}  # these look for leaks themselves, when a node has ended
SIZE_MAX = {"bbolt": 65536, "restore": 65536, "snapshot": 8192, "http2": 8192, "grpc": 8192}
KEPT_BYTES_MAX = 60000  # of a target's corpus, packed
ENVIRONMENT = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1")
INPUT_PATIENCE_S = 30


def targets():
    return sorted(name[5:] for name in os.listdir(BUILT) if re.fullmatch(r"fuzz_[a-z0-9]+", name))


def command(target, *args):
    found = [os.path.join(BUILT, "fuzz_" + target), "-artifact_prefix=%s/%s-" % (WORK, target),
             "-timeout=%d" % INPUT_PATIENCE_S, "-rss_limit_mb=2500", "-print_final_stats=1",
             "-max_len=%d" % SIZE_MAX.get(target, 4096)]
    words = os.path.join(HERE, target + ".dict")
    if os.path.exists(words):
        found.append("-dict=" + words)
    if target in NODES:
        found.append("-detect_leaks=0")
    return found + list(args)


def run(arguments, log, patience):
    """The exit status; None: it had to be ended."""
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT,
                               start_new_session=True, preexec_fn=cluster.die_with_parent)
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def unpack(target):
    folder = os.path.join(WORK, target)
    os.makedirs(folder, exist_ok=True)
    seeds.write(target, folder)
    kept = os.path.join(HERE, "corpus", target + ".tar.xz")
    if os.path.exists(kept):
        with tarfile.open(kept) as tar:
            tar.extractall(folder)
    return folder


def found_before(target):
    folder = os.path.join(HERE, "found", target)
    return sorted(os.path.join(folder, name) for name in os.listdir(folder)) if os.path.isdir(folder) else []


class Outcome:
    def __init__(self, target, ok, text):
        self.target, self.ok, self.text = target, ok, text


def fuzz(target, seconds, fresh):
    """With `fresh` nothing that others left is taken, and nothing is left for others."""
    path = os.path.join(WORK, target + ".log")
    folder = unpack(target)
    with tempfile.TemporaryDirectory() as new, open(path, "wb") as log:
        status = 0
        if found_before(target):
            status = run(command(target, *found_before(target)), log, 60 + INPUT_PATIENCE_S)
        if status == 0:
            more = [new, folder] if fresh else [folder]
            status = run(command(target, "-max_total_time=%d" % seconds, *more), log, seconds + 600)
    with open(path, encoding="utf-8", errors="replace") as f:
        said = f.read()
    counted = re.findall(r"stat::number_of_executed_units: (\d+)", said)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)", said)
    if status != 0 or not counted:
        return Outcome(target, False, said[-6000:] + "\n%s\n" % path)
    text = "%s inputs, %s edges, %s features, %s inputs of %s kept" % ((counted[-1],) + covered[-1])
    return Outcome(target, True, text)


def pack(target):
    """The fewest inputs with all that was reached, as one file; of the largest the last ones are left out
    when that is too much."""
    folder = unpack(target)
    with tempfile.TemporaryDirectory() as merged:
        with open(os.path.join(WORK, target + ".merge.log"), "wb") as log:
            if run(command(target, "-merge=1", merged, folder), log, 3600) != 0:
                return "%s: not merged: %s" % (target, log.name)
        inputs = []
        for name in os.listdir(merged):
            with open(os.path.join(merged, name), "rb") as f:
                inputs.append((name, f.read()))
    inputs.sort(key=lambda it: (len(it[1]), it[0]))
    while True:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as tar:
            for name, data in inputs:
                entry = tarfile.TarInfo(name[:12])
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        if len(packed.getvalue()) <= KEPT_BYTES_MAX:
            break
        inputs = inputs[:len(inputs) * 9 // 10]
    os.makedirs(os.path.join(HERE, "corpus"), exist_ok=True)
    with open(os.path.join(HERE, "corpus", target + ".tar.xz"), "wb") as f:
        f.write(packed.getvalue())
    return "%s: %d inputs, %d bytes" % (target, len(inputs), len(packed.getvalue()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="use and leave nothing in .dev/fuzz")
    parser.add_argument("--keep", action="store_true", help="put what was found into corpus/")
    args = parser.parse_args()
    wanted = args.targets or targets()
    for target in wanted:
        if target not in targets():
            sys.exit("there is no target %s: %s" % (target, " ".join(targets())))
    if args.fresh:
        global WORK
        WORK = os.path.join(ROOT, ".dev", "fuzz-test")
        shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK, exist_ok=True)
    if args.keep:
        for target in wanted:
            print(pack(target), flush=True)
        return
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for it in pool.map(lambda t: fuzz(t, args.seconds, args.fresh), wanted):
            print("%s %s: %s" % ("ok" if it.ok else "FAILED", it.target, it.text), flush=True)
            failed += not it.ok
    print("%d passed, %d failed" % (len(wanted) - failed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
