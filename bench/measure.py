"""What every comparison here does: start trivet-bench, beside others if need be, and look at what the
servers' processes used meanwhile."""

import contextlib
import json
import mmap
import os
import signal
import ssl
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "tests", "lib"))
import certs  # noqa: E402
import cluster as clusters  # noqa: E402

KINDS = ("etcd", "trivet")
MANY = ("--conns", "100", "--streams", "10")
# Room for much history, of either kind; etcd's own default of 2 GB would end some loads early.
QUOTA_FLAGS = ("--quota-backend-bytes", str(8 << 30))
UNIMPLEMENTED = "12"  # gRPC's code, as in "errors_by_code"


class LoadFailed(Exception):
    """A load could not run, or calls of it failed: its figures do not count."""


def bench_binary():
    return os.path.join(clusters.build_dir(), "bench", "trivet-bench")


def echo_binary():
    return os.path.join(clusters.build_dir(), "bench", "grpc_echo")


def use_etcd_of_environment():
    """ETCD=PATH names another etcd."""
    path = os.environ.get("ETCD")
    if path:
        usual = clusters.binary
        clusters.binary = lambda kind: path if kind == "etcd" else usual(kind)


def prepare(kinds):
    """At the beginning of a program: the binaries are there, and clusters go when it ends."""
    use_etcd_of_environment()
    clusters.exit_on_signals()
    for path in [clusters.binary(kind) for kind in kinds] + [bench_binary()]:
        if not os.access(path, os.X_OK):
            sys.exit("%s is not there" % path)


def parse_kinds(parser, text):
    kinds = text.split(",")
    if any(kind not in KINDS for kind in kinds):
        parser.error("--kinds is of " + ",".join(KINDS))
    return kinds


