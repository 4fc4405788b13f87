#!/usr/bin/env python3
"""What scanners and worse do to a port with TLS, to an etcd and a trivet side by side: versions of old,
renegotiation, certificates that must not do, protocols that do not go together, handshakes that are
damaged, cut off at every byte, slow, and never ended. All the while a client that does nothing wrong is
served by trivet; afterwards files and memory are as before.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import os
import random
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import certs  # noqa: E402
import cluster as clusters  # noqa: E402
from cluster import Cluster, Tally, wait_until  # noqa: E402

KINDS = ("etcd", "trivet")
PATIENCE = 20
POLITE_WAIT_MAX_S = 20.0  # on a machine that does much else
RSS_GROWTH_MAX = 96 << 20
HANDSHAKE, ALERT = 22, 21
HANDSHAKE_LIMIT_S = 10
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
REQUEST = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
tally = Tally()


class Pki:
    def __init__(self, folder):
        self.ca, self.other = certs.Authority(folder, "ca"), certs.Authority(folder, "other")
        names = ["DNS:localhost", "IP:127.0.0.1"]
        self.server = self.ca.issue("server", sans=names)
        self.client = self.ca.issue("client", uses=("clientAuth",))
        revoked = self.ca.issue("revoked")
        self.ca.revoke(revoked)
        self.crl = os.path.join(folder, "crl.der")
        self.ca.write_crl(self.crl)
        self.bad = {
            "none": None,
            "of another CA": self.other.issue("stranger"),
            "signed by itself": certs.Certificate(self.other.cert, self.other.key),
            "expired": self.ca.issue("expired", expired=True),
            "revoked": revoked,
            "for servers alone": self.ca.issue("for-servers", uses=("serverAuth",)),
            "for signing code": self.ca.issue("for-code", uses=("codeSigning",)),
        }


def context(pki, who, version=None, alpn=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(pki.ca.cert)
    c.set_ciphers("ALL:@SECLEVEL=0")
    if version is not None:
        c.minimum_version = c.maximum_version = version
    if who is not None:
        c.load_cert_chain(who.cert, who.key)
    if alpn:
        c.set_alpn_protocols(alpn)
    return c


def connect(node, timeout=PATIENCE):
    return socket.create_connection(("127.0.0.1", node.client_port), timeout=timeout)


def read_to_end(s):
    """What came up to the end; None: it does not end."""
    data = b""
    try:
        while True:
            got = s.recv(65536)
            if not got:
                return data
            data += got
    except socket.timeout:
        return None
    except OSError:
        return data


def refused(data):
    """No more than alerts, and the end."""
    while data:
        if data[0] != ALERT or len(data) < 5:
            return False
        data = data[5 + struct.unpack(">H", data[3:5])[0]:]
    return data is not None


class Handshake:
    """A client's, in memory: what it sends, flight by flight."""

    def __init__(self, pki, who, **more):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(pki, who, **more).wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def step(self):
        """The bytes to send now, and whether that is all."""
        try:
            self.tls.do_handshake()
            return self.outgoing.read(), True
        except ssl.SSLWantReadError:
            return self.outgoing.read(), False

    def run(self, s):
        while True:
            data, done = self.step()
            s.sendall(data)
            if done:
                return
            got = s.recv(65536)
            if not got:
                raise ConnectionError("the server has closed")
            self.incoming.write(got)


# --- a client that does nothing wrong ---

class Polite(threading.Thread):
    """New connections and an old one, in turn; how long it waited at most."""

    def __init__(self, pki, node):
        super().__init__(daemon=True)
        self.context, self.node = context(pki, pki.client), node
        self.stopping = threading.Event()
        self.served, self.waited, self.failed = 0, 0.0, []
        self.in_a_row = self.in_a_row_most = 0
        self.start()

    def connection(self):
        return http.client.HTTPSConnection("127.0.0.1", self.node.client_port, timeout=30, context=self.context)

    def put(self, connection):
        connection.request("POST", "/v3/kv/put", b'{"key":"cG9saXRl","value":"dg=="}')
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise OSError("status %d" % answer.status)

    def run(self):
        old = self.connection()
        while not self.stopping.wait(0.02):
            begin = time.monotonic()
            try:
                self.put(old)
                with contextlib.closing(self.connection()) as new:
                    self.put(new)
                self.served += 1
                self.in_a_row = 0
            except (OSError, http.client.HTTPException) as error:
                # A handshake takes ten seconds at most, also one that has no CPU to be done with.
                self.failed.append(repr(error))
                self.in_a_row += 1
                self.in_a_row_most = max(self.in_a_row, self.in_a_row_most)
            self.waited = max(self.waited, time.monotonic() - begin)
        old.close()

    def end(self):
        self.stopping.set()
        self.join()
        tally.check(self.served > 20 and self.in_a_row_most < 2, "the other client is served",
                    "%d times, failed: %s" % (self.served, self.failed[:3]))
        tally.check(self.waited < POLITE_WAIT_MAX_S, "and in time", "%.1f s" % self.waited)
        print("a client that does nothing wrong: served %d times, waited %.2f s at most" %
              (self.served, self.waited))


