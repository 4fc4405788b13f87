#!/usr/bin/env python3
"""Go's clientv3 from 64 goroutines against three nodes, every answer checked (go/modelcheck)."""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--operations", type=int, default=50000)
    parser.add_argument("--goroutines", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("flags", nargs="*", help="for every node, after --")
    args = parser.parse_args()
    cluster.exit_on_signals()
    with cluster.Cluster(args.kind, flags=args.flags, heartbeat_ms=200, election_ms=2000) as nodes:
        nodes.start()
        result = cluster.run([
            os.path.join(cluster.TOOLS, "modelcheck"), "--endpoints", nodes.endpoints(),
            "--operations", str(args.operations), "--goroutines", str(args.goroutines),
            "--seed", str(args.seed)], timeout=1800)
        nodes.check_running()
        if result.returncode != 0:
            nodes.keep()
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
