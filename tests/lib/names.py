"""A name server of a test's own, and a network and a resolver's configuration to go with it."""

import socket
import subprocess
import sys
import tempfile
import threading


class Dns(threading.Thread):
    """A name server: {(name, type): [data], or None where it fails}; whatever else it is asked for is not there."""

    def __init__(self, records):
        super().__init__(daemon=True)
        self.records = records
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))

    def run(self):
        while True:
            query, who = self.socket.recvfrom(4096)
            self.socket.sendto(self.answer(query), who)

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, kind = ".".join(labels).lower(), int.from_bytes(query[at + 1:at + 3], "big")
        found = self.records.get((name, kind), [])
        known = found or any(n == name for n, _ in self.records)
        flags = 0x8182 if found is None else 0x8180 if known else 0x8183
        found = found or []
        head = query[:2] + flags.to_bytes(2, "big") + b"\0\1" + \
            len(found).to_bytes(2, "big") + bytes(4)
        body = query[12:at + 5]
        for data in found:
            body += b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\1" + len(data).to_bytes(2, "big") + data
        return head + body


def encode_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def record(port, target):
    return b"\0\0\0\0" + port.to_bytes(2, "big") + encode_name(target)


def alone(script, argument, timeout=120):
    """Run the script with the argument where it is alone with a Dns of its own, as root only."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
        f.write("nameserver 127.0.0.1\n")
        f.flush()
        inside = "ip link set lo up && mount --bind %s /etc/resolv.conf && exec %s %s %s" % (
            f.name, sys.executable, script, argument)
        return subprocess.run(["unshare", "-mn", "sh", "-c", inside], capture_output=True, text=True,
                              timeout=timeout, check=False)
