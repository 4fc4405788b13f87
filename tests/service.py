#!/usr/bin/env python3
"""The service, on a real systemd that is booted in a container of its own: three members as three services in three
networks; ready when they serve and not before; the watchdog, kill -9 and SIGTERM; the journal; keys from
credentials; snapshots by the timer.
"""

import contextlib
import json
import os
import re
import resource
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib"))
import certs  # noqa: E402
import cluster  # noqa: E402
import container  # noqa: E402
import debian  # noqa: E402
import held  # noqa: E402

ENDPOINTS = ["10.77.1.%d:2379" % n for n in (1, 2, 3)]
ALL = ",".join(ENDPOINTS)
UNITS = ["trivetd@zone%d.service" % n for n in (1, 2, 3)]
WATCHDOG_SECONDS = 4
ZONES_LOST = 3

tally = cluster.Tally()


def until(seconds, what):
    return cluster.wait_until(what, seconds)


def ctl(c, *args, endpoints=ALL, timeout="20s"):
    return c.run("trivetctl", "--endpoints", endpoints, "--command-timeout", timeout, *args)


def put(c, key, value, endpoints=ALL):
    done = ctl(c, "put", key, value, endpoints=endpoints)
    return done.stdout == "OK\n", done.stdout + done.stderr


def state(c, unit):
    return c.show(unit, "ActiveState")


def seconds_since(c, unit, what):
    return time.clock_gettime(time.CLOCK_MONOTONIC) - int(c.show(unit, what + "TimestampMonotonic") or 0) / 1e6


def leader(c):
    """0, 1 or 2, by what /metrics says."""
    for n, endpoint in enumerate(ENDPOINTS):
        page = c.run("curl", "-s", "-m", "5", "http://%s/metrics" % endpoint).stdout
        if re.search(r"^etcd_server_is_leader 1$", page, re.M):
            return n
    return None


def prepare(c):
    for name, deb in debian.packages(RELEASE).items():
        if "dbgsym" not in name:
            c.copy(deb, "/packages/" + os.path.basename(deb))
    c.run("sh", "-c", "dpkg -i /packages/*.deb", check=True)
    tally.check(c.show("trivetd.service", "ActiveState") == "inactive", "installing starts nothing")
    c.copy(os.path.join(cluster.ROOT, "packaging", "zones"), "/srv/zones")
    for unit in UNITS:
        c.write("/etc/systemd/system/%s.d/test.conf" % unit,
                "[Service]\nWatchdogSec=%d\nTimeoutAbortSec=3\nRestartSec=200ms\n" % WATCHDOG_SECONDS)


# --- readiness ---

def readiness(c):
    """A member without the others is none that serves."""
    done = c.shell("/srv/zones prepare && systemctl start --no-block %s" % UNITS[0])
    tally.check(done.returncode == 0, "the first zone is set up", done.stderr)
    # By then it has stood for election, which it does after 2 s at most.
    alone = until(60, lambda: c.main_pid(UNITS[0]) and seconds_since(c, UNITS[0], "ExecMainStart") > 3)
    tally.check(alone and state(c, UNITS[0]) == "activating", "a member without a majority is not ready",
                state(c, UNITS[0]) + c.journal(UNITS[0])[-1000:])
    done = c.run("/srv/zones", "up", timeout=90)
    tally.check(done.returncode == 0, "three services start", done.stderr + c.journal(UNITS[1])[-1500:])
    tally.check([state(c, u) for u in UNITS] == ["active"] * 3, "and are active")
    for endpoint in ENDPOINTS:  # the moment that systemd says so
        good, said = put(c, "ready", endpoint, endpoint)
        tally.check(good, "%s serves as soon as it is ready" % endpoint, said)
    tally.check({c.show(u, "NRestarts") for u in UNITS} == {"0"}, "without a restart")


