#!/usr/bin/env python3
"""Disks are lost under load: a member's data directory is deleted while the process is dead, and the
member is started again with the flags it always had.

The cluster must notice by itself: the member comes back under a new id, takes what it needs from the
others and votes again. After every round the load program (tests/clients/go/faultload) proves that
every acknowledged write is there, that no watcher missed or repeated an event, and that the members hold
the same. With --repair=refuse, which is tried at the end, the member ends with etcd's words instead.
"""

# COMPAT better, Cluster: a member that lost its disk, started again as it was, is replaced by itself, under a new id;
# COMPAT   in etcd an operator removes and adds it
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402
from killer import Load, leader_of  # noqa: E402

BACK_TIMEOUT = 60


def members(node):
    """{name: (id, is a learner)}, or None when the node does not say."""
    result = cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "member", "list", "-w",
                          "json"], capture_output=True, text=True)
    if result.returncode != 0:
        return None
    return {m.get("name", ""): (m["ID"], m.get("isLearner", False))
            for m in json.loads(result.stdout)["members"]}


def wait_voting(nodes, asked, count, gone=None, lost_twice=None):
    """Until all are named, none is a learner, and none has the id `gone`; who they are then. The index
    `lost_twice`: it may have come back under the id that it had just been given. Then the leader has its
    word for more than it holds, and the process ends; who manages it starts it again (docs/architecture.md)."""
    revived = []

    def found():
        node = nodes.nodes[lost_twice] if lost_twice is not None and not revived else None
        if node and not node.running() and "is from another time" in node.log_tail():
            revived.append(node)
            node.wait(1)
            nodes.start_node(lost_twice)
        nodes.check_running()
        are = members(asked)
        all_vote = are and len(are) == count and "" not in are and \
            not any(learner or id == gone for id, learner in are.values())
        return are if all_vote else None

    are = cluster.wait_until(found, BACK_TIMEOUT)
    if not are:
        raise cluster.ClusterError("not all vote again after %d s: %s\n%s" % (
            BACK_TIMEOUT, members(asked), asked.log_tail()))
    return are


def revision(node):
    """What it has applied; 0 when it does not say."""
    result = cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "endpoint", "status", "-w",
                          "json"], capture_output=True, text=True)
    return json.loads(result.stdout)[0]["Status"]["header"]["revision"] if result.returncode == 0 else 0


def let_load_write(node, count):
    """Until the load has made so many revisions more."""
    if count == 0:
        return
    if not (cluster.wait_until(lambda: revision(node), BACK_TIMEOUT) and
            cluster.wait_until(lambda goal=revision(node) + count: revision(node) >= goal, BACK_TIMEOUT)):
        raise cluster.ClusterError("the load does not write: %d more were to come" % count)


def let_start_get_on(node, log_bytes):
    """Until its start has said so much."""
    size = os.path.getsize(node.log_path)
    if not cluster.wait_until(lambda: os.path.getsize(node.log_path) >= size + log_bytes, BACK_TIMEOUT):
        raise cluster.ClusterError("the start says nothing more: " + node.log_tail())


def lose_disk(nodes, index):
    nodes.kill(index)
    shutil.rmtree(nodes.nodes[index].data_dir)


def round_of(nodes, load, rng):
    let_load_write(nodes.nodes[0], rng.randrange(50, 500))
    leader = leader_of(nodes)
    victim = leader if rng.random() < 0.4 and leader is not None else rng.randrange(3)
    other = nodes.nodes[(victim + 1) % 3]
    name = nodes.nodes[victim].name
    before = wait_voting(nodes, other, 3)
    lose_disk(nodes, victim)
    let_load_write(other, rng.choice([0, 0, 500]))
    began = time.monotonic()
    lost_twice = None
    nodes.start_node(victim)
    if rng.random() < 0.4:  # and the process as well, on its way back
        let_start_get_on(nodes.nodes[victim], rng.randrange(100, 2500))
        nodes.kill(victim)
        lost_twice = victim if rng.random() < 0.3 else None
        if lost_twice is not None:
            shutil.rmtree(nodes.nodes[victim].data_dir, ignore_errors=True)
        nodes.start_node(victim)
    after = wait_voting(nodes, other, 3, gone=before[name][0], lost_twice=lost_twice)
    took = time.monotonic() - began
    nodes.wait_healthy()
    kept = [n for n in before if n != name and before[n] != after[n]]
    if kept:
        raise cluster.ClusterError("others have changed: %s" % kept)
    what = "%s%s lost its disk, voted again after %.1f s" % (
        name, ", leading," if victim == leader else "", took)
    return what, load.ask("check")


