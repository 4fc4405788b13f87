#!/usr/bin/env python3
"""What no client should send, to all members of a running cluster, while others want to be served.

Every request is a valid one that was damaged in one of the ways below, from a seed. For each there must
be an end: an answer, a reset, a GOAWAY, an HTTP/1 status or a closed connection, and what the server
sends must be HTTP/2 frames. Meanwhile a client that does nothing wrong reads and writes, and notes how
long it waits; memory is watched. Afterwards the members run, are healthy, and have given back the
connections.
"""

import argparse
import collections
import multiprocessing
import os
import queue
import random
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1
FRAME_BYTES_MAX = 1 << 16
ANSWER_TIMEOUT_S = 20
POLITE_WAIT_MAX_S = 5.0
SLOW_CONNECTIONS = 40
SLOW_TURNOVER_S = 0.25
RSS_BYTES_MAX = 512 << 20
LEFT_FDS_MAX = 20


# --- HTTP/2 and protobuf, just enough to write them ---

def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def integer(value, bits, first=0):
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = [first | limit], value - limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def header(name, value):
    name, value = name.encode("latin-1"), value.encode("latin-1")
    return b"\x00" + integer(len(name), 7) + name + integer(len(value), 7) + value


def headers(path, content_type="application/grpc", method="POST", more=()):
    block = header(":method", method) + header(":scheme", "http") + header(":path", path)
    block += header(":authority", "localhost") + header("content-type", content_type)
    block += header("te", "trailers")
    return block + b"".join(header(n, v) for n, v in more)


def message(body, compressed=0, size=None):
    return struct.pack(">BI", compressed, len(body) if size is None else size) + body


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


# --- valid requests to begin with ---

def some_key(rng):
    return b"bad/%d" % rng.randrange(40)


def some_put(rng):
    body = field(1, some_key(rng)) + field(2, bytes(rng.randrange(200)))
    return "/etcdserverpb.KV/Put", body + (field(4, 1) if rng.random() < 0.3 else b"")


def some_range(rng):
    body = field(1, b"bad/") + field(2, b"bad0") + field(3, rng.randrange(20))
    return "/etcdserverpb.KV/Range", body + field(5, rng.randrange(3)) + field(6, rng.randrange(5))


def some_range_stream(rng):
    body = field(1, b"\x00") + field(2, b"\x00") if rng.random() < 0.5 else some_range(rng)[1]
    return "/etcdserverpb.KV/RangeStream", body


def some_delete(rng):
    return "/etcdserverpb.KV/DeleteRange", field(1, some_key(rng)) + field(3, 1)


def some_txn(rng, depth=0):
    compare = field(1, rng.randrange(4)) + field(2, rng.randrange(5)) + field(3, some_key(rng))
    body = field(1, compare + field(4 + rng.randrange(4), rng.randrange(5)))
    for branch in (2, 3):
        body += field(branch, field(2, some_put(rng)[1])) + field(branch, field(1, some_range(rng)[1]))
        if depth < 3 and rng.random() < 0.4:
            body += field(branch, field(4, some_txn(rng, depth + 1)[1]))
    return "/etcdserverpb.KV/Txn", body


def deep_txn(rng):
    body = b""
    for _ in range(rng.choice([10, 63, 64, 65, 200, 5000])):
        body = field(2, field(4, body))
    return "/etcdserverpb.KV/Txn", body


def some_watch(rng):
    create = field(1, b"bad/") + field(2, b"bad0") + field(3, rng.randrange(5)) + field(6, 1)
    body = field(1, create) if rng.random() < 0.8 else field(rng.randrange(1, 5), field(1, 5))
    return "/etcdserverpb.Watch/Watch", body


def some_lease(rng):
    name = rng.choice(["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"])
    return "/etcdserverpb.Lease/" + name, field(1, rng.choice([1, 0, 5, -1])) + field(2, 0)


def some_other(rng):
    path = rng.choice(["Maintenance/Status", "Cluster/MemberList", "Maintenance/HashKV",
                       "Maintenance/Alarm", "KV/Compact", "Auth/Authenticate", "Cluster/MemberAdd"])
    return "/etcdserverpb." + path, b"" if path == "KV/Compact" else field(7, 1)


