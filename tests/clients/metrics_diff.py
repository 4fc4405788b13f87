#!/usr/bin/env python3
"""The same calls to etcd and to trivet, and then what their /metrics say of them, compared.

Names, types, labels and bounds are to be the same; values, too, where they say what was done and
not how long it took. Then what etcd's dashboard and alerts stand on: it is there, and it moves
when a member goes.
"""

# COMPAT differs, metrics: of Go's runtime only goroutines (calls that are open) and threads; etcd's proxy and v2 store
# COMPAT   are always 0
import argparse
import gzip
import http.client
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402
import prometheus  # noqa: E402
from rawgrpc import Client, field, fields, item  # noqa: E402

KV, LEASE, MAINTENANCE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Maintenance/"
VERSION = [("client-api-version", "3.7")]

# Of Go's own memory and scheduler: there is none.
GO_ALONE = "go_"
# Families of etcd's that trivet has under other circumstances, and why.
SERIES_DIFFER = {
    "etcd_server_request_duration_seconds": "etcd puts its name on the log by a request",
    "etcd_server_apply_duration_seconds": "likewise, in another order",
    "etcd_network_peer_received_bytes_total": "etcd's own streams name member 0",
}
# What the calls below make the same in both. Not there: answers of /health that were bad, since
# etcd gives none before it has a leader; and ranges: etcd's /health reads a key, trivet's does not.
VALUES = """
    etcd_debugging_lease_granted_total etcd_debugging_lease_renewed_total
    etcd_debugging_lease_revoked_total etcd_debugging_lease_ttl_total_bucket
    etcd_debugging_lease_ttl_total_sum etcd_debugging_lease_ttl_total_count
    etcd_debugging_mvcc_compact_revision etcd_debugging_mvcc_current_revision
    etcd_debugging_mvcc_db_compaction_keys_total etcd_debugging_mvcc_events_total
    etcd_debugging_mvcc_keys_total etcd_debugging_mvcc_pending_events_total
    etcd_debugging_mvcc_slow_watcher_total etcd_debugging_mvcc_total_put_size_in_bytes
    etcd_debugging_mvcc_watch_stream_total etcd_debugging_mvcc_watcher_total
    etcd_debugging_server_lease_expired_total etcd_debugging_auth_revision
    etcd_mvcc_put_total etcd_mvcc_delete_total etcd_mvcc_range_total etcd_mvcc_txn_total
    etcd_mvcc_hash_rev_duration_seconds_count etcd_disk_backend_snapshot_duration_seconds_count
    etcd_disk_backend_defrag_duration_seconds_count etcd_disk_defrag_inflight
    etcd_network_client_grpc_received_bytes_total
    etcd_server_client_requests_total etcd_server_feature_enabled etcd_server_has_leader
    etcd_server_health_success etcd_server_healthcheck
    etcd_server_healthchecks_total etcd_server_is_leader etcd_server_is_learner
    etcd_server_leader_changes_seen_total etcd_server_proposals_failed_total
    etcd_server_proposals_pending etcd_server_quota_backend_bytes
    etcd_server_read_indexes_failed_total etcd_server_slow_read_indexes_total
    etcd_server_snapshot_apply_in_progress_total etcd_server_version etcd_cluster_version
    grpc_server_started_total grpc_server_handled_total grpc_server_msg_received_total
    grpc_server_msg_sent_total grpc_server_handling_seconds_count
    promhttp_metric_handler_requests_in_flight os_fd_limit process_max_fds
""".split()
# Only the series of these operations.
COUNTS_BY_OP = {
    "etcd_server_apply_duration_seconds_count": "op",
    "etcd_server_request_duration_seconds_count": "type",
    "etcd_server_range_duration_seconds_count": "success",
}
NOT_OPS = ("ClusterVersionSet", "ClusterMemberAttrSet", "DowngradeInfoSet")
# Series whose number depends on how an implementation cuts an answer into messages.
UNEQUAL = {"Snapshot", "RangeStream"}

