#!/usr/bin/env python3
"""A member that holds something else than the others: found while everything runs, and rebuilt.

A follower, then a leader, is stopped and one value in its store is altered by a program that leaves
every checksum right. It serves the wrong value for a while, as nothing can tell yet; then the members
compare, and it must say that it differs, answer nobody, raise the CORRUPT alarm, come back by itself
with the right contents, and the alarm must go again. Clients of the other members see no error.
"""

# COMPAT better, corruption: members compare what they hold all the time; one that differs is fenced and rebuilt, and
# COMPAT   the others go on; etcd's CORRUPT alarm stops the whole cluster
import argparse
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402
from killer import leader_of  # noqa: E402

KEY, RIGHT = "/differ/key", "right"
DIFFERS = "this member differs from the majority"
ENTRIES = 1500  # more than a mark waits for
FOUND_TIMEOUT, HEALED_TIMEOUT = 40, 40


def etcdctl(endpoints, *args, timeout=60):
    return cluster.run([cluster.ETCDCTL, "--endpoints", endpoints, "--command-timeout", "10s"] +
                       list(args), capture_output=True, text=True, timeout=timeout)


class Client(threading.Thread):
    """Writes and reads through one member until it is told to stop; keeps what went wrong."""

    def __init__(self, node):
        super().__init__()
        self.node, self.done, self.errors, self.count = node, threading.Event(), [], 0

    def run(self):
        while not self.done.is_set():
            self.count += 1
            value = str(self.count)
            key = "/differ/client/" + self.node.name
            for args in [["put", key, value], ["get", key, "--print-value-only"],
                         ["get", KEY, "--print-value-only"]]:
                result = etcdctl(self.node.endpoint(), *args)
                wanted = {0: value, 1: RIGHT}.get(args[1] == KEY) if args[0] == "get" else "OK"
                if result.returncode != 0 or result.stdout.strip() != wanted:
                    self.errors.append("%s: %s %s" % (args, result.stdout, result.stderr[-300:]))
            time.sleep(0.05)

    def stop(self):
        self.done.set()
        self.join()
        return self.errors


def write(nodes, rng):
    bench = os.path.join(cluster.build_dir(), "bench", "trivet-bench")
    result = cluster.run([bench, "put", "--endpoints", ",".join(n.endpoint() for n in nodes),
                          "--conns", "2", "--streams", "8", "--total", str(ENTRIES), "--keys", "500",
                          "--warmup", "0", "--value-size", "100", "--prefix",
                          "/bulk/%d/" % rng.randrange(1000)],
                         capture_output=True, text=True, timeout=120)
    if result.returncode != 0:
        raise cluster.ClusterError("cannot write\n" + result.stdout + result.stderr)


def says(node, offset, text):
    """The line of its log behind the offset that has the text, or None."""
    with open(node.log_path, "rb") as log:
        log.seek(offset)
        for line in log.read().decode(errors="replace").split("\n"):
            if text in line:
                return line
    return None


def wait_for_line(node, offset, text, timeout):
    deadline = time.monotonic() + timeout
    while True:
        line = says(node, offset, text)
        if line:
            return line
        if time.monotonic() > deadline:
            raise cluster.ClusterError("%s: no '%s' within %d s\n%s" %
                                       (node.name, text, timeout, node.log_tail(30)))
        time.sleep(0.05)


def wait_until(what, timeout, text):
    if not cluster.wait_until(what, timeout):
        raise cluster.ClusterError("not within %d s: %s" % (timeout, text))


def read(node, *flags):
    return etcdctl(node.endpoint(), "get", KEY, "--print-value-only", *flags).stdout.strip()


def hashes(nodes):
    revision = etcdctl(nodes.nodes[0].endpoint(), "get", KEY, "-w", "json").stdout
    revision = revision.split('"revision":')[1].split(",")[0].rstrip("}")
    return {etcdctl(n.endpoint(), "endpoint", "hashkv", "--rev", revision).stdout.split(",")[1]
            for n in nodes.nodes}


