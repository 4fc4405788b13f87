#!/usr/bin/env python3
"""packaging/: units that systemd takes and that keep what a member may do small; a filter of system calls that
has all that a member makes; a configuration that members start with; alerts on metrics that there are; a
snapshot script that keeps what it should.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
import certs  # noqa: E402
import cluster  # noqa: E402
import prometheus  # noqa: E402

FOLDER = os.path.join(cluster.ROOT, "packaging")
UNITS = os.path.join(FOLDER, "systemd")
TRIVETCTL = os.path.join(cluster.build_dir(), "client", "trivetctl")
EXPOSURE_MAX = 2.0

tally = cluster.Tally()


def run(*args, timeout=60, **more):
    return subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, **more)


# --- units ---

def units():
    for path in sorted(glob.glob(os.path.join(UNITS, "*.service")) + glob.glob(os.path.join(UNITS, "*.timer"))):
        name = os.path.basename(path).replace("@.", "@one.")
        with tempfile.TemporaryDirectory(prefix="trivet-units-") as folder:
            for unit in os.listdir(UNITS):
                shutil.copy(os.path.join(UNITS, unit), folder)
            copy = os.path.join(folder, name)
            if not os.path.exists(copy):
                shutil.copy(path, copy)
            said = run("systemd-analyze", "verify", copy).stderr
        # The programs and pages are not installed here.
        wrong = [line for line in said.splitlines() if name.split("@")[0].split(".")[0] in line and
                 "is not executable" not in line and "'man " not in line]
        tally.check(wrong == [], "%s is well formed" % name, said)
    for name in ("trivetd.service", "trivetd@.service"):
        said = run("systemd-analyze", "security", "--offline=true", os.path.join(UNITS, name)).stdout
        level = re.search(r"exposure level for \S+: ([\d.]+)", said)
        tally.check(level is not None and float(level.group(1)) <= EXPOSURE_MAX, "%s exposes little" % name, said[-200:])


def expand(words):
    """The system calls of a filter's words; groups are systemd's."""
    calls = set()
    for word in words:
        if not word.startswith("@"):
            calls.add(word)
            continue
        said = run("systemd-analyze", "syscall-filter", "--no-pager", word).stdout
        members = [line.strip() for line in said.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
        calls |= expand(members)
    return calls


def allowed(unit):
    calls = set()
    with open(os.path.join(UNITS, unit), encoding="utf-8") as f:
        for line in f:
            name, _, value = line.strip().partition("=")
            if name == "SystemCallFilter" and value.startswith("~"):
                calls -= expand(value[1:].split())
            elif name == "SystemCallFilter":
                calls |= expand(value.split())
    return calls


def system_calls():
    """Of a member that starts, serves, makes a snapshot, is asked for its metrics, and stops."""
    with tempfile.TemporaryDirectory(prefix="trivet-calls-") as folder, cluster.Cluster("trivet", 3) as c:
        c.start()
        c.stop(0)
        counts = os.path.join(folder, "counts")
        c.nodes[0].program = ["strace", "-D", "-f", "-qq", "-c", "-o", counts, cluster.binary("trivet")]
        c.nodes[0].start()
        c.wait_healthy()
        one = ["--endpoints", c.nodes[0].endpoint()]
        for n in range(50):
            run(TRIVETCTL, *one, "put", "k%d" % n, "v" * 1000)
        run(cluster.ETCDCTL, *one, "snapshot", "save", os.path.join(folder, "db"))
        run(cluster.ETCDCTL, *one, "compact", "20")
        prometheus.fetch(c.nodes[0].endpoint())
        c.stop(0)
        until = time.monotonic() + 10
        while time.monotonic() < until and not (os.path.exists(counts) and os.path.getsize(counts)):
            time.sleep(0.1)
        with open(counts, encoding="utf-8") as f:
            made = {line.split()[-1] for line in f if re.match(r"^\s+[\d.]+\s", line)} - {"total"}
    may = allowed("trivetd.service")
    tally.check({"io_uring_enter", "write"} <= may and "reboot" not in may, "the filter is understood", repr(sorted(may))[:200])
    tally.check(made - may == set(), "every system call is let through", repr(sorted(made - may)))
    tally.check(len(made) > 20, "and there were some", repr(sorted(made)))


# --- the configuration ---

def configuration():
    """The sample, with our addresses, files and log."""
    with cluster.Cluster("trivet", 3) as c, tempfile.TemporaryDirectory(prefix="trivet-sample-") as folder:
        ca = certs.Authority(folder, "ca")
        mine = ca.issue("server", sans=["IP:127.0.0.1", "DNS:localhost"])
        with open(os.path.join(FOLDER, "trivetd.yaml"), encoding="utf-8") as f:
            sample = f.read()
        processes = []
        initial = ",".join("trivet%d=https://127.0.0.1:%d" % (n.index + 1, n.peer_port) for n in c.nodes)
        try:
            for n in c.nodes:
                text = re.sub(r"initial-cluster: .*", "initial-cluster: " + initial, sample)
                text = text.replace("https://10.0.0.1:2380", "https://127.0.0.1:%d" % n.peer_port)
                text = text.replace("https://10.0.0.1:2379,https://127.0.0.1:2379", "https://127.0.0.1:%d" % n.client_port)
                text = text.replace("https://10.0.0.1:2379", "https://127.0.0.1:%d" % n.client_port)
                text = text.replace("http://10.0.0.1:2381", "http://127.0.0.1:%d" % cluster.free_ports(1)[0])
                text = text.replace("name: trivet1", "name: trivet%d" % (n.index + 1))
                text = text.replace("/var/lib/trivet/data", os.path.join(folder, "data%d" % n.index))
                text = re.sub(r"/etc/trivet/pki/\w+\.crt(?<!ca\.crt)", mine.cert, text)
                text = re.sub(r"/etc/trivet/pki/\w+\.key", mine.key, text).replace("/etc/trivet/pki/ca.crt", ca.cert)
                text = text.replace("[systemd/journal]", "[%s]" % os.path.join(folder, "log%d" % n.index))
                path = os.path.join(folder, "%d.yaml" % n.index)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
                processes.append(subprocess.Popen([cluster.binary("trivet"), "--config-file", path],
                                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                                  stderr=subprocess.DEVNULL, preexec_fn=cluster.die_with_parent))
            put = run(cluster.ETCDCTL, "--endpoints", "https://127.0.0.1:%d" % c.nodes[1].client_port, "--cacert", ca.cert,
                      "--cert", mine.cert, "--key", mine.key, "--dial-timeout", "20s", "--command-timeout", "20s",
                      "put", "k", "v")
            logs = "".join(open(p, encoding="utf-8").read()[-600:] for p in glob.glob(os.path.join(folder, "log*")))
            tally.check(put.stdout == "OK\n", "a cluster of three starts with the sample configuration", put.stderr + logs)
        finally:
            for p in processes:
                p.terminate()
            for p in processes:
                p.wait(20)


# --- Prometheus ---

def expressions():
    """Of alerts and dashboards."""
    with open(os.path.join(FOLDER, "prometheus", "alerts.yaml"), encoding="utf-8") as f:
        found = re.findall(r"expr: (.*)", f.read())
    for path in glob.glob(os.path.join(FOLDER, "grafana", "*.json")):
        with open(path, encoding="utf-8") as f:
            dashboard = json.load(f)
        ids = [panel["id"] for panel in dashboard["panels"]]
        tally.check(len(ids) == len(set(ids)) and dashboard["title"] and dashboard["uid"], "%s can be imported" %
                    os.path.basename(path))
        found += [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return found


def alerts():
    text = "\n".join(expressions())
    names = set(re.findall(r"\b((?:etcd|trivet|grpc_server|process|os)_\w+)(?=[{)\s])", text))
    tally.check(len(names) > 30, "alerts and dashboards ask for much", repr(names))
    with cluster.Cluster("trivet", 1) as c:
        c.start()
        run(cluster.ETCDCTL, "--endpoints", c.nodes[0].endpoint(), "put", "k", "v")
        page = prometheus.fetch(c.nodes[0].endpoint())
    # Some are there only when there is something to say: those are in the table.
    with open(os.path.join(cluster.ROOT, "docs", "metrics.md"), encoding="utf-8") as f:
        known = set(page.types) | set(re.findall(r"^\| `(\w+)`", f.read(), re.M))
    for name in sorted(names):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        tally.check(name in known or family in known, "there is %s" % name)


# --- man pages ---

def man_pages():
    folder = os.path.join(cluster.build_dir(), "packaging", "man")
    pages = sorted(glob.glob(os.path.join(folder, "man*", "*")))
    for tool in ("mandoc", "man"):
        if shutil.which(tool) is None:
            print("SKIPPED: THERE IS NO %s" % tool.upper())
            return
    wrong = run("mandoc", "-Tlint", "-Wwarning", *pages)
    tally.check(wrong.returncode == 0, "mandoc has nothing to say", wrong.stdout[-1500:])
    environment = dict(os.environ, LC_ALL="C.UTF-8", MANWIDTH="100")
    for page in [p for p in pages if not os.path.islink(p)]:
        said = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page, env=environment).stderr
        tally.check(said == "", "%s is well formed" % os.path.basename(page), said[-500:])

    def text_of(name):
        return run("man", "-l", os.path.join(folder, name), env=environment).stdout.replace("\u2010", "-")
    flags = re.findall(r"^  (--[a-z0-9-]+)", run(cluster.binary("trivet"), "--help").stdout, re.M)
    page = text_of("man8/trivetd.8")
    tally.check(len(flags) > 100 and all(flag in page for flag in flags), "trivetd(8) has every flag",
                repr([flag for flag in flags if flag not in page]))
    with open(os.path.join(cluster.ROOT, "client", "include", "trivet.h"), encoding="utf-8") as f:
        functions = set(re.findall(r"^TRIVET_API [^;]*?\b(trivet_\w+)\(", f.read(), re.M))
    there = {os.path.basename(p)[:-2] for p in pages}
    tally.check(len(functions) > 25 and functions <= there, "each function of trivet.h has a page", repr(functions - there))
    done = run("man", "-l", os.path.join(folder, "man3", "trivet_call.3"), env=environment)
    tally.check("Waits for the answer" in done.stdout, "with what the header says")


# --- snapshots ---

def snapshot_script():
    with cluster.Cluster("trivet", 1) as c, tempfile.TemporaryDirectory(prefix="trivet-saved-") as folder:
        c.start()
        environment = dict(os.environ, STATE_DIRECTORY=folder, TRIVETCTL=TRIVETCTL, TRIVET_SNAPSHOTS_KEPT="2",
                           TRIVET_ENDPOINT=c.nodes[0].endpoint())
        for n in range(4):
            old = os.path.join(folder, "trivet-2000-01-0%dT00-00-00Z.db" % (n + 1))
            open(old, "w", encoding="utf-8").close()
        done = run(os.path.join(UNITS, "snapshot"), env=environment)
        left = sorted(os.listdir(folder))
        tally.check(done.returncode == 0 and len(left) == 2 and left[0].startswith("trivet-2000-01-04") and
                    os.path.getsize(os.path.join(folder, left[1])) > 4096, "the newest are kept", repr(left) + done.stderr)
        environment["TRIVET_ENDPOINT"] = "127.0.0.1:1"
        done = run(os.path.join(UNITS, "snapshot"), env=environment)
        tally.check(done.returncode != 0 and sorted(os.listdir(folder)) == left, "one that fails leaves nothing",
                    repr(os.listdir(folder)))


def main():
    cluster.exit_on_signals()
    units()
    system_calls()
    configuration()
    alerts()
    man_pages()
    snapshot_script()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
