"""Inputs to begin with, for each target of this folder: what its users, files and clients really say."""

import json
import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from rawgrpc import (DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,  # noqa: E402
                     WINDOW, field, frame, header, item)

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


METHODS = re.findall(r'"(/[\w.]+/\w+)"', read("server", "services.c"))


def message(*values):
    """Fields 1, 2, ... of a message; None: left out."""
    return b"".join(field(i, v) for i, v in enumerate(values, 1))


def permission(kind, key, end=b""):
    return message(kind, key, end)


PUT = message(b"key", b"value")
RANGE = message(b"key")
ALL = message(b"\0", b"\0")
REQUESTS = {
    "Range": [RANGE, ALL, message(b"a", b"z", 2, 1, 1, 1), message(b"k", b"l", None, None, None, None, 1),
              message(b"k", b"\0", None, None, 1, 4, None, 1, 1, 1, 2, 3, 4)],
    "RangeStream": [ALL, RANGE],
    "Put": [PUT, message(b"key", b"value", 7, 1, 1, 1), message(b"key", b"v" * 3000), message(b"key", None, 1)],
    "DeleteRange": [RANGE, ALL, message(b"a", b"z", 1)],
    "Txn": [item(1, message(0, 0, b"key") + field(4, 1)) + item(2, item(2, PUT)) + item(3, item(1, RANGE)),
            item(1, message(1, 3, b"key") + field(7, b"value") + field(64, b"l")) + item(2, item(3, ALL)),
            item(2, item(4, item(2, item(2, PUT)))) + item(2, item(2, message(b"other", b"x")))],
    "Compact": [message(2), message(3, 1)],
    "Watch": [item(1, message(b"key", b"", 1, 1, 0, 1)), item(1, message(b"a", b"z", 1, 0, 1, 1, 5, 1)),
              item(2, message(1)), item(3, b"")],
    "LeaseGrant": [message(100, 7), message(1)],
    "LeaseRevoke": [message(7)],
    "LeaseKeepAlive": [message(7)],
    "LeaseTimeToLive": [message(7, 1)],
    "Alarm": [message(0), message(1, 1, 1), message(2, 0, 1)],
    "HashKV": [b"", message(2)],
    "MoveLeader": [message(1)],
    "Downgrade": [field(1, 0) + field(2, "3.6.0"), message(1, "3.6.0"), message(2)],
    "MemberAdd": [item(1, b"http://127.0.0.1:1") + field(2, 1), b""],
    "MemberRemove": [message(1)], "MemberUpdate": [field(1, 1) + item(2, b"http://127.0.0.1:1")],
    "MemberPromote": [message(1)], "MemberList": [b"", message(1)],
    "Authenticate": [message("root", "pw")],
    "UserAdd": [message("root", "pw"), field(1, "u") + item(3, message(1))],
    "UserGet": [message("root")], "UserDelete": [message("u")], "UserChangePassword": [message("root", "pw2")],
    "UserGrantRole": [message("root", "root"), message("u", "r")], "UserRevokeRole": [message("u", "r")],
    "RoleAdd": [message("root"), message("r")], "RoleGet": [message("r")], "RoleDelete": [message("r")],
    "RoleGrantPermission": [field(1, "r") + item(2, permission(2, b"a", b"z"))],
    "RoleRevokePermission": [message("r", b"a", b"z")],
    "Lock": [message(b"lock", 7)], "Unlock": [message(b"lock/1")],
    "Campaign": [message(b"e", 7, b"me")],
    "Proclaim": [item(1, message(b"e", b"e/7", 2, 7)) + field(2, b"you")],
    "Leader": [message(b"e")], "Observe": [message(b"e")], "Resign": [item(1, message(b"e", b"e/7", 2, 7))],
    "Check": [b"", message("etcdserverpb.KV")],
}


def requests_of(path):
    return REQUESTS.get(path.rsplit("/", 1)[1], [b""])


# --- HTTP/2 ---

def fields_of(path, *more):
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "f"),
             ("content-type", "application/grpc"), ("te", "trailers"), *more]
    return b"".join(header(n, v) for n, v in pairs)


def call(stream, path, body, end=True, more=()):
    return (frame(HEADERS, END_HEADERS, stream, fields_of(path, *more)) +
            frame(DATA, END_STREAM if end else 0, stream, struct.pack(">BI", 0, len(body)) + body))