def confinement(c):
    pid = c.main_pid(UNITS[0])
    with open(c.path("/proc/%d/status" % pid), encoding="ascii") as f:
        status = f.read()
    tally.check(re.search(r"^Seccomp:\s+2", status, re.M), "system calls are filtered", status)
    tally.check(re.search(r"^NoNewPrivs:\s+1", status, re.M) and re.search(r"^CapEff:\s+0+$", status, re.M),
                "there are no privileges", status)
    user = c.run("stat", "-c", "%U", "/proc/%d" % pid).stdout.strip()
    tally.check(user == "trivet", "it runs as trivet", user)
    nets = {c.run("readlink", "/proc/%d/ns/net" % c.main_pid(u)).stdout for u in UNITS}
    tally.check(len(nets) == 3, "each in a network of its own", repr(nets))
    limit = c.run("sh", "-c", "grep 'open files' /proc/%d/limits" % pid).stdout
    most = min(131072, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # a container may have no right to more
    tally.check(re.search(r"\s%d\s+%d\s" % (most, most), limit), "with room for many sockets", limit)
    said = c.run("systemd-analyze", "security", "--no-pager", "trivetd@zone1.service").stdout
    level = re.search(r"exposure level for \S+: ([\d.]+)", said)
    tally.check(level and float(level.group(1)) <= 2.0, "systemd finds little exposed", said[-200:])


def journal(c):
    lines = [json.loads(line) for line in c.run(
        "journalctl", "--no-pager", "-o", "json", "-u", UNITS[0]).stdout.splitlines()]
    ours = [line for line in lines if line.get("_COMM") == "trivetd"]
    ready = [line for line in ours if "ready to serve client requests" in str(line.get("MESSAGE"))]
    tally.check(ready and ready[0]["PRIORITY"] == "6" and ready[0]["SYSLOG_IDENTIFIER"] == "trivetd",
                "the journal has its lines, with priorities", repr(ours[:2])[:600])
    tally.check(any(line["PRIORITY"] == "4" for line in ours), "warnings are warnings")


# --- what goes wrong ---

def killed(c):
    victim = (leader(c) or 0) + 1
    victim %= 3
    before = c.main_pid(UNITS[victim])
    c.kill(UNITS[victim])
    back = until(40, lambda: c.main_pid(UNITS[victim]) not in (0, before) and state(c, UNITS[victim]) == "active")
    tally.check(back and c.show(UNITS[victim], "NRestarts") == "1", "kill -9: it is started again",
                c.journal(UNITS[victim])[-1500:])
    good, said = put(c, "after", "kill", ENDPOINTS[victim])
    tally.check(good, "and serves", said)


def watchdog(c):
    """The thread that everything depends on says nothing more, and the others go on; then, all of them."""
    for name in ("its main thread", "the whole process"):
        victim = ((leader(c) or 0) + 2) % 3
        unit = UNITS[victim]
        before, restarts = c.main_pid(unit), int(c.show(unit, "NRestarts"))
        until(30, lambda: seconds_since(c, unit, "ActiveEnter") > 2 * WATCHDOG_SECONDS)
        tally.check(c.main_pid(unit) == before, "the watchdog is answered", c.journal(unit)[-1500:])
        began = len(c.journal(unit))
        with contextlib.ExitStack() as stack:
            if name == "its main thread":
                pid = c.outside(before)
                h = stack.enter_context(held.thread(pid))
                states = held.states(pid)
                tally.check(states.pop(pid) == "t" and len(states) > 1 and not set(states.values()) & {"t", "T"},
                            "one thread is held and %d are not" % len(states), repr(states))
            else:
                c.kill(unit, signal.SIGSTOP)
                h = None
            back = until(90, lambda: (h is None or h.gone()) and c.main_pid(unit) not in (0, before) and
                         state(c, unit) == "active")
        said = c.journal(unit)[began:]
        tally.check(back and int(c.show(unit, "NRestarts")) == restarts + 1,
                    "%s stands still: the watchdog starts it again" % name, said[-1500:])
        tally.check("Watchdog timeout" in said, "for the reason that it did not answer", said[-1500:])
        good, why = put(c, "after", "watchdog", ENDPOINTS[victim])
        tally.check(good, "and it serves", why)


def handing_over(c):
    """Stopping the leader: fast, and the others have one before it is gone."""
    old = leader(c)
    if not tally.check(old is not None, "there is a leader"):
        return
    others = ",".join(e for n, e in enumerate(ENDPOINTS) if n != old)
    begin = time.monotonic()
    c.run("systemctl", "stop", UNITS[old], check=True)
    took = time.monotonic() - begin
    good, said = put(c, "after", "stop", others)
    wrote = time.monotonic() - begin
    tally.check(took < 4, "the leader stops within 2 s, and some for a busy machine", "%.1f s" % took)
    tally.check(good and wrote < took + 2, "writes go on", "%.1f s: %s" % (wrote, said))
    last = c.journal(UNITS[old]).rsplit("received signal; shutting down", 1)[-1]
    tally.check('"raft.node: leader changed"' in last, "it has seen another one lead before it ended", last[-1500:])
    tally.check(c.show(UNITS[old], "Result") == "success", "stopping is no failure", c.show(UNITS[old], "Result"))
    new = leader(c)
    tally.check(new not in (None, old), "another one leads", repr(new))
    c.run("systemctl", "start", UNITS[old], check=True)
    print("  the leader was stopped in %.2f s, a write was through %.2f s after its SIGTERM" % (took, wrote))


def zone_lost(c):
    """The leader's, and nobody is told: an election timeout later, which is 1.1 to 1.5 seconds, the others have one."""
    took = []
    for n in range(ZONES_LOST):
        lost = leader(c)
        if not tally.check(lost is not None, "there is a leader"):
            return
        others = ",".join(e for m, e in enumerate(ENDPOINTS) if m != lost)
        c.run("/srv/zones", "cut", str(lost + 1), check=True)
        begin = time.monotonic()
        # One after the other: the first ones have gone to the leader that is lost, and nobody will answer them. They
        # can still come to be done, even after the next zone was lost: so no key is written in two rounds.
        done, key = None, "cut %d" % n

        def written():
            nonlocal done
            done = ctl(c, "put", key, "off", endpoints=others, timeout="500ms")
            return done.stdout == "OK\n"
        good = until(60, written)
        took.append(time.monotonic() - begin)
        tally.check(good, "a zone that is lost does not stop the others", done.stderr)
        c.run("/srv/zones", "heal", check=True)

        def read():
            nonlocal done
            done = ctl(c, "get", key, "--print-value-only", endpoints=ENDPOINTS[lost])
            return done.stdout == "off\n"
        tally.check(until(60, read), "and it comes back", done.stdout + done.stderr)
    print("  writes were back %s s after the leader's zone was lost" % ", ".join("%.1f" % t for t in took))
    # Votes can be split, and are then asked for again after another timeout.
    tally.check(min(took) < 4, "an election timeout is all that it takes", repr(took))
    tally.check({c.show(u, "ActiveState") for u in UNITS} == {"active"}, "no service failed meanwhile")


# --- around the members ---

def snapshots(c):
    c.write("/etc/default/trivet-snapshot", "TRIVET_ENDPOINT=%s\nTRIVET_SNAPSHOTS_KEPT=2\n" % ENDPOINTS[0])
    c.write("/etc/systemd/system/trivet-snapshot.timer.d/test.conf",
            "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=100ms\n")
    for n in range(4):
        c.write("/var/lib/trivet-snapshots/trivet-2000-01-0%dT00-00-00Z.db" % (n + 1), "old")
    c.shell("chown trivet: /var/lib/trivet-snapshots/*; systemctl daemon-reload; systemctl start trivet-snapshot.timer",
            check=True)

    def kept():
        names = sorted(os.listdir(c.path("/var/lib/trivet-snapshots")))
        return names if len(names) == 2 and all(not n.startswith("trivet-2000") and n.endswith(".db") for n in names) else None
    names = until(60, kept)
    c.run("systemctl", "stop", "trivet-snapshot.timer")
    until(20, lambda: state(c, "trivet-snapshot.service") == "inactive")
    tally.check(names, "the timer saves snapshots and two are kept",
                repr(os.listdir(c.path("/var/lib/trivet-snapshots"))) + c.journal("trivet-snapshot.service")[-1500:])
    tally.check(c.show("trivet-snapshot.service", "Result") == "success", "without a failure",
                c.journal("trivet-snapshot.service")[-1500:])
    said = c.shell("trivetctl snapshot status $(ls /var/lib/trivet-snapshots/*.db | tail -1) -w json").stdout
    tally.check(said.startswith("{") and json.loads(said)["totalKey"] > 0, "they can be read", said)


def credentials(c, folder):
    """Keys that only root may read, given to the service alone."""
    ca = certs.Authority(folder, "ca")
    server = ca.issue("server", sans=["IP:127.0.0.1", "DNS:localhost"])
    for path, name in ((ca.cert, "ca.crt"), (server.cert, "server.crt"), (server.key, "server.key")):
        c.copy(path, "/etc/trivet/pki/" + name)
    c.shell("chown root: /etc/trivet/pki/*; chmod 600 /etc/trivet/pki/server.key")
    where = "/run/credentials/trivetd.service"
    c.write("/etc/trivet/trivetd.yaml", """
name: alone
data-dir: /var/lib/trivet/data
listen-client-urls: https://127.0.0.1:2379
advertise-client-urls: https://127.0.0.1:2379
client-transport-security:
  cert-file: %s/server.crt
  key-file: %s/server.key
  client-cert-auth: true
  trusted-ca-file: /etc/trivet/pki-ca.crt
log-outputs: [systemd/journal]
""" % (where, where))
    c.copy(ca.cert, "/etc/trivet/pki-ca.crt")
    c.write("/etc/systemd/system/trivetd.service.d/keys.conf", "[Service]\n"
            "LoadCredential=server.crt:/etc/trivet/pki/server.crt\nLoadCredential=server.key:/etc/trivet/pki/server.key\n")
    readable = c.run("runuser", "-u", "trivet", "--", "cat", "/etc/trivet/pki/server.key")
    done = c.shell("systemctl daemon-reload; systemctl start trivetd")
    tally.check(readable.returncode != 0 and done.returncode == 0, "it starts with a key that its user cannot read",
                done.stderr + c.journal("trivetd.service")[-1500:])
    pki = "/etc/trivet/pki/"
    done = c.run("trivetctl", "--endpoints", "https://127.0.0.1:2379", "--cacert", pki + "ca.crt", "--cert",
                 pki + "server.crt", "--key", pki + "server.key", "put", "k", "v")
    tally.check(done.stdout == "OK\n", "and serves with it", done.stderr)
    outside = c.run("ls", where)
    tally.check(c.run("runuser", "-u", "nobody", "--", "ls", where).returncode != 0, "nobody else sees it", outside.stdout)
    c.run("systemctl", "stop", "trivetd", check=True)


def upgrade(c, folder):
    """Over three members that run, under writes."""
    pids = [c.main_pid(u) for u in UNITS]
    built = debian.packages(RELEASE)
    for name in ("trivet-server", "trivet-client"):
        c.copy(debian.raised(built[name], "9.0.0", folder), "/packages/new/%s.deb" % name)
    c.shell("""
cat >/srv/writer <<'END'
n=0; failed=0
while [ ! -e /srv/stop ]; do
    n=$((n + 1))
    trivetctl --endpoints %s --command-timeout 10s put upgrade $n >/dev/null 2>/srv/why || failed=$((failed + 1))
done
echo $n $failed >/srv/written
END
systemd-run --unit=writer bash /srv/writer""" % ALL, check=True)
    done = c.run("sh", "-c", "dpkg -i /packages/new/*.deb", timeout=180)
    tally.check(done.returncode == 0, "an upgrade goes through", done.stdout + done.stderr)
    c.shell("touch /srv/stop")
    tally.check(until(60, lambda: state(c, "writer") != "active"), "the writer ends when it is told")
    tally.check([state(c, u) for u in UNITS] == ["active"] * 3 and
                not set(pids) & {c.main_pid(u) for u in UNITS}, "and each member runs the new program", done.stdout)
    starts = sorted(int(c.show(u, "ExecMainStartTimestampMonotonic")) for u in UNITS)
    ready = sorted(int(c.show(u, "ActiveEnterTimestampMonotonic")) for u in UNITS)
    tally.check(all(starts[n + 1] >= ready[n] for n in (0, 1)), "one after the other", repr((starts, ready)))
    written, failed = c.run("cat", "/srv/written").stdout.split()
    tally.check(int(written) > 3 and failed == "0", "no write failed", "%s of %s: %s" %
                (failed, written, c.run("cat", "/srv/why").stdout))
    print("  %s writes during the upgrade, %s failed" % (written, failed))
    before = [c.main_pid(u) for u in UNITS]
    done = c.run("dpkg", "-r", "trivet-client")
    tally.check(done.returncode == 0 and [c.main_pid(u) for u in UNITS] == before,
                "removing trivet-client leaves the members alone", done.stderr)
    done = c.run("dpkg", "-r", "trivet-server", timeout=180)
    gone = [state(c, u) for u in UNITS]
    tally.check(done.returncode == 0 and "active" not in gone, "removing trivet-server stops them", repr(gone) + done.stderr)
    tally.check(os.path.isdir(c.path("/var/lib/trivet/zone1/data")), "and leaves their data")
    done = c.run("dpkg", "-P", "trivet-server")
    left = c.shell("ls -d /var/lib/trivet* /etc/trivet/trivetd.yaml /usr/lib/trivet /usr/share/trivet 2>/dev/null; true").stdout
    tally.check(done.returncode == 0 and left == "", "purging takes them, too", left + done.stderr)
    broken = c.run("systemctl", "list-unit-files", "trivet*", "--no-legend").stdout
    tally.check("enabled" not in broken, "nothing is left enabled", broken)


def play(release):
    global RELEASE
    RELEASE = release
    tree = debian.ready(release)
    with container.Container(tree) as c:
        prepare(c)
        readiness(c)
        confinement(c)
        journal(c)
        killed(c)
        watchdog(c)
        handing_over(c)
        zone_lost(c)
        snapshots(c)
        folder = os.path.join(c.dir, "files")
        os.mkdir(folder)
        credentials(c, folder)
        upgrade(c, folder)


def main():
    cluster.exit_on_signals()
    for release in sys.argv[1:] or [debian.here() or "bookworm"]:
        try:
            play(release)
        except container.ContainerError as why:
            tally.check(False, "the scene on %s goes to its end" % release, str(why))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