def version_of(kind):
    try:
        done = subprocess.run([clusters.binary(kind), "--version"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=10)
        return done.stdout.splitlines()[0] if done.stdout else "?"
    except (OSError, subprocess.TimeoutExpired):
        return "?"


def use_tls(cluster):
    """Clients and members with TLS, each showing a certificate."""
    ca = certs.Authority(cluster.dir, "ca")
    own = ca.issue("node", sans=["DNS:localhost", "IP:127.0.0.1"])
    cluster.client_scheme = cluster.peer_scheme = "https"
    cluster.ssl_context = ssl.create_default_context(cafile=ca.cert)
    cluster.bench_flags = ("--cacert", ca.cert)
    cluster.flags += ["--cert-file", own.cert, "--key-file", own.key, "--peer-cert-file", own.cert,
                      "--peer-key-file", own.key, "--peer-client-cert-auth",
                      "--peer-trusted-ca-file", ca.cert]


@contextlib.contextmanager
def fresh_cluster(kind, tls=False):
    """Three nodes that serve. Their data stays for a look only when one ended by itself."""
    cluster = clusters.Cluster(kind, flags=QUOTA_FLAGS)
    if tls:
        use_tls(cluster)
    try:
        cluster.start()
        yield cluster
    except clusters.ClusterError:
        cluster.keep()
        raise
    finally:
        cluster.close()


# --- memory ---

def memory_info(name):
    """Bytes, of /proc/meminfo."""
    with open("/proc/meminfo") as info:
        for line in info:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise LoadFailed("the kernel does not tell " + name)


def touch_memory(scale=1):
    """Use memory and free it again, so that what is measured next finds it with the machine. A virtual
    one's host takes back what has been free for some seconds, and a page that it has to give again
    costs several times as much as one that is there: that would be measured instead, in one load and
    not in the next."""
    size = min(round(scale * (3 << 30)), memory_info("MemAvailable") // 4)
    mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


# --- loads ---

def command_of(endpoints, args):
    return [bench_binary()] + [str(a) for a in args] + ["--endpoints", endpoints, "--json", "-"]


def failure_of(result):
    """Why the figures of this result do not count, or None."""
    if result["errors"]:
        return "%d calls failed: %s" % (result["errors"], result["error_text"])
    if result["never_begun"]:
        return "too slow: %d operations were due and never begun" % result["never_begun"]
    if result["events_missing"]:
        return "%d events never came" % result["events_missing"]
    return None


def run_load_at(endpoints, *args, timeout=3600):
    """trivet-bench against these endpoints; its report, whatever it says of errors."""
    command = command_of(endpoints, args) + ["--quiet"]
    done = clusters.run(command, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                        text=True)
    if done.returncode != 0:
        raise LoadFailed("%s: %s" % (" ".join(str(a) for a in args), done.stderr.strip()))
    return json.loads(done.stdout)


def run_load(cluster, *args):
    """The report of a load without a failed call."""
    result = run_load_at(cluster.endpoints(), *args, *cluster.bench_flags)
    cluster.check_running()
    failure = failure_of(result)
    if failure:
        raise LoadFailed("%s: %s" % (args[0], failure))
    return result


class Background:
    """A load that goes on while others are measured. Entering waits until it has begun, leaving ends
    it; `result` is its report then. One that is `greedy` is ended at once, whatever is under way; calls
    of it may fail, and there is no report.

        with Background(cluster, "compact", "--every", 5) as compactions:
            ...
        compactions.result["done_in_all"]
    """

    def __init__(self, cluster, *args, greedy=False):
        self.cluster = cluster
        self.greedy = greedy
        self.name = args[0]
        self.command = command_of(cluster.endpoints(),
                                  args + ("--duration", 100000) + tuple(cluster.bench_flags))
        self.result = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, preexec_fn=clusters.die_with_parent)
        # The first line of progress comes a second after the load has begun.
        first = self.process.stderr.readline()
        self.last_words = [first]
        self.reader = threading.Thread(target=self._read_progress, daemon=True)
        self.reader.start()
        return self

    def _read_progress(self):
        for line in self.process.stderr:
            self.last_words = [line]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def __exit__(self, kind, value, trace):
        if kind is not None or self.greedy:
            self.kill()
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        output = self.process.stdout.read()
        self.process.wait()
        self.reader.join()
        if self.process.returncode != 0:
            raise LoadFailed("%s beside it: %s" % (self.name, self.last_words[0].strip()))
        self.result = json.loads(output)
        failure = failure_of(self.result)
        if failure:
            raise LoadFailed("%s beside it: %s" % (self.name, failure))


def fill(cluster, prefix, keys, *args):
    return run_load(cluster, "fill", "--prefix", prefix, "--keys", keys, "--conns", 8,
                    "--streams", 4, *args)


def compact_now(cluster):
    """Forget all history. The first compaction of a process only remembers where to."""
    run_load(cluster, "compact", "--every", 0.2, "--total", 2)


def has_snapshot_stream(cluster):
    result = run_load_at(cluster.endpoints(), "snapshot", "--total", 1)
    if not result["errors"]:
        return True
    if UNIMPLEMENTED in result["errors_by_code"]:
        return False
    raise LoadFailed("snapshot: " + result["error_text"])


# --- the servers' processes ---

def cpu_seconds(cluster):
    """Of all nodes so far."""
    return sum(node.cpu_seconds() for node in cluster.nodes)


def rss_bytes(cluster):
    """Of all nodes together."""
    return sum(node.rss_bytes() for node in cluster.nodes)


def reset_peak_rss(node):
    with open("/proc/%d/clear_refs" % node.process.pid, "w") as refs:
        refs.write("5")


def peak_rss_bytes(node):
    with open("/proc/%d/status" % node.process.pid) as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise LoadFailed("the kernel does not tell the peak of resident memory")


def disk_bytes(cluster):
    """What the data of all nodes takes on the disk. A file may go away meanwhile."""
    total = 0
    for node in cluster.nodes:
        for folder, _, names in os.walk(node.data_dir):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
                except FileNotFoundError:
                    continue
    return total


def settle(cluster, calm_seconds=30, patience_seconds=600):
    """Wait until memory and disk have not changed by 1 % for a while. (rss, disk, seconds until then)"""
    begin = calm_since = time.monotonic()
    rss, disk = rss_bytes(cluster), disk_bytes(cluster)
    while time.monotonic() - calm_since < calm_seconds:
        if time.monotonic() - begin > patience_seconds:
            raise LoadFailed("memory or disk still changes after %d s" % patience_seconds)
        time.sleep(1)
        cluster.check_running()
        new_rss, new_disk = rss_bytes(cluster), disk_bytes(cluster)
        if abs(new_rss - rss) > 0.01 * rss or abs(new_disk - disk) > 0.01 * disk:
            calm_since = time.monotonic()
            rss, disk = new_rss, new_disk
    return new_rss, new_disk, calm_since - begin


def leader_status(cluster):
    """(index of the node that leads, its revision)"""
    done = clusters.run([clusters.ETCDCTL, "--endpoints", cluster.endpoints(), "endpoint", "status",
                         "-w", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for answer in json.loads(done.stdout or "[]"):
        status = answer["Status"]
        if status["header"]["member_id"] == status["leader"]:
            index = [n.endpoint() for n in cluster.nodes].index(answer["Endpoint"])
            return index, status["header"]["revision"]
    raise LoadFailed("no node leads: " + done.stderr)


def seconds_until_healthy(cluster, indices, patience_seconds=300):
    begin = time.monotonic()
    waiting = [cluster.nodes[i] for i in indices]
    while waiting:
        waiting = [node for node in waiting if not node.healthy()]
        cluster.check_running()
        if time.monotonic() - begin > patience_seconds:
            raise LoadFailed("%s does not serve after %d s" % (waiting[0].name, patience_seconds))
        time.sleep(0.005)
    return time.monotonic() - begin


# --- words ---

def say(text):
    print(text, file=sys.stderr, flush=True)


def number(value):
    if value is None:
        return "-"
    return "%.3g" % value if abs(value) < 100 else "%.0f" % value


def spread(values):
    """The median, and how far apart the values lie, as text."""
    values = [v for v in values if v is not None]
    if not values:
        return None, ""
    apart = "" if len(values) == 1 else " (%s..%s)" % (number(min(values)), number(max(values)))
    return statistics.median(values), apart
