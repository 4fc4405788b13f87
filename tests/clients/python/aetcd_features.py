"""All that the package aetcd can do (asyncio; it knows no TLS)."""

import asyncio
import io
import time

import aetcd

from checks import ENDPOINTS, equal, failed, order, passed

WAIT_S = 10


def connect(index=0, **more):
    host, port = ENDPOINTS[index]
    return aetcd.Client(host, port, timeout=20, **more)


async def refused(call, kinds=Exception):
    try:
        await call
    except kinds as error:
        return error
    raise AssertionError("no error")


async def later(call):
    await asyncio.sleep(0.2)
    await call


async def first_events(watch, count):
    seen = []

    async def collect():
        async for event in watch:
            seen.append((event.kind.name, event.kv.key, event.kv.value) if hasattr(event.kind, "name")
                        else (str(event.kind), event.kv.key, event.kv.value))
            if len(seen) == count:
                return
    await asyncio.wait_for(collect(), WAIT_S)
    return seen


async def puts_and_gets(c):
    await c.put(b"ae/a", b"1")
    answer = await c.put(b"ae/a", b"2", prev_kv=True)
    equal(answer.prev_kv.value, b"1")
    got = await c.get(b"ae/a")
    equal((got.value, got.version, got.mod_revision), (b"2", 2, answer.header.revision))
    equal((await c.get(b"ae/a", serializable=True)).value, b"2")
    equal(await c.get(b"ae/none"), None)
    equal((await c.delete(b"ae/a", prev_kv=True)).prev_kv.value, b"2")


async def ranges(c):
    for i in range(20):
        await c.put(b"ae/r/%02d" % i, b"%02d" % (19 - i))
    equal([kv.key for kv in await c.get_prefix(b"ae/r/")], [b"ae/r/%02d" % i for i in range(20)])
    got = await c.get_prefix(b"ae/r/", sort_order="descend", sort_target="value")
    equal(([kv.value for kv in got][:3], got.more, got.count), ([b"19", b"18", b"17"], False, 20))
    equal(len(await c.get_range(b"ae/r/05", b"ae/r/08")), 3)
    equal((await c.get_prefix(b"ae/r/", keys_only=True))[0].value, b"")
    equal(len(await c.get_all()) >= 20, True)
    equal((await c.delete_range(b"ae/r/05", b"ae/r/08", prev_kv=True)).deleted, 3)
    equal((await c.delete_prefix(b"ae/r/")).deleted, 17)


async def transactions(c):
    t = c.transactions
    await c.put(b"ae/t", b"1")
    equal(await c.replace(b"ae/t", b"1", b"2"), True)
    equal(await c.replace(b"ae/t", b"1", b"3"), False)
    ok, answers = await c.transaction(
        compare=[t.value(b"ae/t") == b"2", t.version(b"ae/t") > 1],
        success=[t.put(b"ae/t", b"4"), t.get(b"ae/t")], failure=[])
    equal((ok, answers[1][0][0]), (True, b"4"))


async def leases(c):
    lease = await c.lease(60)
    await c.put(b"ae/l", b"x", lease=lease)
    equal(await lease.granted_ttl(), 60)
    equal(50 < await lease.remaining_ttl() <= 60, True)
    equal(list(await lease.keys()), [b"ae/l"])
    await lease.refresh()
    await lease.revoke()
    equal(await c.get(b"ae/l"), None)
    short = await c.lease(1)
    await c.put(b"ae/l", b"x", lease=short)
    end = time.monotonic() + WAIT_S
    while await c.get(b"ae/l") is not None and time.monotonic() < end:
        await asyncio.sleep(0.1)
    equal(await c.get(b"ae/l"), None)


async def watches(c):
    begin = (await c.put(b"ae/w/0", b"0")).header.revision
    watch = await c.watch_prefix(b"ae/w/", start_revision=begin, prev_kv=True)
    await c.put(b"ae/w/1", b"a")
    await c.delete(b"ae/w/1")
    equal(await first_events(watch, 3), [("PUT", b"ae/w/0", b"0"), ("PUT", b"ae/w/1", b"a"),
                                         ("DELETE", b"ae/w/1", b"")])
    await watch.cancel()
    watch = await c.watch(b"ae/w/2", kind=aetcd.EventKind.DELETE, fragment=True)
    await c.put(b"ae/w/2", b"a")
    await c.delete(b"ae/w/2")
    equal(await first_events(watch, 1), [("DELETE", b"ae/w/2", b"")])
    await watch.cancel()
    task = asyncio.create_task(later(c.put(b"ae/w/3", b"once")))
    equal((await c.watch_once(b"ae/w/3", timeout=WAIT_S)).kv.value, b"once")
    await task
    await refused(c.watch_once(b"ae/never", timeout=1), aetcd.WatchTimeoutError)


