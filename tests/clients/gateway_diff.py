#!/usr/bin/env python3
"""etcd's and trivet's HTTP side by side: the same requests to both, and every answer compared: status,
headers, body, and what of a body is a stream.

What must differ is made equal before: ids, terms, sizes, hashes, ports.
"""
# COMPAT differs, gateway: a body of more than 4 MiB is answered with 413; etcd reads it all and answers 429
# COMPAT differs, gateway: over HTTP/2 a stream's request is read whole before the call begins, and there is no `Date`
# COMPAT better, gateway: unary calls over WebSocket are answered
# COMPAT differs, /debug: pprof has cmdline, heap and threadcreate; a profile is for perf to take

import argparse
import base64
import concurrent.futures
import json
import os
import re
import ssl
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import certs  # noqa: E402
import cluster  # noqa: E402
import rawhttp  # noqa: E402
from rawhttp import post, request  # noqa: E402

TALLY = cluster.Tally()
POOL = concurrent.futures.ThreadPoolExecutor(40)
CASES = concurrent.futures.ThreadPoolExecutor(12)
PATIENCE = 20  # with an answer that ends; a machine may have much to do
HEADERS_LEFT_OUT = {"date", "content-length"}
NUMBERS = ("cluster_id|member_id|raft_term|raftTerm|raftIndex|raftAppliedIndex|leader|dbSize|"
           "dbSizeInUse|hash|dbSizeQuota")


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def plain(text):
    """Without what differs by nature."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    # Go's protobuf takes other blanks in each build, so that nobody relies on them.
    text = text.replace("proto:\xc2\xa0", "proto: ").replace("proto:\xa0", "proto: ")
    text = re.sub(r'("(?:[^"\\]|\\.)*")|, ', lambda found: found[1] or ",", text)
    text = re.sub(r'"(%s)":"?\d+"?' % NUMBERS, r'"\1":N', text)
    text = re.sub(r'"(ID|lease)":"(\d{12,20})"', r'"\1":N', text)
    text = re.sub(r'127\.0\.0\.1:\d+', "HOST", text)
    text = re.sub(r'"name":"n0"', '"name":N', text)
    text = re.sub(r'"key":"(bG9ja|ZWxlYy[89])[^"]*"', r'"key":K', text)
    # What etcd's client inside sees first when its time is up.
    text = text.replace("stream terminated by RST_STREAM with error code: CANCEL", "context deadline exceeded")
    text = re.sub(r'"token":"[^"]*"', '"token":T', text)
    return text


def is_by_the_way(name, answer):
    """Go sends in chunks what is longer than 2 KiB; and with TLS, etcd's gateway hands on what the page in
    between had added."""
    if name == "transfer-encoding":
        return len(answer.body) > 2000 and not answer.body.startswith(b'{"result')
    return name.startswith("grpc-metadata-") and name != "grpc-metadata-content-type"


def shown(answer):
    headers = sorted("%s: %s" % (k, plain(v)) for k, v in answer.headers
                     if k.lower() not in HEADERS_LEFT_OUT and not is_by_the_way(k.lower(), answer))
    body = plain(answer.body)
    if body.startswith(("[+]", "[-]")):
        body = "\n".join(sorted(body.split("\n")))  # etcd's come in any order
    return "%s %d%s\n%s\n\n%s%s" % (answer.version, answer.status, "" if answer.ended else " (open)",
                                    "\n".join(headers), body,
                                    "".join("\n%s: %s" % t for t in answer.trailers))


def in_any_order(name, text):
    """Of two watches nobody knows which is heard first."""
    return "\n".join(sorted(text.split("\n"))) if name.startswith("two ") else text


class Pair:
    """One etcd and one trivet with the same flags."""

    def __init__(self, flags=(), more_trivet=(), schemes=None, size=1):
        self.both = [cluster.Cluster(kind, size=size, flags=list(flags) + list(
            more_trivet if kind == "trivet" else ())) for kind in ("etcd", "trivet")]
        for c in self.both:
            if schemes:
                c.client_scheme, c.ssl_context = schemes
        self.wrap = None

    def __enter__(self):
        for c in self.both:
            c.start()
        return self

    def __exit__(self, kind, value, trace):
        for c in self.both:
            if kind is None and c.kind == "trivet":
                c.check_running()
            c.__exit__(kind, value, trace)

    def addresses(self):
        return [("127.0.0.1", c.nodes[0].client_port) for c in self.both]

    def same(self, name, data, timeout=PATIENCE, head=False):
        return self.compare(name, self.ask_well(data, timeout, head))

    def ask_well(self, data, timeout, head=False):
        want, got = self.ask(data, timeout=timeout, head=head)
        if shown(want) != shown(got) and timeout < PATIENCE:
            want, got = self.ask(data, timeout=4 * timeout, head=head)  # one was slow
        return want, got

    @staticmethod
    def compare(name, answers):
        texts = [in_any_order(name, shown(a)) for a in answers]
        TALLY.check(texts[0] == texts[1], name,
                    "--- etcd\n%s\n--- trivet\n%s" % (texts[0][:1500], texts[1][:1500]))
        return answers

    def same_together(self, cases):
        """(name, request, seconds), which change nothing, all at once."""
        answers = CASES.map(lambda case: self.ask_well(case[1], case[2]), cases)
        for case, both in zip(cases, answers):
            self.compare(case[0], both)

    def ask(self, data, **options):
        return self.each(lambda a: rawhttp.ask(a, data, wrap=self.wrap, **options))

    def each(self, ask):
        """What both say, asked at the same time."""
        return list(POOL.map(ask, self.addresses()))


# --- what is asked ---

JSON_BODIES = [
    "", " ", "{}", "{", "}", "[", "[]", "null", "true", "tru", "nul", "falsy", "1", "-", "01", "1.", "1e", '"', '"a',
    '"a"', "'a'", "{a}", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1 "b"', '{"key":"YQ=="', '{"key":"YQ=="}x',
    '{"key":"YQ=="} {"key":"Yg=="}', '{"key":YQ==}', "\x01", "\xff".encode("latin-1"), b"\x80{}", b"\xef\xbb\xbf{}",
    '{"key":"YQ=="}\n\n', '\n\n {\n "key"\n:\t"Y\\u0051=="\r\n}', '{"key":"YQ"}', '{"key":"YQ="}', '{"key":"YQ==="}',
    '{"key":"Y Q=="}', '{"key":"YQ==\\n"}', '{"key":"Y\\nQ\\n==" }', '{"key":"-_8="}', '{"key":"+/8="}', '{"key":"-/8="}', '{"key":"-_8"}',
    '{"key":"%%"}', '{"key":""}', '{"key":null}', '{"key":12}', '{"key":{}}', '{"key":[]}', '{"key":true}',
    '{"key":"YQ==","key":"YQ=="}', '{"key":"YQ==","rangeEnd":"Yg==","range_end":"Yg=="}', '{"key":"YQ==","rangeEnd":null,"range_end":null}',
    '{"Key":"YQ=="}', '{"KEY":"YQ=="}', '{"key":"YQ==","range_End":"Yg=="}', '{"key":"YQ==","[a]":1,"[a.b]":{}}',
    '{"key":"YQ==","limit":1}', '{"key":"YQ==","limit":"1"}', '{"key":"YQ==","limit":1.0}', '{"key":"YQ==","limit":"1e0"}',
    '{"key":"YQ==","limit":1.5}', '{"key":"YQ==","limit":10e-1}', '{"key":"YQ==","limit":0.1e1}', '{"key":"YQ==","limit":0.15e1}', '{"key":"YQ==","limit":1e30}',
    '{"key":"YQ==","limit":1e-30}', '{"key":"YQ==","limit":0e999999999999}', '{"key":"YQ==","limit":1e999999999999}', '{"key":"YQ==","limit":-0}', '{"key":"YQ==","limit":"-0"}',
    '{"key":"YQ==","limit":9223372036854775807}', '{"key":"YQ==","limit":9223372036854775808}', '{"key":"YQ==","limit":-9223372036854775808}',
    '{"key":"YQ==","limit":-9223372036854775809}', '{"key":"YQ==","limit":" 1"}', '{"key":"YQ==","limit":"1 "}', '{"key":"YQ==","limit":""}', '{"key":"YQ==","limit":"x"}',
    '{"key":"YQ==","limit":"01"}', '{"key":"YQ==","limit":"+1"}', '{"key":"YQ==","limit":"0x1"}', '{"key":"YQ==","limit":true}', '{"key":"YQ==","limit":[1]}',
    '{"key":"YQ==","limit":"1\\u0030"}', '{"key":"YQ==","serializable":"true"}', '{"key":"YQ==","serializable":1}', '{"key":"YQ==","serializable":true}',
    '{"key":"YQ==","keys_only":true,"countOnly":false}', '{"key":"YQ==","sort_order":"DESCEND"}', '{"key":"YQ==","sort_order":"descend"}', '{"key":"YQ==","sort_order":2}',
    '{"key":"YQ==","sort_order":"2"}', '{"key":"YQ==","sort_order":7}', '{"key":"YQ==","sort_order":2.0}', '{"key":"YQ==","sort_order":2.5}', '{"key":"YQ==","sort_order":3000000000}',
    '{"key":"YQ==","sort_order":true}', '{"key":"YQ==","sort_order":{}}', '{"key":"YQ==","sort_target":"VALUE","sort_order":"ASCEND"}',
    '{"unknown":[{"a":[1,2,{"b":null}]},"x"],"key":"YQ=="}', '{"unknown":"\\ud800","key":"YQ=="}', '{"\\ud800":1}', '{"k\\u0065y":"YQ=="}',
    '{"key":"\\ud83d\\ude00"}', '{"key":"\\ud83d"}', '{"key":"\\ud83dabcdefgh"}', '{"key":"\\ude00\\ud83d"}', '{"key":"\\u00e9"}', '{"a":"\\x"}', '{"a":"\\u12g4"}', '{"a":"\t"}',
    b'{"unknown":"\xff"}', b'{"key":"YQ==","\xff":1}', '{"\u00e9\u00e9":1,"key":7}', '{\n\n"key"  :7}', '{"key":"YQ==",\n"limit"\n:\n"x"}',
    "[" * 10001, '{"a":' * 10001, "[" * 9999 + "]" * 9999, '{"unknown":%s%s,"key":"YQ=="}' % ("[" * 9998, "]" * 9998),
    '{"key":"YQ==","min_mod_revision":"1","max_mod_revision":"99","min_create_revision":1,"maxCreateRevision":99}',
    '{"key":"YQ==","revision":"-1"}', '{"key":"YQ==","revision":"1000000"}',
]

TXNS = [
    {}, {"compare": []}, {"compare": [{}]}, {"compare": [None]}, {"compare": None}, {"compare": {}}, {"compare": [1]}, {"compare": [[]]},
    {"compare": [{"key": "YQ==", "result": "EQUAL", "target": "VALUE", "value": "MQ=="}],
     "success": [{"request_put": {"key": "dA==", "value": "MQ=="}}],
     "failure": [{"request_range": {"key": "YQ=="}}]},
    {"compare": [{"key": "YQ==", "target": "MOD", "mod_revision": 1, "result": "GREATER"}], "success": [{"requestDeleteRange": {"key": "dA==", "prev_kv": True}}]},
    {"success": [{"request_txn": {"success": [{"request_range": {"key": "YQ=="}}, {"request_put": {"key": "dTE="}}]}}]},
    {"success": [{}]}, {"success": [{"request_put": {"key": "dQ=="}, "request_range": {"key": "dQ=="}}]},
    {"success": [{"request_put": None, "request_range": {"key": "YQ=="}}]}, {"success": [{"request_put": {"key": "dQ=="}}] * 2},
    {"compare": [{"key": "YQ==", "version": 0, "lease": 0}]}, {"compare": [{"key": "YQ==", "target": "LEASE", "lease": 0}]},
    {"compare": [{"key": "YQ==", "target": "CREATE", "create_revision": "0"}]}, {"compare": [{"key": "YQ==", "target": 0, "result": 3}]},
    {"compare": [{"key": "AA==", "range_end": "AA==", "target": "VERSION", "version": 1, "result": "LESS"}]},
    {"success": [{"request_range": {"key": "YQ=="}}] * 129},
]

CALLS = [
    ("lease/grant", {"TTL": 100, "ID": 7}), ("lease/grant", {"TTL": 100, "ID": 7}), ("lease/grant", {"ID": "8", "TTL": "1000"}),
    ("lease/grant", {"TTL": "99999999999"}), ("lease/grant", {"TTL": -1, "ID": 9}), ("lease/grant", {"TTL": 9e30}), ("lease/grant", {"ttl": 5, "id": 3, "ID": 10}),
    ("kv/put", {"key": "bGVhc2Vk", "value": "MQ==", "lease": 7}), ("kv/put", {"key": "bGVhc2Vk", "lease": 999}), ("kv/put", {"value": "MQ=="}),
    ("kv/put", {"key": "YQ==", "value": "Mg==", "prev_kv": True}), ("kv/put", {"key": "YQ==", "ignore_value": True, "value": "MQ=="}), ("kv/put", {"key": "YQ==", "ignoreLease": True, "lease": 7}),
    ("lease/timetolive", {"ID": 8, "keys": True}), ("kv/lease/timetolive", {"ID": 4711}), ("lease/leases", {}), ("kv/lease/leases", {}),
    ("lease/keepalive", {"ID": 7}), ("lease/keepalive", {"ID": 4711}), ("lease/keepalive", '{"ID":7}{"ID":8} {"ID":7}'), ("lease/keepalive", '{"ID":7}{"ID":"x"}{"ID":8}'),
    ("lease/keepalive", ""), ("lease/keepalive", "x"), ("lease/keepalive", "{}"), ("lease/revoke", {"ID": 9}), ("lease/revoke", {"ID": 9}), ("kv/lease/revoke", {"ID": 8}),
    ("kv/deleterange", {"key": "bGVhc2Vk", "prevKv": True}), ("kv/deleterange", {"key": "bGVhc2Vk"}), ("kv/deleterange", {}),
    ("kv/range", {"key": "AA==", "range_end": "AA==", "count_only": True}), ("kv/range", {"key": "AA==", "range_end": "AA==", "limit": 1}),
    ("kv/compaction", {"revision": 100000}), ("kv/compaction", {"revision": 3}), ("kv/compaction", {"revision": 2, "physical": True}), ("kv/range", {"key": "YQ==", "revision": 2}),
    ("cluster/member/list", {}), ("cluster/member/list", {"linearizable": True}), ("cluster/member/add", {"peerURLs": ["x"]}), ("cluster/member/add", {"peerURLs": []}), ("cluster/member/add", {"peer_urls": ["http://a:1"]}),
    ("cluster/member/add", {"peerURLs": "http://a:1"}), ("cluster/member/remove", {"ID": 5}), ("cluster/member/update", {"ID": 5, "peerURLs": ["http://127.0.0.9:1"]}), ("cluster/member/promote", {"ID": 5}),
    ("maintenance/alarm", {}), ("maintenance/alarm", {"action": "ACTIVATE", "alarm": "NOSPACE", "memberID": 3}), ("maintenance/alarm", {"action": 0}), ("kv/put", {"key": "YQ=="}),
    ("maintenance/alarm", {"action": "DEACTIVATE", "alarm": 1, "memberID": "3"}), ("maintenance/alarm", {"action": "nonsense", "alarm": "CORRUPT"}),
    ("maintenance/status", {}), ("maintenance/defragment", {}), ("maintenance/hash", {}), ("maintenance/hashkv", {}), ("maintenance/hashkv", {"revision": 1000}), ("maintenance/hashkv", {"revision": 1}),
    ("maintenance/transfer-leadership", {"targetID": 5}), ("maintenance/downgrade", {"action": "VALIDATE", "version": "3.6"}), ("maintenance/downgrade", {"version": "x"}), ("maintenance/downgrade", {"action": "CANCEL"}),
    ("auth/status", {}), ("auth/enable", {}), ("auth/disable", {}), ("auth/authenticate", {"name": "x", "password": "y"}), ("auth/user/add", {}), ("auth/user/add", {"name": "u<&>\u2028", "password": "p"}), ("auth/user/add", {"name": "u<&>\u2028", "password": "p"}),
    ("auth/user/list", {}), ("auth/user/get", {"name": "u<&>\u2028"}), ("auth/user/get", {"name": "nobody"}), ("auth/role/add", {"name": "r\"\\\x01\t\x7f"}), ("auth/role/grant", {"name": "r\"\\\x01\t\x7f", "perm": {"permType": "READWRITE", "key": "YQ==", "range_end": "Yg=="}}),
    ("auth/role/get", {"role": "r\"\\\x01\t\x7f"}), ("auth/role/list", {}), ("auth/user/grant", {"user": "u<&>\u2028", "role": "r\"\\\x01\t\x7f"}), ("auth/user/get", {"name": "u<&>\u2028"}), ("auth/user/changepw", {"name": "u<&>\u2028", "password": "q"}),
    ("auth/user/revoke", {"name": "u<&>\u2028", "role": "r\"\\\x01\t\x7f"}), ("auth/role/revoke", {"role": "r\"\\\x01\t\x7f", "key": "YQ==", "range_end": "Yg=="}), ("auth/role/delete", {"role": "r\"\\\x01\t\x7f"}), ("auth/user/delete", {"name": "u<&>\u2028"}),
    ("auth/user/add", {"name": "x", "options": {"no_password": True}}), ("auth/user/delete", {"name": "x"}),
    ("lock/lock", {"name": "bG9jaw=="}), ("lock/lock", {"name": "bG9jaw==", "lease": 5}), ("lock/unlock", {"key": "bm9uZQ=="}),
    ("election/campaign", {"name": "ZWxlYw==", "value": "djE="}), ("election/leader", {"name": "ZWxlYw=="}), ("election/leader", {"name": "bm8="}), ("election/proclaim", {"leader": {"name": "ZWxlYw==", "rev": 1}, "value": "djI="}), ("election/proclaim", {}), ("election/resign", {}),
    ("election/resign", {"leader": {"name": "ZWxlYw==", "key": "bm8=", "rev": 1, "lease": 1}}), ("election/observe", "{"), ("maintenance/snapshot", "["),
]

PATHS = [
    "/", "/v3", "/v3/", "/v3beta", "/v3beta/", "/v3alpha/kv/range", "/v2/keys", "/v3/kv", "/v3/kv/", "/v3/kv/range/", "/v3/kv/ranges", "/v3/KV/range", "/v3//kv/range", "//v3/kv/range", "/v3/./kv/range",
    "/v3/../v3/kv/range", "/v3/kv/../../health", "/v3/kv/range?x=1&y", "/v3//kv/range?x=1&y", "/v3/k%76/range", "/v3/kv%2frange", "/v3%2fkv/range", "/%763/kv/range", "/v3/kv/range:x", "/v3/kv/range%zz", "/v3/kv/range%", "/v3beta/kv/range",
    "/v3/watch/", "/v3/lock/campaign", "/v3/kv/rangestream", "/health", "/health/", "/health?serializable=true", "/health?exclude=NOSPACE", "/livez", "/livez/", "/livez/serializable_read", "/livez/data_corruption", "/livez?verbose", "/livez?exclude=x",
    "/livez?exclude=serializable_read&verbose", "/readyz", "/readyz?verbose", "/readyz/data_corruption", "/readyz/serializable_read", "/readyz/linearizable_read?verbose", "/readyz/non_learner", "/readyz/x", "/readyz?exclude=non_learner&exclude=data_corruption&verbose", "/readyz?allow=x&verbose=0",
    "/version", "/version/", "/metrics/", "/config/local/log", "/debug/requests", "/debug/events", "/debug/pprof/", "/debug/pprof", "/debug/vars/", "/debug", "/members", "/v3/<>&\"'", "/a/../b<>", "/x//<>&\"'?a=<>",
]


def test_json(pair):
    pair.ask(post("/v3/kv/put", {"key": "YQ==", "value": "MQ=="}))
    for i, body in enumerate(JSON_BODIES):
        pair.same("json %d %r" % (i, body[:80]), post("/v3/kv/range", body))
    for i, body in enumerate(JSON_BODIES[:40]):
        pair.same("lock by json %d" % i, post("/v3/auth/user/get", body))
    for i, txn in enumerate(TXNS):
        pair.same("txn %d" % i, post("/v3/kv/txn", txn))


def test_calls(pair):
    for path, body in CALLS:
        pair.same("%s %r" % (path, body), post("/v3/" + path, body))


def test_paths(pair):
    for path in PATHS:
        for method in ("GET", "POST", "HEAD", "PUT", "OPTIONS"):
            pair.same("%s %s" % (method, path), request(method, path, b"{}" if method == "POST" else b""),
                      head=method == "HEAD")
    for method in ("DELETE", "PATCH", "TRACE", "FOO"):
        for path in ("/v3/kv/range", "/health", "/nothing"):
            pair.same("%s %s" % (method, path), request(method, path))
    for path in ("/debug/vars", "/metrics"):
        want, got = pair.ask(request("GET", path))
        TALLY.check(want.status == got.status == 200 and want.header("content-type").startswith(
            got.header("content-type")), path)
        if path == "/debug/vars":
            TALLY.check(json.loads(want.body).keys() == json.loads(got.body).keys(), "keys of " + path)


def test_headers(pair):
    rng = '{"key":"YQ=="}'
    for headers in (["TE: trailers"], ["TE: gzip, Trailers"], ["Accept: text/plain"], ["Content-Type: text/plain"],
                    ["Grpc-Timeout: 10S"], ["Grpc-Timeout: 1"], ["Grpc-Timeout: S"], ["Grpc-Timeout: 1x"], ["Grpc-Timeout: 0S"], ["Grpc-Timeout: 999999999999H"], ["Grpc-Timeout: -1S"],
                    ["Grpc-Timeout: 1.5S"], ["Grpc-Timeout:"], ["Grpc-Metadata-X-Bin: !!"], ["Grpc-Metadata-X-Bin: YQ"], ["Grpc-Metadata-X-Bin: YWI=x"], ["grpc-metadata-hasleader: true"],
                    ["Authorization: nonsense"], ["X-HTTP-Method-Override: GET"], ["Origin: http://evil:1"],
                    ["X-HTTP-Method-Override: get", "Content-Type: application/x-www-form-urlencoded"],
                    ["X-HTTP-Method-Override: post", "Content-Type: application/x-www-form-urlencoded"]):
        pair.same("headers %r" % headers, post("/v3/kv/range", rng, headers))
        pair.same("headers %r and an error" % headers, post("/v3/kv/range", "{}", headers))
        pair.same("headers %r and no JSON" % headers, post("/v3/kv/range", "x", headers))
        pair.same("headers %r and no page" % headers, post("/v3/none", "x", headers))
        pair.same("headers %r and a stream" % headers, post("/v3/lease/keepalive", '{"ID":4711}', headers))
    pair.same("chunked", request("POST", "/v3/kv/range", headers=["Transfer-Encoding: chunked"]).replace(
        b"Content-Length: 0\r\n", b"") + b"7\r\n{\"key\":\r\n7\r\n\"YQ==\"}\r\n0\r\n\r\n")
    for version in ("HTTP/1.0", "HTTP/1.1"):
        whole = post("/v3/kv/range", rng, version=version)
        pair.same(version, whole)
        pair.same(version + " without a host", whole.replace(b"Host: localhost\r\n", b""))


def test_streams(pair):
    key = b64("streamed")
    pair.ask(post("/v3/kv/put", {"key": key, "value": b64("<&>\u2028")}))
    create = {"create_request": {"key": key, "start_revision": 1}}
    pair.same("a compacted watch", post("/v3/watch", create), timeout=1)
    create["create_request"]["start_revision"] = 5
    cases = []
    for name, body in (("watch", json.dumps(create)), ("watch, and no JSON", json.dumps(create) + "x"), ("nothing to watch", ""), ("watch of no JSON", "x"),
                       ("two watches", json.dumps(create) + json.dumps({"createRequest": {"key": "bm8=", "watch_id": 5}})),
                       ("two of one id", json.dumps({"create_request": {"key": key, "watch_id": 5}}) * 2),
                       ("watch and cancel", json.dumps({"create_request": {"key": key}}) + '{"cancel_request":{"watch_id":"0"}}'),
                       ("two kinds at once", '{"create_request":{"key":"YQ=="},"cancel_request":{}}'),
                       ("filters", json.dumps({"create_request": {"key": key, "filters": ["NOPUT", 1, "NONE"], "progress_notify": True, "prev_kv": True}})),
                       ("a bad range", json.dumps({"create_request": {"key": "Yg==", "range_end": "YQ=="}}))):
        cases.append((name, post("/v3/watch", body), 0.6))
        cases.append((name + " with a deadline", post("/v3/watch", body, ["Grpc-Timeout: 300m"]), 3))
    cases.append(("watch by HTTP/1.0", post("/v3/watch", create, version="HTTP/1.0"), 1))
    for name, path in (("a leader", "ZWxlYw=="), ("no leader", "bm9uZQ==")):
        cases.append(("observe " + name, post("/v3/election/observe", {"name": path}), 1))
    cases.append(("observe with a deadline", post("/v3/election/observe", {"name": "bm9uZQ=="}, ["Grpc-Timeout: 300m"]), 3))
    pair.same_together(cases)
    for want, got in [pair.ask(post("/v3/maintenance/snapshot", {}), timeout=10)]:
        for answer in (want, got):
            blobs = [json.loads(line)["result"] for line in answer.lines()]
            data = b"".join(base64.b64decode(b.get("blob", "")) for b in blobs)
            TALLY.check(answer.ended and data[16:20] == b"\xed\xda\x0c\xed" and (len(data) - 32) % 4096 == 0, "snapshot")
    # What happens while it is watched.
    connections = [rawhttp.Connection(a) for a in pair.addresses()]
    for c in connections:
        c.send(post("/v3/watch", {"create_request": {"key": key, "prev_kv": True}}))
    time.sleep(0.3)
    pair.ask(post("/v3/kv/put", {"key": key, "value": "Mg=="}))
    pair.ask(post("/v3/kv/deleterange", {"key": key}))
    want, got = list(POOL.map(lambda c: c.receive(1), connections))
    TALLY.check(shown(want) == shown(got) and len(got.lines()) == 3, "events as they come", shown(want) + shown(got))
    for c in connections:
        c.socket.close()


def test_connections(pair):
    """Keep-alive, pipelining, cut connections, large bodies."""
    def many(address):
        with rawhttp.Connection(address) as c:
            c.send(post("/v3/kv/range", {"key": "YQ=="}) * 3 + request("GET", "/health") + post("/v3/none") +
                   post("/v3/lease/keepalive", {"ID": 1}) + post("/v3/kv/range", "x"))
            return "\n".join(shown(c.receive(3)) for _ in range(7))
    want, got = pair.each(many)
    TALLY.check(want == got and got.count("HTTP/1.1 ") == 7, "seven at once", want + "\n---\n" + got)
    value = os.urandom(1 << 20)
    pair.same("a large value", post("/v3/kv/put", {"key": b64("large"), "value": b64(value)}))
    want, got = pair.same("a large value, read", post("/v3/kv/range", {"key": b64("large")}))
    TALLY.check(b64(value).encode() in got.body, "it is the value")
    pair.same("a large watch", post("/v3/watch", {"create_request": {"key": b64("large"), "start_revision": 6}}), timeout=2)
    pair.same("more than a request may have", post("/v3/kv/put", {"key": "YQ==", "value": b64(bytes(1600 << 10))}))
    pair.same("more than a message may have", post("/v3/kv/put", {"key": "YQ==", "value": b64(bytes(2100 << 10))}))
    address = pair.addresses()[1]
    answer = rawhttp.ask(address, request("POST", "/v3/kv/put", headers=["Content-Length: 100000000"]).replace(
        b"Content-Length: 0\r\n", b""))
    TALLY.check(answer.status == 413, "far too much")
    for body in (post("/v3/kv/put", {"key": "Y3V0"})[:-3], post("/v3/watch", {"create_request": {"key": "Y3V0"}}),
                 post("/v3/lock/lock", {"name": "bG9jaw=="}), post("/v3/maintenance/snapshot", {})):
        for wait in (0, 0.2):
            with rawhttp.Connection(address) as c:
                c.send(body)
                time.sleep(wait)
    TALLY.check(rawhttp.ask(address, request("GET", "/health")).status == 200, "cut connections")


def test_cancelled_lock(pair):
    """Who goes away while he waits for a lock leaves the queue."""
    for address in pair.addresses():
        first = rawhttp.ask(address, post("/v3/lock/lock", {"name": b64("queue")}))
        key = json.loads(first.body)["key"]
        with rawhttp.Connection(address) as c:
            c.send(post("/v3/lock/lock", {"name": b64("queue")}))
            time.sleep(0.3)
        prefix = {"key": b64("queue/"), "range_end": b64("queue0"), "count_only": True}
        for _ in range(50):
            count = json.loads(rawhttp.ask(address, post("/v3/kv/range", prefix)).body)["count"]
            if count == "1":
                break
            time.sleep(0.1)
        TALLY.check(count == "1", "one is left in the queue: " + count)
        rawhttp.ask(address, post("/v3/lock/unlock", {"key": key}))
        answer = rawhttp.ask(address, post("/v3/lock/lock", {"name": b64("queue")}))
        TALLY.check(answer.status == 200, "the lock is free")


def test_slow_reader(pair):
    """One that watches and does not read costs little, and misses nothing."""
    node = pair.both[1].nodes[0]
    address = pair.addresses()[1]
    value = b64(os.urandom(64 << 10))

    def grow(key):
        """What 600 puts of it add to the process, in MB."""
        before = node.rss_bytes()
        with rawhttp.Connection(address) as writer:
            for _ in range(600):
                writer.send(post("/v3/kv/put", {"key": b64(key), "value": value}))
                TALLY.check(writer.receive().status == 200, "put")
        return (node.rss_bytes() - before) >> 20

    with rawhttp.Connection(address, receive_bytes=4096) as c:
        c.send(post("/v3/watch", {"create_request": {"key": b64("slow")}}))
        time.sleep(0.3)
        grow("warm up")
        unwatched, watched = grow("other"), grow("slow")
        deadline = time.monotonic() + 30
        events, end = 0, b""
        while events < 600 and c.fill(deadline):
            # A chunk's size may stand between two letters, of a few of them.
            events += c.buffer.count(b'"version"') + (end + c.buffer[:8]).count(b'"version"')
            end, c.buffer = c.buffer[-8:], b""
    print("600 puts of 64 KiB add %d MB, and %d MB with a watcher that does not read" % (unwatched, watched))
    if "asan" not in cluster.build_dir():
        TALLY.check(watched < unwatched + 25, "53 MB of events that nobody reads")
    TALLY.check(events == 600, "the events when it reads: %d" % events)


def test_websocket(pair):
    def talk(address, path, frames, headers=(), timeout=0.8):
        with rawhttp.Connection(address) as c:
            said = [shown_upgrade(c.upgrade(path, headers))]
            for frame in frames:
                if isinstance(frame, float):
                    time.sleep(frame)
                else:
                    c.send_frame(*frame)
            while True:
                op, payload = c.frame(timeout)
                said.append("%s %s" % (op, plain(payload)))
                if op in ("timeout", "end"):
                    return "\n".join(said)

    def shown_upgrade(answer):
        return "%d %s" % (answer.status, sorted(
            (k, v) for k, v in answer.headers if k.lower() not in ("date", "sec-websocket-accept", "content-length")))

    create = json.dumps({"create_request": {"key": "YQ==", "start_revision": 5}})
    cases = [
        ("watch", "/v3/watch", [(create,)]),
        ("binary", "/v3/watch", [(create, 2)]),
        ("fragments", "/v3/watch", [(create[:9], 1, False), (b"", 9), (create[9:20], 0, False), (create[20:], 0)]),
        ("a value in pieces", "/v3/watch", [(create[:9],), 0.1, (create[9:],)]),
        ("two values", "/v3/watch", [(create + json.dumps({"create_request": {"key": "bm8="}}),)]),
        ("two messages", "/v3/watch", [(create,), (json.dumps({"create_request": {"key": "bm8="}}),), 0.2, ('{"cancel_request":{"watch_id":1}}',)]),
        ("a ping", "/v3/watch", [(b"hello", 9), (b"", 10), (create,)]),
        ("a close", "/v3/watch", [(create,), 0.3, (b"\x03\xe8bye", 8)]),
        ("a close of nothing", "/v3/watch", [(b"", 8)]),
        ("no JSON", "/v3/watch", [("x",), (create,)]),
        ("no mask", "/v3/watch", [(create, 1, True, False)]),
        ("a bad opcode", "/v3/watch", [(create, 3)]),
        ("continuing nothing", "/v3/watch", [(create, 0)]),
        ("a message in a message", "/v3/watch", [(create[:9], 1, False), (create, 1)]),
        ("keepalive", "/v3/lease/keepalive", [('{"ID":4711}',), ('{"ID":4712}',)]),
        ("a unary call's bad JSON", "/v3/kv/range", [("x",)]),
        ("no such page", "/v3/none", []),
        ("v3beta", "/v3beta/watch", [(create,)]),
        ("no gateway", "/health", []),
    ]
    def talk_to_both(case):
        want, got = pair.each(lambda a: talk(a, case[1], case[2]))
        return (want, got) if want == got else pair.each(lambda a: talk(a, case[1], case[2], timeout=3))

    for (name, _, _), (want, got) in zip(cases, CASES.map(talk_to_both, cases)):
        if name in ("no mask", "a bad opcode", "continuing nothing", "a message in a message"):
            # With the same code; the words are gorilla's.
            want, got = [re.sub(r"(8 ..).*", r"\1", t, flags=re.S) for t in (want, got)]
        want, got = in_any_order(name, want), in_any_order(name, got)
        TALLY.check(want == got, "websocket: " + name, "--- etcd\n%s\n--- trivet\n%s" % (want, got))
    want, got = pair.each(lambda a: talk(a, "/v3/watch", [(create,)], ["Sec-WebSocket-Protocol: Bearer, nonsense"]))
    TALLY.check(want == got, "websocket: a token", want + "\n---\n" + got)
    got = talk(pair.addresses()[1], "/v3/kv/range", [('{"key":"YQ==","serializable":true}',)])
    TALLY.check('1 {"header":{' in got and got.endswith("end "), "websocket: a call of one message", got)
    for headers in (["Sec-WebSocket-Version: 12"], ["Sec-WebSocket-Key: x"], []):
        upgrade = ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket"] + headers
        pair.same("a bad handshake %r" % headers, request("GET", "/v3/watch", headers=upgrade))
        pair.same("a posted handshake %r" % headers, request("POST", "/v3/watch", headers=upgrade))


def test_patroni(pair):
    """What Patroni's and lua-resty-etcd's clients do, in their order."""
    key, prefix = b64("/service/c/leader"), b64("/service/c/")
    end = b64("/service/c0")
    steps = [
        ("GET", "/version", None), ("POST", "/v3/cluster/member/list", {}), ("POST", "/v3/maintenance/status", {}), ("POST", "/v3/lease/grant", {"TTL": 30, "ID": 4242}),
        ("POST", "/v3/kv/txn", {"compare": [{"target": "CREATE", "create_revision": "0", "key": key}], "success": [{"request_put": {"key": key, "value": b64("node1"), "lease": "4242"}}]}),
        ("POST", "/v3/kv/txn", {"compare": [{"target": "CREATE", "create_revision": "0", "key": key}], "success": [{"request_put": {"key": key, "value": b64("node2"), "lease": "4242"}}]}),
        ("POST", "/v3/kv/range", {"key": prefix, "range_end": end, "serializable": True}),
        ("POST", "/v3/lease/keepalive", {"ID": "4242"}),
        ("POST", "/v3/kv/txn", {"compare": [{"target": "VALUE", "value": b64("node1"), "key": key}], "success": [{"request_delete_range": {"key": key}}]}),
        ("POST", "/v3/kv/put", {"key": b64("/apisix/routes/1"), "value": b64('{"uri":"/x"}')}),
        ("POST", "/v3/kv/range", {"key": b64("/apisix/routes"), "range_end": b64("/apisix/routet"), "sort_order": "ASCEND", "sort_target": "KEY", "limit": 0, "revision": 0}),
        ("POST", "/v3/kv/deleterange", {"key": b64("/apisix/routes/1"), "prev_kv": True}),
        ("POST", "/v3/auth/authenticate", {"name": "root", "password": "x"}),
        ("POST", "/v3/lease/revoke", {"ID": "4242"}),
    ]
    for method, path, body in steps:
        pair.same("sequence %s" % path, request(method, path, json.dumps(body) if body is not None else b""))
    pair.same("watch from a revision", post("/v3/watch", {"create_request": {"key": prefix, "range_end": end, "prev_kv": True, "start_revision": 7, "progress_notify": True}}), timeout=1)


def test_auth():
    with Pair() as pair:
        for path, body in (("user/add", {"name": "root", "password": "r"}), ("role/add", {"name": "root"}), ("user/grant", {"user": "root", "role": "root"}),
                           ("user/add", {"name": "u", "password": "p"}), ("role/add", {"name": "ro"}), ("role/grant", {"name": "ro", "perm": {"key": "YQ==", "permType": "READ"}}),
                           ("user/grant", {"user": "u", "role": "ro"}), ("enable", {}), ("enable", {}), ("status", {}), ("authenticate", {"name": "u", "password": "wrong"})):
            pair.same("auth/" + path, post("/v3/auth/" + path, body))
        tokens = {}
        for user, password in (("root", "r"), ("u", "p")):
            want, got = pair.same("authenticate " + user, post("/v3/auth/authenticate", {"name": user, "password": password}))
            tokens[user] = [json.loads(a.body)["token"] for a in (want, got)]
        create = {"create_request": {"key": "YQ=="}}
        calls = [("kv/range", {"key": "YQ=="}), ("kv/put", {"key": "YQ=="}), ("kv/put", {"key": "YQ==", "value": "MQ=="}), ("watch", create), ("watch", {"create_request": {"key": "eA=="}}),
                 ("auth/user/list", {}), ("maintenance/status", {}), ("maintenance/snapshot", "{"), ("lease/keepalive", {"ID": 1}), ("election/observe", {"name": "eA=="}), ("lock/lock", {"name": "bG9jaw=="})]
        for form in ("Authorization: %s", "authorization: Bearer %s", "Grpc-Metadata-Token: %s", None, "Authorization: x%s"):
            for user in tokens:
                for path, body in calls:
                    if path == "lock/lock":
                        body = {"name": b64("lock" + str(form) + user)}  # nobody waits
                    timeout = 0.5 if path in ("watch", "election/observe") else PATIENCE
                    answers = list(POOL.map(lambda a, t, f=form, p=path, b=body, s=timeout: rawhttp.ask(
                        a, post("/v3/" + p, b, [f % t] if f else []), timeout=s), pair.addresses(), tokens[user]))
                    want, got = map(shown, answers)
                    TALLY.check(want == got, "%s as %s by %s" % (path, user, form), "--- etcd\n%s\n--- trivet\n%s" % (want, got))
        for protocol in ("Bearer, %s", "Bearer,%s", "Bearer, x%s", "Cookie"):
            said = []
            for address, token in zip(pair.addresses(), tokens["u"]):
                with rawhttp.Connection(address) as c:
                    header = "Cookie: a=b; token=" + token if protocol == "Cookie" else "Sec-WebSocket-Protocol: " + protocol % token
                    c.upgrade("/v3/watch", [header])
                    c.send_frame(json.dumps(create))
                    said.append([(op, plain(payload)) for op, payload in (c.frame(1), c.frame(0.3))])
            TALLY.check(said[0] == said[1], "websocket with %r" % protocol, repr(said))


def test_access():
    flags = ["--cors", "http://good:1,http://other:2", "--host-whitelist", "good,127.0.0.1,::1"]
    with Pair(flags) as pair:
        for host in ("good", "good:80", "GOOD", "evil", "evil:2379", "127.0.0.1:99", "[::1]:5", "::1", "a:b:c", "", 'e"vil', "evil\\"):
            for path in ("/health", "/v3/kv/range", "/nothing", "/metrics"):
                method = "POST" if path.startswith("/v3") else "GET"
                want, got = pair.ask(request(method, path, host=host))
                if path == "/metrics" and got.status == want.status == 200:
                    continue
                TALLY.check(shown(want) == shown(got), "host %r %s" % (host, path), shown(want) + "\n---\n" + shown(got))
        for origin in ("http://good:1", "http://other:2", "http://evil:1", "HTTP://good:1", ""):
            for method, path in (("OPTIONS", "/v3/kv/range"), ("POST", "/v3/kv/put"), ("GET", "/health"), ("GET", "//x")):
                pair.same("origin %r %s" % (origin, path), request(method, path, b"{}" if method == "POST" else b"",
                                                                  headers=["Origin: " + origin], host="good"))
    with Pair(["--enable-grpc-gateway=false", "--host-whitelist", "*", "--cors", "*"]) as pair:
        for path in ("/v3/kv/range", "/v3", "/v3beta/kv/range", "/v3/"):
            pair.same("no gateway: " + path, post(path, "{}"))
        pair.same("no gateway: websocket", request("GET", "/v3/watch", headers=["Connection: Upgrade", "Upgrade: websocket"]))
    for flag in (["--cors", "nonsense"], ["--cors", "http://a"], ["--enable-grpc-gateway=x"]):
        statuses = [cluster.run([cluster.binary(kind), "--data-dir", "/nonexistent/x"] + flag, capture_output=True, timeout=20).returncode
                    for kind in ("etcd", "trivet")]
        TALLY.check(statuses[0] != 0 and (statuses[0] == 2) == (statuses[1] == 2), "%r: %r" % (flag, statuses))


def test_tls(folder):
    ca = certs.Authority(folder, "ca")
    server = ca.issue("server", sans=["DNS:localhost", "IP:127.0.0.1"])
    client = ca.issue("someone")
    context = ssl.create_default_context(cafile=ca.cert)
    context.check_hostname = False
    context.load_cert_chain(client.cert, client.key)
    flags = ["--cert-file", server.cert, "--key-file", server.key, "--trusted-ca-file", ca.cert, "--client-cert-auth", "--host-whitelist", "nobody"]
    with Pair(flags, schemes=("https", context)) as pair:
        pair.wrap = lambda s: context.wrap_socket(s, server_hostname="localhost")
        pair.same("TLS: put", post("/v3/kv/put", {"key": "YQ==", "value": "MQ=="}))
        pair.same("TLS: watch", post("/v3/watch", {"create_request": {"key": "YQ==", "start_revision": 2}}), timeout=1)
        test_http2(pair, ca, client)
        for path, body in (("user/add", {"name": "root", "password": "r"}), ("role/add", {"name": "root"}), ("user/grant", {"user": "root", "role": "root"}), ("enable", {})):
            pair.same("TLS: auth/" + path, post("/v3/auth/" + path, body))
        for path in ("/v3/kv/range", "/v3/none", "/v3beta/kv/range", "/health", "/v3"):
            pair.same("TLS: a certificate's name, " + path, post(path, "{}"))


def test_http2(pair, ca, client):
    """By HTTP/2, as curl does by itself."""
    if "HTTP2" not in cluster.run(["curl", "--version"], capture_output=True, text=True).stdout:
        return

    def curl(port, path, body, seconds):
        done = cluster.run(["curl", "-s", "-i", "-N", "--http2", "-m", str(seconds), "--cacert", ca.cert, "--cert", client.cert, "--key", client.key,
                            "-d", body, "https://127.0.0.1:%d%s" % (port, path)], capture_output=True, text=True, timeout=20)
        head, _, rest = done.stdout.replace("\r", "").partition("\n\n")
        return plain("\n".join(sorted(line for line in head.split("\n") if not line.lower().startswith(("date", "content-length", "grpc-metadata-access", "grpc-metadata-trailer")))) + "\n\n" + rest)
    for path, body, seconds in (("/v3/kv/range", '{"key":"YQ=="}', 5), ("/v3/kv/range", "x", 5), ("/v3/none", "", 5), ("/v3/lease/keepalive", '{"ID":4}', 5),
                                ("/v3/watch", '{"create_request":{"key":"YQ==","start_revision":2}}', 1), ("/health", "", 5), ("/v3", "", 5)):
        want, got = [curl(port, path, body, seconds) for _, port in pair.addresses()]
        TALLY.check(want == got and got.startswith("HTTP/2"), "HTTP/2: %s %s" % (path, body), want + "\n---\n" + got)


def test_pprof():
    with cluster.Cluster("trivet", size=1, flags=["--enable-pprof", "--io-threads", "2"]) as c:
        c.start()
        address = ("127.0.0.1", c.nodes[0].client_port)
        for path, part in (("/debug/pprof/", b"threadcreate"), ("/debug/pprof/cmdline", b"--enable-pprof"), ("/debug/pprof/threadcreate", b"trivet"), ("/debug/pprof/nope", b"Unknown")):
            answer = rawhttp.ask(address, request("GET", path))
            TALLY.check(part in answer.body and answer.status == (404 if b"Unknown" == part else 200), path, repr(answer.body[:200]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="names of groups, comma-separated")
    args = parser.parse_args()
    cluster.exit_on_signals()
    groups = [("calls", test_calls), ("json", test_json), ("paths", test_paths), ("headers", test_headers), ("patroni", test_patroni), ("streams", test_streams),
              ("websocket", test_websocket), ("connections", test_connections), ("lock", test_cancelled_lock), ("slow", test_slow_reader)]
    alone = [("auth", test_auth), ("access", test_access), ("pprof", test_pprof)]
    only = args.only.split(",") if args.only else None
    chosen = [(name, test) for name, test in groups if only is None or name in only]
    if chosen:
        with Pair() as pair:
            for name, test in chosen:
                test(pair)
    for name, test in alone:
        if only is None or name in only:
            test()
    if only is None or "tls" in only:
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            test_tls(folder)
    # Once more with threads that serve clients.
    if only is None or "threads" in only:
        with Pair(more_trivet=["--io-threads", "2"]) as pair:
            for test in (test_calls, test_patroni, test_cancelled_lock):
                test(pair)
    return TALLY.finish()


if __name__ == "__main__":
    sys.exit(main())
