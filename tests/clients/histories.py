#!/usr/bin/env python3
"""Random histories to a new etcd and a new trivet, every answer, event and error compared
(go/histories). A history that differs is made short, shown, and kept under .dev/test/histories. Those that
once differed because of trivet are in found/ and played first."""

import argparse
import glob
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

FOUND = os.path.join(os.path.dirname(os.path.realpath(__file__)), "found")
KEEP = os.path.join(cluster.ROOT, ".dev", "test", "histories")
MEMORY = "/dev/shm"  # disks are not what is tested here


def play_found(program):
    for path in sorted(glob.glob(os.path.join(FOUND, "*.json"))):
        again = cluster.run(program + ["-replay", path], timeout=120, capture_output=True, text=True)
        if again.returncode != 0:
            print("%s: %s0 passed, 1 failed" % (os.path.relpath(path, cluster.ROOT), again.stdout))
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1, help="of the first history")
    parser.add_argument("--histories", type=int, default=1000000, help="at most")
    parser.add_argument("--steps", type=int, default=1500, help="of each history")
    parser.add_argument("--services", help="what requests are made of, with commas")
    parser.add_argument("--replay", help="play a kept history again")
    args = parser.parse_args()
    cluster.exit_on_signals()
    os.makedirs(KEEP, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="trivet-histories-", dir=MEMORY if os.path.isdir(MEMORY) else None)
    program = [os.path.join(cluster.TOOLS, "histories"), "-etcd", cluster.binary("etcd"),
               "-trivetd", cluster.binary("trivet"), "-dir", folder, "-keep", KEEP]
    command = ["-seed", str(args.seed), "-steps", str(args.steps), "-histories", str(args.histories),
               "-seconds", str(args.seconds)]
    if args.services:
        command += ["-services", args.services]
    try:
        if args.replay:
            return cluster.run(program + ["-replay", args.replay], timeout=600).returncode
        if not play_found(program):
            return 1
        return cluster.run(program + command, timeout=args.seconds + 1200).returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