VALID = [some_put, some_put, some_range, some_range, some_range_stream, some_txn, some_txn,
         some_delete, some_watch, some_lease, some_other]


def valid(rng):
    return rng.choice(VALID)(rng)


def damaged(rng, data):
    """Some bytes changed, added, removed or repeated."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.choice([0, 0x7f, 0x80, 0xff, rng.randrange(256)])
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 12)))
        elif kind == 3:
            del data[at:at + rng.randrange(1, 8)]
        else:
            data[at:at] = data[max(0, at - rng.randrange(1, 30)):at]
    return bytes(data)


# --- ways to go wrong on one stream: the frames of the request; the connection can be used again ---

def bad_message(rng, stream):
    path, body = valid(rng)
    kind = rng.randrange(6)
    if kind == 0:
        body = damaged(rng, body)
    elif kind == 1:
        body = body[:rng.randrange(len(body) + 1)]
    elif kind == 2:  # a varint without end, or with too many bits
        body += varint(rng.randrange(1, 20) << 3) + b"\xff" * rng.choice([3, 9, 10, 11, 40])
    elif kind == 3:  # a length beyond the end
        body += varint(rng.randrange(1, 20) << 3 | 2) + varint(rng.choice([1, 1 << 31, 1 << 63, -1]))
    elif kind == 4:  # groups, wire types and field numbers that there are not
        body += bytes([rng.randrange(256) for _ in range(rng.randrange(1, 6))])
    else:
        path, body = deep_txn(rng)
    return (frame(HEADERS, END_HEADERS, stream, headers(path)) +
            data_frames(stream, message(body)))


def data_frames(stream, data):
    out = b""
    while len(data) > 16384:
        out += frame(DATA, 0, stream, data[:16384])
        data = data[16384:]
    return out + frame(DATA, END_STREAM, stream, data)


def bad_framing(rng, stream):
    path, body = valid(rng)
    kind = rng.randrange(6)
    if kind == 0:
        data = message(body, size=rng.choice([0, 1, len(body) + 1, len(body) + 1000, 0xffffffff]))
    elif kind == 1:
        data = message(body, compressed=rng.choice([1, 2, 255]))
    elif kind == 2:
        data = message(body)[:rng.randrange(len(body) + 5)]
    elif kind == 3:
        data = message(body) * rng.randrange(2, 4)
    elif kind == 4:
        data = b""
    else:
        data = message(b"\x0a\xff\xff\x7f" + bytes(rng.choice([1 << 16, 2100000])))
    return frame(HEADERS, END_HEADERS, stream, headers(path)) + data_frames(stream, data[:60000])


def bad_headers(rng, stream):
    path, body = valid(rng)
    kind = rng.randrange(9)
    if kind == 0:
        block = headers(rng.choice(["/", "", "/x", "/etcdserverpb.KV/", "/etcdserverpb.KV/Nothing",
                                    "/none.Such/Method", "*", "/" + "a" * 5000, path + "/", path.upper()]))
    elif kind == 1:
        block = headers(path, rng.choice(["text/html", "", "application/json", "application/grpcx",
                                          "application/grpc+json", "application/grpc;x"]))
    elif kind == 2:
        block = headers(path, method=rng.choice(["GET", "PUT", "", "CONNECT", "post", "OPTIONS"]))
    elif kind == 3:
        block = headers(path, more=[("grpc-timeout", rng.choice(
            ["", "1", "x", "1x", "999999999999H", "-1S", "1S1S", "00000000n", "99999999H", "0m"]))])
    elif kind == 4:
        block = headers(path, more=[("grpc-encoding", rng.choice(["gzip", "", "none", "snappy"]))])
    elif kind == 5:
        block = headers(path, more=[("x-%d" % i, "y" * rng.randrange(100)) for i in range(200)])
    elif kind == 6:
        block = headers(path, more=[(rng.choice(["bad-bin", "hasleader", "authorization", "token"]),
                                     rng.choice(["!!!", "", "\x01", "A" * 3000]))])
    elif kind == 7:
        block = header(":path", path) + header("content-type", "application/grpc")
    else:
        block = headers(path, more=[("te", "gzip"), ("connection", "close"), ("UPPER", "x"),
                                    (":late", "x"), ("content-length", "7")][:rng.randrange(1, 6)])
    return frame(HEADERS, END_HEADERS, stream, block) + data_frames(stream, message(body))


def dropped(rng, stream):
    path, body = valid(rng)
    out = frame(HEADERS, END_HEADERS, stream, headers(path))
    if rng.random() < 0.7:
        out += frame(DATA, 0, stream, message(body)[:rng.randrange(len(body) + 6)])
    return out + frame(RST_STREAM, 0, stream, struct.pack(">I", rng.randrange(14)))


STREAM_WAYS = [bad_message, bad_message, bad_message, bad_framing, bad_headers, dropped]


# --- ways to go wrong on a connection: all the bytes it sends ---

def good_start(rng):
    settings = struct.pack(">HI", 4, rng.choice([65535, 1 << 20, 0, 1]))
    return PREFACE + frame(SETTINGS, 0, 0, settings)


def whole_request(rng, stream=1):
    path, body = valid(rng)
    return frame(HEADERS, END_HEADERS, stream, headers(path)) + data_frames(stream, message(body))


def cut_off(rng):
    data = good_start(rng) + whole_request(rng)
    return data[:rng.randrange(len(data))]


def bytes_damaged(rng):
    return damaged(rng, good_start(rng) + whole_request(rng) + whole_request(rng, 3))


def frame_length_wrong(rng):
    request = bytearray(whole_request(rng))
    request[0:3] = struct.pack(">I", rng.choice([0, 1, 5, 16384, 16385, 0xffffff]))[1:]
    return good_start(rng) + bytes(request)


def frames_odd(rng):
    stream = rng.choice([0, 1, 2, 3, 0x7fffffff, 0xffffffff])
    payload = bytes(rng.randrange(256) for _ in range(rng.choice([0, 1, 4, 5, 6, 8, 100])))
    odd = frame(rng.choice(list(range(11)) + [0x42, 0xff]), rng.randrange(256), stream, payload)
    return good_start(rng) + odd * rng.choice([1, 2, 50]) + whole_request(rng, 5)


def settings_odd(rng):
    pairs = b"".join(struct.pack(">HI", rng.randrange(9), rng.choice([0, 1, 0x7fffffff, 0xffffffff]))
                     for _ in range(rng.randrange(60)))
    return PREFACE + frame(SETTINGS, 0, 0, pairs[:rng.choice([len(pairs), 7])]) + whole_request(rng)


def windows_odd(rng):
    update = frame(WINDOW, 0, rng.choice([0, 1, 9]), struct.pack(">I", rng.choice(
        [0, 1, 0x7fffffff, 0xffffffff])))
    return good_start(rng) + whole_request(rng) + update * rng.choice([1, 3, 100])


def pings(rng):
    return good_start(rng) + frame(PING, 0, 0, b"12345678") * rng.choice([1, 50, 3000]) + whole_request(rng)


def headers_huge(rng):
    kind = rng.randrange(4)
    path, _ = valid(rng)
    if kind == 0:
        block = headers(path, more=[("x", "y" * 15000) for _ in range(rng.choice([1, 4, 10]))])
    elif kind == 1:  # a length that HPACK cannot have
        block = headers(path) + b"\x00\x01x" + b"\x7f" + b"\xff" * rng.choice([3, 8, 20])
    elif kind == 2:  # tables that are not there
        block = headers(path) + bytes([0x80 | rng.randrange(128) for _ in range(50)])
    else:
        block = headers(path) + integer(1 << 30, 5, 0x20)
    out = good_start(rng) + frame(HEADERS, 0, 1, block[:16000])
    rest = block[16000:]
    while rest:
        out += frame(CONTINUATION, 0, 1, rest[:16000])
        rest = rest[16000:]
    if rng.random() < 0.2:
        out += frame(CONTINUATION, 0, 1) * 2000
    return out + frame(CONTINUATION, END_HEADERS, 1) + frame(DATA, END_STREAM, 1)


def streams_many(rng):
    path, body = some_watch(rng)
    out = good_start(rng)
    count = rng.choice([50, 400])
    for stream in range(1, 2 * count, 2):
        out += frame(HEADERS, END_HEADERS, stream, headers(path))
        out += frame(DATA, 0, stream, message(body))
        if rng.random() < 0.5:
            out += frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
    return out


def other_protocol(rng):
    return rng.choice([
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(rng.randrange(256) for _ in range(300)),
        b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        b"POST /health HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"\x00" * rng.randrange(1, 5000), PREFACE[:rng.randrange(1, len(PREFACE))],
        PREFACE, PREFACE * 3, bytes(rng.randrange(256) for _ in range(rng.randrange(1, 2000)))])


CONNECTION_WAYS = [cut_off, cut_off, bytes_damaged, bytes_damaged, bytes_damaged, frame_length_wrong,
                   frames_odd, settings_odd, windows_odd, pings, headers_huge, streams_many,
                   other_protocol]


# --- sending it, and looking at what comes back ---

class BadAnswer(Exception):
    pass


class Answer:
    """What the server sent, cut into frames as it comes; knows which streams have ended."""

    def __init__(self):
        self.buffer = b""
        self.ended = set()
        self.gone = False
        self.http1 = False

    def feed(self, data):
        self.buffer += data
        if self.buffer[:5] == b"HTTP/":
            self.http1 = True
        if self.http1:
            return
        while len(self.buffer) >= 9:
            size = int.from_bytes(self.buffer[:3], "big")
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big")
            if size > FRAME_BYTES_MAX or kind > CONTINUATION:
                raise BadAnswer("no frame: %r" % self.buffer[:40])
            if len(self.buffer) < 9 + size:
                return
            self.buffer = self.buffer[9 + size:]
            if kind == GOAWAY:
                self.gone = True
            elif kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                self.ended.add(stream)


def send_all(sock, data):
    """False when the server has closed before all was taken."""
    try:
        sock.sendall(data)
        return True
    except (BrokenPipeError, ConnectionResetError):
        return False
    except socket.timeout:
        raise BadAnswer("the server neither reads nor closes") from None


def receive(sock, answer, done):
    """Until done() or the connection ends; False when neither happens in time."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while not done():
        if time.monotonic() > deadline:
            return False
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False
        if not data:
            return True
        answer.feed(data)
    return True


