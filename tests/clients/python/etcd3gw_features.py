"""All that the package etcd3gw can do, by the JSON gateway (Debian: python3-etcd3gw)."""

import base64
import threading
import time

import etcd3gw

from checks import CA, ENDPOINTS, PASSWORD, USER, check, equal, raises

WAIT_S = 10


def text(value):
    return base64.b64encode(value.encode()).decode()


def connect(index=0, token=True):
    host, port = ENDPOINTS[index]
    c = etcd3gw.Etcd3Client(host, port, protocol="https" if CA else "http", ca_cert=CA, timeout=20, api_path="/v3/")
    c.session.trust_env = False  # its bundle of authorities would go before ours
    if CA and token:
        c.session.headers["Authorization"] = c.post(
            c.get_url("/auth/authenticate"), json={"name": USER, "password": PASSWORD})["token"]
    return c


def keys(c):
    equal(c.put("gw/a", "1"), True)
    equal(c.get("gw/a"), [b"1"])
    value, meta = c.get("gw/a", metadata=True)[0]
    equal((value, meta["key"], meta["version"]), (b"1", b"gw/a", "1"))
    equal(c.get("gw/none"), [])
    equal(c.create("gw/a", "x"), False)
    equal(c.create("gw/b", "x"), True)
    equal(c.replace("gw/b", "x", "y"), True)
    equal(c.replace("gw/b", "x", "z"), False)
    equal([v for v, _ in c.get_prefix("gw/", sort_order="descend", sort_target="value")], [b"y", b"1"])
    equal(len(c.get_all()) >= 2, True)
    equal(c.delete("gw/b"), True)
    equal(c.delete("gw/b"), False)
    c.put("gw/big", "x" * 1000000)
    equal(len(c.get("gw/big")[0]), 1000000)
    answer = c.transaction({
        "compare": [{"key": text("gw/a"), "result": "EQUAL", "target": "VALUE", "value": text("1")}],
        "success": [{"request_put": {"key": text("gw/a"), "value": text("2")}}],
        "failure": []})
    equal(answer["succeeded"], True)
    equal(c.delete_prefix("gw/"), True)


def leases(c):
    lease = c.lease(60)
    c.put("gw/l", "x", lease=lease)
    equal(50 < lease.ttl() <= 60, True)
    equal(lease.keys(), [b"gw/l"])
    equal(lease.refresh(), 60)
    equal(lease.revoke(), True)
    equal(c.get("gw/l"), [])


def locks(c):
    with c.lock("gw", ttl=20) as lock:
        equal(lock.is_acquired(), True)
        equal(c.lock("gw", ttl=20).acquire(), False)
        equal(lock.refresh(), 20)
    equal(lock.is_acquired(), False)


def watches(c):
    iterator, cancel = c.watch_prefix("gw/w/")
    threading.Timer(0.5, c.put, ("gw/w/1", "a")).start()
    event = next(iterator)
    equal((event["kv"]["key"], event["kv"]["value"]), (b"gw/w/1", b"a"))
    threading.Timer(0.1, c.delete, ("gw/w/1",)).start()
    equal(next(iterator)["type"], "DELETE")
    cancel()
    threading.Timer(0.5, c.put, ("gw/w/2", "b")).start()
    equal(c.watch_once("gw/w/2", timeout=WAIT_S)["kv"]["value"], b"b")
    raises(etcd3gw.exceptions.WatchTimedOut, c.watch_once, "gw/never", timeout=1)


def members(c):
    equal(len(c.members()), 3)
    equal(c.status()["version"][:2], "3.")


def users(c):
    if not CA:
        return
    raises(Exception, connect(token=False).get, "gw/a")
    nobody = connect(token=False)
    raises(Exception, nobody.post, nobody.get_url("/auth/authenticate"), json={"name": USER, "password": "no"})


def many_at_once(c):
    def work(number):
        own = connect(number % len(ENDPOINTS))
        for i in range(20):
            own.put("gw/m/%d/%d" % (number, i), "x")
        done.append(number)
    done, begin = [], time.monotonic()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal((len(done), time.monotonic() - begin < 60), (9, True))
    equal(len(c.get_prefix("gw/m/")), 180)
    c.delete_prefix("gw/m/")


def main():
    client = connect()
    for part in (keys, leases, locks, watches, members, users, many_at_once):
        check(part.__name__, part, client)


main()
