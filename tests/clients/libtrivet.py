#!/usr/bin/env python3
"""libtrivet against trivet and etcd: every call, its own loop, users, TLS, where endpoints come from; then
faults under load: members killed and stopped, connections cut at any byte, servers that answer nonsense.
The scenes themselves are in libtrivet_*.c."""

import argparse
import json
import os
import random
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import certs  # noqa: E402
import cluster as clusters  # noqa: E402
import names  # noqa: E402
from cluster import Cluster, Tally  # noqa: E402

# LIBTRIVET_BUILD: a build with a sanitizer of the library alone; members that are as fast as ever.
SCENES = os.path.join(clusters.ROOT, os.environ.get("LIBTRIVET_BUILD", clusters.build_dir()), "tests", "clients",
                      "libtrivet_scenes")
ENVIRONMENT = dict(os.environ, TSAN_OPTIONS="halt_on_error=1:suppressions=" + os.path.join(
    clusters.ROOT, "tests", "lib", "tsan.supp"))
FAULTS_SECONDS = 13
tally = Tally()


def begin(scene, endpoints, *options):
    return subprocess.Popen([SCENES, scene, endpoints] + list(options), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=ENVIRONMENT, preexec_fn=clusters.die_with_parent)


def end(process, name, timeout=90):
    """Count the scene's own checks; its output is shown when one failed."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output = process.communicate()[0] + "\ntook too long"
    closing = re.search(r"^(\d+) passed, (\d+) failed$", output, re.M)
    if tally.check(closing is not None and process.returncode == 0 and closing.group(2) == "0",
                   name, output[-3000:]):
        tally.passed += int(closing.group(1)) - 1
    figures = [line for line in output.split("\n") if line.startswith(
        ("writes:", "attempts", "puts:", "calls ", "TRIVET_NO_MEMORY"))]
    print("\n".join(["%s: status %s" % (name, process.returncode)] + figures), flush=True)
    return output


def scene(name, what, endpoints, *options):
    return end(begin(what, endpoints, *options), name)


def etcdctl(node, *args):
    env = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
    return clusters.run([clusters.ETCDCTL, "--endpoints", node.endpoint(), "--command-timeout", "3s"]
                        + list(args), capture_output=True, text=True, env=env, timeout=20)


def leader_of(cluster):
    """Without waiting for members that are stopped: those answer nobody."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        for node in cluster.nodes:
            if not node.running():
                continue
            try:
                status = json.loads(etcdctl(node, "endpoint", "status", "-w", "json").stdout)
            except (ValueError, subprocess.TimeoutExpired):
                continue
            if status and status[0]["Status"]["leader"] == \
                    status[0]["Status"]["header"]["member_id"]:
                return node.index
    raise clusters.ClusterError("nobody leads")


# --- quiet ---

def calls(kind, size):
    with Cluster(kind, size=size) as cluster:
        cluster.start()
        scene("every call, %s of %d" % (kind, size), "calls", cluster.endpoints())
        scene("the caller's loop, %s of %d" % (kind, size), "loop", cluster.endpoints(),
              "own_loop=1")
        scene("a watch that is not read, %s of %d" % (kind, size), "slow", cluster.endpoints(),
              "watch_bytes_max=20000")
        cluster.check_running()


def connections():
    """More than one to a member when one is busy, and no more than there may be."""
    with Cluster("trivet", size=1) as cluster:
        cluster.start()
        for most, calls_open, wanted in ((1, 600, 1), (3, 600, 3), (3, 10, 1)):
            name = "%d calls, at most %d connections" % (calls_open, most)
            output = scene(name, "connections", cluster.endpoints(), "1", "open=%d" % calls_open,
                           "connections_max=%d" % most)
            tally.check("connections %d\n" % wanted in output, name, output)


def few_streams(kind):
    """A member takes 8 streams on a connection, and watches hold most of them: another is opened for what
    does not fit, and what fits nowhere waits for the places that are left."""
    with Cluster(kind, size=1, flags=["--max-concurrent-streams", "8"]) as cluster:
        cluster.start()
        for most, watches, calls_open, wanted in ((3, 8, 4, 2), (3, 0, 4, 1), (2, 14, 20, 2), (1, 7, 20, 1),
                                                  (8, 40, 4, 6)):
            name = "%d watches and %d calls, at most %d connections, %s" % (watches, calls_open, most, kind)
            output = scene(name, "connections", cluster.endpoints(), "1", "open=%d" % calls_open,
                           "watches=%d" % watches, "connections_max=%d" % most)
            tally.check("connections %d\n" % wanted in output, name, output)
        cluster.check_running()