def many_streams(rng, address):
    """Several bad streams on one connection, each of which must come to an end."""
    with socket.create_connection(address, ANSWER_TIMEOUT_S) as sock:
        answer, waiting = Answer(), {}
        sent = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 24))
        sent += frame(WINDOW, 0, 0, struct.pack(">I", 1 << 28))
        count = rng.randrange(1, 40)
        for stream in range(1, 2 * count, 2):
            way = rng.choice(STREAM_WAYS)
            request = way(rng, stream)
            sent += request
            # A watch goes on after its client has said all it had to say, in etcd too.
            if way is not dropped and b"Watch/Watch" not in request:
                waiting[stream] = request
        if not send_all(sock, sent):
            return count
        if not receive(sock, answer, lambda: answer.gone or waiting.keys() <= answer.ended):
            left = {s: r[:300] for s, r in waiting.items() if s not in answer.ended}
            raise BadAnswer("streams without an end: %s" % left)
    return count


def one_connection(rng, address):
    way = rng.choice(CONNECTION_WAYS)
    with socket.create_connection(address, ANSWER_TIMEOUT_S) as sock:
        answer = Answer()
        alive = send_all(sock, way(rng))
        if alive:
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                return 1
        if rng.random() < 0.3:
            return 1  # and away
        if not receive(sock, answer, lambda: False):
            raise BadAnswer("%s: the connection does not end" % way.__name__)
    return 1


