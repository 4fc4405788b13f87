#!/usr/bin/env python3
"""A member's disk fills up: writes are refused before it is full, reads and deletes go on, the process
lives, and the alarm goes by itself when there is room again. The disk is a tmpfs of this test's own.
"""

# COMPAT better, full disks: writes are refused in time, as with the quota; etcd's process ends
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

DISK_BYTES = 768 << 20
RESERVE_BYTES = 200 << 20
PATIENCE_S = 15


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
        """So many bytes, about."""
        path = os.path.join(self.dir, "ballast")
        size = os.path.getsize(path) if os.path.exists(path) else 0
        size += self.free_bytes() - bytes_free
        with open(path, "ab") as f:
            f.truncate(0)
            os.posix_fallocate(f.fileno(), 0, max(size, 1))

    def close(self):
        subprocess.run(["umount", "-l", self.dir], check=False)
        os.rmdir(self.dir)


def etcdctl(node, *args):
    result = cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "--command-timeout", "3s",
                          *args], capture_output=True, text=True, timeout=20)
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
    # It ends in order, and comes back when there is room.
    tally.check(nodes.stop(0) == [-signal.SIGTERM], "it stops with a full disk", nodes.nodes[0].log_tail())
    disk.leave(DISK_BYTES // 3)
    nodes.start_node(0)
    tally.check(wait_until(lambda: takes_puts(other)), "it ends by itself", nodes.nodes[0].log_tail())
    tally.check(alarms(other) == 0, "no alarm is left")
    nodes.check_running()


def run(tally, reserve, body):
    disk = Disk()
    try:
        with cluster.Cluster("trivet", flags=["--disk-reserve-bytes", str(reserve)]) as nodes:
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
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