def reads_of(output):
    """Of each member."""
    return [int(reads) for reads in re.findall(r"^member \S+ (\d+)$", output, re.M)]


def subsets():
    with Cluster("trivet", size=3) as cluster:
        cluster.start()
        load = ("load", cluster.endpoints(), "2", "writes=0", "think_ms=5")
        for count in (1, 2):
            output = scene("reads from %d of 3" % count, *load, "clients=1", "subset=%d" % count)
            reads = reads_of(output)
            tally.check(len(reads) == 3 and sum(n > 0 for n in reads) == count, "from no other", str(reads))
        output = scene("reads of 60 clients from one each", *load, "clients=60", "subset=1")
        reads = reads_of(output)
        # 20 +- 3.7 clients each: not one of the three is left out.
        tally.check(len(reads) == 3 and min(reads) > sum(reads) / 12, "from each of the three", str(reads))


def users(kind):
    flags = ["--auth-token-ttl", "1"]
    with Cluster(kind, size=1, flags=flags) as cluster:
        cluster.start()
        node = cluster.nodes[0]
        for line in ("user add root:secret", "user grant-role root root", "auth enable"):
            done = etcdctl(node, *line.split())
            tally.check(done.returncode == 0, "%s %s" % (kind, line), done.stderr)
        begun = begin("user", cluster.endpoints(), "user=root", "password=secret",
                      "timeout_ms=10000")
        time.sleep(2)
        # The members know no token after a new start.
        cluster.stop(0)
        cluster.start_node(0)
        cluster.wait_healthy()
        end(begun, "a user, %s" % kind)
        scene("a wrong password, %s" % kind, "refused", cluster.endpoints(), "user=root",
              "password=wrong")


def wait_for_port(node):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", node.client_port)) == 0:
                return
        time.sleep(0.05)


def tls():
    folder = tempfile.mkdtemp(prefix="trivet-test-")
    try:
        ca = certs.Authority(folder, "ca")
        other = certs.Authority(folder, "other")
        server = ca.issue("server", sans=["DNS:localhost", "IP:127.0.0.1"])
        who = ca.issue("client", cn="alice", uses=("clientAuth",))
        ca_file, other_file = (os.path.join(folder, name + ".pem") for name in ("ca", "other"))
        if not os.path.exists(ca_file):
            ca_file, other_file = ca.cert, other.cert
        flags = ["--cert-file", server.cert, "--key-file", server.key, "--client-cert-auth",
                 "--trusted-ca-file", ca_file]
        with Cluster("trivet", size=1, flags=flags) as cluster:
            node = cluster.nodes[0]
            cluster.client_scheme = "https"
            node.start()
            wait_for_port(node)
            mine = ["cert_file=" + who.cert, "key_file=" + who.key]
            scene("TLS", "calls", node.endpoint(), "ca_file=" + ca_file, *mine)
            scene("TLS, each allocation fails", "one-failure", node.endpoint(), "ca_file=" + ca_file, "sorts=10", *mine)
            scene("TLS, each allocation of trivet_open() fails", "one-failure", node.endpoint(), "ca_file=" + ca_file,
                  "sort=10", *mine)
            strangers = {
                "TLS, another CA": ["ca_file=" + other_file] + mine,
                "TLS, no certificate": ["ca_file=" + ca_file],
                "no TLS": [],
            }
            begun = {name: begin("nobody", node.endpoint(), "timeout_ms=700", *options)
                     for name, options in strangers.items()}
            for name, process in begun.items():
                end(process, name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_certificates():
    """All of them are replaced while the client runs, the authorities' as well; the member is started again."""
    with tempfile.TemporaryDirectory(prefix="trivet-test-") as folder:
        made = {}
        for name in ("old", "new"):
            ca = certs.Authority(folder, name)
            made[name] = [ca.cert]
            for whose, uses in (("server", "serverAuth"), ("client", "clientAuth")):
                one = ca.issue(name + "-" + whose, sans=["IP:127.0.0.1"], uses=(uses,))
                made[name] += [one.cert, one.key]
        used = [os.path.join(folder, name) for name in ("ca", "server", "server-key", "client", "client-key")]

        def use(name):
            for source, target in zip(made[name], used):
                shutil.copy(source, target + ".next")
                os.rename(target + ".next", target)
        use("old")
        flags = ["--cert-file", used[1], "--key-file", used[2], "--client-cert-auth", "--trusted-ca-file", used[0]]
        with Cluster("trivet", size=1, flags=flags) as cluster:
            cluster.client_scheme = "https"
            node = cluster.nodes[0]
            node.start()
            wait_for_port(node)
            begun = begin("load", node.endpoint(), "9", "ca_file=" + used[0], "cert_file=" + used[3],
                          "key_file=" + used[4], "clients=2", "think_ms=20", "writes=0")
            time.sleep(3)
            use("new")
            cluster.stop(0)
            node.start()
            wait_for_port(node)
            again_ms = time.clock_gettime(time.CLOCK_MONOTONIC) * 1000
            output = end(begun, "new certificates")
            late = [line.split() for line in output.splitlines() if line.startswith("r ")]
            late = [status for _, began, _, status in late if int(began) > again_ms + 2000]
            tally.check(len(late) > 20 and set(late) == {"0"}, "with new certificates it goes on", output[-2000:])


def where_endpoints_come_from():
    with Cluster("trivet", size=3) as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.start()
        port = cluster.nodes[0].client_port
        output = scene("members", "endpoints", cluster.nodes[0].endpoint(), "3", "members_refresh=1",
                       "endpoints_interval_ms=200")
        # What was given is one of those that the members say.
        tally.check("endpoints 3 ready 3 leaders 1" in output, "the members are found",
                    output)
        output = scene("dns", "endpoints", "dns://localhost:%d" % port, "2")
        tally.check(re.search(r"endpoints \d ready 1", output), "a name is looked up", output)
        path = os.path.join(folder, "endpoints")
        with open(path, "w", encoding="utf-8") as f:
            f.write("# one\n%s;zone=a\n" % cluster.nodes[0].endpoint())
        begun = begin("endpoints", "", "4", "endpoints_file=" + path, "endpoints_interval_ms=200")
        time.sleep(1.2)
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(n.endpoint() for n in cluster.nodes[1:]) + "\n")
        output = end(begun, "a file")
        seen = re.findall(r"endpoints (\d) ready (\d)", output)
        tally.check(("1", "1") in seen and seen[-1] == ("2", "2"), "a file is read again", output)


