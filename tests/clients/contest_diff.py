#!/usr/bin/env python3
"""Locks, elections, downgrades: the same scenes with etcd and with trivet, all seen there compared
(go/contest)."""

import argparse
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--want", default="etcd", choices=("trivet", "etcd"))
    parser.add_argument("--got", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--size", type=int, default=3, help="members of each cluster")
    parser.add_argument("--only", default="", help="one scene")
    parser.add_argument("--io-threads", default="", help="of trivet")
    args = parser.parse_args()
    flags = ["--io-threads", args.io_threads] if args.io_threads else []
    cluster.exit_on_signals()
    with cluster.Cluster(args.want, size=args.size) as want, \
            cluster.Cluster(args.got, size=args.size, flags=flags) as got:
        want.start()
        got.start()
        result = cluster.run([
            os.path.join(cluster.TOOLS, "contest"), "--want", want.nodes[0].endpoint(),
            "--got", got.nodes[0].endpoint(), "--only", args.only],
            timeout=300, capture_output=True, text=True)
        got.check_running()
    print(result.stdout, result.stderr, sep="", end="", flush=True)
    return result.returncode if re.search(r"^\d+ passed, \d+ failed$", result.stdout, re.M) else 1


if __name__ == "__main__":
    sys.exit(main())
