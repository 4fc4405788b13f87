"""All that the package etcd3 can do (Debian: python3-etcd3)."""

import io
import queue
import threading
import time

import etcd3
import etcd3.etcdrpc as rpc
import grpc

from checks import CA, ENDPOINTS, PASSWORD, USER, check, equal, order, raises

WAIT_S = 10


def connect(index=0, user=USER, password=PASSWORD, timeout=20):
    host, port = ENDPOINTS[index]
    return etcd3.client(host, port, ca_cert=CA, user=user, password=password, timeout=timeout)


def puts_and_gets(c):
    first = c.put("py/a", "1")
    second = c.put("py/a", b"\x00\xff\n", prev_kv=True)
    equal(second.prev_kv.value, b"1")
    equal(second.header.revision, first.header.revision + 1)
    value, meta = c.get("py/a")
    equal((value, meta.key, meta.version, meta.mod_revision), (b"\x00\xff\n", b"py/a", 2, second.header.revision))
    equal(c.get("py/a", serializable=True)[0], b"\x00\xff\n")
    equal(c.get("py/none"), (None, None))
    big = b"x" * 1500000
    c.put("py/big", big)
    equal(c.get("py/big")[0] == big, True)
    equal(c.delete("py/big"), True)
    equal(c.delete("py/big"), False)
    equal(c.delete("py/a", prev_kv=True, return_response=True).prev_kvs[0].value, b"\x00\xff\n")


def ranges(c):
    for i in range(40):
        c.put("py/r/%02d" % i, "v%d" % (39 - i))
    equal([m.key for _, m in c.get_prefix("py/r/")], [b"py/r/%02d" % i for i in range(40)])
    equal(next(c.get_prefix("py/r/", sort_order="descend"))[1].key, b"py/r/39")
    equal(next(c.get_prefix("py/r/", sort_order="ascend", sort_target="value"))[0], b"v0")
    for target in ("key", "version", "create", "mod", "value"):
        equal(len(list(c.get_prefix("py/r/", sort_order="ascend", sort_target=target))), 40)
    equal([v for v, _ in c.get_prefix("py/r/", keys_only=True)], [b""] * 40)
    equal([m.key for _, m in c.get_range("py/r/10", "py/r/13")], [b"py/r/10", b"py/r/11", b"py/r/12"])
    equal(len(list(c.get_all())) >= 40, True)
    equal(c.delete_prefix("py/r/").deleted, 40)


def conditions(c):
    c.delete("py/c")
    equal(c.put_if_not_exists("py/c", "x"), True)
    equal(c.put_if_not_exists("py/c", "y"), False)
    equal(c.replace("py/c", "x", "z"), True)
    equal(c.replace("py/c", "x", "q"), False)
    equal(c.get("py/c")[0], b"z")


def transactions(c):
    t = c.transactions
    c.put("py/t", "1")
    ok, answers = c.transaction(
        compare=[t.value("py/t") == "1", t.version("py/t") > 0, t.create("py/t") > 0, t.mod("py/t") != 1],
        success=[t.put("py/t", "2"), t.get("py/t"), t.delete("py/none")], failure=[t.put("py/t", "no")])
    equal((ok, answers[1][0][0]), (True, b"2"))
    ok, answers = c.transaction(
        compare=[t.value("py/t") == "1"], success=[],
        failure=[t.txn(compare=[t.version("py/t") > 1], success=[t.get("py/t")], failure=[])])
    equal((ok, answers[0].response_txn.responses[0].response_range.kvs[0].value), (False, b"2"))


def leases(c):
    lease = c.lease(60)
    c.put("py/l/1", "x", lease)
    c.put("py/l/2", "y", lease=lease.id)
    equal(lease.granted_ttl, 60)
    equal(50 < lease.remaining_ttl <= 60, True)
    equal(sorted(lease.keys), [b"py/l/1", b"py/l/2"])
    equal(lease.refresh()[0].TTL, 60)
    equal(c.get_lease_info(lease.id).grantedTTL, 60)
    lease.revoke()
    equal(c.get("py/l/1"), (None, None))
    equal(c.lease(60, lease_id=4711).id, 4711)
    raises(Exception, c.lease, 60, lease_id=4711)
    c.revoke_lease(4711)
    short = c.lease(1)
    c.put("py/l/short", "x", short)
    end = time.monotonic() + WAIT_S
    while c.get("py/l/short")[0] is not None and time.monotonic() < end:
        time.sleep(0.1)
    equal(c.get("py/l/short"), (None, None))


def watches(c):
    seen = queue.Queue()
    begin = c.put("py/w/0", "0").header.revision
    watch_id = c.add_watch_prefix_callback("py/w/", seen.put, start_revision=begin, prev_kv=True)
    c.put("py/w/1", "a")
    c.put("py/w/1", "b")
    c.delete("py/w/1")
    events = []
    while len(events) < 4:
        events += seen.get(timeout=WAIT_S).events
    equal([(type(e).__name__, e.key, e.value) for e in events],
          [("PutEvent", b"py/w/0", b"0"), ("PutEvent", b"py/w/1", b"a"), ("PutEvent", b"py/w/1", b"b"),
           ("DeleteEvent", b"py/w/1", b"")])
    equal(events[3].prev_value, b"b")
    c.cancel_watch(watch_id)
    iterator, cancel = c.watch("py/w/2")
    threading.Timer(0.2, c.put, ("py/w/2", "x")).start()
    equal(next(iterator).value, b"x")
    cancel()
    iterator, cancel = c.watch_prefix("py/w/", progress_notify=True)
    threading.Timer(0.2, c.delete, ("py/w/2",)).start()
    event = next(iterator)
    equal((type(event).__name__, event.key), ("DeleteEvent", b"py/w/2"))
    cancel()
    threading.Timer(0.2, c.put, ("py/w/3", "once")).start()
    equal(c.watch_once("py/w/3", timeout=WAIT_S).value, b"once")
    threading.Timer(0.2, c.put, ("py/w/4", "once")).start()
    equal(c.watch_prefix_once("py/w/", timeout=WAIT_S).key, b"py/w/4")
    raises(etcd3.exceptions.WatchTimedOut, c.watch_once, "py/w/never", timeout=0.3)


