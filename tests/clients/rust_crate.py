#!/usr/bin/env python3
"""The tests that the crate etcd-client ships, against etcd and trivet. They want localhost:2379: so they, and
the cluster, run in a network namespace of their own."""

import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import cluster  # noqa: E402

FOLDER = os.path.join(cluster.ROOT, ".dev", "clients", "rust")  # clients.py has built there
TIMEOUT_S = 120
# These wants a fourth member, which joins in the middle, or a server that takes less than is usual.
NOT_HERE = ("test_cluster", "test_get_stream_chunked")
RESULT = re.compile(r"^test (\S+) \.\.\. (ok|FAILED)", re.M)


def built():
    """The crate's test programs."""
    cargo = shutil.which("cargo")
    if cargo is None:
        return []
    packages = json.loads(subprocess.run([cargo, "metadata", "--format-version", "1", "--locked"], cwd=FOLDER,
                                         check=True, capture_output=True, timeout=300).stdout)["packages"]
    manifest = next(p["manifest_path"] for p in packages if p["name"] == "etcd-client")
    said = subprocess.run([cargo, "test", "--no-run", "--locked", "--tests", "--message-format", "json",
                           "--manifest-path", manifest, "--target-dir", os.path.join(FOLDER, "crate")],
                          cwd=FOLDER, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          timeout=1200).stdout.decode()
    messages = [json.loads(line) for line in said.split("\n") if line.startswith("{")]
    return [m["executable"] for m in messages if m.get("executable") and "test" in m["target"]["kind"]]


def play(kind, programs):
    """In the namespace: {test: ok or FAILED} and what was said."""
    results, output = {}, ""
    with cluster.Cluster(kind, size=3, flags=["--auth-token-ttl", "2", "--bcrypt-cost", "4"]) as nodes:
        nodes.nodes[0].client_port = 2379
        nodes.start()
        etcdctl = [cluster.ETCDCTL, "--endpoints", nodes.endpoints()]
        ask = {"check": True, "capture_output": True, "text": True, "env": nodes.environment()}
        for args in (["user", "add", "root:rootpwd"], ["role", "add", "root"],
                     ["user", "grant-role", "root", "root"]):
            cluster.run(etcdctl + args, **ask)
        status = json.loads(cluster.run(etcdctl + ["endpoint", "status", "-w", "json"], **ask).stdout)
        first, leader = status[0]["Status"]["header"]["member_id"], status[0]["Status"]["leader"]
        if first != leader:
            cluster.run(etcdctl + ["move-leader", "%x" % first], **ask)
        for program in programs:
            skips = [word for name in NOT_HERE for word in ("--skip", name)]
            done = cluster.run([program, "--include-ignored", "--test-threads=1"] + skips, timeout=TIMEOUT_S,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                               env=dict(os.environ, RUST_BACKTRACE="0"))
            said = done.stdout.decode(errors="replace")
            output += said
            results.update(RESULT.findall(said))
        nodes.check_running()
    return results, output


def main():
    if sys.argv[1:2] == ["--inside"]:
        print(json.dumps(play(sys.argv[2], sys.argv[3:])))
        return 0
    cluster.exit_on_signals()
    tally = cluster.Tally()
    programs = built()
    sides = []
    for kind in ("etcd", "trivet"):
        inside = 'ip link set lo up && exec "$0" "$@"'
        done = cluster.run(["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"]) +
                           ["sh", "-c", inside, sys.executable, os.path.realpath(__file__), "--inside", kind] +
                           programs, capture_output=True, text=True, timeout=2 * TIMEOUT_S)
        if done.returncode != 0:
            tally.check(False, "the tests with " + kind, done.stdout + done.stderr)
            return tally.finish()
        sides.append(json.loads(done.stdout.strip().split("\n")[-1]))
    (want, want_said), (got, got_said) = sides
    for name, result in want.items():
        tally.check(result == "ok", "%s: with etcd" % name, want_said[-2000:])
        tally.check(got.get(name) == "ok", "%s: with trivet" % name, got_said[-4000:])
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