# What etcd's dashboard and alerts (contrib/mixin) look at, and the labels that they tell apart.
MIXIN = {
    "etcd_disk_backend_commit_duration_seconds_bucket": ("le",),
    "etcd_disk_wal_fsync_duration_seconds_bucket": ("le",),
    "etcd_mvcc_db_total_size_in_bytes": (),
    "etcd_mvcc_db_total_size_in_use_in_bytes": (),
    "etcd_network_client_grpc_received_bytes_total": (),
    "etcd_network_client_grpc_sent_bytes_total": (),
    "etcd_network_peer_received_bytes_total": ("From",),
    "etcd_network_peer_round_trip_time_seconds_bucket": ("To", "le"),
    "etcd_network_peer_sent_bytes_total": ("To",),
    "etcd_server_has_leader": (),
    "etcd_server_is_leader": (),
    "etcd_server_leader_changes_seen_total": (),
    "etcd_server_proposals_applied_total": (),
    "etcd_server_proposals_committed_total": (),
    "etcd_server_proposals_failed_total": (),
    "etcd_server_proposals_pending": (),
    "etcd_server_quota_backend_bytes": (),
    "etcd_debugging_mvcc_keys_total": (),
    "etcd_debugging_mvcc_slow_watcher_total": (),
    "grpc_server_handled_total": ("grpc_code", "grpc_method", "grpc_service", "grpc_type"),
    "grpc_server_handling_seconds_bucket": ("grpc_method", "grpc_service", "grpc_type", "le"),
    "grpc_server_started_total": ("grpc_method", "grpc_service", "grpc_type"),
    "grpc_server_msg_received_total": ("grpc_method", "grpc_service", "grpc_type"),
    "grpc_server_msg_sent_total": ("grpc_method", "grpc_service", "grpc_type"),
    "process_cpu_seconds_total": (),
    "process_max_fds": (),
    "process_open_fds": (),
    "process_resident_memory_bytes": (),
    "process_start_time_seconds": (),
}


# --- the calls ---

def put(key, value, **more):
    return (field(1, key) + field(2, value) + field(3, more.get("lease")) +
            field(4, more.get("prev_kv")) + field(5, more.get("ignore_value")) +
            field(6, more.get("ignore_lease")))


def delete(key, end=b"", prev_kv=False):
    return field(1, key) + field(2, end) + field(3, prev_kv)


def ranged(key, end=b"", **more):
    return (field(1, key) + field(2, end) + field(3, more.get("limit")) +
            field(4, more.get("revision")) + field(7, more.get("serializable")))


def txn(compares, success, failure):
    return (b"".join(item(1, c) for c in compares) + b"".join(item(2, o) for o in success) +
            b"".join(item(3, o) for o in failure))


def version_is(key, number):
    return field(2, 0) + field(3, key) + field(4, number)


