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
# The first wants a fourth member, which joins in the middle; the second a server that takes less than is usual;
# the third a header in the answer, which etcd does not send.
NOT_HERE = ("test_cluster", "test_get_stream_chunked", "test_move_leader")
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
    namespace = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    inside = 'ip link set lo up && exec "$0" "$@"'
    running = [subprocess.Popen(namespace + ["sh", "-c", inside, sys.executable, os.path.realpath(__file__),
                                             "--inside", kind] + programs, stdout=subprocess.PIPE,
                                preexec_fn=cluster.die_with_parent) for kind in ("etcd", "trivet")]
    said = [one.communicate(timeout=2 * TIMEOUT_S)[0].decode() for one in running]
    if not programs or any(one.returncode != 0 for one in running):
        tally.check(False, "the tests did not run", "\n".join(said))
        return tally.finish()
    sides = [json.loads(text.strip().split("\n")[-1]) for text in said]
    (want, want_said), (got, got_said) = sides
    for name, result in want.items():
        tally.check(result == "ok", "%s: with etcd" % name, want_said[-2000:])
        tally.check(got.get(name) == "ok", "%s: with trivet" % name, got_said[-4000:])
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