def watch_compacted(c):
    c.put("py/wc", "1")
    revision = c.put("py/wc", "2").header.revision
    c.compact(revision)
    iterator, cancel = c.watch("py/wc", start_revision=revision - 1)
    error = raises(etcd3.exceptions.RevisionCompactedError, next, iterator)
    equal(error.compacted_revision, revision)
    cancel()
    raises(Exception, c.compact, revision)
    raises(Exception, c.compact, revision + 10**6)
    c.put("py/wc", "3")
    c.compact(revision + 1, physical=True)


def locks(c):
    with c.lock("py", ttl=20) as lock:
        equal(lock.is_acquired(), True)
        equal(c.lock("py", ttl=20).acquire(timeout=0), False)
        lock.refresh()
    equal(lock.is_acquired(), False)
    first, second = c.lock("py2", ttl=20), c.lock("py2", ttl=20)
    equal(first.acquire(), True)
    equal(second.acquire(timeout=0), False)
    equal(first.release(), True)
    equal(second.acquire(timeout=0), True)  # longer ones fail with the tenacity of today
    equal(second.release(), True)


def members(c):
    equal(len(list(c.members)), 3)
    member = next(iter(c.members))
    equal(member.active_alarms is not None, True)
    equal(len(member.client_urls), 1)
    peers = list(member.peer_urls)
    c.update_member(member.id, peers)
    equal(list(next(m for m in c.members if m.id == member.id).peer_urls), peers)


def maintenance(c):
    status = c.status()
    equal((status.version.startswith("3."), status.leader.id > 0, status.raft_index > 0),
          (True, True, True))
    c.defragment()
    if CA:
        return  # the package sends no token with these
    equal(c.hash() >= 0, True)
    equal(list(c.list_alarms()), [])
    equal(c.create_alarm()[0].alarm_type, rpc.NOSPACE)
    equal([a.alarm_type for a in c.list_alarms()], [rpc.NOSPACE])
    raises(grpc.RpcError, c.put, "py/full", "x")
    equal(len(list(c.disarm_alarm())), 1)
    c.put("py/full", "x")


def snapshot(c):
    file = io.BytesIO()
    c.snapshot(file)
    data = file.getvalue()
    equal(len(data) % 512, 32)  # the store's pages, and a checksum
    equal(data[16:20], b"\xed\xda\x0c\xed")


def every_member(c):
    for i in range(len(ENDPOINTS)):
        other = connect(i)
        other.put("py/each", str(i))
        equal(c.get("py/each")[0], b"%d" % i)
        other.close()


def many_at_once(c):
    def work(number):
        for i in range(50):
            c.put("py/many/%d/%d" % (number, i), "x")
            equal(c.get("py/many/%d/%d" % (number, i))[0], b"x")
        done.append(number)
    done = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(len(done), 8)
    equal(c.delete_prefix("py/many/").deleted, 400)


def users(c):
    """The package has no calls for users: those made from the protocol do."""
    auth = rpc.AuthStub(c.channel)
    how = {"credentials": c.call_credentials, "metadata": c.metadata, "timeout": 20}
    auth.UserAdd(rpc.AuthUserAddRequest(name="py", password="pw"), **how)
    auth.RoleAdd(rpc.AuthRoleAddRequest(name="py"), **how)
    auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(
        name="py", perm={"permType": 2, "key": b"py/u/", "range_end": b"py/u0"}), **how)
    auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="py", role="py"), **how)
    equal(list(auth.UserGet(rpc.AuthUserGetRequest(name="py"), **how).roles), ["py"])
    if CA:
        user = connect(user="py", password="pw")
        user.put("py/u/1", "x")
        error = raises(grpc.RpcError, user.put, "py/other", "x")
        equal(error.code(), grpc.StatusCode.PERMISSION_DENIED)
        user.close()
        raises(grpc.RpcError, connect, user="py", password="wrong")
        raises(grpc.RpcError, connect(user=None, password=None).put, "py/u/1", "x")
    auth.UserDelete(rpc.AuthUserDeleteRequest(name="py"), **how)
    auth.RoleDelete(rpc.AuthRoleDeleteRequest(role="py"), **how)


def member_restarts(c):
    """The channel finds the member again."""
    c.put("py/restart", "1")
    order("KILL 0")
    raises((etcd3.exceptions.Etcd3Exception, grpc.RpcError), c.put, "py/restart", "no")
    order("START 0")
    end = time.monotonic() + 30
    again = None
    while again is None and time.monotonic() < end:
        try:
            again = connect()
            again.put("py/restart", "2")
        except (etcd3.exceptions.Etcd3Exception, grpc.RpcError):
            again = None
            time.sleep(0.2)
    equal(again.get("py/restart")[0], b"2")


def main():
    client = connect()
    for part in (puts_and_gets, ranges, conditions, transactions, leases, watches, watch_compacted, locks,
                 members, maintenance, snapshot, every_member, many_at_once, users, member_restarts):
        check(part.__name__, part, client)


main()