def scenario(nodes, rng, leads):
    """Returns '' or what is wrong."""
    assert etcdctl(nodes.endpoints(), "put", KEY, RIGHT).returncode == 0
    leader = leader_of(nodes)
    victim = nodes.nodes[rng.choice([i for i in range(3) if i != leader])]
    others = [n for n in nodes.nodes if n is not victim]
    # What it has not applied yet would come from its log afterwards, over what is altered.
    wait_until(lambda: read(victim, "--consistency=s") == RIGHT, 10, "the victim has the value")
    time.sleep(0.5)  # and its store too, soon
    nodes.stop(victim.index)
    alter = os.path.join(cluster.build_dir(), "tests", "faults", "alter")
    result = cluster.run([alter, os.path.join(victim.data_dir, "member", "lsm"), KEY],
                         capture_output=True, text=True)
    if result.returncode != 0:
        return "alter: " + result.stderr
    offset = os.path.getsize(victim.log_path)
    logs = {n: os.path.getsize(n.log_path) for n in others}
    nodes.start_node(victim.index)
    nodes.wait_healthy([victim.index])
    wrong = read(victim, "--consistency=s")
    if wrong == RIGHT:
        return "nothing was altered"
    if leads:
        ids = etcdctl(victim.endpoint(), "endpoint", "status").stdout.split(", ")[1]
        moved = etcdctl(nodes.nodes[leader].endpoint(), "move-leader", ids)
        if moved.returncode != 0:
            return "move-leader: " + moved.stderr
        wait_until(lambda: leader_of(nodes) == victim.index or says(victim, offset, DIFFERS), 10,
                   "it leads, or is found already")
    clients = [Client(n) for n in others]
    for client in clients:
        client.start()
    try:
        write(others, rng)
        wait_for_line(victim, offset, DIFFERS, FOUND_TIMEOUT)
        for n in others:
            line = wait_for_line(n, logs[n], '"msg":"alarm raised"', 10)
            if "CORRUPT" not in line or "contents differ" not in line:
                return "another alarm: " + line
        wait_for_line(victim, offset, "it is set aside", 20)
        wait_until(lambda: read(victim) == RIGHT, HEALED_TIMEOUT, "the right value at the victim")
        wait_until(lambda: etcdctl(others[0].endpoint(), "alarm", "list").stdout.strip() == "", 20,
                   "the alarm is gone")
    finally:
        errors = [e for client in clients for e in client.stop()]
    if errors:
        return "%d errors at the other members, such as %s" % (len(errors), errors[0])
    for n in others:
        with open(n.log_path, "rb") as log:
            log.seek(logs[n])
            if b"this member differs" in log.read():
                return "%s was taken for one that differs" % n.name
    counted = cluster.http_get(victim.client_port, "/metrics")
    if counted is None or "\ntrivet_member_differences_total 1\n" not in counted[1]:
        return "the metric does not say so: %s" % (counted,)
    found = hashes(nodes)
    if len(found) != 1:
        return "the members differ: %s" % found
    print("  it served '%s'; the other members answered %d times three requests" %
          (wrong, sum(c.count for c in clients)))
    return ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2, help="by turns a follower and a leader")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    print("seed %d, %d rounds" % (seed, args.rounds), flush=True)
    rng = random.Random(seed)
    cluster.exit_on_signals()
    tally = cluster.Tally()
    with cluster.Cluster("trivet") as nodes:
        nodes.start()
        for number in range(args.rounds):
            began = time.monotonic()
            name = "a leader differs" if number % 2 else "a follower differs"
            try:
                wrong = scenario(nodes, rng, number % 2 == 1)
                nodes.check_running()
            except cluster.ClusterError as error:
                wrong = str(error)
            print("%s: %s, %.1f s" % (name, "WRONG" if wrong else "healed",
                                      time.monotonic() - began), flush=True)
            if not tally.check(not wrong, name, wrong):
                nodes.keep()
                break
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