def garbage_to_peer(rng, address):
    with socket.create_connection(address, ANSWER_TIMEOUT_S) as sock:
        data = rng.choice([bytes(rng.randrange(256) for _ in range(rng.randrange(1, 3000))),
                           bytes_damaged(rng), cut_off(rng), struct.pack("<I", 0xffffffff) * 10,
                           struct.pack("<I", 12) + bytes(20), struct.pack(">I", 8) + bytes(100)])
        if send_all(sock, data):
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                return 1
        answer = Answer()
        answer.feed = lambda _: None  # not HTTP/2
        if not receive(sock, answer, lambda: False):
            raise BadAnswer("the peers' port: the connection does not end")
    return 1


def work(seed, count, clients, peers, results):
    rng = random.Random(seed)
    done, failures, kinds = 0, [], collections.Counter()
    while done < count and len(failures) < 10:
        what = rng.choices([many_streams, one_connection, garbage_to_peer], [30, 65, 5])[0]
        port = rng.choice(peers if what is garbage_to_peer else clients)
        try:
            number = what(rng, ("127.0.0.1", port))
        except (BadAnswer, OSError) as error:
            number = 1
            failures.append("%s after %d (seed %d): %s" % (what.__name__, done, seed, error))
        kinds[what.__name__] += number
        done += number
    results.put((done, failures, dict(kinds)))