async def watch_compacted(c):
    await c.put(b"ae/c", b"1")
    revision = (await c.put(b"ae/c", b"2")).header.revision
    await c.compact(revision)
    watch = await c.watch(b"ae/c", start_revision=revision - 1)
    error = await refused(first_events(watch, 1), aetcd.RevisionCompactedError)
    equal(error.compacted_revision, revision)
    await refused(c.compact(revision))
    await c.put(b"ae/c", b"3")
    await c.compact(revision + 1, physical=True)


async def locks(c):
    async with c.lock(b"ae", ttl=20) as lock:
        equal(await lock.is_acquired(), True)
        await lock.refresh()
        other = c.lock(b"ae", ttl=20)
        waiting = asyncio.create_task(other.acquire(timeout=WAIT_S))
        await asyncio.sleep(0.3)
        equal(waiting.done(), False)
    equal(await waiting, True)
    equal(await other.release(), True)


async def members(c):
    found = [m async for m in c.members()]
    equal(len(found), 3)
    await c.update_member(found[0].id, list(found[0].peer_urls))


async def maintenance(c):
    status = await c.status()
    equal(status.version.startswith("3."), True)
    equal(status.leader.id > 0, True)
    await c.defragment()
    equal(await c.hash() >= 0, True)
    await c.create_alarm()
    equal(len([a async for a in c.list_alarms()]), 1)
    await refused(c.put(b"ae/full", b"x"))
    equal(len(list(await c.disarm_alarm())), 1)
    await c.put(b"ae/full", b"x")
    file = io.BytesIO()
    await c.snapshot(file)
    equal(len(file.getvalue()) % 512, 32)


async def many_at_once(c):
    async def work(number):
        for i in range(20):
            await c.put(b"ae/m/%d" % number, b"%d" % i)
            equal((await c.get(b"ae/m/%d" % number)).value, b"%d" % i)
    await asyncio.gather(*[work(n) for n in range(50)])
    equal((await c.delete_prefix(b"ae/m/")).deleted, 50)


async def with_a_user(c):
    """The package has calls for users only in the code made from the protocol; and what it does with a token."""
    from aetcd import rpc
    auth, user = c.auth_stub or rpc.AuthStub(c.channel), "root"
    await auth.UserAdd(rpc.AuthUserAddRequest(name=user, password="pw"))
    await auth.RoleAdd(rpc.AuthRoleAddRequest(name="root"))
    await auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=user, role="root"))
    await auth.AuthEnable(rpc.AuthEnableRequest())
    try:
        await refused(c.put(b"ae/u", b"x"))
        async with connect(1, username=user, password="pw") as known:
            await known.put(b"ae/u", b"x")
            watch = await known.watch(b"ae/u")
            await known.put(b"ae/u", b"y")
            equal(await first_events(watch, 1), [("PUT", b"ae/u", b"y")])
            await watch.cancel()
            lease = await known.lease(60)
            await lease.refresh()
            await lease.revoke()
        await refused(connect(0, username=user, password="wrong").connect())
    finally:
        token = (await auth.Authenticate(rpc.AuthenticateRequest(name=user, password="pw"))).token
        await auth.AuthDisable(rpc.AuthDisableRequest(), metadata=(("token", token),))
        await auth.UserDelete(rpc.AuthUserDeleteRequest(name=user))
        await auth.RoleDelete(rpc.AuthRoleDeleteRequest(role="root"))


async def member_restarts(c):
    await c.put(b"ae/restart", b"1")
    await asyncio.get_running_loop().run_in_executor(None, order, "KILL 0")
    await refused(c.put(b"ae/restart", b"no"))
    await asyncio.get_running_loop().run_in_executor(None, order, "START 0")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            await c.put(b"ae/restart", b"2")
            break
        except aetcd.ClientError:
            await asyncio.sleep(0.2)
    equal((await c.get(b"ae/restart")).value, b"2")


async def main():
    async with connect() as client:
        for part in (puts_and_gets, ranges, transactions, leases, watches, watch_compacted, locks, members,
                     maintenance, many_at_once, with_a_user, member_restarts):
            try:
                await part(client)
            except Exception:
                failed(part.__name__)
            else:
                passed(part.__name__)


asyncio.run(main())
