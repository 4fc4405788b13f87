#!/usr/bin/env python3
"""What options do once a member runs, beside etcd where it can be asked: compaction by itself, how it ends, what it tells
systemd, log files, a new cluster from one member of three, ports that are shared, discovery."""

import concurrent.futures
import glob
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import cluster as clusters  # noqa: E402
import names  # noqa: E402
from cluster import Cluster, Tally  # noqa: E402

KINDS = ("etcd", "trivet")
tally = Tally()


def etcdctl(endpoints, *args, timeout=10):
    env = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
    return subprocess.run([clusters.ETCDCTL, "--endpoints", endpoints] + list(args), env=env,
                          capture_output=True, text=True, timeout=timeout, check=False)


def put(node, count, key="k"):
    for i in range(count):
        etcdctl(node.endpoint(), "put", key, str(i))


def as_line(text):
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) and "msg" in value else {"level": "", "msg": ""}


def lines_of(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in map(as_line, f):
            if line["msg"]:
                yield line


def wait_for(what, timeout=15):
    return clusters.wait_until(what, timeout)


def logs(path, message):
    """Sooner or later."""
    return wait_for(lambda: os.path.exists(path) and any(
        line["msg"].startswith(message) for line in lines_of(path)))


# --- compaction ---

def compactions(node):
    return [line["revision"] for line in lines_of(node.log_path)
            if line.get("msg") == "completed auto periodic compaction"]


def compaction():
    """Both write a key every 100 ms; after the same time the same revisions are gone, give or take some."""
    found = {}
    with Cluster("etcd", 1, ["--auto-compaction-retention=2s"]) as theirs, \
            Cluster("trivet", 3, ["--auto-compaction-retention=2s"]) as ours:
        theirs.start()
        ours.start()
        until = time.monotonic() + 8
        while time.monotonic() < until:
            put(theirs.nodes[0], 1)
            put(ours.nodes[0], 1)
        for kind, c in (("etcd", theirs), ("trivet", ours)):
            found[kind] = sum((compactions(n) for n in c.nodes), [])
        gone = etcdctl(ours.nodes[1].endpoint(), "get", "k", "--rev=2")
        tally.check("required revision has been compacted" in gone.stderr, "the past is gone",
                    gone.stdout + gone.stderr)
        kept = etcdctl(ours.nodes[1].endpoint(), "get", "k")
        tally.check(kept.stdout.startswith("k\n"), "and the present is not", kept.stderr)
        leaders = [n for n in ours.nodes if compactions(n)]
        tally.check(len(leaders) == 1, "the leader alone compacts", str(found))
    tally.check(abs(len(found["etcd"]) - len(found["trivet"])) <= 1 and len(found["trivet"]) >= 2,
                "as often as etcd", str(found))
    tally.check(found["trivet"] == sorted(set(found["trivet"])), "further each time", str(found))


# --- the end ---

def ends():
    for number in (signal.SIGTERM, signal.SIGINT):
        said = {}
        for kind in KINDS:
            with Cluster(kind, 1) as c:
                c.start()
                time.sleep(1)  # etcd asks for signals a moment after it serves
                c.nodes[0].send(number)
                status = c.nodes[0].wait(20)
                said[kind] = status, [line["signal"] for line in lines_of(c.nodes[0].log_path)
                                      if line["msg"].startswith("received signal")]
        tally.check(said["etcd"] == said["trivet"] and said["trivet"][0] == -number,
                    "ended by signal %d" % number, str(said))


# --- systemd ---

def notifies():
    with tempfile.TemporaryDirectory(prefix="trivet-config-") as folder:
        for kind in KINDS:
            for name in (os.path.join(folder, kind), "\0trivet-%s-%d" % (kind, os.getpid())):
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s, Cluster(kind, 1) as c:
                    s.bind(name)
                    s.settimeout(20)
                    c.nodes[0].more_environment = {"NOTIFY_SOCKET": name.replace("\0", "@")}
                    c.nodes[0].start()
                    try:
                        got = s.recv(100)
                    except OSError as e:
                        got = e
                    tally.check(got == b"READY=1", "%s tells systemd that it serves" % kind, str(got))
                    # Of etcd's it is told a moment before.
                    c.wait_healthy()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s, Cluster("trivet", 1) as c:
            s.bind(os.path.join(folder, "watchdog"))
            s.settimeout(10)
            c.nodes[0].more_environment = {"NOTIFY_SOCKET": s.getsockname(), "WATCHDOG_USEC": "800000"}
            c.start()
            heard = [s.recv(100) for _ in range(6)]
            tally.check(set(heard) == {b"READY=1", b"WATCHDOG=1"}, "systemd's watchdog hears of it", str(heard))
            os.kill(c.nodes[0].process.pid, signal.SIGSTOP)
            s.settimeout(1.5)
            silent = False
            try:
                while True:
                    s.recv(100)
            except OSError:
                silent = True
            tally.check(silent, "and nothing while it stands still")
            os.kill(c.nodes[0].process.pid, signal.SIGCONT)
            c.nodes[0].process.terminate()
            s.settimeout(10)
            while (word := s.recv(100)) == b"WATCHDOG=1":
                pass
            tally.check(word == b"STOPPING=1", "and that it stops", str(word))
        with Cluster("trivet", 1) as c:
            c.nodes[0].more_environment = {"NOTIFY_SOCKET": os.path.join(folder, "nobody")}
            c.start()
            tally.check(logs(c.nodes[0].log_path, "failed to notify systemd for readiness"),
                        "and serves when nobody is there")


# --- the log ---

def log_files():
    with tempfile.TemporaryDirectory(prefix="trivet-config-") as folder:
        for kind in KINDS:
            path = os.path.join(folder, kind, "it.log")
            flags = ["--log-outputs=" + path, "--enable-log-rotation", "--log-level=debug",
                     '--log-rotation-config-json={"maxsize": 1, "maxbackups": 2, "compress": true}']
            if kind == "etcd":
                os.makedirs(os.path.dirname(path))
            with Cluster(kind, 1, flags) as c:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as f:  # nearly full: it is set aside with what comes first
                    f.write(b"{}\n" * (((1 << 20) - 20) // 3))
                c.start()
                wait_for(lambda path=path: glob.glob(path[:-4] + "-*.gz"))
                tally.check(logs(path, "ready to serve"), "%s: the log goes on in a new one" % kind)
            packed = glob.glob(path[:-4] + "-*.log.gz")
            tally.check(len(packed) == 1 and
                        re.fullmatch(r".*/it-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log\.gz", packed[0]),
                        "%s: a full log file is set aside" % kind, str(os.listdir(os.path.dirname(path))))
            for name in packed:
                with gzip.open(name) as f:
                    tally.check(f.read().startswith(b"{}\n{}\n"), "%s: with what was in it" % kind)
        both = os.path.join(folder, "both.log")
        with Cluster("trivet", 1, ["--log-outputs=stderr," + both]) as c:
            c.start()
            lines = [line["msg"] for line in lines_of(c.nodes[0].log_path)]
            again = [line["msg"] for line in lines_of(both)]
        tally.check(again != [] and again == lines[-len(again):], "two outputs, the same lines",
                    "%s\n%s" % (lines, again))


# --- unsafe ---

def new_cluster():
    for kind in KINDS:
        with Cluster(kind, 3) as c:
            c.start()
            put(c.nodes[0], 5)
            ids = [line.split(",")[0] for line in
                   etcdctl(c.endpoints(), "member", "list").stdout.splitlines()]
            c.kill(0, 1, 2)
            c.nodes[1].flags = ["--force-new-cluster"]
            c.start_node(1)
            c.wait_healthy([1])
            one = c.nodes[1].endpoint()
            members = etcdctl(one, "member", "list").stdout
            tally.check(len(members.splitlines()) == 1 and members.split(",")[0] in ids and "n1" in members,
                        "%s: one member of three is a cluster" % kind, members)
            if kind == "trivet":  # etcd forgets what it does not know to be committed
                tally.check(etcdctl(one, "get", "k").stdout == "k\n4\n", "with all data")
            put(c.nodes[1], 3)
            c.kill(1)
            c.nodes[1].flags = []
            c.start_node(1)
            c.wait_healthy([1])
            tally.check(len(etcdctl(one, "member", "list").stdout.splitlines()) == 1 and
                        etcdctl(one, "get", "k").stdout == "k\n2\n", "%s: and stays one" % kind)
            if kind == "trivet":
                added = etcdctl(one, "member", "add", "new", "--peer-urls=http://127.0.0.1:1")
                tally.check(added.returncode == 0, "it can grow again", added.stderr)


def unsafe():
    with Cluster("trivet", 1, ["--unsafe-no-fsync"]) as c:
        c.start()
        put(c.nodes[0], 3)
        c.kill(0)
        c.start_node(0)
        c.wait_healthy()
        tally.check(etcdctl(c.endpoints(), "get", "k").stdout == "k\n2\n", "a process may be killed without fsync")
        tally.check(any("never synced" in line.get("method", "") for line in lines_of(c.nodes[0].log_path)),
                    "the log says that nothing is synced")


def memory():
    with Cluster("trivet", 1, ["--memory-mlock"]) as c:
        c.start_node(0)
        if not wait_for(lambda: c.nodes[0].healthy() or not c.nodes[0].running()):
            tally.check(False, "it starts with locked memory", c.nodes[0].log_tail())
        elif c.nodes[0].running():
            with open("/proc/%d/status" % c.nodes[0].process.pid, encoding="ascii") as f:
                locked = int(re.search(r"VmLck:\s+(\d+)", f.read()).group(1))
            tally.check(locked > 1000, "memory is locked", "%d KiB" % locked)
        else:
            tally.check("cannot lock memory" in c.nodes[0].log_tail(), "it says that memory cannot be locked",
                        c.nodes[0].log_tail())


# --- ports ---

def ports():
    for kind in KINDS:
        with Cluster(kind, 2, ["--socket-reuse-port"]) as c:
            one, two = c.nodes
            one.initial, two.initial = [one], [two]
            two.client_port = one.client_port
            one.start()
            c.wait_healthy([0])
            two.start()
            tally.check(logs(two.log_path, "ready to serve"), "%s: two share a port" % kind, two.log_tail())
    with Cluster("trivet", 2) as c:
        one, two = c.nodes
        one.initial, two.initial = [one], [two]
        two.client_port = one.client_port
        one.start()
        c.wait_healthy([0])
        two.start()
        tally.check(two.wait(20) == 1 and "address already in use" in two.log_tail(), "and not without the flag",
                    two.log_tail())


# --- a file ---

def file():
    for kind in KINDS:
        with Cluster(kind, 1) as c, tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            node = c.nodes[0]
            client, peer = "http://" + node.endpoint(), node.peer_url()
            f.write("name: from-a-file\ndata-dir: %s # here\nlisten-client-urls: %s\n"
                    "advertise-client-urls: %s\nlisten-peer-urls: %s\ninitial-advertise-peer-urls: %s\n"
                    "initial-cluster: from-a-file=%s\nheartbeat-interval: 50\nelection-timeout: 500\n"
                    "log-outputs: [stderr]\nauto-compaction-retention: \"1\"\n"
                    "grpc-keepalive-min-time: 1000000000\nclient-transport-security:\n  auto-tls: false\n"
                    % (node.data_dir, client, client, peer, peer, peer))
            f.flush()
            c.flags = ["--config-file", f.name]
            c.start()
            named = etcdctl(node.endpoint(), "member", "list").stdout
            tally.check("from-a-file" in named, "%s: started by a file, flags do not count" % kind, named)


# --- requests that take long ---

def slow():
    """A put that waits a second for the other members is named, and its value is not."""
    found = {}
    for kind in KINDS:
        with Cluster(kind, 3, ["--warning-unary-request-duration=200ms"], heartbeat_ms=500,
                     election_ms=5000) as c:
            c.start()
            put(c.nodes[0], 1)
            status = json.loads(etcdctl(c.endpoints(), "endpoint", "status", "-w", "json").stdout)
            leader = next(i for i, s in enumerate(status)
                          if s["Status"]["header"]["member_id"] == s["Status"]["leader"])
            others = [i for i in range(3) if i != leader]
            node = c.nodes[leader]
            caller = threading.Thread(
                target=lambda node=node: etcdctl(node.endpoint(), "put", "slow-key", "secret"))
            for i in others:
                c.pause(i)
            caller.start()
            time.sleep(1)
            for i in others:
                c.resume(i)
            caller.join()
            time.sleep(0.2)
            found[kind] = [line for line in lines_of(node.log_path)
                           if line["msg"] == "request stats" and "slow-key" in json.dumps(line)]
            with open(node.log_path, encoding="utf-8") as f:
                tally.check("secret" not in f.read(), "%s: no value in the log" % kind)
    for kind in KINDS:
        found[kind] = [{k: v for k, v in line.items()
                        if k not in ("ts", "caller", "start time", "time spent", "remote", "response size")}
                       for line in found[kind]]
    tally.check(found["trivet"] == found["etcd"] and len(found["etcd"]) == 1,
                "a slow request is named as etcd names it", str(found))


# --- finding each other ---

def start_error(kind, flags, env=None, wrap=()):
    """What a start says that comes to nothing."""
    with tempfile.TemporaryDirectory(prefix="trivet-config-") as folder:
        client, peer = clusters.free_ports(2)
        command = list(wrap) + [
            clusters.binary(kind), "--data-dir", os.path.join(folder, "d"), "--name", "a",
            "--listen-client-urls=http://127.0.0.1:%d" % client,
            "--advertise-client-urls=http://127.0.0.1:%d" % client,
            "--listen-peer-urls=http://127.0.0.1:%d" % peer,
            "--initial-advertise-peer-urls=http://127.0.0.1:%d" % peer] + flags
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False,
                              preexec_fn=clusters.die_with_parent)
        errors = [line["error"] for line in map(as_line, done.stderr.splitlines())
                  if line["level"] == "fatal" or line["msg"].startswith("failed to bootstrap")]
        return done.returncode, errors[-1:]


def discovery():
    with Cluster("etcd", 1) as theirs, Cluster("trivet", 1) as ours:
        theirs.start()
        ours.start()
        for where, other in (("etcd", theirs), ("trivet", ours)):
            registry = "/_etcd/registry/a-token/"
            flags = ["--discovery-token=a-token",
                     "--discovery-endpoints=http://" + other.nodes[0].endpoint()]
            said = {kind: start_error(kind, flags) for kind in KINDS}
            tally.check(said["etcd"] == said["trivet"] and said["trivet"][0] == 1, "no size, at " + where,
                        str(said))
            etcdctl(other.endpoints(), "put", registry + "_config/size", "x")
            said = {kind: start_error(kind, flags) for kind in KINDS}
            tally.check(said["etcd"] == said["trivet"], "a bad size, at " + where, str(said))
            said = {kind: start_error(kind, flags + ["--initial-cluster-state=existing"]) for kind in KINDS}
            tally.check(said["etcd"] == said["trivet"], "discovery of what is there, at " + where, str(said))
            etcdctl(other.endpoints(), "put", registry + "_config/size", "3")
            with Cluster("trivet", 3, flags) as c:
                for node in c.nodes:
                    node.command = lambda node=node: without_initial_cluster(node)
                c.start()
                members = etcdctl(c.nodes[0].endpoint(), "member", "list").stdout
                tally.check(len(members.splitlines()) == 3 and all(n.name in members for n in c.nodes),
                            "three find each other, by " + where, members)
                put(c.nodes[0], 2)
                tally.check(etcdctl(c.nodes[2].endpoint(), "get", "k").stdout == "k\n1\n", "and are one cluster")
                there = etcdctl(other.endpoints(), "get", "--prefix", "--keys-only", registry + "members/").stdout
                ids = sorted(line.split(",")[0] for line in members.splitlines())
                tally.check(sorted(line.rsplit("/", 1)[1] for line in there.split()) == ids,
                            "under their ids", there)
                said = {kind: start_error(kind, flags) for kind in KINDS}
                tally.check(said["etcd"] == said["trivet"] and "full" in str(said), "a fourth does not", str(said))
                c.kill(1)
                c.start_node(1)
                c.wait_healthy([1])


def without_initial_cluster(node):
    args = clusters.Node.command(node)
    at = args.index("--initial-cluster")
    return args[:at] + args[at + 2:]


def by_srv():
    """Within a network and with a name server of its own."""
    records = {("n%d.example.test" % i, 1): [bytes([127, 0, 0, 1])] for i in range(3)}
    names.Dns(records).start()
    said = {kind: start_error(kind, ["--discovery-srv=example.test"]) for kind in KINDS}
    for kind in KINDS:
        tally.check(said[kind][0] == 1 and "error querying DNS SRV records for _etcd-server-ssl" in str(said[kind]),
                    "%s: no records" % kind, str(said))
    for kind in KINDS:
        for suffix in ("", "x"):
            flags = ["--discovery-srv=example.test"] + (["--discovery-srv-name=x"] if suffix else [])
            with Cluster(kind, 3, flags) as c:
                service = "_etcd-server%s._tcp.example.test" % (suffix and "-x")
                records[service, 33] = [names.record(n.peer_port, "n%d.example.test" % n.index) for n in c.nodes]
                for node in c.nodes:
                    node.host = "127.0.0.1"
                    node.command = lambda node=node: with_name(without_initial_cluster(node))
                c.start()
                members = etcdctl(c.endpoints(), "member", "list").stdout
                tally.check(len(members.splitlines()) == 3 and members.count("example.test") == 3,
                            "%s: three find each other by SRV records%s" % (kind, suffix and " with a name"), members)
    with Cluster("trivet", 1) as c:
        records["_etcd-server._tcp.example.test", 33] = [names.record(1, "n1.example.test")]
        said = {kind: start_error(kind, ["--discovery-srv=example.test"]) for kind in KINDS}
        tally.check(said["etcd"] == said["trivet"], "a member that is not in the records", str(said))


def with_name(args):
    """Its peer address by the name that the records have."""
    at = args.index("--initial-advertise-peer-urls") + 1
    number = args[args.index("--name") + 1][1:]
    return args[:at] + [args[at].replace("127.0.0.1", "n%s.example.test" % number)] + args[at + 1:]


def srv():
    done = names.alone(os.path.realpath(__file__), "by_srv")
    print(done.stdout, end="")
    counts = re.findall(r"^(\d+) passed, (\d+) failed", done.stdout, re.M)
    if not counts and os.geteuid() != 0:
        print("SRV records: not without root")
        return
    tally.check(bool(counts) and counts[-1][1] == "0", "discovery by SRV records", done.stdout + done.stderr)


PARTS = {f.__name__: f for f in (compaction, ends, notifies, log_files, new_cluster, unsafe, memory, ports, file, slow, discovery,
                                 srv)}


def main():
    if sys.argv[1:] == ["by_srv"]:
        by_srv()
    else:
        # They wait most of the time. The pool's threads live until all is done, and so do their nodes.
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for part in [pool.submit(PARTS[name]) for name in sys.argv[1:] or PARTS]:
                part.result()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
