"""What operations cost, counted and not timed: three members under callgrind, trivet-bench as it is.

The counters are set to zero before each load and read after it, so that neither the start nor the fill
is in them; what the load's own connections cost is. Each load runs once in every round, and what it cost
is the median of the rounds: once a minute a member writes to RocksDB, and that may fall into one of them.

A cluster that is some fifty times slower than usual still batches as usual, since its three members and
their messages slow down alike; the loads are those whose cost an operation does not depend on how busy
the machine is. Everything that would make it depend on the machine is set: the log is written by a thread
(io_uring completes when the disk does), clients are served on the node's own loop however many CPUs there
are, and the simulated caches are of one size.
"""

import collections
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "tests", "lib"))
import cluster as clusters  # noqa: E402

ROUNDS = 3
KEYS, LEASES = 10000, 100
HEARTBEAT_MS, ELECTION_MS = 1000, 5000
DUMP_PATIENCE_S = 30
LOAD_TRIES = 3
IDLE_SAMPLES, IDLE_SECONDS = 3, 2

FLAGS = ["--io-threads", "0", "--wal-io", "sync"]
CALLGRIND = ["valgrind", "-q", "--tool=callgrind", "--cache-sim=yes", "--branch-sim=yes",
             "--I1=32768,8,64", "--D1=32768,8,64", "--LL=8388608,16,64", "--dump-line=no",
             "--vgdb-poll=500", "--instr-atstart=no"]

# What a miss costs, as KCachegrind estimates it.
CYCLES_L1_MISS, CYCLES_LL_MISS, CYCLES_BRANCH_MISS = 10, 100, 10

FIGURES = ("instructions", "cycles")
LEADER, FOLLOWER = "leader", "follower"
BOTH = (LEADER, FOLLOWER)
MANY = ["--conns", "10", "--streams", "10"]

KEEP_ALIVES = ["keepalive", "--leases", str(LEASES), "--every", "0.001", "--duration", "0.02"] + MANY

# `asked`: whom the clients ask; `per`: the count of trivet-bench's result that the cost is divided by;
# `roles`: whose cost is looked at. {round} keeps the keys of rounds apart.
Load = collections.namedtuple("Load", "name text args asked per roles")
LOADS = [
    Load("put-1", "put, one at a time", ["put", "--total", "300"], LEADER, "done_in_all", BOTH),
    Load("put", "put, 10 x 10", ["put", "--total", "2000"] + MANY, LEADER, "done_in_all", BOTH),
    Load("put-follower", "put through a follower, 10 x 10", ["put", "--total", "2000"] + MANY,
         FOLLOWER, "done_in_all", BOTH),
    # In order: no two that are under way at a time are of the same key.
    Load("txn", "Kubernetes' txn, 10 x 10",
         ["txn", "--total", "2000", "--keys", "500", "--key-dist", "seq", "--prefix", "/txn/{round}/"] +
         MANY, LEADER, "done_in_all", BOTH),
    Load("get-1", "linearizable get, one at a time", ["get", "--total", "300"], LEADER, "done_in_all",
         BOTH),
    Load("get", "linearizable get, 10 x 10", ["get", "--total", "2000"] + MANY, LEADER, "done_in_all",
         (LEADER,)),
    Load("get-follower", "the same, from a follower", ["get", "--total", "2000"] + MANY, FOLLOWER,
         "done_in_all", (FOLLOWER,)),
    Load("get-serializable", "serializable get, 10 x 10", ["get", "--serializable", "--total", "2000"] +
         MANY, LEADER, "done_in_all", (LEADER,)),
    Load("list", "LIST of 10,000 keys, a key", ["list", "--total", "10"], LEADER, "listed_keys",
         (LEADER,)),
    # All are due at once, twenty times: the next is begun when one is answered.
    Load("keepalive", "keep-alive of a lease, 10 x 10", KEEP_ALIVES, LEADER, "done_in_all", (LEADER,)),
    Load("keepalive-follower", "keep-alive through a follower, 10 x 10", KEEP_ALIVES, FOLLOWER,
         "done_in_all", (FOLLOWER,)),
    # So many puts at once that each turn has as many as there can be, and a watcher hears of them together.
    Load("watch", "event to one of 50 watchers",
         ["watch", "--watchers", "50", "--conns", "5", "--rate", "100000", "--total", "256",
          "--prefix", "/watch/{round}/"], LEADER, "events_in_all", (LEADER,)),
]


class MeasureError(Exception):
    pass


def method():
    """Everything that figures must have in common to be comparable, but for the environment."""
    return [FLAGS, CALLGRIND, HEARTBEAT_MS, KEYS, LEASES, ROUNDS, LOADS]


