"""Nodes of trivet or of etcd on 127.0.0.1, for tests: started, stopped, killed, paused.

    with Cluster("trivet", size=3) as cluster:
        cluster.start()                 # waits until every node serves
        cluster.kill(0)                 # kill -9
        cluster.start_node(0)
        cluster.wait_healthy([0])

Nothing is left behind: data goes to a temporary folder that is deleted (kept when a test failed and
said keep()), and a node dies with the process that started it, however that ends.
"""

import atexit
import collections
import ctypes
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
TOOLS = os.path.join(ROOT, ".dev", "tools", "bin")
ETCDCTL = os.path.join(TOOLS, "etcdctl")

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """For preexec_fn: the child is killed when the thread that started it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, seconds=30):
    """What condition() returned at last: something true, or what it was when the time was over."""
    limit = time.monotonic() + seconds
    while True:
        found = condition()
        if found or time.monotonic() > limit:
            return found
        time.sleep(0.05)


class ClusterError(Exception):
    """A node did not do what was asked of it; the message has the end of its log."""


def build_dir():
    """The build whose trivetd is tested; TRIVET_BUILD names another, a sanitizer's for instance."""
    return os.path.join(ROOT, os.environ.get("TRIVET_BUILD", "build"))


def binary(kind):
    if kind == "etcd":
        return os.path.join(TOOLS, "etcd")
    return os.path.join(build_dir(), "server", "trivetd")


def available(kind):
    return os.access(binary(kind), os.X_OK)


# What holds the ports given last: one that nobody listens at yet is taken all the same.
given = collections.deque(maxlen=400)


def free_ports(count):
    """Ports free now, below the range from which the kernel takes those of outgoing connections. Each is
    this process's alone until 400 more were asked for: an abstract socket of the port's name says so."""
    chosen = []
    source = random.SystemRandom()
    while len(chosen) < count:
        port = source.randrange(14000, 32000)
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind("\0trivet-test-port-%d" % port)
                s.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        given.append(claim)
        chosen.append(port)
    return chosen


