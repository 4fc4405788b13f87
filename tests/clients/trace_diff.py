#!/usr/bin/env python3
"""What etcd and trivet tell a collector of traces about the same calls, compared; and what becomes of
calls when the collector is slow, silent or gone."""

import argparse
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
sys.path.insert(0, os.path.dirname(__file__))
import cluster  # noqa: E402
import prometheus  # noqa: E402
from collector import Collector  # noqa: E402
from metrics_diff import (KV, LEASE, MAINTENANCE, delete, put, ranged, txn,  # noqa: E402
                          version_is)
from rawgrpc import Client, field, item  # noqa: E402

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = [("traceparent", "00-%s-%s-01" % (TRACE_ID, PARENT_ID)), ("tracestate", "a=b")]
UNSAMPLED = [("traceparent", "00-%s-%s-00" % (TRACE_ID, PARENT_ID))]
NO_PARENTS = [
    "00-%s-%s-01-more" % (TRACE_ID, PARENT_ID), "ff-%s-%s-01" % (TRACE_ID, PARENT_ID),
    "00-%s-%s-01" % ("0" * 32, PARENT_ID), "00-%s-%s-01" % (TRACE_ID, "0" * 16),
    "00-%s-%s-01" % (TRACE_ID.upper(), PARENT_ID), "00-%s-01" % TRACE_ID, "", "00",
    "0g-%s-%s-01" % (TRACE_ID, PARENT_ID)]
# trivet says more of what happens on the way.
OWN_EVENTS = ("Propose", "Apply")


def calls():
    yield KV + "Put", put(b"k", b"v")
    yield KV + "Put", put(b"", b"no key")
    yield KV + "Range", ranged(b"k", b"l", limit=2)
    yield KV + "Range", ranged(b"k", serializable=True)
    yield KV + "Range", ranged(b"k", revision=100)
    yield KV + "Range", b""
    get, one, gone = item(1, ranged(b"k")), item(2, put(b"k2", b"v")), item(3, delete(b"k2"))
    yield KV + "Txn", txn([], [get], [])
    yield KV + "Txn", txn([version_is(b"c", 0)], [one, get], [gone])
    yield KV + "Txn", txn([], [gone, item(2, put(b"k3", b"v", lease=4711))], [])
    yield KV + "Txn", txn([], [item(4, txn([], [one], []))], [])
    yield KV + "Txn", txn([], [], [get])
    yield KV + "DeleteRange", delete(b"k", b"l")
    yield KV + "Compact", field(1, 2) + field(2, 1)
    yield KV + "Compact", field(1, 2)
    yield LEASE + "LeaseGrant", field(1, 100) + field(2, 77)
    yield LEASE + "LeaseRevoke", field(1, 77)
    yield LEASE + "LeaseRevoke", field(1, 78)
    yield LEASE + "LeaseTimeToLive", field(1, 78)
    yield MAINTENANCE + "Status", b""
    yield MAINTENANCE + "MoveLeader", field(1, 3)
    yield "/etcdserverpb.Auth/UserList", b""
    yield "/etcdserverpb.Cluster/MemberList", b""
    yield "/grpc.health.v1.Health/Check", b""
    yield "/no.Service/Method", b""


def flags_for(address, rate):
    return ["--enable-distributed-tracing", "--distributed-tracing-address", address,
            "--distributed-tracing-sampling-rate", str(rate),
            "--distributed-tracing-instance-id", "me",
            "--distributed-tracing-service-name", "store"]


def describe(span, names):
    """What is to be the same, as text."""
    attributes = {k: v for k, v in span.attributes.items() if k != "server.port"}
    events = [name for _, name in span.events if name not in OWN_EVENTS]
    parent = names.get(span.parent_id, span.parent_id.hex())
    return "%s kind %d trace %s in %s %s %s status %d flags %x" % (
        span.name, span.kind, span.trace_id.hex(), parent, attributes, events, span.status[0],
        span.flags)


def told(collector):
    names = {s.span_id: s.name for s in collector.spans}
    spans = sorted(collector.spans, key=lambda s: (s.start_ns, s.kind != 2))
    return [describe(s, names) for s in spans]


def load(kind):
    """Its spans as text, in the order of their beginning."""
    with Collector() as collector, \
            cluster.Cluster(kind, 1, flags_for(collector.address, 0)) as c:
        c.start()
        node = c.nodes[0]
        with Client(node.host, node.client_port) as client:
            for path, body in calls():
                client.call(path, body, metadata=SAMPLED)
                client.call(path, body, metadata=UNSAMPLED)
            client.call(KV + "Range", ranged(b"untold"))
            stream = client.begin(LEASE + "LeaseKeepAlive", metadata=SAMPLED)
            client.send(stream, field(1, 5), True)
            client.wait(stream)
        collector.wait(10 ** 9, 7)  # all that come: etcd sends every 5 s
        return told(collector), collector


