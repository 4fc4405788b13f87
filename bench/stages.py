#!/usr/bin/env python3
"""Where a put's time goes: microseconds of CPU by stage, at the leader and at a follower.

    ./dev bench stages [--duration S] [--load put|txn|get]

Samples of all three processes (perf, whole stacks) while trivet-bench keeps 100 connections x 10 busy. A
sample belongs to the innermost function on its stack that begins a stage, with all that the kernel does
for it; its share is then taken of the CPU that the process used for an operation of the load. The
connections are spread over the members: each parses and answers a third of the operations.
"""

import argparse
import collections
import os
import subprocess
import sys
import tempfile
import time

import measure
from measure import MANY, clusters

SAMPLES_PER_SECOND = 999
STACK_BYTES = 4096
# Stage -> the functions that begin it.
STAGES = {
    "read and parse HTTP/2": ("read_http2", "recv_scanned", "nghttp2_session_mem_recv", "uv__read"),
    "decode, check, propose": ("on_put", "on_txn", "on_range", "service_propose", "worker_read"),
    "raft and the turn": ("core_turn", "core_receive", "raft_step"),
    "log": ("wal_append", "wal_submit", "start_writes", "wal_poll"),
    "replicate: send": ("peers_send",),
    "replicate: receive": ("on_peer_msg", "on_raft"),
    "apply": ("applier_apply", "applier_warm", "applier_decode", "mvcc_publish"),
    "answer": ("core__answer", "service_answered", "worker_answer", "serve_range"),
    "write to sockets": ("conn__flush",),
    "persist (RocksDB)": ("persist_main",),
    "garbage, watchers": ("epoch_collect", "mvcc_scrub", "watch_hub_advance", "worker_publish"),
}
STAGE_OF = {name: stage for stage, names in STAGES.items() for name in names}
REST = "the loop, waking up, the rest"


def leader_of(cluster):
    for node in cluster.nodes:
        answer = clusters.http_get(node.client_port, "/metrics")
        if answer and "etcd_server_is_leader 1" in answer[1]:
            return node
    sys.exit("stages: no leader")


def cpu_seconds(node):
    with open("/proc/%d/stat" % node.process.pid) as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / measure.TICKS


def stage_of(stack):
    for name in stack:
        stage = STAGE_OF.get(name.split(".")[0])
        if stage:
            return stage
    return REST


def read_samples(path):
    """{pid: Counter of stages}, from `perf script`: a line with the pid, a line for each frame, a blank."""
    script = subprocess.run(["perf", "script", "-i", path, "--no-inline", "-F", "pid,ip,sym"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    counts = collections.defaultdict(collections.Counter)
    pid, stack = None, []
    for line in script.stdout.splitlines() + [""]:
        if not line.strip():
            if pid is not None:
                counts[pid][stage_of(stack)] += 1
            pid, stack = None, []
        elif pid is None:
            pid = int(line.split()[0])
        else:
            stack.append(line.split(None, 1)[-1].strip())
    return counts


def record(cluster, load, seconds, path):
    """CPU microseconds of each node for an operation of the load, sampled in its middle."""
    before = [cpu_seconds(node) for node in cluster.nodes]
    args = [load] + list(MANY) + ["--duration", seconds + 2, "--prefix", "/stages/", "--warmup", 0]
    with subprocess.Popen(measure.command_of(cluster.endpoints(), args) + ["--quiet"],
                          stdout=subprocess.PIPE, text=True,
                          preexec_fn=clusters.die_with_parent) as running:
        time.sleep(1)
        pids = ",".join(str(node.process.pid) for node in cluster.nodes)
        subprocess.run(["perf", "record", "-q", "-F", str(SAMPLES_PER_SECOND), "-e", "cpu-clock",
                        "--call-graph", "dwarf,%d" % STACK_BYTES, "-o", path, "-p", pids, "--",
                        "sleep", str(seconds)], stderr=subprocess.DEVNULL, check=True)
        result = measure.json.loads(running.stdout.read())
    failure = measure.failure_of(result)
    if failure:
        sys.exit("stages: " + failure)
    return [(cpu_seconds(node) - b) * 1e6 / result["done_in_all"]
            for node, b in zip(cluster.nodes, before)], result["per_second"]


def table(rows, counts, cpu, leader, cluster):
    """Prints a row for each stage: us at the leader, and of a follower's mean."""
    followers = [n for n in cluster.nodes if n is not leader]
    share = {}
    for node, us in zip(cluster.nodes, cpu):
        total = sum(counts[node.process.pid].values()) or 1
        share[node] = {stage: us * counts[node.process.pid][stage] / total for stage in rows}
    print("%-30s %10s %10s" % ("us of CPU per operation", "leader", "follower"))
    sums = [0, 0]
    for stage in rows:
        at = share[leader][stage]
        of = sum(share[n][stage] for n in followers) / len(followers)
        sums = [sums[0] + at, sums[1] + of]
        print("%-30s %10.2f %10.2f" % (stage, at, of))
    print("%-30s %10.2f %10.2f" % ("all", sums[0], sums[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=int, default=6, help="seconds that are sampled")
    parser.add_argument("--load", default="put", choices=("put", "txn", "get"))
    options = parser.parse_args()
    measure.prepare(("trivet",))
    with measure.fresh_cluster("trivet") as cluster, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "perf.data")
        leader = leader_of(cluster)
        cpu, rate = record(cluster, options.load, options.duration, path)
        counts = read_samples(path)
        print("%s: %d a second" % (options.load, rate))
        table(list(STAGES) + [REST], counts, cpu, leader, cluster)


if __name__ == "__main__":
    main()
