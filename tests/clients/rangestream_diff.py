#!/usr/bin/env python3
"""Long RangeStreams of an etcd and of a trivet, message by message (go/rangestream)."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402


def main():
    cluster.exit_on_signals()
    with cluster.Cluster("etcd") as want, cluster.Cluster("trivet") as got:
        want.start()
        got.start()
        result = cluster.run([
            os.path.join(cluster.TOOLS, "rangestream"), "--want", want.nodes[0].endpoint(),
            "--got", got.nodes[0].endpoint()], timeout=600)
        got.check_running()
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