def compare(tally):
    (want, _), (got, collector) = load("etcd"), load("trivet")
    tally.check(len(want) > 30, "etcd sent spans", str(len(want)))
    for text in sorted(set(want) | set(got)):
        tally.check(want.count(text) == got.count(text), "span %s" % text,
                    "etcd: %d times, trivet: %d times" % (want.count(text), got.count(text)))
    tally.check(collector.errors == [], "requests are well formed", str(collector.errors))
    for span in collector.spans:
        tally.check(span.resource == {"service.name": "store", "service.instance.id": "me"},
                    "the resource", str(span.resource))
        tally.check(abs(span.end_ns - time.time_ns()) < 60e9 and span.start_ns <= span.end_ns,
                    "times of %s" % span.name)
        times = [at for at, _ in span.events]
        tally.check(all(span.start_ns <= at <= span.end_ns for at in times) and
                    times == sorted(times), "times of events in %s" % span.name)
    events = [name for _, name in collector.find("put")[0].events]
    tally.check(events == ["Send raft proposal", "Propose", "Apply", "Receive raft result"],
                "the stages of a put", str(events))


def check_sampling(tally):
    with Collector() as collector, \
            cluster.Cluster("trivet", 1, flags_for(collector.address, 1000000)) as c:
        c.start()
        with Client(c.nodes[0].host, c.nodes[0].client_port) as client:
            client.call(KV + "Put", put(b"a", b"b"))
            client.call(KV + "Put", put(b"a", b"b"), metadata=UNSAMPLED)
            for text in NO_PARENTS:
                client.call(KV + "Range", ranged(b"x"), metadata=[("traceparent", text)])
        tally.check(collector.wait(2 + 2 * len(NO_PARENTS)), "spans without parents",
                    str(len(collector.spans)))
        roots = [s for s in collector.spans if s.kind == 2]
        tally.check(len(collector.find("put")) == 1, "a parent that is not sampled is heeded")
        tally.check(all(s.parent_id == b"" and s.flags == 0x101 for s in roots), "roots")
        tally.check(len({s.trace_id for s in roots}) == 1 + len(NO_PARENTS), "a trace each")
    with Collector() as collector, \
            cluster.Cluster("trivet", 1, flags_for(collector.address, 300000)) as c:
        c.start()
        with Client(c.nodes[0].host, c.nodes[0].client_port) as client:
            for _ in range(600):
                client.call(MAINTENANCE + "Status")
        collector.wait(10 ** 9, 2.5)
        tally.check(100 < len(collector.spans) < 260, "three of ten", str(len(collector.spans)))


def check_http(tally):
    for prefix, suffix, path in (("http://", "", "/v1/traces"), ("http://", "/", "/v1/traces"),
                                 ("http://", "/other/place", "/other/place")):
        with Collector() as collector, \
                cluster.Cluster("trivet", 1, flags_for(prefix + collector.address + suffix, 0)) as c:
            c.start()
            with Client(c.nodes[0].host, c.nodes[0].client_port) as client:
                client.call(KV + "Put", put(b"a", b"b"), metadata=SAMPLED)
                tally.check(collector.wait(2), "spans by HTTP")
                client.call(KV + "Put", put(b"a", b"b"), metadata=SAMPLED)
                tally.check(collector.wait(4), "and again")
            tally.check(collector.paths == {path}, "the path", str(collector.paths))
            tally.check(collector.errors == [], "requests are well formed", str(collector.errors))
            time.sleep(0.3)
            page = prometheus.fetch(c.nodes[0].endpoint())
            tally.check(page.value("trivet_trace_spans_sent_total") == 4, "sent spans")
            tally.check(c.stop(0) == [-signal.SIGTERM], "it stops")


def put_many(node, count):
    begin = time.monotonic()
    with Client(node.host, node.client_port) as client:
        for _ in range(count):
            if client.call(KV + "Put", put(b"a", b"b" * 100), metadata=SAMPLED).code != 0:
                return None
    return time.monotonic() - begin


def check_collectors(tally):
    """One that is silent, and then none at all: calls do not wait, spans are dropped and counted."""
    with Collector(silent=True) as collector, \
            cluster.Cluster("trivet", 1, flags_for(collector.address, 0)) as c:
        c.start()
        node = c.nodes[0]
        tally.check((put_many(node, 3000) or 99) < 30, "puts do not wait for a silent collector")
        page = prometheus.fetch(node.endpoint())
        tally.check(page.value("trivet_trace_spans_dropped_total") > 1000, "dropped spans")
        tally.check(page.value("trivet_trace_spans_sent_total") == 0, "no span was taken")
        collector.__exit__()
        time.sleep(1.5)
        with Collector(port=int(collector.address.rsplit(":", 1)[1])) as again:
            deadline = time.monotonic() + 30
            while not again.spans and time.monotonic() < deadline:
                put_many(node, 5)
                time.sleep(0.3)
            tally.check(again.spans != [], "one that comes back is found")
            tally.check(c.stop(0) == [-signal.SIGTERM], "it stops")


def check_flags(tally):
    for rate in ("-1", "1000001"):
        texts = []
        for kind in ("etcd", "trivet"):
            found = cluster.run([cluster.binary(kind), "--enable-distributed-tracing",
                                 "--distributed-tracing-sampling-rate", rate, "--data-dir",
                                 "/nonexistent/x"], timeout=20, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
            wanted = "distributed tracing configurition is not valid: (tracing sampling rate "
            texts.append((found.returncode, wanted in found.stdout))
        tally.check(texts[0] == texts[1] and texts[0][1], "sampling rate %s" % rate, str(texts))


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    compare(tally)
    check_sampling(tally)
    check_http(tally)
    check_collectors(tally)
    check_flags(tally)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
