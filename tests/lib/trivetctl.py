"""trivetctl as a process, for tests of what it has of its own; counts what was checked."""

import base64
import json
import os
import subprocess

import cluster as clusters

CTL = os.environ.get("TRIVETCTL", os.path.join(clusters.build_dir(), "client", "trivetctl"))
PATIENCE = 60

passed, failed = 0, 0


def check(condition, text, detail=""):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print("FAILED: %s %s" % (text, str(detail)[:3000]), flush=True)


def ctl(endpoints, *args, timeout=PATIENCE, stdin=None):
    done = subprocess.run([CTL, "--endpoints", endpoints, *args], capture_output=True, timeout=timeout,
                          input=stdin, check=False)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def start(endpoints, *args, **more):
    return subprocess.Popen([CTL, "--endpoints", endpoints, *args], stdin=subprocess.DEVNULL,
                            preexec_fn=clusters.die_with_parent, **more)


def endpoints_of(cluster):
    return ",".join(node.endpoint() for node in cluster.nodes)


def all_keys(endpoints, prefix="", strip=""):
    """{key: value} under a prefix, without `strip` in front."""
    status, out, err = ctl(endpoints, "get", prefix, "--prefix", "-w", "json") if prefix else \
        ctl(endpoints, "get", "", "--from-key", "-w", "json")
    if status != 0:
        raise RuntimeError(err)
    found = {}
    for kv in json.loads(out).get("kvs", []):
        key = base64.b64decode(kv["key"]).decode()
        found[key[len(strip):]] = base64.b64decode(kv.get("value", "")).decode()
    return found


def wait_for(what, seconds=PATIENCE):
    return clusters.wait_until(what, seconds)


def count(good, bad):
    global passed, failed
    passed, failed = passed + good, failed + bad


def finish():
    """The exit status."""
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0
