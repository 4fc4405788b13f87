"""Members in network namespaces of their own, between which packets can be dropped.

    net = Network.try_new(3)            # None where this is not allowed; why is in netns.why
    net.attach(cluster)                 # before it starts
    net.cut(0, 1)                       # what 0 sends does not reach 1; no RST, no ICMP: silence
    net.lose(2, 10)                     # a tenth of what 2 sends is lost
    net.heal()

The namespaces have no names: they exist as long as this process, and the members in it, hold them, so that
nothing is left behind however it ends. This process moves into one as well, with its mounts: from then on
it, and what it starts, sees only a loopback of its own and the members, at 10.77.0.1 and up.
"""

import ctypes
import os
import shutil
import subprocess

import cluster

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
why = ""


class NetworkError(Exception):
    pass


def _unshare(flags):
    if _libc.unshare(flags) != 0:
        raise NetworkError("unshare: %s" % os.strerror(ctypes.get_errno()))


def _enter(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise NetworkError("setns: %s" % os.strerror(ctypes.get_errno()))


def _run(*args, inside=None):
    result = subprocess.run(args, capture_output=True, text=True, check=False,
                            preexec_fn=None if inside is None else lambda: _enter(inside),
                            pass_fds=[] if inside is None else [inside])
    if result.returncode != 0:
        raise NetworkError("%s: %s" % (" ".join(args), result.stderr.strip()))


def _become_root():
    """In a user namespace of its own, where this is not root."""
    uid, gid = os.getuid(), os.getgid()
    _unshare(CLONE_NEWUSER)
    for path, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
        with open("/proc/self/" + path, "w", encoding="ascii") as f:
            f.write(text)


class Network:
    def __init__(self, size):
        for tool in ("ip", "nft"):
            if shutil.which(tool) is None:
                raise NetworkError("there is no %s" % tool)
        if os.geteuid() != 0:
            _become_root()
        _unshare(CLONE_NEWNET | CLONE_NEWNS)
        _libc.mount(b"none", b"/", None, (1 << 18) | (1 << 14), None)  # private, recursively
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "br0", "type", "bridge")
        _run("ip", "addr", "add", "10.77.0.254/24", "dev", "br0")
        _run("ip", "link", "set", "br0", "up")
        hub = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.inside = []
        for i in range(size):
            self._add(i, hub)
        self.has_netem = self._try_netem()

    @staticmethod
    def try_new(size):
        global why
        try:
            return Network(size)
        except (NetworkError, OSError) as error:
            why = str(error)
            return None

    def _add(self, i, hub):
        _unshare(CLONE_NEWNET)
        fd = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.inside.append(fd)
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "m%d" % i)
        _enter(hub)
        _run("ip", "link", "set", "m%d" % i, "netns", str(os.getpid()), inside=fd)
        _run("ip", "link", "set", "m%d" % i, "master", "br0", "up")
        _run("ip", "addr", "add", self.address(i) + "/24", "dev", "eth0", inside=fd)
        _run("ip", "link", "set", "eth0", "up", inside=fd)
        _run("nft", "add table ip t; add chain ip t in { type filter hook input priority 0; }; "
             "add chain ip t out { type filter hook output priority 0; }", inside=fd)

    def _try_netem(self):
        try:
            _run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "1ms", inside=self.inside[0])
            _run("tc", "qdisc", "del", "dev", "eth0", "root", inside=self.inside[0])
            return True
        except (NetworkError, OSError):
            return False

    @staticmethod
    def address(i):
        return "10.77.0.%d" % (i + 1)

    def attach(self, nodes, first=0):
        """Before it starts. Its first node gets place `first` of this network."""
        for node, fd in zip(nodes.nodes, self.inside[first:]):
            def enter(fd=fd):
                cluster.die_with_parent()
                _enter(fd)
            node.host = self.address(first + node.index)
            node.enter = enter
            node.place = first + node.index

    def _rule(self, at, text):
        _run("nft", "add rule ip t in " + text, inside=self.inside[at])

    def cut(self, sender, receiver):
        self._rule(receiver, "ip saddr %s drop" % self.address(sender))

    def isolate(self, i):
        """From all others, both ways; clients still reach it."""
        for j in range(len(self.inside)):
            if j != i:
                self.cut(i, j)
                self.cut(j, i)

    def silence(self, i):
        """The whole zone is lost: nothing gets in or out, for clients neither."""
        for chain in ("in", "out"):
            _run("nft", "add rule ip t %s drop" % chain, inside=self.inside[i])

    def lose(self, sender, percent):
        """What a member sends to others is lost now and then."""
        for j in range(len(self.inside)):
            if j != sender:
                self._rule(j, "ip saddr %s numgen random mod 100 < %d drop" %
                           (self.address(sender), percent))

    def delay(self, i, delay_ms, jitter_ms):
        _run("tc", "qdisc", "replace", "dev", "eth0", "root", "netem", "delay", "%dms" % delay_ms,
             "%dms" % jitter_ms, inside=self.inside[i])

    def throttle(self, i, kbit):
        """No more in a second, in and out; what has to wait longer than 0.4 s is lost."""
        limit = ["root", "tbf", "rate", "%dkbit" % kbit, "burst", "4kb", "latency", "400ms"]
        _run("tc", "qdisc", "replace", "dev", "eth0", *limit, inside=self.inside[i])
        _run("tc", "qdisc", "replace", "dev", "m%d" % i, *limit)

    def heal(self):
        for i, fd in enumerate(self.inside):
            _run("nft", "flush chain ip t in; flush chain ip t out", inside=fd)
            subprocess.run(["tc", "qdisc", "del", "dev", "eth0", "root"], capture_output=True,
                           check=False, preexec_fn=lambda fd=fd: _enter(fd))
            subprocess.run(["tc", "qdisc", "del", "dev", "m%d" % i, "root"], capture_output=True, check=False)