# --- probes: each gives something that is the same for both ---

def old_hello(version):
    """A ClientHello that knows nothing newer: no extensions, suites of its time."""
    suites = b"\x00\x2f\x00\x35\x00\x0a\xc0\x09\xc0\x0a\xc0\x13\xc0\x14"
    body = version + bytes(32) + b"\x00" + struct.pack(">H", len(suites)) + suites + b"\x01\x00"
    message = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return bytes([HANDSHAKE]) + version + struct.pack(">H", len(message)) + message


SSL2_HELLO = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x03\x00\x80\x07\x00\xc0\x06\x00\x40\x02" \
             b"\x00\x80\x04\x00\x80" + bytes(16)


def is_refused(data):
    def probe(node):
        with connect(node) as s:
            with contextlib.suppress(OSError):
                s.sendall(data)
            got = read_to_end(s)
            return "it stays open" if got is None else "refused" if refused(got) else "answered"
    return probe


def alert_of(data):
    """The number of the alert that is the answer."""
    def probe(node):
        with connect(node) as s:
            s.sendall(data)
            got = read_to_end(s)
            return got[6] if got and got[0] == ALERT and len(got) == 7 else got
    return probe


def gets_in(pki, who, version):
    def probe(node):
        try:
            with connect(node) as s, context(pki, who, version).wrap_socket(s, server_hostname="localhost") as t:
                t.sendall(REQUEST)
                return t.recv(1) != b""
        except (ssl.SSLError, OSError):
            return False
    return probe


def speaks(pki, alpn, data):
    """Agreed upon, and whether what is then said is answered as HTTP/1 or HTTP/2."""
    def probe(node):
        try:
            with connect(node, 5) as s, \
                    context(pki, pki.client, alpn=alpn).wrap_socket(s, server_hostname="localhost") as t:
                t.sendall(data)
                got = t.recv(9)
                kind = "HTTP/1" if got.startswith(b"HTTP/1.1 ") else "HTTP/2" if got[3:4] == b"\4" else "nothing"
                return t.selected_alpn_protocol(), kind
        except (ssl.SSLError, OSError):
            return None
    return probe