def refuses(nodes, rng):
    """--repair=refuse: what becomes of a lost disk is the operator's decision."""
    victim = rng.randrange(3)
    node = nodes.nodes[victim]
    other = nodes.nodes[(victim + 1) % 3]
    lost = wait_voting(nodes, other, 3)[node.name][0]
    lose_disk(nodes, victim)
    nodes.flags.append("--repair=refuse")
    offset = os.path.getsize(node.log_path)
    nodes.start_node(victim)
    status = node.wait(20)
    with open(node.log_path, encoding="utf-8") as log:
        log.seek(offset)
        said = log.read()
    if status != 1 or "has already been bootstrapped" not in said:
        raise cluster.ClusterError("status %d, not the expected words:\n%s" % (status, said))
    nodes.flags.remove("--repair=refuse")
    nodes.start_node(victim)
    wait_voting(nodes, other, 3, gone=lost)
    nodes.wait_healthy()
    return "%s was refused with --repair=refuse" % node.name


def impostor(nodes, rng):
    """A second process with the flags of a member that is well, and no data: it must not get its place."""
    node = nodes.nodes[rng.randrange(3)]
    before = wait_voting(nodes, node, 3)
    command = node.command()
    for flag, value in [("--data-dir", node.data_dir + "-second"),
                        ("--listen-client-urls", "http://127.0.0.1:%d" % cluster.free_ports(1)[0]),
                        ("--listen-peer-urls", "http://127.0.0.1:%d" % cluster.free_ports(1)[0])]:
        command[command.index(flag) + 1] = value
    log_path = node.log_path + "-second"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   preexec_fn=cluster.die_with_parent)

    def said():
        with open(log_path, encoding="utf-8") as log:
            return log.read()
    try:
        told = cluster.wait_until(lambda: process.poll() is not None or
                                  said().count("does not replace this member now") >= 3, 20)
        if not told or process.poll() is not None:
            raise cluster.ClusterError("not told that it gets no place:\n" + said())
    finally:
        process.kill()
        process.wait()
    if wait_voting(nodes, node, 3) != before:
        raise cluster.ClusterError("the members have changed")
    return "a second %s got no place" % node.name


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("flags", nargs="*", help="for every node, after --")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    print("seed %d, %d rounds" % (seed, args.rounds), flush=True)
    rng = random.Random(seed)
    cluster.exit_on_signals()
    tally = cluster.Tally()
    with cluster.Cluster("trivet", flags=args.flags) as nodes:
        nodes.start()
        load = Load(nodes, seed)
        for number in range(1, args.rounds + 1):
            try:
                what, answer = round_of(nodes, load, rng)
            except cluster.ClusterError as error:
                what, answer = "", str(error)
            print("round %d: %s: %s" % (number, what, answer), flush=True)
            if not tally.check(answer.startswith("ok"), "round %d" % number, answer):
                break
        if tally.failed == 0:
            for scenario in (impostor, refuses):
                try:
                    print(scenario(nodes, rng), flush=True)
                    tally.check(True, scenario.__name__)
                except cluster.ClusterError as error:
                    tally.check(False, scenario.__name__, str(error))
        output, status = load.finish()
        lines = output.strip().split("\n")
        tally.check(status == 0 and lines[-1].endswith(" 0 failed"), "the load", output)
        print("the load: %s" % lines[-1])
        if tally.failed:
            nodes.keep()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