def by_srv():
    """Alone with a name server."""
    records = {("n%d.example.test" % i, 1): [bytes([127, 0, 0, 1])] for i in range(3)}
    names.Dns(records).start()
    with Cluster("trivet", size=3) as cluster:
        cluster.start()
        service = "_etcd-client._tcp.example.test"

        def said(count):
            return [names.record(n.client_port, "n%d.example.test" % n.index) for n in cluster.nodes[:count]]
        records[service, 33] = said(2)
        begun = begin("endpoints", "srv://example.test;zone=a", "5", "endpoints_interval_ms=200")
        time.sleep(1.2)
        records[service, 33] = said(3)
        time.sleep(1.2)
        # What was said last stays while there is nothing, or not all, to be heard.
        del records[service, 33]
        time.sleep(1)
        records["_etcd-client-ssl._tcp.example.test", 33] = None
        records[service, 33] = said(1)
        output = end(begun, "SRV records")
        seen = re.findall(r"endpoints (\d) ready (\d)", output)
        tally.check(("2", "2") in seen and seen[-1] == ("3", "3"), "SRV records are looked up again", output)
        # Those without TLS are not for one that wants it.
        del records["_etcd-client-ssl._tcp.example.test", 33]
        records[service, 33] = said(3)
        with tempfile.TemporaryDirectory() as folder:
            scene("SRV records without TLS", "nobody", "srv://example.test",
                  "ca_file=" + certs.Authority(folder, "ca").cert, "timeout_ms=700")


def srv():
    if os.geteuid() != 0:
        print("SRV records: not without root")
        return
    done = names.alone(os.path.realpath(__file__), "--only=by-srv")
    print(done.stdout, end="")
    counts = re.findall(r"^(\d+) passed, (\d+) failed", done.stdout, re.M)
    tally.check(bool(counts) and counts[-1][1] == "0", "endpoints by SRV records", done.stdout + done.stderr)


# --- nonsense ---

class Listener:
    """Answers every connection with `talk`."""

    def __init__(self, talk):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.talk = talk
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection:
                self.talk(connection)
        except OSError:
            pass


SETTINGS = b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\4\1\0\0\0\0"