def calls():
    """(path, body) of unary calls, with all sorts of outcomes."""
    for i in range(20):
        yield KV + "Put", put(b"key%d" % (i % 7), b"value%d" % i)
    yield KV + "Put", put(b"key1", b"x", prev_kv=True)
    yield KV + "Put", put(b"key1", b"", ignore_value=True)
    yield KV + "Put", put(b"key1", b"y", ignore_lease=True)
    yield KV + "Put", put(b"none", b"", ignore_value=True)
    yield KV + "Put", put(b"", b"no key")
    yield KV + "Put", put(b"key", b"no lease", lease=4711)
    yield KV + "Put", put(b"large", b"x" * 1000)
    yield KV + "Range", ranged(b"key1")
    yield KV + "Range", ranged(b"key", b"kez")
    yield KV + "Range", ranged(b"key", b"kez", limit=2, serializable=True)
    yield KV + "Range", ranged(b"key1", revision=100000)
    yield KV + "Range", b""
    yield KV + "DeleteRange", delete(b"key2")
    yield KV + "DeleteRange", delete(b"key3", prev_kv=True)
    yield KV + "DeleteRange", delete(b"key3")
    yield KV + "DeleteRange", delete(b"key5", b"key7", prev_kv=True)
    one = item(2, put(b"t1", b"v"))
    two = item(2, put(b"t2", b"v", prev_kv=True))
    get = item(1, ranged(b"key", b"kez"))
    gone = item(3, delete(b"t1", prev_kv=True))
    yield KV + "Txn", txn([version_is(b"t1", 0)], [one, two], [get])
    yield KV + "Txn", txn([version_is(b"t1", 0)], [one], [get])
    yield KV + "Txn", txn([version_is(b"t1", 7)], [one], [gone])
    yield KV + "Txn", txn([], [one], [])
    yield KV + "Txn", txn([], [get, get], [])
    yield KV + "Txn", txn([], [item(4, txn([version_is(b"t1", 1)], [two, get], [one]))], [])
    yield KV + "Txn", txn([], [one, one], [])
    yield KV + "Txn", txn([], [item(1, ranged(b"key1", revision=100000))], [])
    yield LEASE + "LeaseGrant", field(1, 100) + field(2, 1001)
    yield LEASE + "LeaseGrant", field(1, 1000) + field(2, 1002)
    yield LEASE + "LeaseGrant", field(1, 100) + field(2, 1002)
    yield KV + "Put", put(b"leased1", b"v", lease=1001)
    yield KV + "Put", put(b"leased2", b"v", lease=1001)
    yield LEASE + "LeaseTimeToLive", field(1, 1001) + field(2, 1)
    yield LEASE + "LeaseRevoke", field(1, 1001)
    yield LEASE + "LeaseRevoke", field(1, 1001)
    yield LEASE + "LeaseLeases", b""
    yield KV + "Compact", field(1, 10) + field(2, 1)
    yield KV + "Compact", field(1, 10)
    yield KV + "Compact", field(1, 100000)
    yield KV + "Range", ranged(b"key1", revision=5)
    yield MAINTENANCE + "Status", b""
    yield MAINTENANCE + "HashKV", b""
    yield MAINTENANCE + "Defragment", b""
    yield MAINTENANCE + "Alarm", b""
    yield MAINTENANCE + "MoveLeader", field(1, 12345)
    yield "/etcdserverpb.Cluster/MemberList", field(1, 1)
    yield "/etcdserverpb.Cluster/MemberRemove", field(1, 4711)
    yield "/etcdserverpb.Cluster/MemberPromote", field(1, 4711)
    yield "/etcdserverpb.Auth/UserAdd", field(1, "somebody") + field(2, "secret")
    yield "/etcdserverpb.Auth/UserList", b""
    yield "/etcdserverpb.Auth/UserGet", field(1, "nobody")
    yield "/etcdserverpb.Auth/RoleAdd", field(1, "role")
    yield "/etcdserverpb.Auth/AuthStatus", b""
    yield "/etcdserverpb.Auth/AuthEnable", b""
    yield "/grpc.health.v1.Health/Check", b""
    yield "/grpc.health.v1.Health/List", b""
    yield "/grpc.health.v1.Health/Check", field(1, "unknown")
    yield KV + "NoSuchMethod", b""
    yield KV + "Put", b"\xff\xff"
    yield "/etcdserverpb.NoService/Method", b""


def ask(node, method, path, headers=None):
    connection = http_connection(node)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read()
    finally:
        connection.close()


def http_connection(node):
    return http.client.HTTPConnection(node.host, node.client_port, timeout=10)


def streams(client, other):
    """A watch that sees events and is cancelled, a lease that is kept alive, a snapshot."""
    stream = client.begin("/etcdserverpb.Watch/Watch", metadata=VERSION)
    client.send(stream, item(1, field(1, b"w") + field(2, b"x")), False)
    client.wait(stream, 1)
    for i in range(5):
        other.call(KV + "Put", put(b"watched%d" % i, b"v"), metadata=VERSION)
    events, deadline = 0, time.monotonic() + 10
    while events < 5 and time.monotonic() < deadline:
        for message in client.wait(stream, 1).messages:
            events += sum(1 for number, _ in fields(message) if number == 11)
    client.send(stream, item(1, field(1, b"a") + field(3, 0)), False)
    client.wait(stream, 1)
    kept = client.begin(LEASE + "LeaseKeepAlive", metadata=VERSION)
    for lease in (1002, 4711):
        client.send(kept, field(1, lease), False)
        client.wait(kept, 1)
    client.socket.sendall(b"\0\0\0\0\1" + kept.to_bytes(4, "big"))  # half-closed
    client.wait(kept)
    client.call(MAINTENANCE + "Snapshot", metadata=VERSION)


def load(node):
    """All calls; the watch stays open while the page is read. The page, and what it answered."""
    answers = []
    with Client(node.host, node.client_port) as client, \
            Client(node.host, node.client_port) as other:
        for path, body in calls():
            answer = client.call(path, body, metadata=VERSION)
            answers.append((path, answer.code))
        client.call(KV + "Range", ranged(b"key1"))
        streams(client, other)
        for path in ("/health", "/health?serializable=true", "/livez", "/readyz", "/readyz/non_learner"):
            ask(node, "GET", path)
        ask(node, "POST", "/health")
        time.sleep(1.2)  # a compaction is through, a probe has come back
        return prometheus.fetch(node.endpoint()), answers


