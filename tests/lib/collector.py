"""A collector of traces, as OpenTelemetry's: OTLP over gRPC, or over HTTP/1.1. It keeps the spans.

    with Collector() as collector:
        ... --distributed-tracing-address=collector.address ...
        collector.wait(5)
        collector.spans
"""

import socket
import struct
import threading
import time

from rawgrpc import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE,
                     SETTINGS, WINDOW, GrpcError, Inflater, frame, header, read_varint)

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def wire_fields(data):
    """[(number, value)]: ints, bytes; fixed ones as ints."""
    found, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 1:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        elif kind == 5:
            value, at = struct.unpack_from("<I", data, at)[0], at + 4
        elif kind == 2:
            size, at = read_varint(data, at)
            if at + size > len(data):
                raise GrpcError("a field ends behind its message")
            value, at = data[at:at + size], at + size
        else:
            raise GrpcError("wire type %d" % kind)
        found.append((tag >> 3, value))
    return found


def attribute(data):
    """KeyValue: 1 key, 2 AnyValue (1 string, 2 bool, 3 int, 4 double)."""
    key, value = "", None
    for number, content in wire_fields(data):
        if number == 1:
            key = content.decode()
        else:
            for kind, inner in wire_fields(content):
                if kind == 1:
                    value = inner.decode(errors="surrogateescape")
                elif kind == 2:
                    value = bool(inner)
                elif kind == 3:
                    value = inner - (1 << 64) if inner >> 63 else inner
    return key, value


class Span:
    def __init__(self, data, resource, scope):
        self.resource, self.scope = resource, scope
        self.trace_id = self.span_id = self.parent_id = b""
        self.name, self.kind, self.start_ns, self.end_ns = "", 0, 0, 0
        self.attributes, self.events, self.status, self.flags = {}, [], (0, ""), 0
        for number, value in wire_fields(data):
            if number == 1:
                self.trace_id = value
            elif number == 2:
                self.span_id = value
            elif number == 4:
                self.parent_id = value
            elif number == 5:
                self.name = value.decode()
            elif number == 6:
                self.kind = value
            elif number == 7:
                self.start_ns = value
            elif number == 8:
                self.end_ns = value
            elif number == 9:
                key, content = attribute(value)
                self.attributes[key] = content
            elif number == 11:
                event = dict(wire_fields(value))
                self.events.append((event.get(1, 0), event.get(2, b"").decode()))
            elif number == 15:
                status = dict(wire_fields(value))
                self.status = (status.get(3, 0), status.get(2, b"").decode())
            elif number == 16:
                self.flags = value


def spans_of(message):
    """Of an ExportTraceServiceRequest."""
    found = []
    for _, resource_spans in wire_fields(message):
        resource, scopes = {}, []
        for number, value in wire_fields(resource_spans):
            if number == 1:
                resource = dict(attribute(v) for n, v in wire_fields(value) if n == 1)
            elif number == 2:
                scopes.append(value)
        for scope in scopes:
            name = ""
            for number, value in wire_fields(scope):
                if number == 1:
                    name = dict(wire_fields(value)).get(1, b"").decode()
                elif number == 2:
                    found.append(Span(value, resource, name))
    return found


class Collector:
    """`silent`: it takes connections and answers nothing."""

    def __init__(self, silent=False, port=0):
        self.silent = silent
        self.socket = socket.create_server(("127.0.0.1", port))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.spans, self.requests, self.errors, self.paths = [], 0, [], set()
        self.lock = threading.Lock()
        self.connections = []
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        for connection in self.connections:
            connection.close()

    def wait(self, count, seconds=15):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self.lock:
                if len(self.spans) >= count:
                    return True
            time.sleep(0.05)
        return False

    def find(self, name):
        with self.lock:
            return [s for s in self.spans if s.name == name]

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            if not self.silent:
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection, connection.makefile("rb") as stream:
                if stream.peek(4)[:4] == b"POST":
                    self.serve_http1(connection, stream)
                else:
                    Http2(self, connection, stream).run()
        except (OSError, EOFError, ValueError):
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(error)

    def take(self, path, message):
        spans = spans_of(message)
        with self.lock:
            self.requests += 1
            self.paths.add(path)
            self.spans += spans

    def serve_http1(self, connection, stream):
        while True:
            line = stream.readline().decode()
            if not line:
                return
            headers = {}
            for text in iter(lambda: stream.readline().decode().strip(), ""):
                name, _, value = text.partition(":")
                headers[name.strip().lower()] = value.strip()
            if headers.get("content-type") != "application/x-protobuf":
                raise GrpcError("content-type: %s" % headers.get("content-type"))
            self.take(line.split()[1], stream.read(int(headers["content-length"])))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
                               b"Content-Length: 0\r\n\r\n")


class Http2:
    def __init__(self, collector, connection, stream):
        self.collector, self.connection, self.stream = collector, connection, stream
        self.inflater = Inflater()
        self.bodies, self.paths = {}, {}

    def read(self, size):
        data = self.stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def run(self):
        if self.read(len(PREFACE)) != PREFACE:
            raise GrpcError("neither HTTP/1.1 nor HTTP/2")
        self.connection.sendall(frame(SETTINGS, 0, 0))
        while True:
            head = self.read(9)
            size = struct.unpack(">I", b"\0" + head[:3])[0]
            kind, flags, stream = head[3], head[4], struct.unpack(">I", head[5:])[0]
            payload = self.read(size)
            if kind == SETTINGS and not flags & ACK:
                self.connection.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.connection.sendall(frame(PING, ACK, 0, payload))
            elif kind in (HEADERS, CONTINUATION):
                if flags & 0x20:
                    payload = payload[5:]
                if not flags & END_HEADERS:
                    raise GrpcError("a header block in pieces")
                self.paths[stream] = dict(self.inflater.headers(payload))[":path"]
                self.bodies[stream] = b""
            elif kind == DATA:
                self.bodies[stream] += payload
                if payload:
                    window = struct.pack(">I", len(payload))
                    self.connection.sendall(frame(WINDOW, 0, 0, window) +
                                            frame(WINDOW, 0, stream, window))
            if flags & END_STREAM and kind in (HEADERS, DATA):
                self.answer(stream)

    def answer(self, stream):
        body, path = self.bodies.pop(stream), self.paths.pop(stream)
        if path != EXPORT or body[0] != 0 or struct.unpack(">I", body[1:5])[0] != len(body) - 5:
            raise GrpcError("not an export: %s" % path)
        self.collector.take(path, body[5:])
        head = header(":status", "200") + header("content-type", "application/grpc")
        self.connection.sendall(
            frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, 0, stream, b"\0\0\0\0\0") +
            frame(HEADERS, END_HEADERS | END_STREAM, stream, header("grpc-status", "0")))
