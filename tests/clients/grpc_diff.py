#!/usr/bin/env python3
"""The same random requests to etcd and to trivet, every answer compared (go/grpcdiff).

Two new clusters per seed; all requests go to one member of each.
"""

import argparse
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

REQUESTS_PER_SEED_MAX = 10000


def run_seed(kinds, seed, requests):
    with cluster.Cluster(kinds[0]) as want, cluster.Cluster(kinds[1]) as got:
        want.start()
        got.start()
        result = cluster.run([
            os.path.join(cluster.TOOLS, "grpcdiff"), "--want", want.nodes[0].endpoint(),
            "--got", got.nodes[0].endpoint(), "--seed", str(seed), "--requests", str(requests)],
            timeout=1800, capture_output=True, text=True)
        got.check_running()
    print(result.stdout, result.stderr, sep="", end="", flush=True)
    closing = re.search(r"^(\d+) passed, (\d+) failed$", result.stdout, re.M)
    return (int(closing.group(1)), int(closing.group(2))) if closing else (0, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--want", default="etcd", choices=("trivet", "etcd"))
    parser.add_argument("--got", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    args = parser.parse_args()
    cluster.exit_on_signals()
    seeds = max(2, -(-args.requests // REQUESTS_PER_SEED_MAX))
    passed = failed = 0
    for seed in range(args.seed, args.seed + seeds):
        good, bad = run_seed((args.want, args.got), seed, args.requests // seeds)
        passed, failed = passed + good, failed + bad
    print("%d passed, %d failed" % (passed, failed))
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
