#!/usr/bin/env python3
"""Every error that etcd's API can return, code and text, is in our table (base/err.h) as it is there.

The list is etcd's own, in the Go module that its clients are built with.
"""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

TABLE = os.path.join(cluster.ROOT, "base", "include", "base", "err.h")
MODULE = os.path.join(cluster.ROOT, "tests", "clients", "go")

# COMPAT differs, errors: `etcdserver: not capable` and `no inflight downgrade job` are never sent: there are no
# COMPAT   members without these methods, and etcd does not send the second either
# What a client never hears: why.
NEVER_SENT = {
    "etcdserver: cluster ID mismatch": "etcd's own server never returns it either",
    "etcdserver: not capable": "there are no members of versions without these methods",
    "etcdserver: request canceled": "etcd says it to those who are gone",
    "etcdserver: context deadline exceeded": "its gRPC library is first, with other words",
    "etcdserver: no inflight downgrade job": "etcd answers such a cancellation without an error",
    "etcdserver: cluster version not found during downgrade": "the version is there from the start on",
}
# Other codes than in the list.
LEAVE_AS_UNKNOWN = {
    "etcdserver: too many requests": "etcd's server maps it to an error without a gRPC status",
}


def etcds():
    """{text: code}"""
    folder = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", "go.etcd.io/etcd/api/v3"], cwd=MODULE,
                            env=dict(os.environ, GOFLAGS="-mod=mod", GOTOOLCHAIN="local"), check=True,
                            capture_output=True, text=True).stdout.strip()
    with open(os.path.join(folder, "v3rpc", "rpctypes", "error.go"), encoding="utf-8") as f:
        source = f.read()
    return {text: code for code, text in re.findall(r'status\.Error\(codes\.(\w+), "([^"]*)"\)', source)}


def ours():
    with open(TABLE, encoding="utf-8") as f:
        source = f.read().replace("\\\n", " ")
    return {text: code for code, text in re.findall(r'X\(\w+,\s*\d+,\s*(\w+),\s*"([^"]*)"\)', source)}


def go_name(code):
    return "Canceled" if code == "CANCELLED" else "".join(part.capitalize() for part in code.split("_"))


def main():
    tally = cluster.Tally()
    want, got = etcds(), ours()
    tally.check(len(want) >= 60, "etcd's list was found", repr(want))
    for text, code in sorted(want.items()):
        if text in NEVER_SENT:
            tally.check(text not in got, "%r is in neither" % text)
            continue
        expected = "Unknown" if text in LEAVE_AS_UNKNOWN else code
        tally.check(text in got and go_name(got[text]) == expected, repr(text),
                    "want %s, got %s" % (expected, got.get(text)))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