def bench(cluster, load_args, endpoint):
    command = [os.path.join(clusters.build_dir(), "bench", "trivet-bench")] + load_args + [
        "--endpoints", endpoint, "--warmup", "0", "--json", "-", "--quiet"]
    done = clusters.run(command, timeout=600, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cluster.check_running()
    if done.returncode != 0:
        raise MeasureError("%s\n%s" % (" ".join(command), done.stderr))
    result = json.loads(done.stdout)
    if result["errors"] or result["conflicts"]:
        raise MeasureError("%s: calls failed: %s" % (" ".join(command), done.stdout))
    return result


class Counted:
    """The three members, and their counters."""

    def __init__(self, trivetd):
        self.cluster = clusters.Cluster("trivet", flags=FLAGS, heartbeat_ms=HEARTBEAT_MS,
                                        election_ms=ELECTION_MS)
        self.dumps = 0
        for node in self.cluster.nodes:
            node.program = CALLGRIND + ["--callgrind-out-file=" + self.dump_path(node)] + [trivetd]

    def dump_path(self, node):
        return os.path.join(self.cluster.dir, node.name + ".callgrind")

    def order(self, words):
        """Tell all three at once; returns when all have obeyed."""
        orders = [subprocess.Popen(["vgdb", "--pid=%d" % node.process.pid] + words,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                  for node in self.cluster.nodes]
        for one in orders:
            said = one.communicate(timeout=120)[1]
            if one.returncode != 0:
                raise MeasureError("vgdb %s: %s" % (" ".join(words), said))

    def read(self):
        """The counters of each member since the last zero; and the files they came from."""
        self.dumps += 1
        self.order(["dump"])
        paths = ["%s.%d" % (self.dump_path(node), self.dumps) for node in self.cluster.nodes]
        return [read_dump(path) for path in paths], paths

    def leader(self):
        for i, node in enumerate(self.cluster.nodes):
            answer = clusters.http_get(node.client_port, "/metrics", 30)
            if answer and re.search(r"^etcd_server_is_leader 1$", answer[1], re.M):
                return i
        raise MeasureError("no member says that it leads")


def read_dump(path):
    """{instructions, cycles}. The totals are the last line: without it the file is not complete."""
    deadline = time.monotonic() + DUMP_PATIENCE_S
    while True:
        try:
            with open(path, encoding="utf-8") as f:
                text = f.read()
        except OSError:
            text = ""
        totals = re.search(r"^totals: ([\d ]+)$", text, re.M)
        if totals:
            break
        if time.monotonic() > deadline:
            raise MeasureError("callgrind wrote no totals into %s" % path)
        time.sleep(0.05)
    names = re.search(r"^events: (.*)$", text, re.M).group(1).split()
    counts = collections.Counter(dict(zip(names, map(int, totals.group(1).split()))))
    cycles = (counts["Ir"] +
              CYCLES_L1_MISS * (counts["I1mr"] + counts["D1mr"] + counts["D1mw"]) +
              CYCLES_LL_MISS * (counts["ILmr"] + counts["DLmr"] + counts["DLmw"]) +
              CYCLES_BRANCH_MISS * (counts["Bcm"] + counts["Bim"]))
    return {"instructions": counts["Ir"], "cycles": cycles}


def subtract_idle(counts, idle, seconds):
    """Without what the members' clocks cost meanwhile: that depends on how long it took."""
    return [{figure: count[figure] - rate[figure] * seconds for figure in FIGURES}
            for count, rate in zip(counts, idle)]


def measure_idle(counted):
    """What each member does in a second when nobody asks for anything."""
    samples = []
    for _ in range(IDLE_SAMPLES):
        counted.order(["zero"])
        begin = time.monotonic()
        time.sleep(IDLE_SECONDS)
        counts = counted.read()[0]
        seconds = time.monotonic() - begin
        samples.append([{figure: count[figure] / seconds for figure in FIGURES} for count in counts])
    return [{figure: statistics.median(sample[i][figure] for sample in samples) for figure in FIGURES}
            for i in range(len(samples[0]))]


def run_load(counted, load, number, idle, profiles):
    """{role: {instructions, cycles}} of one operation; None when the leader changed meanwhile."""
    leader = counted.leader()
    others = [i for i in range(len(idle)) if i != leader]
    # Of the followers the one that was asked, or both of them.
    members = {LEADER: [leader], FOLLOWER: others[:1] if load.asked == FOLLOWER else others}
    asked = counted.cluster.nodes[members[load.asked][0]]
    counted.order(["zero"])
    begin = time.monotonic()
    result = bench(counted.cluster, [arg.format(round=number) for arg in load.args], asked.endpoint())
    counts, paths = counted.read()
    counts = subtract_idle(counts, idle, time.monotonic() - begin)
    if counted.leader() != leader:
        return None
    if profiles:
        for role in load.roles:
            shutil.copy(paths[members[role][0]],
                        os.path.join(profiles, "%s.%s.callgrind" % (load.name, role)))
    for path in paths:
        os.unlink(path)
    return {role: {figure: statistics.mean(counts[i][figure] for i in members[role]) / result[load.per]
                   for figure in FIGURES} for role in load.roles}


def run_load_surely(*args):
    for _ in range(LOAD_TRIES):
        cost = run_load(*args)
        if cost:
            return cost
    raise MeasureError("the leader changes again and again: is the machine so busy?")


def summarize(rounds):
    """The median over the rounds, and how far they lay apart, in percent."""
    summary = {}
    for role in rounds[0]:
        summary[role] = {}
        for figure in FIGURES:
            values = [cost[role][figure] for cost in rounds]
            middle = statistics.median(values)
            summary[role][figure] = round(middle, 1)
            summary[role][figure + "_spread"] = round((max(values) - min(values)) / middle * 100, 1)
    return summary


def measure(trivetd, only=None, profiles=None, say=lambda text: None):
    """{load: {role: figures}} of the program `trivetd`. `only`: names of loads; `profiles`: a folder for
    callgrind's files of the last round."""
    loads = [load for load in LOADS if only is None or load.name in only]
    counted = Counted(trivetd)
    costs = {load.name: [] for load in loads}
    with counted.cluster as cluster:
        cluster.start(timeout=180)
        filled = cluster.nodes[counted.leader()].endpoint()
        bench(cluster, ["fill", "--keys", str(KEYS)], filled)
        bench(cluster, ["grant", "--leases", str(LEASES), "--ttl", "3600"], filled)
        counted.order(["instrumentation", "on"])
        idle = measure_idle(counted)
        for number in range(ROUNDS):
            say("round %d of %d" % (number + 1, ROUNDS))
            for load in loads:
                costs[load.name].append(run_load_surely(
                    counted, load, number, idle, profiles if number == ROUNDS - 1 else None))
    return {name: summarize(rounds) for name, rounds in costs.items()}
