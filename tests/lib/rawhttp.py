"""HTTP/1.1 and WebSocket down to the byte, for tests: what http.client would tidy up is sent and seen as
it is.

    answer = ask(address, post("/v3/kv/range", '{"key":"YQ=="}'))
    answer.status, answer.headers, answer.body, answer.ended
"""

import base64
import json
import os
import socket
import struct
import time


def request(method, path, body=b"", headers=(), host="localhost", version="HTTP/1.1"):
    if isinstance(body, str):
        body = body.encode()
    lines = ["%s %s %s" % (method, path, version), "Host: %s" % host]
    lines += list(headers)
    if body or method in ("POST", "PUT"):
        lines.append("Content-Length: %d" % len(body))
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def post(path, body=b"", headers=(), **options):
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    return request("POST", path, body, headers, **options)


class Answer:
    def __init__(self):
        self.version, self.status, self.headers, self.body, self.trailers = "", 0, [], b"", []
        self.ended = False  # the body is whole

    def header(self, name):
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        return values[0] if values else None

    def lines(self):
        return [line for line in self.body.split(b"\n") if line]


class Connection:
    """`wrap` makes TLS of a socket."""

    def __init__(self, address, timeout=5, wrap=None, receive_bytes=None):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if wrap:
            self.socket = wrap(self.socket)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout()
        self.socket.settimeout(left)
        data = self.socket.recv(1 << 16)
        self.buffer += data
        return bool(data)

    def line(self, deadline):
        while b"\r\n" not in self.buffer:
            if not self.fill(deadline):
                raise EOFError()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def exactly(self, size, deadline):
        while len(self.buffer) < size:
            if not self.fill(deadline):
                raise EOFError()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def fields(self, deadline):
        found = []
        while True:
            line = self.line(deadline)
            if not line:
                return found
            name, value = line.split(b":", 1)
            found.append((name.decode(), value.strip().decode("latin-1")))

    def receive(self, timeout=5, head=False):
        """What came in that time; a body that goes on is cut there."""
        deadline = time.monotonic() + timeout
        answer = Answer()
        try:
            version, status = self.line(deadline).split(b" ")[:2]
            answer.version, answer.status = version.decode(), int(status)
            answer.headers = self.fields(deadline)
            self.body(answer, deadline, head)
            answer.ended = True
        except (socket.timeout, EOFError, ConnectionError):
            pass
        return answer

    def body(self, answer, deadline, head):
        size = answer.header("content-length")
        if head or answer.status in (101, 204, 304):
            return
        if (answer.header("transfer-encoding") or "") == "chunked":
            while True:
                size = int(self.line(deadline), 16)
                if size == 0:
                    answer.trailers = self.fields(deadline)
                    return
                answer.body += self.exactly(size, deadline)
                self.exactly(2, deadline)
        elif size is not None:
            answer.body = self.exactly(int(size), deadline)
        else:
            try:
                while self.fill(deadline):
                    pass
            finally:
                answer.body, self.buffer = self.buffer, b""

    # --- WebSocket ---

    def upgrade(self, path, headers=(), timeout=5):
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(request("GET", path, headers=["Connection: Upgrade", "Upgrade: websocket",
                                                "Sec-WebSocket-Version: 13",
                                                "Sec-WebSocket-Key: " + key] + list(headers)))
        return self.receive(timeout)

    def send_frame(self, payload, op=1, last=True, mask=True):
        if isinstance(payload, str):
            payload = payload.encode()
        head = bytes([(0x80 if last else 0) | op])
        bit = 0x80 if mask else 0
        if len(payload) < 126:
            head += bytes([bit | len(payload)])
        elif len(payload) < 1 << 16:
            head += bytes([bit | 126]) + struct.pack(">H", len(payload))
        else:
            head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
        key = os.urandom(4)
        if mask:
            head += key
            pad = (key * (len(payload) // 4 + 1))[:len(payload)]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(
                len(payload), "big")
        self.send(head + payload)

    def frame(self, timeout=5):
        """(op, payload); ("timeout", b"") or ("end", b"")."""
        deadline = time.monotonic() + timeout
        try:
            first, size = self.exactly(2, deadline)
            if size == 126:
                size = struct.unpack(">H", self.exactly(2, deadline))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.exactly(8, deadline))[0]
            return first & 15, self.exactly(size, deadline)
        except socket.timeout:
            return "timeout", b""
        except (EOFError, ConnectionError):
            return "end", b""


def ask(address, data, timeout=5, head=False, wrap=None):
    with Connection(address, timeout, wrap) as c:
        c.send(data)
        return c.receive(timeout, head)