def renegotiation(pki):
    """openssl's client asks for one ("R"); what becomes of it."""
    def probe(node):
        process = subprocess.Popen(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % node.client_port, "-tls1_2", "-CAfile", pki.ca.cert,
             "-cert", pki.client.cert, "-key", pki.client.key, "-legacy_renegotiation"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=clusters.die_with_parent)
        try:
            time.sleep(1)
            process.stdin.write(b"R\n")
            process.stdin.flush()
            time.sleep(1)
            said, _ = process.communicate(b"Q\n", timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            said, _ = process.communicate()
        text = said.decode(errors="replace")
        after = text.rpartition("RENEGOTIATING")[2]
        return "RENEGOTIATING" in text, "verify return" in after
    return probe


class Pair:
    def __init__(self, pki):
        flags = ["--cert-file", pki.server.cert, "--key-file", pki.server.key, "--client-cert-auth",
                 "--trusted-ca-file", pki.ca.cert, "--client-crl-file", pki.crl]
        self.clusters = {kind: Cluster(kind, size=1, flags=flags) for kind in KINDS}
        for c in self.clusters.values():
            c.client_scheme, c.ssl_context = "https", context(pki, pki.client)

    def __enter__(self):
        for c in self.clusters.values():
            c.nodes[0].start()
        for c in self.clusters.values():
            c.wait_healthy()
        return self

    def __exit__(self, *_):
        for c in self.clusters.values():
            c.close()

    def node(self, kind):
        return self.clusters[kind].nodes[0]

    def check(self, rule, probes):
        """probes: {name: (probe, what is expected)}; None: what etcd does."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            running = {(name, kind): pool.submit(probe, self.node(kind))
                       for name, (probe, _) in probes.items() for kind in KINDS}
        for name, (_, expected) in probes.items():
            want, got = (running[name, kind].result() for kind in KINDS)
            tally.check(want == got and (expected is None or got == expected), "%s: %s" % (rule, name),
                        "etcd %r, trivet %r, expected %r" % (want, got, expected))


# --- the same at both ---

def check_versions(pki, pair):
    numbers = {"SSL 3.0": b"\x03\x00", "TLS 1.0": b"\x03\x01", "TLS 1.1": b"\x03\x02"}
    pair.check("old versions", {
        "SSL 2.0": (is_refused(SSL2_HELLO), "refused"),
        **{name: (is_refused(old_hello(v)), "refused") for name, v in numbers.items()},
        **{name + ", the alert": (alert_of(old_hello(v)), 70) for name, v in numbers.items() if "TLS" in name},
    })
    pair.check("renegotiation", {"asked for by the client": (renegotiation(pki), (True, False))})


def check_certificates(pki, pair):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        pair.check("client certificates, " + version.name, {
            "good": (gets_in(pki, pki.client, version), True),
            **{name: (gets_in(pki, who, version), False) for name, who in pki.bad.items()}})


def check_protocols(pki, pair):
    pair.check("protocols", {
        "h2": (speaks(pki, ["h2"], PREFACE), ("h2", "HTTP/2")),
        "http/1.1": (speaks(pki, ["http/1.1"], REQUEST), (None, "HTTP/1")),
        "both": (speaks(pki, ["h2", "http/1.1"], PREFACE), ("h2", "HTTP/2")),
        "neither": (speaks(pki, None, REQUEST), (None, "HTTP/1")),
        "one that nobody knows": (speaks(pki, ["xyz"], REQUEST), None),
        "one that nobody knows, and h2": (speaks(pki, ["xyz", "h2"], PREFACE), ("h2", "HTTP/2")),
    })


# COMPAT differs, TLS: HTTP/1.1 and HTTP/2 are told apart by what comes, also where ALPN said something else
def check_protocols_against_alpn(pki, node):
    for name, alpn, data, expected in (("http/1.1, and then HTTP/2", ["http/1.1"], PREFACE, (None, "HTTP/2")),
                                       ("h2, and then HTTP/1.1", ["h2"], REQUEST, ("h2", "HTTP/1"))):
        got = speaks(pki, alpn, data)(node)
        tally.check(got == expected, "protocols: " + name, repr(got))


def check_records(pair):
    hello = old_hello(b"\x03\x03")
    pair.check("records", {
        "larger than any": (is_refused(b"\x16\x03\x01\xff\xff" + bytes(65535)), "refused"),
        "a hello of 16 MB": (is_refused(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16380)), "refused"),
        "data before the handshake": (is_refused(b"\x17\x03\x03\x00\x05hello"), "refused"),
        "an alert at once": (is_refused(b"\x15\x03\x03\x00\x02\x02\x28"), "refused"),
        "an unknown kind": (is_refused(b"\x63\x03\x03\x00\x05hello"), "refused"),
        "an empty record": (is_refused(b"\x16\x03\x01\x00\x00"), None),
        "a hello twice": (is_refused(hello + hello), "refused"),
        "no suite in common": (is_refused(hello.replace(b"\xc0\x09\xc0\x0a\xc0\x13\xc0\x14", b"\x00\x01" * 4)), "refused"),
    })


# --- at trivet ---

def cut_off(pki, node, stride):
    """The client goes away behind each byte of what it says."""
    cuts = 0
    hello, _ = Handshake(pki, pki.client).step()
    for at in range(0, len(hello), stride):
        with connect(node) as s:
            s.sendall(hello[:at])
        cuts += 1
    for at in range(0, 1500, 7 * stride):
        h = Handshake(pki, pki.client)
        with connect(node) as s:
            s.sendall(h.step()[0])
            h.incoming.write(s.recv(65536))
            s.sendall(h.step()[0][:at])
        cuts += 1
    print("handshakes that end early: %d" % cuts)


def damaged(pki, node, count, rng):
    """A byte of the hello, or of what follows, is another. Whatever comes of it, it ends when we go."""
    outcomes = {}
    for i in range(count):
        h = Handshake(pki, pki.client)
        with connect(node) as s:
            try:
                for flight in range(3):
                    data, done = h.step()
                    changed = bytearray(data)
                    if flight == i % 3 and changed:
                        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
                    s.sendall(changed)
                    if done:
                        break
                    s.settimeout(0.5)
                    h.incoming.write(s.recv(65536))
                outcome = "shaken"
            except socket.timeout:
                outcome = "waits"
            except (ssl.SSLError, OSError):
                outcome = "refused"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print("damaged handshakes: %s" % outcomes)
    tally.check(outcomes.get("refused", 0) > count // 4, "damaged handshakes are refused", repr(outcomes))


def garbage(node, count, rng):
    for i in range(count):
        with connect(node) as s:
            head = b"\x16\x03\x01" if i % 2 else b""
            with contextlib.suppress(OSError):
                s.sendall(head + rng.randbytes(rng.randrange(1, 3000)))


class Slow(threading.Thread):
    """A byte now and then, on many connections; how they were ended."""

    def __init__(self, pki, node, count):
        super().__init__(daemon=True)
        self.pki, self.node, self.count, self.ended = pki, node, count, []
        self.start()

    def run(self):
        hello, _ = Handshake(self.pki, self.pki.client).step()
        begin = time.monotonic()
        sockets = [connect(self.node) for _ in range(self.count)]
        for at in range(3 * HANDSHAKE_LIMIT_S):
            for s in list(sockets):
                try:
                    s.sendall(hello[at:at + 1])
                    s.setblocking(False)
                    if s.recv(100) == b"":
                        raise ConnectionError
                except BlockingIOError:
                    s.setblocking(True)
                except OSError:
                    self.ended.append(time.monotonic() - begin)
                    sockets.remove(s)
                    s.close()
            time.sleep(1)
        for s in sockets:
            s.close()


def open_without_end(pki, node, count):
    """Connections that stop: before the hello, in it, behind it, and behind the handshake in the preface."""
    hello, _ = Handshake(pki, pki.client).step()
    sockets, most = [], 0
    for i in range(count):
        s = connect(node)
        s.sendall((b"", hello[:3], hello[:100], hello)[i % 4])
        sockets.append(s)
        if i % 50 == 0:
            most = max(most, open_files(node))
    # The first are ended while the last come, where much else goes on.
    tally.check(most > min(count, 1000) // 2, "half-open handshakes are waited for", "%d files" % most)
    shaken = []
    for i in range(count // 10):
        s = connect(node)
        h = Handshake(pki, pki.client)
        h.run(s)
        h.tls.write(PREFACE[:i % 24])
        s.sendall(h.outgoing.read())
        shaken.append(s)
    return sockets, shaken


def open_files(node):
    return len(os.listdir("/proc/%d/fd" % node.process.pid))


def check_abuse(pki, node, args):
    rng = random.Random(args.seed)
    for _ in range(50):  # what a server keeps for good comes with its first clients
        gets_in(pki, pki.client, None)(node)
    files, memory = open_files(node), node.rss_bytes()
    polite = Polite(pki, node)
    slow = Slow(pki, node, args.slow)
    cut_off(pki, node, args.stride)
    damaged(pki, node, args.damaged, rng)
    garbage(node, args.garbage, rng)
    sockets, shaken = open_without_end(pki, node, args.half_open)
    tally.check(gets_in(pki, pki.client, None)(node), "beside them others get in")
    # They are ended; those that have shaken hands may take their time with the first frame.
    tally.check(wait_until(lambda: open_files(node) < files + len(shaken) + args.slow + 50, 3 * HANDSHAKE_LIMIT_S),
                "handshakes that do not go on are ended", "%d files, %d before" % (open_files(node), files))
    slow.join()
    tally.check(len(slow.ended) == args.slow, "slow handshakes are ended", "%d of %d" % (len(slow.ended), args.slow))
    tally.check(all(t > HANDSHAKE_LIMIT_S - 2 for t in slow.ended), "but not at once", repr(slow.ended[:3]))
    for s in sockets + shaken:
        s.close()
    polite.end()
    tally.check(wait_until(lambda: open_files(node) <= files + 2, 60), "all files are given back",
                "%d, %d before" % (open_files(node), files))
    grown = node.rss_bytes() - memory
    print("memory: %.1f MB more" % (grown / 1e6))
    sanitized = clusters.build_dir().endswith(("asan", "tsan"))
    tally.check(grown < RSS_GROWTH_MAX or sanitized, "and memory", "%d bytes more" % grown)
    tally.check(node.running() and node.healthy(), "it serves")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--damaged", type=int, default=150)
    parser.add_argument("--garbage", type=int, default=200)
    parser.add_argument("--half-open", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=40)
    args = parser.parse_args()
    clusters.exit_on_signals()
    folder = tempfile.mkdtemp(prefix="trivet-tlsprobe-")
    try:
        pki = Pki(folder)
        with Pair(pki) as pair:
            check_versions(pki, pair)
            check_certificates(pki, pair)
            check_protocols(pki, pair)
            check_protocols_against_alpn(pki, pair.node("trivet"))
            check_records(pair)
            check_abuse(pki, pair.node("trivet"), args)
            pair.clusters["trivet"].check_running()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