def answer_grpc(message):
    """A server that says 200 and this message to whatever comes, without looking at it."""
    def talk(connection):
        connection.sendall(SETTINGS)
        sent = 1
        while connection.recv(65536):
            for stream in range(sent, sent + 8, 2):
                # HPACK: ":status: 200", and literal "content-type: application/grpc".
                block = b"\x88\x00\x0ccontent-type\x10application/grpc"
                body = b"\0" + len(message).to_bytes(4, "big") + message
                trailer = b"\x00\x0bgrpc-status\x010"
                number = stream.to_bytes(4, "big")
                for kind, flags, data in ((1, 4, block), (0, 0, body), (1, 5, trailer)):
                    connection.sendall(len(data).to_bytes(3, "big") + bytes([kind, flags]) +
                                       number + data)
            sent += 8
    return talk


def nonsense():
    source = random.Random(7)
    talks = {
        "closes at once": lambda c: None,
        "is silent": lambda c: time.sleep(8),
        "random bytes": lambda c: c.sendall(source.randbytes(4096)),
        "HTTP/1.1": lambda c: (c.recv(100), c.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")),
        "frames of random bytes": lambda c: (c.sendall(SETTINGS), c.recv(100), c.sendall(
            b"\0\0\x20\1\4\0\0\0\1" + source.randbytes(32))),
        "settings and silence": lambda c: (c.sendall(SETTINGS), time.sleep(8)),
        "answers nobody asked for": answer_grpc(b"\x0a\xff\xff\xff\xff"),
    }
    begun = {}
    for name, talk in talks.items():
        listener = Listener(talk)
        begun["a server that %s" % name] = begin("nobody", "127.0.0.1:%d" % listener.port,
                                                 "timeout_ms=700")
    begun["nobody listens"] = begin("nobody", "127.0.0.1:%d" % clusters.free_ports(1)[0],
                                    "timeout_ms=700")
    for name, process in begun.items():
        end(process, name)


# --- faults ---

def kills(kind):
    with Cluster(kind, size=3) as cluster:
        cluster.start()
        begun = begin("faults", cluster.endpoints(), str(FAULTS_SECONDS), "hedge=1")
        time.sleep(1.5)
        leader = leader_of(cluster)
        cluster.kill(leader)
        time.sleep(2.5)
        cluster.start_node(leader)
        time.sleep(1.5)
        leader = leader_of(cluster)
        follower = (leader + 1) % 3
        cluster.pause(follower)
        time.sleep(2.5)
        cluster.resume(follower)
        cluster.pause(leader)
        time.sleep(2.5)
        cluster.resume(leader)
        end(begun, "members killed and stopped, %s" % kind)
        cluster.check_running()


class Cutter:
    """Between a client and a member: every connection ends after some random number of bytes."""

    def __init__(self, port, seed):
        self.target = port
        self.random = random.Random(seed)
        self.cuts = 0
        self.listener = Listener(self.talk)
        self.port = self.listener.port

    def talk(self, client):
        left = self.random.randrange(1, 400000)
        with socket.create_connection(("127.0.0.1", self.target)) as member:
            other = {client: member, member: client}
            while left > 0:
                for ready in select.select([client, member], [], [], 1)[0]:
                    data = ready.recv(min(left, 16384))
                    if not data:
                        return
                    other[ready].sendall(data)
                    left -= len(data)
                    if left <= 0:
                        break
        self.cuts += 1


def cuts():
    with Cluster("trivet", size=3) as cluster:
        cluster.start()
        for name, options in (("", []), (", the caller's loop", ["own_loop=1"])):
            cutters = [Cutter(node.client_port, i) for i, node in enumerate(cluster.nodes)]
            end(begin("faults", ",".join("127.0.0.1:%d" % c.port for c in cutters), "6", *options),
                "connections cut at any byte" + name)
            total = sum(c.cuts for c in cutters)
            print("cuts: %d" % total)
            tally.check(total > 10, "connections were cut" + name, str(total))


# --- memory ---

def without_memory(calls, through_network):
    """malloc() fails: each allocation of a call in its turn; then now and then under load, and with a network
    that cuts (1), stalls (2) and alters (4)."""
    with Cluster("trivet", size=3) as cluster:
        cluster.start()
        end(begin("one-failure", cluster.nodes[0].endpoint()), "each allocation fails", 300)
        seed = str(random.randrange(1, 1 << 30))
        print("seed %s" % seed)
        for network, count in ((0, calls), (3, through_network), (7, through_network)):
            end(begin("memory", cluster.endpoints(), "0", "calls=%d" % count, "network=%d" % network,
                      "seed=" + seed), "%d calls, malloc() fails, network %d" % (count, network),
                60 + (calls + 20 * through_network) // 1000)
        cluster.check_running()


def header_in_cpp():
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        print("no C++ compiler: the header is not tried")
        return
    done = clusters.run([compiler, "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-x",
                         "c++", "-fsyntax-only",
                         os.path.join(clusters.ROOT, "client", "include", "trivet.h")],
                        capture_output=True, text=True)
    tally.check(done.returncode == 0, "the header is C++", done.stderr)


def symbols():
    done = clusters.run(["nm", "-D", "--defined-only", os.path.join(
        clusters.build_dir(), "client", "libtrivet.so")], capture_output=True, text=True)
    names = [line.split()[-1] for line in done.stdout.splitlines()]
    others = [n for n in names if not n.startswith(("trivet_", "LIBTRIVET_"))]
    tally.check(len(names) > 20 and not others, "only trivet_* is shown", str(others))


def examples():
    folder = os.path.join(clusters.build_dir(), "client")
    with Cluster("trivet", size=1) as cluster:
        cluster.start()
        endpoint = cluster.endpoints()
        watch = subprocess.Popen([os.path.join(folder, "example_watch"), endpoint, "l", "10"],
                                 stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
                                 preexec_fn=clusters.die_with_parent)
        time.sleep(0.5)
        for name, wanted in (("hello", "world at revision 2"), ("loop", "revision 12")):
            done = clusters.run([os.path.join(folder, "example_" + name), endpoint],
                                capture_output=True, text=True, env=ENVIRONMENT, timeout=20)
            tally.check(done.returncode == 0 and wanted in done.stdout, "example " + name,
                        done.stdout + done.stderr)
        output, _ = watch.communicate(timeout=20)
        tally.check(watch.returncode == 0 and output.count("put loop = ") == 10, "example watch",
                    output)


CLIENTV3_TIMES = 3


def bench():
    """Puts for each second of the client's processor time, beside Go's clientv3's, one after the other."""
    tool = os.path.join(clusters.TOOLS, "clientbench")
    if not os.access(tool, os.X_OK):
        print("no clientbench: left out")
        return
    with Cluster("trivet", size=3) as cluster:
        cluster.start()
        rates = []
        for command in ([SCENES, "bench", cluster.endpoints(), "3"], [tool, cluster.endpoints(), "3"]):
            done = clusters.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
            found = re.search(r"failed 0 in .*: (\d+) puts per cpu second", done.stdout)
            if not tally.check(found, command[0], done.stdout + done.stderr):
                return
            rates.append(int(found.group(1)))
        print("puts per CPU second: libtrivet %d, clientv3 %d: %.1f times" % (*rates, rates[0] / rates[1]))
        tally.check(rates[0] >= CLIENTV3_TIMES * rates[1], "%d times clientv3" % CLIENTV3_TIMES, str(rates))


PARTS = {
    "examples": examples,
    "header": header_in_cpp,
    "symbols": symbols,
    "calls-1": lambda: calls("trivet", 1),
    "calls-3": lambda: calls("trivet", 3),
    "calls-etcd": lambda: calls("etcd", 1),
    "users": lambda: users("trivet"),
    "users-etcd": lambda: users("etcd"),
    "connections": connections,
    "few-streams": lambda: few_streams("trivet"),
    "few-streams-etcd": lambda: few_streams("etcd"),
    "subsets": subsets,
    "tls": tls,
    "new-certificates": new_certificates,
    "endpoints": where_endpoints_come_from,
    "srv": srv,
    "by-srv": by_srv,
    "nonsense": nonsense,
    "memory": lambda: without_memory(30000, 1500),
    "memory-million": lambda: without_memory(1000000, 200000),
    "kills": lambda: kills("trivet"),
    "kills-etcd": lambda: kills("etcd"),
    "cuts": cuts,
    "bench": bench,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(part for part in PARTS if part not in ("memory-million", "by-srv")),
                        help="some of: " + ",".join(PARTS))
    args = parser.parse_args()
    clusters.exit_on_signals()
    for part in args.only.split(","):
        if part.endswith("-etcd") and not clusters.available("etcd"):
            print("no etcd: %s is left out" % part)
            continue
        PARTS[part]()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