def http2():
    for path in METHODS:
        for body in requests_of(path):
            yield b"\x01" + call(1, path, body, end="Watch" not in path)
    put, watch = "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"
    yield (b"\x01" + call(1, watch, REQUESTS["Watch"][0], False) + call(3, put, PUT) +
           frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
    yield b"\x01" + frame(PING, 0, 0, b"12345678") + frame(WINDOW, 0, 0, struct.pack(">I", 1000))
    yield b"\x01" + frame(SETTINGS, 0, 0, struct.pack(">HIHI", 4, 1, 1, 0)) + call(1, put, PUT)
    yield b"\x11" + call(1, put, PUT, more=[("grpc-timeout", "1S"), ("hasleader", "true"), ("token", "abc.1")])
    block = fields_of(put, ("grpc-encoding", "gzip"), ("x-bin-bin", "AAAA"))
    yield b"\x01" + frame(HEADERS, 0, 1, block[:40]) + frame(9, END_HEADERS, 1, block[40:])
    get = b"".join(header(n, v) for n, v in [(":method", "GET"), (":scheme", "http"), (":path", "/health"),
                                             (":authority", "f")])
    yield b"\x01" + frame(HEADERS, END_HEADERS | END_STREAM, 1, get)
    page = get.replace(b"\x03GET", b"\x04POST").replace(b"\x07/health", b"\x0b/v3/kv/range")
    yield b"\x01" + frame(HEADERS, END_HEADERS, 1, page) + frame(DATA, END_STREAM, 1, b'{"key":"a2V5"}')
    hello = b"\x01TRVT" + struct.pack("<HHQQQB", 2, 0, 1, 2, 3, 1) + struct.pack("<H", 8) + b"http://a"
    for path in ("/trivet.Peer/Messages", "/trivet.Peer/Snapshot", "/trivet.Peer/Join", "/trivet.Peer/HashKV"):
        yield b"\x03" + call(1, path, hello, False)
    yield b"\x00PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
    yield b"\x00GET /health HTTP/1.1\r\nHost: f\r\n\r\n"


def step(path, body, flags=0):
    return struct.pack("<BBH", METHODS.index(path), flags, len(body)) + body


def grpc():
    for path in METHODS:
        for body in requests_of(path):
            yield step(path, body, 2 if "Watch" in path or "KeepAlive" in path else 0)
    kv, watch, lease = "/etcdserverpb.KV/", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/"
    yield (step(watch, REQUESTS["Watch"][0], 2) + step(kv + "Put", PUT) + step(watch, REQUESTS["Watch"][2], 3) +
           step(kv + "DeleteRange", ALL))
    yield (step(lease + "LeaseGrant", message(100, 7)) + step(kv + "Put", message(b"key", b"v", 7)) +
           step(lease + "LeaseTimeToLive", message(7, 1)) + step(lease + "LeaseLeases", b"") +
           step(lease + "LeaseKeepAlive", message(7), 2) + step(lease + "LeaseRevoke", message(7)))
    yield (step(kv + "Put", PUT, 8) + step(kv + "Range", ALL, 8) + step(kv + "RangeStream", ALL, 8) +
           step(kv + "Compact", message(3, 1)) + step(watch, item(1, message(b"a", b"", 1)), 2))
    lock, election = "/v3lockpb.Lock/", "/v3electionpb.Election/"
    yield (step(lock + "Lock", message(b"l")) + step(lock + "Lock", message(b"l"), 4) +
           step(election + "Campaign", message(b"e", 0, b"me")) + step(election + "Observe", message(b"e"), 2) +
           step(election + "Leader", message(b"e")))
    auth = "/etcdserverpb.Auth/"
    yield (step(auth + "UserAdd", message("root", "pw")) + step(auth + "UserGrantRole", message("root", "root")) +
           step(auth + "RoleAdd", message("r")) + step(auth + "AuthEnable", b"") +
           step(auth + "Authenticate", message("root", "pw")) + step(kv + "Range", ALL))


# --- HTTP/1.1 ---

def http1():
    host = b" HTTP/1.1\r\nHost: f\r\n"
    for page in ("/health", "/health?serializable=true&exclude=NOSPACE", "/livez?verbose", "/readyz/data_corruption",
                 "/version", "/metrics", "/debug/vars", "/config/local/log", "/debug/pprof/cmdline",
                 "/debug/pprof/heap?debug=1", "/members", "/%2e%2e/x", "/"):
        yield b"\x00GET " + page.encode() + host + b"\r\n"
    yield b"\x00GET /health" + host + b"\r\nGET /version" + host + b"Connection: close\r\n\r\n"
    for path, body in (("kv/put", {"key": "a2V5", "value": "dmFsdWU=", "prev_kv": True}),
                       ("kv/range", {"key": "AA==", "range_end": "AA==", "limit": "3", "sort_order": "DESCEND"}),
                       ("kv/deleterange", {"key": "a2V5"}), ("kv/compaction", {"revision": "2", "physical": True}),
                       ("kv/txn", {"compare": [{"key": "a2V5", "target": "VERSION", "version": 1}],
                                   "success": [{"requestPut": {"key": "a2V5", "value": "dg=="}}],
                                   "failure": [{"request_range": {"key": "a2V5"}}]}),
                       ("watch", {"create_request": {"key": "a2V5", "start_revision": "1", "progress_notify": True}}),
                       ("lease/grant", {"TTL": "100", "ID": "7"}), ("lease/keepalive", {"ID": 7}),
                       ("lease/timetolive", {"ID": "7", "keys": True}), ("lease/leases", {}),
                       ("maintenance/status", {}), ("maintenance/alarm", {"action": "GET"}),
                       ("maintenance/hash", {"revision": 0}), ("maintenance/snapshot", {}),
                       ("cluster/member/list", {"linearizable": True}), ("lock/lock", {"name": "bA=="}),
                       ("election/campaign", {"name": "ZQ==", "value": "bWU="}), ("election/observe", {"name": "ZQ=="}),
                       ("auth/status", {}), ("auth/user/add", {"name": "u", "options": {"no_password": True}}),
                       ("auth/authenticate", {"name": "root", "password": "pw"})):
        text = json.dumps(body).encode()
        yield b"\x01POST /v3/" + path.encode() + host + b"\r\n" + text
    yield b"\x01POST /v3beta/kv/range" + host + b"Origin: http://a\r\nAuthorization: x\r\n\r\n" + b'{"key":"a2V5"}'
    yield (b"\x00POST /v3/kv/range" + host + b"Transfer-Encoding: chunked\r\n\r\n" +
           b'5\r\n{"key\r\n9;x=y\r\n":"a2V5"}\r\n0\r\nTrailer: x\r\n\r\n')
    yield b"\x00POST /v3/kv/range" + host + b"Expect: 100-continue\r\nContent-Length: 14\r\n\r\n" + b'{"key":"a2V5"}'
    yield b"\x00OPTIONS /v3/kv/range" + host + b"Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n\r\n"
    yield b"\x01PUT /config/local/log" + host + b"\r\n" + b'{"Level":"info"}'
    upgrade = (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
               b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: Bearer, abc\r\n\r\n")
    watch = b'{"create_request":{"key":"a2V5"}}'
    for messages in ([(0x81, watch), (0x81, b'{"cancel_request":{"watch_id":"0"}}'), (0x88, b"\x03\xe8")],
                     [(0x01, watch[:9]), (0x89, b"ping"), (0x80, watch[9:])], [(0x82, b"\xff\xfe")],
                     [(0x81, watch * 5)]):
        yield (b"\x02GET /v3/watch" + host + upgrade +
               b"".join(bytes([op, min(len(m), 255)]) + m for op, m in messages))
    yield b"\x02GET /v3/lease/keepalive?method=POST" + host + upgrade + b'\x81\x08{"ID":7}'


# --- the rest ---

JSON_TEXTS = [
    '{"key":"a2V5","range_end":"bA==","limit":"10","sort_order":"DESCEND","sort_target":2,"keys_only":true}',
    '{"compare":[{"result":"EQUAL","target":"VALUE","key":"a2V5","value":"dg=="}],'
    '"success":[{"request_put":{"key":"a","value":"b"}}],"failure":[{"requestTxn":{"success":[]}}]}',
    '{"create_request":{"key":"a2V5","filters":["NOPUT",1],"watch_id":"7","fragment":true}}',
    '{"peerURLs":["http://a:1","http://b:2"],"isLearner":true}',
    '{"name":"\\u00e9\\ud83d\\ude00\\n","password":"p","options":{"noPassword":false},"hashedPassword":""}',
    '{"a":null,"b":[1,-2.5e+3,{"c":[]}],"key":"*-_="} {"key":""}', "[1,2", '{"key":1e99}',
]


def json_target():
    for kind in range(8):
        for text in JSON_TEXTS:
            yield bytes([2 * kind]) + text.encode()
        yield bytes([2 * kind + 1]) + item(1, message(1, 2, 3, 4)) + item(2, message(b"k", 1, 2, 3, b"v", 7))
    for path in METHODS:
        for body in requests_of(path):
            for kind in range(5):
                yield bytes([2 * kind + 1]) + body


def wire():
    for which in range(40):
        for path in METHODS:
            for body in requests_of(path)[:1]:
                yield bytes([which]) + body


YAML_TEXTS = [
    "name: 'a b'\ndata-dir: \"/tmp/x\\n\"\nquota-backend-bytes: 1_000\nsnapshot-count: 0x10\n",
    "listen-client-urls: >-\n  http://a:1,\n  http://b:2\ncors: |\n  *\nx: &a [1, 2.5, ~, yes, {k: v}]\ny: *a\n",
    "client-transport-security:\n  cert-file: c\n  client-cert-auth: true\nlog-outputs: [stderr, 'x']\n",
    "- a\n- - b\n  - c: d\n    e: !!str 5\n# comment\n---\n...\n", "? k\n: v\n<<: {a: 1}\n", "%YAML 1.1\n--- a\n",
]


def yaml():
    for text in YAML_TEXTS:
        yield text.encode()


def config():
    table = read("server", "config_flags.c")
    names = re.findall(r'"([a-z][a-z0-9-]{3,})"', table)
    for name in sorted(set(names)):
        for value in ("", "=true", "=1", "=http://a:1,http://b:2", "=1h", "=x"):
            yield ("--" + name + value).encode()
        yield ("ETCD_" + name.upper().replace("-", "_") + "=1").encode()
    yield b"--name=a\n--initial-cluster=a=http://a:1,b=http://b:2\n--initial-advertise-peer-urls=http://a:1"
    yield b"--auto-compaction-mode=revision\n--auto-compaction-retention=1000"
    yield b"--feature-gates=AllAlpha=true,LeaseCheckpoint=false\n--auth-token=jwt,sign-method=HS256"
    yield b"--enable-log-rotation\n--log-outputs=/x\n--log-rotation-config-json={\"maxsize\":1,\"compress\":true}"
    yield b"-h"
    for text in YAML_TEXTS:
        yield b"---\n" + text.encode()


def token():
    for method, name in enumerate(("HS256", "HS384", "HS512")):
        head = json.dumps({"alg": name, "typ": "JWT"})
        for claims in ({"username": "root", "revision": 1, "exp": 1700000100},
                       {"username": "r\u00f6\"ot", "revision": "2", "exp": 1.7e9, "nbf": 0, "x": [{"y": None}]}):
            yield bytes([1 | method << 1]) + (head + "\n" + json.dumps(claims)).encode()
    yield b"\x00eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6InJvb3QifQ.AAAA"
    yield b"\x00" + json.dumps({"a": "b", "c": [1, {"d": -1.5e3}], "e": True}).encode()


def wal():
    yield b"\x00"
    for reseal in (0, 1):
        for segment in range(4):
            for offset in (0, 4, 8, 16, 40, 64, 4096, 4096 + 8, 4096 + 24, 4096 + 72, 4096 + 88, 8192):
                yield bytes([reseal, segment]) + struct.pack("<I", offset)[:3] + b"\x08" + b"\xff" * 8
    for lost in range(1, 8):
        yield bytes([lost << 1])


def record(key, value):
    return struct.pack("<II", len(key), len(value)) + key + value


def kv(key, create, mod, version, value=b"v", lease=None):
    return message(key, create, mod, version, value, lease)


def snapshot():
    def version(main, sub, tombstone, body):
        return record(b"k" + struct.pack(">QI", main, sub) + bytes([tombstone]), body)

    head = struct.pack("<IIiii", 9, 2, 5, -1, -1)
    records = (version(2, 0, 0, kv(b"a", 2, 2, 1)) + version(3, 0, 0, kv(b"a", 2, 3, 2)) +
               version(4, 0, 0, kv(b"b", 4, 4, 1, b"w" * 100, 7)) + version(4, 1, 0, kv(b"c", 4, 4, 1)) +
               version(5, 0, 1, message(b"a")))
    others = record(b"l" + struct.pack(">Q", 7), struct.pack(">QQ", 100, 30)) + record(b"mself", b"x")
    for cut in (0, 40, 60000):
        yield head + struct.pack("<H", cut) + records + others
    yield struct.pack("<IIiii", 9, 2, 5, 3, 3) + b"\0\0" + records
    yield head + b"\0\0" + others


# --- raft: fuzz_raft.c's steps; numbers from 64 on are near what the member has, 144 is just that ---

SAME, NEXT = 144, 145
(APPEND, APPEND_REPLY, HEARTBEAT, HEARTBEAT_REPLY, PRE_VOTE, PRE_VOTE_REPLY, VOTE, VOTE_REPLY, READ_INDEX,
 READ_INDEX_REPLY, PROPOSE, TRANSFER_LEADER, TIMEOUT_NOW) = range(13)
TICKS, WRITTEN, CAMPAIGN, CRASH, CUT = 17 + 224, 19 + 224, b"\x18", b"\x1c\x01", b"\x1d"


def told(kind, term=SAME, log_index=SAME, log_term=SAME, commit=SAME, entries=(), sender=2, context=0, flags=0,
         hint=None):
    """A message; entries are (kind, term) and what a change of members has behind it."""
    numbers = [] if kind in (PROPOSE, READ_INDEX, TRANSFER_LEADER) else [term]
    numbers += [log_index, log_term, commit, context] + ([] if hint is None else [hint])
    body = b"".join(bytes([it[0], *it[2:], it[1]]) for it in entries)
    return bytes([kind, flags | len(entries) << 4 | (hint is not None), sender, *numbers]) + body


def raft():
    written = bytes([WRITTEN])
    elected = (CAMPAIGN + told(PRE_VOTE_REPLY, NEXT) + written + told(VOTE_REPLY) + written + told(APPEND_REPLY) + written)
    put, grow, joint = (5, SAME), (7 + 32, SAME, 12), (7 + 16 + 64, SAME, 12, 6)
    replicated = b"\x14\x05" + written + told(APPEND_REPLY) + told(HEARTBEAT_REPLY, sender=3)
    followed = told(APPEND, 1, 0, 0, 0, [(5, 1), (3, 1), (0, 1)]) + written + told(APPEND, commit=SAME, entries=[put]) + written
    for options in (0, 3, 7, 35, 67):
        yield bytes([options]) + elected + replicated * 3 + b"\x16" + told(HEARTBEAT_REPLY, context=1) + bytes([TICKS]) * 3
        yield bytes([options]) + followed + told(HEARTBEAT, commit=SAME, context=3) + CRASH + told(VOTE, NEXT) + written
        yield bytes([options]) + elected + replicated + CUT + told(APPEND_REPLY, log_index=1, hint=0, sender=3) + b"\x1f\x01"
        yield bytes([options]) + elected + b"\x14" + bytes([grow[0], grow[2]]) + written + told(APPEND_REPLY) + replicated
        yield bytes([options]) + elected + b"\x14" + bytes([joint[0], *joint[2:]]) + written + (told(APPEND_REPLY) + written) * 2
    yield b"\x03" + followed + told(APPEND, NEXT, 1, 1, 4, [(2, NEXT), (3, NEXT)], sender=3) + written + CUT + CRASH
    yield b"\x03" + followed + told(APPEND, SAME, 60, 1, 4, [put]) + told(TIMEOUT_NOW) + written + told(VOTE_REPLY)
    yield b"\x03" + followed + told(APPEND, SAME, SAME, SAME, 0, [grow, put]) + written + told(HEARTBEAT, commit=60) + CRASH
    yield b"\x03" + elected + told(PROPOSE, entries=[put, grow]) + told(READ_INDEX, context=7) + written + told(TRANSFER_LEADER, context=3)
    yield b"\x03" + elected + b"\x17\x02" + told(APPEND_REPLY) + told(VOTE, NEXT, flags=2) + written + replicated
    yield b"\x0b" + told(HEARTBEAT, 2, commit=9) + b"\x1e\x09\x02\x00" + told(APPEND, 2, 9, 2, 10, [(5, 2)]) + written + CRASH
    yield b"\x13" + followed + bytes([TICKS]) * 4 + told(APPEND, commit=60, entries=[(7 + 32, SAME, 0)]) + written + CAMPAIGN


def dns():
    name = b"\x05_etcd\x04_tcp\x01a\x00"
    head = struct.pack(">HHHHHH", 1, 0x8180, 1, 2, 0, 0)
    srv = b"\xc0\x0c" + struct.pack(">HHIH", 33, 1, 60, 9) + struct.pack(">HHH", 0, 1, 2380) + b"\x01b\x00"
    yield head + name + struct.pack(">HH", 33, 1) + srv + srv
    yield head + name + struct.pack(">HH", 33, 1) + srv + b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, 2) + b"\xc0\x0c"


TARGETS = {"http2": http2, "grpc": grpc, "http1": http1, "json": json_target, "wire": wire, "yaml": yaml,
           "config": config, "token": token, "wal": wal, "snapshot": snapshot, "dns": dns,
           "raft": raft}


def write(target, folder):
    for i, data in enumerate(TARGETS[target]() if target in TARGETS else ()):
        with open(os.path.join(folder, "seed-%04d" % i), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    for name in TARGETS:
        os.makedirs(os.path.join(sys.argv[1], name), exist_ok=True)
        write(name, os.path.join(sys.argv[1], name))
