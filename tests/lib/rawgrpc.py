"""A small gRPC client: one connection, one call at a time, messages as bytes. HPACK is libnghttp2's.

    with Client("127.0.0.1", port) as client:
        answer = client.call("/etcdserverpb.KV/Range", field(1, b"key"), token="...")
        answer.code, answer.text, answer.messages
"""

import ctypes
import socket
import struct
import urllib.parse

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, _, RST_STREAM, SETTINGS, _, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
WINDOW_BYTES = 1 << 30
INFLATE_FINAL, INFLATE_EMIT = 1, 2
MAX_STREAM_WINDOW = 4  # SETTINGS_INITIAL_WINDOW_SIZE


class Nv(ctypes.Structure):
    _fields_ = [("name", ctypes.POINTER(ctypes.c_uint8)), ("value", ctypes.POINTER(ctypes.c_uint8)),
                ("name_size", ctypes.c_size_t), ("value_size", ctypes.c_size_t),
                ("flags", ctypes.c_uint8)]


nghttp2 = ctypes.CDLL("libnghttp2.so.14")
nghttp2.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
nghttp2.nghttp2_hd_inflate_hd2.argtypes = [
    ctypes.c_void_p, ctypes.POINTER(Nv), ctypes.POINTER(ctypes.c_int), ctypes.c_char_p,
    ctypes.c_size_t, ctypes.c_int]


class GrpcError(Exception):
    """The connection did not do what it should."""


class Inflater:
    def __init__(self):
        self.state = ctypes.c_void_p()
        if nghttp2.nghttp2_hd_inflate_new(ctypes.byref(self.state)) != 0:
            raise MemoryError

    def headers(self, block):
        found, flags = [], ctypes.c_int()
        while True:
            nv = Nv()
            used = nghttp2.nghttp2_hd_inflate_hd2(self.state, ctypes.byref(nv), ctypes.byref(flags),
                                                  block, len(block), 1)
            if used < 0:
                raise GrpcError("headers do not decode: %d" % used)
            block = block[used:]
            if flags.value & INFLATE_EMIT:
                found.append((ctypes.string_at(nv.name, nv.name_size).decode("latin-1"),
                              ctypes.string_at(nv.value, nv.value_size).decode("latin-1")))
            if flags.value & INFLATE_FINAL:
                nghttp2.nghttp2_hd_inflate_end_headers(self.state)
                return found

    def close(self):
        nghttp2.nghttp2_hd_inflate_del(self.state)


# --- protobuf, just enough ---

def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def field(number, value):
    """An int, text, bytes, or None for nothing."""
    if value is None or value is False or value == 0:
        return b""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return item(number, value) if value else b""


def item(number, value):
    """There even when it is empty."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """[(number, int or bytes)] of a message without fixed-size fields."""
    found, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if tag & 7 == 2:
            at, value = at + value, data[at:at + value]
        found.append((tag >> 3, value))
    return found


# --- HTTP/2 ---

def frame(kind, flags, stream, payload=b""):
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
    return head + payload


def integer(value, bits):
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([value])
    return bytes([limit]) + varint(value - limit)


def header(name, value):
    name, value = name.encode("latin-1"), value.encode("latin-1")
    return b"\x00" + integer(len(name), 7) + name + integer(len(value), 7) + value


class Answer:
    """`code` is None while the call is open."""

    def __init__(self):
        self.code, self.text, self.messages = None, "", []
        self.data = b""

    def take_data(self, data):
        self.data += data
        while len(self.data) >= 5 and len(self.data) >= 5 + struct.unpack(">I", self.data[1:5])[0]:
            size = struct.unpack(">I", self.data[1:5])[0]
            self.messages.append(self.data[5:5 + size])
            self.data = self.data[5 + size:]

    def take_headers(self, headers):
        values = dict(headers)
        if "grpc-status" in values:
            self.code = int(values["grpc-status"])
            self.text = urllib.parse.unquote(values.get("grpc-message", ""))


class Client:
    def __init__(self, host, port, timeout=15):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inflater = Inflater()
        self.buffer = b""
        self.next_stream = 1
        self.authority = "%s:%d" % (host, port)
        settings = struct.pack(">HI", MAX_STREAM_WINDOW, WINDOW_BYTES)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) +
                            frame(WINDOW, 0, 0, struct.pack(">I", WINDOW_BYTES)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        self.inflater.close()

    def read(self, size):
        while len(self.buffer) < size:
            got = self.socket.recv(1 << 16)
            if not got:
                raise GrpcError("the connection was closed")
            self.buffer += got
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_frame(self):
        head = self.read(9)
        size = struct.unpack(">I", b"\0" + head[:3])[0]
        return head[3], head[4], struct.unpack(">I", head[5:])[0], self.read(size)

    def begin(self, path, token=None, metadata=()):
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        block = header(":method", "POST") + header(":scheme", "http") + header(":path", path)
        block += header(":authority", self.authority) + header("content-type", "application/grpc")
        block += header("te", "trailers")
        if token is not None:
            block += header("token", token)
        for name, value in metadata:
            block += header(name, value)
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def send(self, stream, body, last):
        payload = struct.pack(">BI", 0, len(body)) + body
        self.socket.sendall(frame(DATA, END_STREAM if last else 0, stream, payload))

    def wait(self, stream, messages=None):
        """Until the call ends, or so many messages have come."""
        answer = Answer()
        while answer.code is None and (messages is None or len(answer.messages) < messages):
            kind, flags, of, payload = self.read_frame()
            if kind == SETTINGS and not flags & ACK:
                self.socket.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.socket.sendall(frame(PING, ACK, 0, payload))
            elif kind == GOAWAY:
                raise GrpcError("the server said to go away")
            elif kind == HEADERS:
                while not flags & END_HEADERS:
                    _, flags, _, more = self.read_frame()
                    payload += more
                found = self.inflater.headers(payload)
                if of == stream:
                    answer.take_headers(found)
            elif kind == DATA and of == stream:
                answer.take_data(payload)
                if payload:
                    self.socket.sendall(frame(WINDOW, 0, 0, struct.pack(">I", len(payload))))
            elif kind == RST_STREAM and of == stream and answer.code is None:
                raise GrpcError("the call was reset: %d" % struct.unpack(">I", payload)[0])
        return answer

    def call(self, path, body=b"", token=None, metadata=()):
        stream = self.begin(path, token, metadata)
        self.send(stream, body, True)
        return self.wait(stream)

    def first(self, path, body, token=None, messages=1, last=False):
        """Of a call that goes on: its first messages, or its end. Then it is cancelled. `last`: there
        is nothing more to send."""
        stream = self.begin(path, token)
        self.send(stream, body, last)
        answer = self.wait(stream, messages)
        if answer.code is None:
            self.socket.sendall(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
        return answer