def http_get(port, path, timeout=5, host="127.0.0.1", context=None):
    """(status, body), or None when nobody answers. `context`: an ssl.SSLContext, for https."""
    if context is not None:
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Node:
    """One process, its ports and its data."""

    def __init__(self, cluster, index):
        self.cluster = cluster
        self.index = index
        self.name = "n%d" % index
        self.host = "127.0.0.1"  # another when the node lives in a network namespace of its own
        self.client_port, self.peer_port = free_ports(2)
        self.data_dir = os.path.join(cluster.dir, self.name)
        self.log_path = os.path.join(cluster.dir, self.name + ".log")
        self.process = None
        self.enter = die_with_parent  # called in the new process, before trivetd
        self.place = index  # in its network, if it has one
        self.flags = []  # for this node alone
        self.initial = None  # the nodes of its --initial-cluster; None: all of the cluster
        self.program = [binary(cluster.kind)]  # and what runs it, if something does
        self.state = "new"
        self.more_environment = {}

    def endpoint(self):
        return "%s:%d" % (self.host, self.client_port)

    def peer_url(self):
        return "%s://%s:%d" % (self.cluster.peer_scheme, self.host, self.peer_port)

    def command(self):
        client = "%s://%s" % (self.cluster.client_scheme, self.endpoint())
        peer = self.peer_url()
        args = ["--name", self.name, "--data-dir", self.data_dir,
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", self.cluster.initial_cluster(self.initial),
                "--initial-cluster-token", "test-" + os.path.basename(self.cluster.dir),
                "--initial-cluster-state", self.state]
        return self.program + args + self.cluster.flags + self.flags

    def start(self):
        assert self.process is None
        self.started = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=self.enter,
                env=dict(self.cluster.environment(), **self.more_environment))

    def running(self):
        return self.process is not None and self.process.poll() is None

    def send(self, number):
        self.process.send_signal(number)

    def wait(self, timeout):
        """The exit status; negative = a signal."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ClusterError("%s did not end within %d s\n%s" %
                               (self.name, timeout, self.log_tail())) from None
        self.process = None
        return status

    def healthy(self, timeout=5):
        answer = http_get(self.client_port, "/health", timeout, self.host, self.cluster.ssl_context)
        return answer is not None and '"health":"true"' in answer[1].replace(" ", "")

    def log_tail(self, lines=15):
        try:
            with open(self.log_path, "rb") as log:
                return b"\n".join(log.read().splitlines()[-lines:]).decode(errors="replace")
        except OSError:
            return "(no log)"

    def rss_bytes(self):
        with open("/proc/%d/statm" % self.process.pid) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self):
        """utime + stime so far."""
        with open("/proc/%d/stat" % self.process.pid) as stat:
            # The name may have spaces; the fields after it are counted from its closing bracket.
            fields = stat.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cluster:
    def __init__(self, kind, size=3, flags=(), heartbeat_ms=100, election_ms=1000):
        self.kind = kind
        self.flags = ["--heartbeat-interval", str(heartbeat_ms),
                      "--election-timeout", str(election_ms)] + list(flags)
        self.dir = tempfile.mkdtemp(prefix="trivet-test-", dir=os.environ.get("TRIVET_TEST_DIR"))
        self.kept = False
        self.client_scheme = self.peer_scheme = "http"
        self.ssl_context = None  # of those who look at https
        self.bench_flags = ()  # with which trivet-bench gets in
        self.nodes = [Node(self, i) for i in range(size)]
        atexit.register(self.close)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and kind is not KeyboardInterrupt:
            self.keep()
        self.close()

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "ETCDCTL_"))}
        env.setdefault("ASAN_OPTIONS", "abort_on_error=1:detect_leaks=0")
        env.setdefault("UBSAN_OPTIONS", "halt_on_error=1:abort_on_error=1:print_stacktrace=1")
        env.setdefault("TSAN_OPTIONS", "halt_on_error=1:abort_on_error=1")
        return env

    def initial_cluster(self, nodes=None):
        return ",".join("%s=%s" % (n.name, n.peer_url()) for n in nodes or self.nodes)

    def endpoints(self):
        return ",".join(n.endpoint() for n in self.nodes)

    def start(self, timeout=60):
        for node in self.nodes:
            node.start()
        self.wait_healthy(timeout=timeout)

    def start_node(self, index):
        self.nodes[index].start()

    def wait_healthy(self, indices=None, timeout=60):
        """Until each says so itself: it knows a leader and can serve a linearizable read."""
        deadline = time.monotonic() + timeout
        for node in [self.nodes[i] for i in indices] if indices is not None else self.nodes:
            while not node.healthy():
                if not node.running():
                    raise ClusterError("%s ended by itself with %s\n%s" % (
                        node.name, node.process.returncode, node.log_tail()))
                if time.monotonic() > deadline:
                    raise ClusterError("%s is not healthy after %d s\n%s" %
                                       (node.name, timeout, node.log_tail()))
                time.sleep(0.05)

    def kill(self, *indices):
        """kill -9, all at once."""
        for i in indices:
            self.nodes[i].send(signal.SIGKILL)
        for i in indices:
            status = self.nodes[i].wait(10)
            if status != -signal.SIGKILL:
                raise ClusterError("%s had ended by itself with %d\n%s" %
                                   (self.nodes[i].name, status, self.nodes[i].log_tail()))

    def stop(self, *indices, timeout=20):
        """SIGTERM; returns the exit statuses."""
        for i in indices:
            self.nodes[i].send(signal.SIGTERM)
        return [self.nodes[i].wait(timeout) for i in indices]

    def pause(self, index):
        self.nodes[index].send(signal.SIGSTOP)

    def resume(self, index):
        self.nodes[index].send(signal.SIGCONT)

    def check_running(self):
        """Raise when a node that should run has ended by itself."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is not None:
                raise ClusterError("%s ended by itself with %d\n%s" % (
                    node.name, node.process.returncode, node.log_tail(40)))

    def keep(self):
        """Leave data and logs for a look."""
        if not self.kept:
            self.kept = True
            print("kept: %s" % self.dir, file=sys.stderr)

    def close(self):
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
                node.process.wait()
                node.process = None
        if not self.kept:
            shutil.rmtree(self.dir, ignore_errors=True)
        atexit.unregister(self.close)


def run(args, timeout=120, **options):
    """subprocess.run() for a helper program that must not outlive this one."""
    return subprocess.run(args, timeout=timeout, preexec_fn=die_with_parent, **options)


def exit_on_signals():
    """SIGTERM ends the process by the usual way, so that clusters are cleaned up. SIGINT works, too, in
    what is started: a shell has its commands in the background ignore it, and theirs inherit that."""
    def leave(number, _frame):
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Tally:
    """Counts named checks and prints the closing line that tests/run.py reads."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, ok, name, detail=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            print("FAILED %s%s" % (name, "\n" + detail if detail else ""), flush=True)
        return ok

    def finish(self):
        print("%d passed, %d failed" % (self.passed, self.failed), flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1
