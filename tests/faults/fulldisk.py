#!/usr/bin/env python3
"""A member's disk fills up: writes are refused before it is full, reads and deletes go on, the process
lives, and the alarm goes by itself when there is room again. The disk is a tmpfs of this test's own.
"""

# COMPAT better, full disks: writes are refused in time, as with the quota; etcd's process ends
import argparse
import datetime
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

TRIVETCTL = os.path.join(cluster.build_dir(), "client", "trivetctl")
DISK_BYTES = 768 << 20
RESERVE_BYTES = 200 << 20
PATIENCE_S = 15
FILL_COUNT = 300  # entries: more than the leader keeps for who is away
REST_S = 4.5  # the sender's five seconds, as the receiver sees them


class Disk:
    """A file system in memory with a ballast that takes its room."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="trivet-disk-")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % DISK_BYTES, "none", self.dir],
                       check=True, capture_output=True)

    def free_bytes(self):
        s = os.statvfs(self.dir)
        return s.f_bavail * s.f_frsize

    def leave(self, bytes_free):
        """So many bytes, about: whoever else writes there takes some meanwhile, so it looks again."""
        fd = os.open(os.path.join(self.dir, "ballast"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for _ in range(1000):
                size = os.fstat(fd).st_size
                wanted = size + self.free_bytes() - bytes_free
                if wanted <= size:
                    return os.ftruncate(fd, max(wanted, 0))
                try:
                    return os.posix_fallocate(fd, size, wanted - size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            raise TimeoutError("the others are always faster")
        finally:
            os.close(fd)

    def close(self):
        subprocess.run(["umount", "-l", self.dir], check=False)
        os.rmdir(self.dir)


def etcdctl(node, *args, value=None):
    result = cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "--command-timeout", "3s",
                          *args], capture_output=True, text=True, timeout=20, input=value)
    return result.returncode, result.stdout + result.stderr


def wait_until(condition):
    return cluster.wait_until(condition, PATIENCE_S)


def is_refused(node):
    code, text = etcdctl(node, "put", "probe", "x")
    return code != 0 and "database space exceeded" in text


def takes_puts(node):
    return etcdctl(node, "put", "probe", "x")[0] == 0


def alarms(node):
    return len(json.loads(etcdctl(node, "alarm", "list", "-w", "json")[1]).get("alarms", []))


def story(tally, disk, nodes):
    """One round of full and not full; the same whoever of the members it is."""
    other = nodes.nodes[1]
    tally.check(takes_puts(other), "puts before")
    disk.leave(RESERVE_BYTES // 2)
    tally.check(wait_until(lambda: is_refused(other)), "writes are refused", nodes.nodes[0].log_tail())
    tally.check(is_refused(nodes.nodes[0]), "at the member itself too")
    tally.check(alarms(other) == 1, "one alarm")
    tally.check(etcdctl(other, "get", "keep")[1] == "keep\nthis\n", "reads go on")
    tally.check(etcdctl(other, "del", "probe")[0] == 0, "deletes go on")
    revision = json.loads(etcdctl(other, "get", "keep", "-w", "json")[1])["header"]["revision"]
    tally.check(etcdctl(other, "compaction", "--physical", str(revision))[0] == 0,
                "compaction goes on")
    tally.check(is_refused(other), "still refused")
    disk.leave(DISK_BYTES // 2)
    tally.check(wait_until(lambda: takes_puts(other)), "it ends by itself", nodes.nodes[0].log_tail())
    tally.check(alarms(other) == 0, "no alarm is left")
    nodes.check_running()


def starts_when_full(tally, disk, nodes):
    """It serves on a disk without a free byte, again and again; and says so in words where that cannot be."""
    node = nodes.nodes[0]
    for attempt in range(3):
        disk.leave(0)
        nodes.start_node(0)
        tally.check(wait_until(lambda: etcdctl(node, "get", "keep")[1] == "keep\nthis\n"),
                    "reads after start %d with a full disk" % attempt, node.log_tail())
        tally.check(is_refused(node), "writes are refused")
        nodes.kill(0)
    for name, words in (("lsm/spare", "cannot open the store"),
                        ("wal/probe", "cannot open the write-ahead log's directory")):
        os.truncate(os.path.join(node.data_dir, "member", name), 0)
        disk.leave(0)
        nodes.start_node(0)
        tally.check(node.wait(PATIENCE_S) == 1, "it does not start without %s" % name, node.log_tail())
        tail = node.log_tail()
        tally.check(words in tail and "No space left on device" in tail, "and says why", tail)
        disk.leave(DISK_BYTES // 3)
        nodes.start_node(0)
        tally.check(wait_until(lambda: takes_puts(node)), "it starts when there is room", node.log_tail())
        nodes.kill(0)
    nodes.start_node(0)


def no_room_at_all(tally, disk, nodes, room, load):
    """Nobody watches the disk: the log's next segment or the store's next commit finds no room, and that
    is not the end."""
    other = nodes.nodes[1]
    disk.leave(room)
    value = "x" * 100000
    outcome = (0, "")
    for i in range(load):
        outcome = etcdctl(other, "put", "fill/%d" % (i % 20), value)
        if outcome[0] != 0:
            break
    tally.check("database space exceeded" in outcome[1], "refused when there is no room",
                outcome[1] + nodes.nodes[0].log_tail())
    nodes.check_running()
    tally.check(etcdctl(nodes.nodes[0], "get", "keep")[1] == "keep\nthis\n", "reads go on")
    tally.check(etcdctl(other, "del", "fill/1")[0] == 0, "deletes go on")
    tally.check(nodes.stop(0) == [-signal.SIGTERM], "it stops with a full disk", nodes.nodes[0].log_tail())
    starts_when_full(tally, disk, nodes)
    disk.leave(DISK_BYTES // 3)
    tally.check(wait_until(lambda: takes_puts(other)), "it ends by itself", nodes.nodes[0].log_tail())
    tally.check(alarms(other) == 0, "no alarm is left")
    nodes.check_running()


def fill(node):
    """80 MB, which compress to half of that."""
    for i in range(FILL_COUNT):
        etcdctl(node, "put", "fill/%d" % i, value=os.urandom(133000).hex())


def refusals(node):
    """When it refused snapshots for want of room."""
    lines = [json.loads(line) for line in node.log_tail(10000).splitlines() if "refused a snapshot" in line]
    return [datetime.datetime.fromisoformat(line["ts"].rstrip("Z")) for line in lines
            if line["error"] == "no space left on device"]


def snapshot_finds_no_room(tally, disk, nodes):
    """A member that needs a snapshot for which its disk has no room serves on, and takes it when it has."""
    node, other = nodes.nodes[:2]
    nodes.stop(0)
    fill(other)
    disk.leave(60 << 20)
    nodes.start_node(0)
    tally.check(wait_until(lambda: len(refusals(node)) >= 3), "it refuses snapshots", node.log_tail())
    nodes.check_running()
    tally.check(etcdctl(node, "get", "keep", "--consistency=s")[1] == "keep\nthis\n", "it serves what it has")
    at = refusals(node)
    gaps = [(after - before).total_seconds() for before, after in zip(at, at[1:])]
    tally.check(bool(gaps) and min(gaps) > REST_S, "the sender does not hurry", "%s" % gaps)
    tally.check(wait_until(lambda: not os.path.exists(os.path.join(node.data_dir, "member", "lsm.incoming"))),
                "nothing is left of them")
    disk.leave(DISK_BYTES * 3 // 4)
    nodes.wait_healthy()
    tally.check(etcdctl(node, "get", "fill/%d" % (FILL_COUNT - 1))[1].startswith("fill/"), "it has caught up", node.log_tail())
    nodes.check_running()


def restores(tally, disk, nodes):
    """trivetctl snapshot restore says that there is no room, leaves nothing, and may be tried again."""
    other = nodes.nodes[1]
    fill(other)
    file, target = os.path.join(nodes.dir, "file.db"), os.path.join(disk.dir, "restored")
    subprocess.run([TRIVETCTL, "--endpoints", other.endpoint(), "snapshot", "save", file],
                   check=True, capture_output=True)
    outcomes = set()
    for room in (0, 4096, 1 << 20, 4 << 20, 32 << 20, 40 << 20, 60 << 20, 70 << 20, 250 << 20):
        disk.leave(room)
        result = subprocess.run([TRIVETCTL, "snapshot", "restore", file, "--data-dir", target],
                                capture_output=True, text=True)
        text = result.stdout + result.stderr
        outcomes.add(result.returncode)
        tally.check(result.returncode == 0 or (result.returncode == 1 and "o space left on device" in text),
                    "restored with %d bytes free: %s" % (room, result.returncode), text)
    tally.check(outcomes == {0, 1}, "with and without room", str(outcomes))


def run(tally, reserve, body, flags=()):
    disk = Disk()
    try:
        with cluster.Cluster("trivet", flags=["--disk-reserve-bytes", str(reserve), *flags]) as nodes:
            nodes.nodes[0].data_dir = os.path.join(disk.dir, "data")
            nodes.start()
            tally.check(etcdctl(nodes.nodes[1], "put", "keep", "this")[0] == 0, "a first put")
            body(disk, nodes)
    finally:
        disk.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    if os.geteuid() != 0:
        print("needs root, to mount a tmpfs")
        return 77

    def rounds(disk, nodes):
        for _ in range(args.rounds):
            story(tally, disk, nodes)

    run(tally, RESERVE_BYTES, rounds)
    for room in (0, 40 << 20, 100 << 20):
        run(tally, 0, lambda disk, nodes: no_room_at_all(tally, disk, nodes, room, 4000))
    run(tally, 0, lambda disk, nodes: snapshot_finds_no_room(tally, disk, nodes),
        ["--log-segment-bytes", str(16 << 20), "--max-wals", "3", "--snapshot-count", "100",
         "--snapshot-catchup-entries", "100"])
    run(tally, 0, lambda disk, nodes: restores(tally, disk, nodes))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