# --- those who are slow, and the one who is polite ---

class Slow(threading.Thread):
    """Connections that write a byte now and then, or ask for much and do not read it."""

    def __init__(self, seed, ports):
        super().__init__(daemon=True)
        self.rng = random.Random(seed)
        self.ports = ports
        self.stopping = threading.Event()
        self.count = 0
        self.error = None

    def open(self):
        sock = socket.create_connection(("127.0.0.1", self.rng.choice(self.ports)), 10)
        sock.settimeout(5)
        self.count += 1
        if self.rng.random() < 0.5:
            # Reads nothing of what it asked for, many times over.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            out = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0x7fffffff))
            out += frame(WINDOW, 0, 0, struct.pack(">I", 0x7fff0000))
            every = field(1, b"\x00") + field(2, b"\x00")
            for stream in range(1, 41, 2):
                path, body, end = self.rng.choice([
                    ("/etcdserverpb.KV/Range", every, END_STREAM),
                    ("/etcdserverpb.KV/RangeStream", every, END_STREAM),
                    ("/etcdserverpb.Watch/Watch", field(1, every + field(3, 1) + field(6, 1)), 0)])
                out += frame(HEADERS, END_HEADERS, stream, headers(path))
                out += frame(DATA, end, stream, message(body))
            sock.sendall(out)
            return sock, b""
        return sock, good_start(self.rng) + whole_request(self.rng)

    def run(self):
        connections = []
        try:
            while not self.stopping.is_set():
                while len(connections) < SLOW_CONNECTIONS:
                    connections.append(list(self.open()))
                for entry in connections:
                    if entry[1]:
                        try:
                            entry[0].sendall(entry[1][:1])
                        except OSError:
                            entry[1] = b""
                        entry[1] = entry[1][1:]
                victim = connections.pop(self.rng.randrange(len(connections)))
                victim[0].close()
                # Each that asks for all of history costs more the longer this goes on.
                self.stopping.wait(SLOW_TURNOVER_S)
        except OSError as error:
            self.error = "a slow client cannot connect: %s" % error
        for sock, _ in connections:
            sock.close()


