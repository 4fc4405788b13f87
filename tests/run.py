#!/usr/bin/env python3
"""Every test suite, one line each, and a sum. `./dev test` builds what is needed and runs this.

A suite is a program whose last line is "N passed, N failed" and whose exit status agrees, or the part
of meson's tests that has the suite's name. What they print goes to .dev/test/<suite>.log; of a suite
that fails the end of it is shown. One that cannot run here says SKIPPED and why.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import cluster  # noqa: E402
import debian  # noqa: E402

LOGS = os.path.join(ROOT, ".dev", "test")
CLOSING = re.compile(r"^(\d+) passed, (\d+) failed", re.M)
CHECK_LINE = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)
SHOWN_LINES_MAX = 60
SUMS = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)
MESON_EXIT_SKIPPED = 77
CPUS = len(os.sched_getaffinity(0))
ALL = 1000


class Skip(Exception):
    pass


class Suite:
    """`run(suite, full)` returns (passed, failed); `about` says what it shows; `cpus`: how many it keeps
    busy, or ALL where its time limits want the machine for itself (see run_beside())."""

    explore = False  # new seeds rather than the same ones

    def __init__(self, name, about, run, timeout=600, cpus=0.5):
        self.name, self.about, self.run, self.timeout = name, about, run, timeout
        self.cpus = min(cpus, CPUS)

    def log_path(self):
        return os.path.join(LOGS, self.name + ".log")


def execute(suite, args, env=None, append=False):
    """Run to the end or the time limit, output to the suite's log; returns (status, this output)."""
    environment = dict(os.environ, **(env or {}))
    with open(suite.log_path(), "ab" if append else "wb") as log:
        log.write(("$ %s\n" % " ".join(args)).encode())
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(args, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env=environment, start_new_session=True,
                                   preexec_fn=cluster.die_with_parent)
        try:
            status = process.wait(suite.timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status is None:
            log.write(("\ntook more than %d s: killed\n" % suite.timeout).encode())
    with open(suite.log_path(), "rb") as log:
        log.seek(begin)
        return status, log.read().decode(errors="replace")


def program(suite, args, env=None, append=False):
    status, output = execute(suite, args, env, append)
    closing = CLOSING.findall(output)
    if not closing:
        return 0, 1
    passed, failed = int(closing[-1][0]), int(closing[-1][1])
    if status != 0 and failed == 0:
        failed = 1
    return passed, failed


def meson(suite, folder, part, env=None):
    """Counts single checks where a program is Check's, else programs."""
    status, _ = execute(suite, ["meson", "test", "-C", folder, "--no-rebuild", "--suite", part,
                                "--num-processes", "2", "--print-errorlogs", "--logbase", suite.name,
                                "--timeout-multiplier", "3"], env)
    passed = failed = 0
    with open(os.path.join(ROOT, folder, "meson-logs", suite.name + ".json"), encoding="utf-8") as f:
        for line in f:
            result = json.loads(line)
            checks = CHECK_LINE.search(result.get("stdout", ""))
            closing = CLOSING.search(result.get("stdout", ""))
            if result["returncode"] == MESON_EXIT_SKIPPED:
                print("  SKIPPED IN %s: %s" % (suite.name.upper(), result["name"]))
                continue
            if checks:
                total, failures, errors = map(int, checks.groups())
                good, bad = total - failures - errors, failures + errors
            elif closing:
                good, bad = map(int, closing.groups())
            else:
                good, bad = 1, 0
            if result["result"] != "OK" and bad == 0:
                good, bad = max(good - 1, 0), 1
            passed, failed = passed + good, failed + bad
    if status != 0 and failed == 0:
        failed = 1
    return passed, failed


def build(suite, folder, options):
    status, _ = execute(suite, ["./dev", "build", folder] + options)
    if status != 0:
        raise RuntimeError("%s does not build" % folder)


def need_etcd():
    """Only 3.7 answers as trivet does; Debian's are older."""
    if not cluster.available("etcd"):
        raise Skip("there is no etcd to compare with")
    said = subprocess.run([cluster.binary("etcd"), "--version"], capture_output=True, text=True,
                          check=False).stdout.split("\n")[0]
    if " 3.7." not in said:
        raise Skip("the etcd to compare with is %s, not 3.7" % said.split()[-1])


def need(kind="trivet", etcd=False, tool=None):
    if not cluster.available(kind):
        raise Skip("there is no %s" % os.path.relpath(cluster.binary(kind), ROOT))
    if etcd:
        need_etcd()
    if tool and not os.access(os.path.join(cluster.TOOLS, tool), os.X_OK):
        raise Skip("no Go 1.26 here to build tests/clients/go with")


def lint(suite, full):
    return program(suite, [sys.executable, "tests/lint/lint.py"])


def unit(suite, full):
    return meson(suite, "build", "unit")


def interaction(suite, full):
    return meson(suite, "build", "interaction")


def simulation(suite, full):
    """Whole clusters in virtual time: many seeds, the same seed twice, a crash at every operation, and
    what failed once."""
    sim = os.path.join("build", "tests", "sim", "sim")
    passed = failed = 0
    with open(os.path.join(ROOT, "tests", "sim", "seeds.txt"), encoding="utf-8") as f:
        replays = [args for args in (line.split("#")[0].split() for line in f) if args]
    # The run of seed 6 without faults has 6,600 operations of one member.
    for args in replays + [["--seeds", "20000" if full else "2000"], ["--seeds", "40", "--twice"],
                           ["--seed", "6", "--crash-points", "6588" if full else "400"]]:
        good, bad = program(suite, [sim] + args, append=passed + failed > 0)
        passed, failed = passed + good, failed + bad
    return passed, failed


def probes(suite, full):
    """Rare branches of raft and the log: what the simulator cannot reach, unit tests and stories do."""
    sim = os.path.join("build", "tests", "sim", "sim")
    wanted = subprocess.run([sim, "--probes-elsewhere"], cwd=ROOT, check=True, capture_output=True,
                            text=True).stdout.split()
    seen = os.path.join(LOGS, "probes.txt")
    open(seen, "w", encoding="utf-8").close()
    env = {"TRIVET_PROBES": seen}
    meson(suite, "build", "interaction", env)
    for name in ["raft", "raft_restart", "raft_conf", "raft_random", "wal", "wal_crash"]:
        execute(suite, [os.path.join("build", "tests", "unit", "test_" + name)], env, append=True)
    with open(seen, encoding="utf-8") as f:
        hit = set(f.read().split())
    missed = [name for name in wanted if name not in hit]
    with open(suite.log_path(), "a", encoding="utf-8") as log:
        log.write("".join("never reached: %s\n" % name for name in missed))
    return len(wanted) - len(missed), len(missed)


def etcdctl_diff(suite, full):
    need(etcd=True)
    return program(suite, [sys.executable, "tests/clients/etcdctl_diff.py"])


def trivetctl_diff(suite, full):
    need(etcd=True)
    return program(suite, [sys.executable, "tests/clients/trivetctl_diff.py"])


def trivetctl_more(suite, full):
    need()
    return program(suite, [sys.executable, "tests/clients/trivetctl_more.py"])


def etcdctl_flows(suite, full):
    need(etcd=True)
    return program(suite, [sys.executable, "tests/clients/etcdctl_flows.py"] + (["--full"] if full else []))


def operate_diff(suite, full):
    need(etcd=True, tool="operate")
    return program(suite, [sys.executable, "tests/clients/operate_diff.py"])


def auth(suite, full):
    need(etcd=True)
    return program(suite, [sys.executable, "tests/clients/auth_diff.py",
                           "--count", "10000" if full else "400"])


def gateway(suite, full):
    need(etcd=True)
    return program(suite, [sys.executable, "tests/clients/gateway_diff.py"])


def config(suite, full):
    """What is taken and refused; what options do; what is said of them."""
    need(etcd=True)
    passed, failed = program(suite, [sys.executable, "tests/clients/config_diff.py"])
    for name in ("run", "docs"):
        more = program(suite, [sys.executable, "tests/clients/config_%s.py" % name], append=True)
        passed, failed = passed + more[0], failed + more[1]
    return passed, failed


def tls(suite, full):
    need(etcd=True)
    return program(suite, [sys.executable, "-W", "ignore::DeprecationWarning",
                           "tests/clients/tls_diff.py"])


def tls_probe(suite, full):
    need(etcd=True)
    more = ["--damaged", "2000", "--garbage", "5000", "--half-open", "10000"] if full else []
    return program(suite, [sys.executable, "-W", "ignore::DeprecationWarning",
                           "tests/clients/tls_probe.py"] + more)


def range_stream(suite, full):
    need(etcd=True, tool="rangestream")
    return program(suite, [sys.executable, "tests/clients/rangestream_diff.py"])


def errors(suite, full):
    need(tool="histories")  # the same Go module
    return program(suite, [sys.executable, "tests/clients/errors_diff.py"])


def histories(suite, full):
    need(etcd=True, tool="histories")
    where = [sys.executable, "tests/clients/histories.py"]
    if suite.explore:  # what nobody has seen yet
        return program(suite, where + ["--seconds", str(4 * 3600 if full else 600),
                                       "--seed", str(int(time.time()) * 1000)])
    return program(suite, where + (["--seconds", "900", "--histories", "480"] if os.environ.get("CI") else
                                   ["--seconds", "60", "--histories", "40"]))


def metrics(suite, full):
    need(etcd=True)
    return program(suite, [sys.executable, "tests/clients/metrics_diff.py"])


def trace(suite, full):
    need(etcd=True)
    return program(suite, [sys.executable, "tests/clients/trace_diff.py"])


def clients(*names):
    """What a client lacks here is said for it alone."""
    def run(suite, full):
        need(etcd=True)
        passed = failed = 0
        status, output = execute(suite, [sys.executable, "tests/clients/clients.py"] + list(names))
        lacks = re.findall(r"^SKIPPED: (.*)", output, re.M)
        if len(lacks) == len(names):
            raise Skip("; ".join(lacks))
        for what in lacks:
            print("  SKIPPED IN %s: %s" % (suite.name.upper(), what.upper()))
        closing = CLOSING.findall(output)
        if closing:
            passed, failed = int(closing[-1][0]), int(closing[-1][1])
        return passed, max(failed, int(status != 0))
    return run


def clients_rust(suite, full):
    """Its own tests, and what they leave out."""
    passed, failed = clients("rust")(suite, full)
    good, bad = program(suite, [sys.executable, "tests/clients/rust_crate.py"], append=True)
    return passed + good, failed + bad


def lock(suite, full):
    need(etcd=True, tool="contest")
    return program(suite, [sys.executable, "tests/clients/contest_diff.py"])


def libtrivet(suite, full):
    """Without etcd here, the parts against it are left out."""
    need()
    if not full:
        return program(suite, [sys.executable, "tests/clients/libtrivet.py", "--only",
                               "examples,header,symbols,calls-1,calls-3,calls-etcd,users,tls,endpoints,srv,"
                               "connections,few-streams,few-streams-etcd,subsets,new-certificates,nonsense,kills,cuts,memory"])
    return program(suite, [sys.executable, "tests/clients/libtrivet.py"])


def zones(suite, full):
    """Go's clientv3 beside it is for the eye: not each time."""
    need()
    parts = "follower,leader,rolling,slow,narrow,disk,even,near" + (",clientv3" if full else "")
    return program(suite, [sys.executable, "tests/faults/zones.py", "--only", parts])


def snapshot_file(suite, full):
    need(etcd=True, tool="snapshot")
    if not os.access(os.path.join(cluster.TOOLS, "etcdutl"), os.X_OK):
        raise Skip("there is no etcdutl")
    return program(suite, [sys.executable, "tests/clients/snapshot_file.py",
                           "--points", "1000" if full else "200"])


def model_check(suite, full):
    need(tool="modelcheck")
    return program(suite, [sys.executable, "tests/clients/model_check.py", "--operations", "50000"])


def faults(suite, full):
    need(tool="faultload")
    return program(suite, [sys.executable, "tests/faults/killer.py",
                           "--rounds", "200" if full else "15"])


def robust(suite, full):
    need(tool="robust")
    return program(suite, [sys.executable, "tests/faults/robust.py"] +
                   (["--rounds", "300"] if full else []))


def full_disk(suite, full):
    need()
    if os.geteuid() != 0:
        raise Skip("needs root, to mount a file system")
    return program(suite, [sys.executable, "tests/faults/fulldisk.py",
                           "--rounds", "5" if full else "2"])


def snapshots(suite, full):
    need(tool="faultload")
    return program(suite, [sys.executable, "tests/faults/snapshot.py",
                           "--rounds", "60" if full else "4"])


def lost_disks(suite, full):
    need(tool="faultload")
    return program(suite, [sys.executable, "tests/faults/wipe.py",
                           "--rounds", "60" if full else "6"])


def failover(suite, full):
    need(tool="failover")
    return program(suite, [sys.executable, "tests/faults/failover.py", "--rounds", "20" if full else "2"])


def big_snapshot(suite, full):
    """On a small machine other things than the snapshot move a p99 of some seconds: the bound is wide."""
    need()
    if full:
        return program(suite, [sys.executable, "tests/faults/bigsnapshot.py", "--mib", "5000", "--rate",
                               "5000", "--before", "60"])
    return program(suite, [sys.executable, "tests/faults/bigsnapshot.py", "--bound", "50"])


def membership(suite, full):
    need(etcd=True, tool="robust")
    return program(suite, [sys.executable, "tests/faults/membership.py"])


def damage(suite, full):
    need()
    if not os.access(cluster.ETCDCTL, os.X_OK):
        raise Skip("there is no etcdctl")
    return program(suite, [sys.executable, "tests/faults/damage.py", "--rounds", "5" if full else "1",
                           "--heals", "-1" if full else "24"])


def differ(suite, full):
    need()
    if not os.access(cluster.ETCDCTL, os.X_OK):
        raise Skip("there is no etcdctl")
    return program(suite, [sys.executable, "tests/faults/differ.py",
                           "--rounds", "20" if full else "2"])


def bad_input(suite, full):
    need()
    return program(suite, [sys.executable, "tests/faults/badinput.py",
                           "--requests", "100000" if full else "30000"])


def fuzz(suite, full):
    """What was found before, and a little more."""
    status, _ = execute(suite, ["./dev", "fuzz", "--build"])
    if status != 0:
        raise RuntimeError("the fuzz targets do not build")
    return program(suite, [sys.executable, "tests/fuzz/fuzz.py", "--fresh", "--jobs", "2",
                           "--seconds", "300" if full else "5"], append=True)


def packaging(suite, full):
    need()
    for tool in ("systemd-analyze", "strace"):
        if shutil.which(tool) is None:
            raise Skip("there is no %s" % tool)
    return program(suite, ["/usr/bin/python3", "tests/packaging.py"])


def booted(name):
    """What boots a systemd of its own, from Debian's packages. With --full also on the other release."""
    def run(suite, full):
        need()
        if os.geteuid() != 0:
            raise Skip("needs root, to boot a systemd in namespaces of its own")
        if debian.here() not in ("bookworm", "trixie"):
            raise Skip("this is not a Debian 12 or 13, of which packages are made")
        for tool in ("mmdebstrap", "unshare", "nsenter", "dpkg-buildpackage", "lintian"):
            if shutil.which(tool) is None:
                raise Skip("there is no %s" % tool)
        if not os.access(cluster.ETCDCTL, os.X_OK):
            raise Skip("there is no etcdctl")
        why = debian.lacking(debian.here())
        if why:
            raise Skip(why)
        releases = [debian.here()]
        if full and name != "newcomer":
            other = "trixie" if releases[0] == "bookworm" else "bookworm"
            why = debian.lacking(other)
            if why:
                print("  SKIPPED IN %s: %s: %s" % (name.upper(), other.upper(), why.upper()))
            else:
                releases.append(other)
        return program(suite, ["/usr/bin/python3", "tests/%s.py" % name] + releases)
    return run


def bench(suite, full):
    need()
    if not os.access(cluster.ETCDCTL, os.X_OK):
        raise Skip("there is no etcdctl")
    passed, failed = program(suite, [sys.executable, "tests/bench_smoke.py"])
    more = program(suite, [sys.executable, "tests/bench_runs.py"], append=True)
    return passed + more[0], failed + more[1]


def regress(suite, full):
    need()
    return program(suite, [sys.executable, "tests/regress.py"])


def sanitized(part, options, env):
    """That part of the unit tests (CI: all), and trivetd under short runs of real clients and bad input."""
    def run(suite, full):
        folder = "build-" + suite.name
        build(suite, folder, ["-Db_lundef=false"] + options)
        passed, failed = meson(suite, folder, "unit" if full or os.environ.get("CI") else part, env)
        more = dict(env, TRIVET_BUILD=folder)
        if not os.access(os.path.join(ROOT, folder, "server", "trivetd"), os.X_OK):
            raise Skip("there is no trivetd in %s" % folder)
        runs = [["tests/faults/badinput.py", "--requests", "100000" if full else "3000",
                 "--sanitizer"]]
        if os.access(os.path.join(cluster.TOOLS, "modelcheck"), os.X_OK):
            runs.append(["tests/clients/model_check.py", "--operations",
                         "50000" if full else "5000"])
            runs.append(["tests/faults/killer.py", "--rounds", "40" if full else "3"])
        try:
            need_etcd()
            runs.append(["tests/clients/etcdctl_diff.py"])
            if os.access(os.path.join(cluster.TOOLS, "histories"), os.X_OK):
                runs.append(["tests/clients/histories.py", "--seconds", "600" if full else "15"])
        except Skip as why:
            print("  SKIPPED IN %s: ETCDCTL: %s" % (suite.name.upper(), str(why).upper()))
        for args in runs:
            good, bad = program(suite, [sys.executable] + args, more, append=True)
            passed, failed = passed + good, failed + bad
        return passed, failed
    return run


SUPPRESSIONS = os.path.join(ROOT, "tests", "lib", "tsan.supp")
ASAN_ENV = {"ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1"}
TSAN_ENV = {"TSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:suppressions=" + SUPPRESSIONS}

SUITES = [
    Suite("lint", "the rules of the house", lint, cpus=1),
    Suite("unit", "each module by itself", unit, 900, cpus=1.5),
    Suite("interaction", "raft, told as stories in text files", interaction),
    Suite("simulation", "whole clusters in virtual time, under faults, from seeds", simulation, 7200, cpus=1),
    Suite("probes", "rare branches that the simulator cannot reach: reached by other tests", probes),
    Suite("etcdctl", "etcdctl's output, against etcd's", etcdctl_diff),
    Suite("flows", "etcdctl from end to end: users, locks, mirrors, snapshots, against etcd", etcdctl_flows),
    Suite("trivetctl", "trivetctl in etcdctl's place: every command, in every form", trivetctl_diff),
    Suite("trivetctl-more", "top, check, copy, watch --resume, completion and progress", trivetctl_more),
    Suite("operate", "alarms, the quota and moving the leader, against etcd", operate_diff),
    Suite("config", "flags, variables and files, against etcd; what options do", config, cpus=1),
    Suite("tls", "who is let in by which certificate, against etcd; clusters with TLS", tls),
    Suite("tlsprobe", "old versions, renegotiation, damaged, slow and endless handshakes: beside etcd; others "
          "are served", tls_probe),
    Suite("gateway", "HTTP: the JSON gateway, WebSocket and the pages, against etcd's", gateway),
    Suite("errors", "every error of etcd's API is in our table, code and text", errors),
    Suite("rangestream", "long RangeStreams, message by message against etcd's", range_stream),
    Suite("histories", "random histories of all services: every answer and event against etcd's",
          histories, 18000, cpus=1),
    Suite("auth", "users, roles and tokens: every method as everybody, against etcd", auth),
    Suite("clients", "Go's, Python's and Node's clients and grpcurl: what they do with etcd, with trivet",
          clients("go", "python", "aetcd", "etcd3gw", "node", "grpcurl"), 1800),
    Suite("clients-java", "jetcd, the same", clients("java"), 1500, cpus=1),
    Suite("clients-rust", "etcd-client, the same, and its own tests", clients_rust, 1500, cpus=1.5),
    Suite("libtrivet", "the client library: every call, members killed, connections cut, nonsense, no memory",
          libtrivet, 1200, cpus=1),
    Suite("zones", "libtrivet when a zone is lost, members restart, one is slow; who reads where", zones, cpus=ALL),
    Suite("metrics", "what /metrics says of the same calls, beside etcd's", metrics),
    Suite("trace", "the spans of the same calls, beside etcd's; collectors that do not answer", trace),
    Suite("lock", "locks, elections and downgrades, scene by scene against etcd", lock),
    Suite("snapshotfile", "snapshots that etcd reads, and etcd's that we read", snapshot_file),
    Suite("model", "clientv3 from 64 goroutines, every answer against a model", model_check, cpus=1),
    Suite("faults", "kill -9 under load: nothing lost, no event missed or repeated", faults, 7200, cpus=1),
    Suite("robust", "linearizability, and what watches promise, under every fault", robust, 7200, cpus=1),
    Suite("fulldisk", "disks that fill up: writes refused in time, and nothing else", full_disk),
    Suite("snapshot", "away for longer than the log is kept: back by a snapshot, under load",
          snapshots, 7200, cpus=1),
    Suite("wipe", "disks that are lost: the member is replaced by itself, under load", lost_disks, 3600),
    Suite("failover", "the leader goes: the time to the next write, beside etcd's", failover, 3600, cpus=ALL),
    Suite("bigsnapshot", "much data comes back to a wiped member under load", big_snapshot, 3600, cpus=ALL),
    Suite("membership", "members come and go, against etcd", membership, 1200),
    Suite("damage", "every sort of damage to a member's files: said, not served from, healed", damage,
          1800, cpus=1),
    Suite("differ", "a member with other contents: found by comparing, fenced, rebuilt", differ,
          1800),
    Suite("badinput", "what no client should send", bad_input, 1800, cpus=1),
    Suite("fuzz", "libFuzzer on every decoder and on whole nodes: what was kept, and a little more", fuzz, 1800, cpus=1.5),
    Suite("packaging", "the service's units, filter of system calls, configuration and alerts", packaging, 300),
    Suite("packages", "Debian packages: built, installed, upgraded, purged; --full: Debian 12 and 13",
          booted("packages"), 3600, cpus=1),
    Suite("service", "three services in three networks on a systemd booted for it: what an operator relies on",
          booted("service"), 3600, cpus=1),
    Suite("newcomer", "docs/operations.md pasted into three machines booted for it", booted("newcomer"), 3600),
    Suite("bench", "every command of trivet-bench, its counts against the servers'", bench, cpus=ALL),
    Suite("regress", "what an operation costs, counted, against the previous release", regress, 3600, cpus=1),
    Suite("asan", "the same under ASan and UBSan",
          sanitized("unit", ["-Db_sanitize=address,undefined"], ASAN_ENV), 3600, cpus=1.5),
    Suite("tsan", "the same under TSan", sanitized("threads", ["-Db_sanitize=thread"], TSAN_ENV), 3600, cpus=1.5),
]


def show_end(suite):
    with open(suite.log_path(), encoding="utf-8", errors="replace") as log:
        lines = log.read().splitlines()
    for line in lines[-SHOWN_LINES_MAX:]:
        print("    | " + line)


def cpu_s():
    """Of all programs that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_suite(suite, full):
    """(passed, failed, skipped) and the line about it."""
    begin, cpu_begin = time.monotonic(), cpu_s()
    try:
        passed, failed = suite.run(suite, full)
    except Skip as why:
        print("%-14s SKIPPED: %s" % (suite.name, str(why).upper()), flush=True)
        return 0, 0, 1
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        print("%-14s FAILED: %s" % (suite.name, error), flush=True)
        if os.path.exists(suite.log_path()):
            show_end(suite)
        return 0, 1, 0
    print("%-14s %6d passed %4d failed %7.1f s, %6.1f s of CPU" %
          (suite.name, passed, failed, time.monotonic() - begin, cpu_s() - cpu_begin), flush=True)
    if failed:
        show_end(suite)
        print("    all of it: %s" % os.path.relpath(suite.log_path(), ROOT))
    return passed, failed, 0


def run_one_by_one(suites, full):
    sums = [0, 0, 0]
    for suite in suites:
        sums = [a + b for a, b in zip(sums, run_suite(suite, full))]
    return sums


def run_beside(suites):
    """Most suites wait for their clusters' timers most of the time. Here as many run at once as keep the
    CPUs busy, each as a run of its own."""
    sums = [0, 0, 0]
    waiting, running = sorted(suites, key=lambda suite: -suite.cpus), {}
    while waiting or running:
        for suite in list(waiting):
            if sum(s.cpus for s in running.values()) + suite.cpus <= CPUS:
                waiting.remove(suite)
                with open(suite.log_path() + ".said", "w", encoding="utf-8") as said:
                    process = subprocess.Popen([sys.executable, __file__, suite.name], cwd=ROOT, stdout=said,
                                               stdin=subprocess.DEVNULL, stderr=said,
                                               preexec_fn=cluster.die_with_parent)
                running[process] = suite
        time.sleep(0.2)
        for process in [p for p in running if p.poll() is not None]:
            suite = running.pop(process)
            with open(suite.log_path() + ".said", encoding="utf-8") as said:
                text = said.read()
            closing = SUMS.findall(text)
            print(SUMS.sub("", text).rstrip("\n"), flush=True)
            result = [int(number or 0) for number in closing[-1]] if closing else [0, 1, 0]
            sums = [a + b for a, b in zip(sums, result)]
    return sums


def main():
    parser = argparse.ArgumentParser(prog="./dev test")
    parser.add_argument("suites", nargs="*", help="which; default all")
    parser.add_argument("--full", action="store_true", help="all rounds (hours)")
    parser.add_argument("--diff", action="store_true",
                        help="ten minutes of random histories beside etcd; four hours with --full")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        for suite in SUITES:
            print("%-14s %s" % (suite.name, suite.about))
        return 0
    known = {s.name: s for s in SUITES}
    if args.diff:
        args.suites = ["histories"]
        known["histories"].explore = True
    unknown = [n for n in args.suites if n not in known]
    if unknown:
        parser.error("no such suite: %s" % ", ".join(unknown))
    cluster.exit_on_signals()
    os.makedirs(LOGS, exist_ok=True)
    if args.suites or args.full or os.environ.get("CI"):
        suites = [known[n] for n in args.suites] if args.suites else SUITES
        passed, failed, skipped = run_one_by_one(suites, args.full)
    else:
        passed, failed, skipped = run_beside(SUITES)
    print("%d passed, %d failed%s" % (passed, failed,
                                      ", %d skipped" % skipped if skipped else ""))
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