# --- comparing ---

def compare_families(tally, want, got):
    for name, kind in sorted(want.types.items()):
        if name.startswith(GO_ALONE):
            continue
        tally.check(got.types.get(name) == kind, "family %s" % name,
                    "etcd has a %s, trivet %s" % (kind, got.types.get(name)))
        if name in got.types:
            tally.check(want.bounds(name) == got.bounds(name), "bounds of %s" % name,
                        "%s\n%s" % (want.bounds(name), got.bounds(name)))
            tally.check(want.label_names(name) == got.label_names(name), "labels of %s" % name,
                        "%s\n%s" % (want.label_names(name), got.label_names(name)))
    for name in sorted(set(got.types) - set(want.types)):
        tally.check(name.startswith("trivet_"), "family %s" % name, "etcd has none of that name")
    for name in sorted(got.types):
        tally.check(name in got.helps and got.helps[name] != "", "help of %s" % name)


def is_comparable(name, labels):
    labels = dict(labels)
    if name in COUNTS_BY_OP:
        return labels[COUNTS_BY_OP[name]] not in NOT_OPS
    if name not in VALUES:
        return False
    if name == "grpc_server_msg_sent_total":
        return labels["grpc_method"] not in UNEQUAL
    return True


def compare_values(tally, want, got):
    keys = {k for page in (want, got) for k in page.values if is_comparable(*k)}
    probes = 6  # of the pages below
    for name in ("etcd_mvcc_range_total", "etcd_server_range_duration_seconds_count",
                 "etcd_server_request_duration_seconds_count"):
        key = next(k for k in want.values if k[0] == name and
                   dict(k[1]).get("type", "Range") == "Range" and
                   dict(k[1]).get("success", "true") == "true")
        want.values[key] -= probes
    for key in sorted(keys):
        a, b = want.values.get(key), got.values.get(key)
        tally.check(a == b, "value of %s%s" % (key[0], dict(key[1])), "etcd: %s, trivet: %s" % (a, b))


def compare_one(tally):
    flags = ["--metrics", "extensive"]
    with cluster.Cluster("etcd", 1, flags) as want, cluster.Cluster("trivet", 1, flags) as got:
        want.start()
        got.start()
        (a, a_codes), (b, b_codes) = load(want.nodes[0]), load(got.nodes[0])
        for (path, x), (_, y) in zip(a_codes, b_codes):
            tally.check(x == y, "code of %s" % path, "etcd: %s, trivet: %s" % (x, y))
        compare_families(tally, a, b)
        compare_values(tally, a, b)
        compare_forms(tally, want.nodes[0], got.nodes[0])
        got.check_running()


FORMS = [
    {}, {"Accept": "*/*"}, {"Accept": "text/html"}, {"Accept": "text/plain; version=0.0.4"},
    {"Accept": "application/openmetrics-text; version=1.0.0"},
    {"Accept": "text/plain;version=1.0.0;escaping=allow-utf-8"},
    {"Accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
               "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
               "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"},
    {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "gzip, deflate"},
    {"Accept-Encoding": "zstd, gzip"}, {"Accept-Encoding": "gzip;q=0"},
    {"Accept-Encoding": "identity"}, {"Accept-Encoding": "*"}, {"Accept-Encoding": "br"},
    {"Accept-Encoding": "GZIP"}, {"Accept-Encoding": "gzip;q=0.5, identity;q=0.8"},
]


def compare_forms(tally, want, got):
    for headers in FORMS:
        a, b = (ask(node, "GET", "/metrics", headers) for node in (want, got))
        for name in ("content-type", "content-encoding"):
            tally.check(a[1].get(name) == b[1].get(name), "%s of %s" % (name, headers),
                        "etcd: %s, trivet: %s" % (a[1].get(name), b[1].get(name)))
        if b[1].get("content-encoding") == "gzip":
            page = prometheus.Page(gzip.decompress(b[2]).decode())
            tally.check(page.value("etcd_server_has_leader") == 1, "a page in gzip")
    for method in ("POST", "PUT", "DELETE"):
        tally.check(ask(got, method, "/metrics")[0] == ask(want, method, "/metrics")[0], method)