class Polite(threading.Thread):
    """Writes a key and reads it back, over and over, on a connection of its own."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.stopping = threading.Event()
        self.waits = []
        self.errors = []

    def run(self):
        stream, number = 1, 0
        sock = socket.create_connection(("127.0.0.1", self.port), 10)
        sock.settimeout(30)
        sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
        while not self.stopping.is_set():
            begin = time.monotonic()
            try:
                number += 1
                value = b"polite %d" % number
                key = b"polite/%d" % self.port
                self.call(sock, stream, "/etcdserverpb.KV/Put", field(1, key) + field(2, value))
                answer = self.call(sock, stream + 2, "/etcdserverpb.KV/Range", field(1, key))
                if value not in answer:
                    self.errors.append("read %r after writing %r" % (answer, value))
            except (OSError, BadAnswer) as error:
                self.errors.append("the polite client: %s" % error)
                return
            stream += 4
            self.waits.append(time.monotonic() - begin)
            self.stopping.wait(0.02)

    def call(self, sock, stream, path, body):
        sock.sendall(frame(HEADERS, END_HEADERS, stream, headers(path)) +
                     frame(DATA, END_STREAM, stream, message(body)) +
                     frame(WINDOW, 0, 0, struct.pack(">I", 1000)))
        answer = Answer()
        data = b""
        while stream not in answer.ended:
            more = sock.recv(65536)
            if not more or answer.gone:
                raise BadAnswer("the connection was closed")
            data += more
            answer.feed(more)
        return data


def fds_of(node):
    return len(os.listdir("/proc/%d/fd" % node.process.pid))


def attack(nodes, seed, requests, workers):
    """Run the workers to their end; the peak of memory, and what they report."""
    results = multiprocessing.Queue()
    clients = [n.client_port for n in nodes.nodes]
    peers = [n.peer_port for n in nodes.nodes]
    processes = [multiprocessing.Process(target=work, daemon=True,
                                         args=(seed * 100 + i, requests // workers, clients, peers,
                                               results)) for i in range(workers)]
    for process in processes:
        process.start()
    peak, reports = 0, []
    while len(reports) < workers:
        nodes.check_running()
        peak = max([peak] + [n.rss_bytes() for n in nodes.nodes])
        try:
            reports.append(results.get(timeout=0.1))
        except queue.Empty:
            pass  # memory is looked at meanwhile
    for process in processes:
        process.join(10)
    return peak, reports


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--requests", type=int, default=30000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--sanitizer", action="store_true", help="slow and large: no bound for memory")
    parser.add_argument("flags", nargs="*", help="for every node, after --")
    args = parser.parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    begin = time.monotonic()
    with cluster.Cluster(args.kind, flags=args.flags) as nodes:
        nodes.start()
        fds_before = [fds_of(n) for n in nodes.nodes]
        slow = Slow(args.seed, [n.client_port for n in nodes.nodes])
        polite = [Polite(n.client_port) for n in nodes.nodes]
        for thread in [slow] + polite:
            thread.start()
        peak, reports = attack(nodes, args.seed, args.requests, args.workers)
        for thread in [slow] + polite:
            thread.stopping.set()
            thread.join(30)
        count = sum(r[0] for r in reports) + slow.count
        failures = [f for r in reports for f in r[1]]
        for failure in failures:
            tally.check(False, failure)
        tally.passed += count - len(failures)
        waits = sorted(w for p in polite for w in p.waits)
        tally.check(slow.error is None, "slow clients", str(slow.error))
        tally.check(all(not p.errors for p in polite), "the polite client was served",
                    str([p.errors[:3] for p in polite]))
        limit = POLITE_WAIT_MAX_S * (6 if args.sanitizer else 1)
        tally.check(bool(waits) and waits[-1] < limit, "the polite client did not wait long",
                    "%.1f s" % (waits[-1] if waits else -1))
        tally.check(args.sanitizer or peak < RSS_BYTES_MAX, "memory stayed under its bound",
                    "%d MiB" % (peak >> 20))
        nodes.wait_healthy()
        tally.check(cluster.wait_until(lambda: all(fds_of(n) <= before + LEFT_FDS_MAX for n, before in
                                                   zip(nodes.nodes, fds_before)), 20),
                    "the connections were given back",
                    "%s before, %s after" % (fds_before, [fds_of(n) for n in nodes.nodes]))
        nodes.check_running()
        if tally.failed:
            nodes.keep()
    print("%d bad requests in %.1f s; memory at most %d MiB; the polite client was served %d times and "
          "waited %.0f ms at p99, %.0f at most" % (
              count, time.monotonic() - begin, peak >> 20, len(waits),
              1000 * waits[int(len(waits) * 0.99)] if waits else -1, 1000 * waits[-1] if waits else -1))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
