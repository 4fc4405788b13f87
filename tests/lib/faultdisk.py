"""A node's disk that fails or is slow on command: tests/faults/faultdisk.c, preloaded."""

import os
import statistics
import struct
import time

import cluster


def shim():
    return os.path.join(cluster.build_dir(), "tests", "faults", "faultdisk.so")


def available():
    """A sanitizer's build takes nothing before its own library."""
    return os.path.exists(shim()) and "san" not in cluster.build_dir()


def sync_ms(folder, times=30):
    """What the disk below `folder` takes to make 4 KiB durable, in the middle."""
    took = []
    path = os.path.join(folder, "sync-probe")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(times):
        begun = time.monotonic()
        os.pwrite(fd, bytes(4096), 0)
        os.fdatasync(fd)
        took.append((time.monotonic() - begun) * 1000)
    os.close(fd)
    os.unlink(path)
    return statistics.median(took)


class FailingDisk:
    """The command file of faultdisk.c for one node, which is not started yet."""

    def __init__(self, node):
        self.path = os.path.join(node.cluster.dir, node.name + ".disk")
        self.say(b"\0")
        node.flags = ["--wal-io", "sync"]
        node.more_environment = {
            "LD_PRELOAD": shim(),
            "FAULTDISK_CONTROL": self.path, "FAULTDISK_DIR": node.data_dir + "/"}

    def say(self, mode, delay_ms=0):
        self.mode = mode
        mode_in = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(mode_in, b"\0\0\0\0" + struct.pack("=I", delay_ms), 0)
        os.pwrite(mode_in, mode, 0)
        os.close(mode_in)

    def struck(self):
        with open(self.path, "rb") as f:
            return f.read(8)[1]