# --- dashboards and alerts ---

def check_mixin(tally, kind):
    """Three members; one goes, and then another: what alerts stand on moves."""
    flags = ["--metrics", "extensive"] + (["--io-threads", "2"] if kind == "trivet" else [])
    with cluster.Cluster(kind, 3, flags) as c:
        c.start()
        with Client(c.nodes[0].host, c.nodes[0].client_port) as client:
            for i in range(10):
                client.call(KV + "Put", put(b"k%d" % i, b"v"))
        time.sleep(3.5 if kind == "trivet" else 5)
        page = prometheus.fetch(c.nodes[0].endpoint())
        for name, labels in sorted(MIXIN.items()):
            found = [dict(have) for (n, have) in page.values if n == name]
            tally.check(found != [], "%s is there" % name)
            tally.check(all(set(have) == set(labels) for have in found), "labels of %s" % name)
        ids = {dict(labels)["To"] for (n, labels) in page.values
               if n == "etcd_network_peer_sent_bytes_total"}
        tally.check(len(ids) == 2, "bytes to both others")
        for name in ("etcd_network_peer_round_trip_time_seconds_count",
                     "etcd_disk_wal_fsync_duration_seconds_count",
                     "etcd_server_proposals_applied_total", "etcd_mvcc_db_total_size_in_bytes",
                     "grpc_server_handled_total", "process_cpu_seconds_total"):
            tally.check((page.value(name) or 0) > 0, "%s has moved" % name)
        tally.check(0.5 < page.value("etcd_mvcc_db_total_size_in_use_in_bytes") /
                    page.value("etcd_mvcc_db_total_size_in_bytes") <= 1, "no fragmentation")
        check_losses(tally, c)


def check_losses(tally, c):
    leader = next(i for i in range(3)
                  if prometheus.fetch(c.nodes[i].endpoint()).value("etcd_server_is_leader") == 1)
    rest = [i for i in range(3) if i != leader]
    before = {i: prometheus.fetch(c.nodes[i].endpoint()) for i in rest}
    gone = "%x" % int(before[rest[0]].value("etcd_server_id") and
                      next(int(dict(labels)["server_id"], 16) for (n, labels) in
                           prometheus.fetch(c.nodes[leader].endpoint()).values
                           if n == "etcd_server_id"))
    c.kill(leader)
    c.wait_healthy(rest)

    def page(i):
        return prometheus.fetch(c.nodes[i].endpoint())
    for i in rest:
        tally.check(cluster.wait_until(lambda i=i: (page(i).value("etcd_network_peer_sent_failures_total",
                                                         To=gone) or 0) > 0, 15),
                    "sent failures to a member that is gone, at %d" % i)
        after = page(i)
        tally.check(after.value("etcd_server_leader_changes_seen_total") >
                    before[i].value("etcd_server_leader_changes_seen_total"), "leader changes")
        tally.check(after.value("etcd_network_active_peers", Remote=gone) == 0, "no active peer")
        tally.check((after.value("etcd_network_disconnected_peers_total", Remote=gone) or 0) > 0,
                    "a disconnected peer")
        tally.check(after.value("etcd_network_known_peers") == 3, "known peers")
    c.kill(rest[1])
    last = rest[0]
    tally.check(cluster.wait_until(lambda: page(last).value("etcd_server_has_leader") == 0, 15), "no leader")
    with Client(c.nodes[last].host, c.nodes[last].client_port, timeout=30) as client:
        client.call(KV + "Put", put(b"lost", b"v"))
        client.call(KV + "Range", ranged(b"lost"))
    now = page(last)
    tally.check((now.value("etcd_server_proposals_failed_total") or 0) > 0, "failed proposals")
    failed = sum(v for (n, labels), v in now.values.items() if n == "grpc_server_handled_total" and
                 dict(labels)["grpc_code"] in ("Unavailable", "DeadlineExceeded", "Unknown"))
    tally.check(failed >= 1, "failed calls")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--alerts-of", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--only", choices=("one", "mixin"))
    args = parser.parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    if args.only != "mixin":
        compare_one(tally)
    if args.only != "one":
        check_mixin(tally, args.alerts_of)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
