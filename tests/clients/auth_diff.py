#!/usr/bin/env python3
"""Authentication and authorisation: the same calls to etcd and to trivet, every answer compared.

What each Auth method says to what may be wrong with it; every method as everybody (without a token, with
garbage for one, as users with and without roles, as root, as one whose role was taken or who is gone,
with auth off); random users, roles and permissions from a seed, and what they may reach; leases; JSON web
tokens, good and forged; three members, followers and restarts.
"""

import argparse
import base64
import concurrent.futures
import hashlib
import hmac
import json
import os
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402
from rawgrpc import Client, GrpcError, field, fields, item  # noqa: E402

UNIMPLEMENTED = 12
AUTH, KV, LEASE = "/etcdserverpb.Auth/", "/etcdserverpb.KV/", "/etcdserverpb.Lease/"
MAINTENANCE, CLUSTER = "/etcdserverpb.Maintenance/", "/etcdserverpb.Cluster/"
WATCH = "/etcdserverpb.Watch/Watch"
HEALTH = "/grpc.health.v1.Health/"
SNAPSHOT = MAINTENANCE + "Snapshot"
READ, WRITE, READWRITE = 0, 1, 2
COST = ["--bcrypt-cost", "4"]
# COMPAT differs, Auth: a password with a NUL byte is refused, because bcrypt would take what is before it
# COMPAT differs, Auth: users and roles take 64 MiB at most, and a member keeps 65,536 simple tokens
# COMPAT better, Auth: a token that another member gave out is good at once everywhere: a member that has not heard of
# COMPAT   it waits until it has
# Of more than these etcd's sort leaves those of one key in an order of its own.
PERMISSIONS_MAX = 12


# --- messages ---

def user_add(name, password="", no_password=None, hashed=""):
    options = b"" if no_password is None else item(3, field(1, no_password))
    return field(1, name) + field(2, password) + options + field(4, hashed)


def pair(first, second):
    return field(1, first) + field(2, second)


def permission(access, key, end=b""):
    return field(1, access) + field(2, key) + field(3, end)


def grant(role, access, key, end=b""):
    return field(1, role) + item(2, permission(access, key, end))


def revoke(role, key, end=b""):
    return field(1, role) + field(2, key) + field(3, end)


def ranged(key, end=b"", serializable=False):
    return field(1, key) + field(2, end) + field(7, int(serializable))


def put(key, value=b"v", lease=0, prev=False, ignore_value=False):
    return (field(1, key) + field(2, value) + field(3, lease) + field(4, int(prev)) +
            field(5, int(ignore_value)))


def delete(key, end=b"", prev=False):
    return field(1, key) + field(2, end) + field(3, int(prev))


def op(number, body):
    return item(number, body)


def compare(key, end=b""):
    return field(2, 1) + field(3, key) + field(64, end)  # its creation is compared with 0


def txn(compares=(), success=(), failure=()):
    return (b"".join(item(1, c) for c in compares) + b"".join(item(2, o) for o in success) +
            b"".join(item(3, o) for o in failure))


def create_watch(key, end=b"", revision=0):
    return item(1, field(1, key) + field(2, end) + field(3, revision))


# --- both sides ---

def plain(message):
    """Without what differs from cluster to cluster: of the header the revision is kept."""
    kept = []
    for number, value in fields(message):
        if number == 1 and isinstance(value, bytes):
            value = dict(fields(value)).get(3, 0)
        kept.append((number, value))
    return kept


class Sides:
    """The same call to each; `tokens` are each side's own."""

    def __init__(self, tally, clients):
        self.tally, self.clients = tally, clients
        self.tokens = [{} for _ in clients]
        self.missing = set()

    def each(self, method, body, who, watch, metadata=()):
        for client, tokens in zip(self.clients, self.tokens):
            token = tokens.get(who, who) if who is not None else None
            if watch:
                yield client.first(method, body, token, last=method in (SNAPSHOT, HEALTH + "Watch"))
            else:
                yield client.call(method, body, token, metadata)

    def check(self, method, body=b"", who=None, contents=True, watch=False, note="", metadata=()):
        """Compare the answers; `contents` of messages, too. True when the call went well."""
        want, got = self.each(method, body, who, watch, metadata)
        if got.code == UNIMPLEMENTED and got.text.startswith("trivet: "):
            self.missing.add(method)
            return want.code == 0
        if method == SNAPSHOT:  # as many messages as the file is large
            want.messages, got.messages = want.messages[:1], got.messages[:1]
        # Go's protobuf puts one sort of space or the other into its errors, by the build.
        said = [(a.code, a.text.replace("\xa0", " "), [plain(m) for m in a.messages] if contents else len(a.messages))
                for a in (want, got)]
        self.tally.check(said[0] == said[1], "%s as %s %s" % (method, who, note),
                         "body %r\netcd   %r\ntrivet %r" % (body, said[0], said[1]))
        return want.code == 0

    def login(self, who, password="pw"):
        answers = list(self.each(AUTH + "Authenticate", pair(who, password), None, False))
        self.tally.check(answers[0].code == answers[1].code == 0, "login of " + who,
                         repr([(a.code, a.text) for a in answers]))
        for tokens, answer in zip(self.tokens, answers):
            tokens[who] = dict(fields(answer.messages[0])).get(2, b"").decode()

    def auth(self, method, body=b"", who=None, **more):
        return self.check(AUTH + method, body, who, **more)


class Pair:
    """One cluster of each kind, and a client to the first member of each."""

    def __init__(self, tally, flags=(), size=1):
        # Of trivet, members that serve by threads of their own too: here where there are three.
        threads = {"etcd": [], "trivet": ["--io-threads", "2"] if size > 1 else []}
        self.clusters = [cluster.Cluster(kind, size=size, flags=COST + list(flags) + threads[kind])
                         for kind in ("etcd", "trivet")]
        self.tally = tally

    def __enter__(self):
        for c in self.clusters:
            c.start()
        self.sides = Sides(self.tally, self.clients(0))
        return self

    def clients(self, member):
        return [Client("127.0.0.1", c.nodes[member].client_port) for c in self.clusters]

    def __exit__(self, *_):
        try:
            self.clusters[1].check_running()
        finally:
            for c in self.clusters:
                c.close()


# --- each Auth method by itself ---

def boundaries(s, who):
    """What may be wrong with each, whoever `who` is: None while auth is off."""
    long_name = "n" * 300
    calls = [
        ("UserAdd", user_add("", "pw")), ("UserAdd", user_add("u1", "pw")),
        ("UserAdd", user_add("u1", "pw")), ("UserAdd", user_add("u2", "")),
        ("UserAdd", user_add("u3", "", True)), ("UserAdd", user_add("u4", "given", True)),
        ("UserAdd", user_add("u5", "pw", False)), ("UserAdd", user_add("u6", "p" * 72)),
        ("UserAdd", user_add("u7", "p" * 73)), ("UserAdd", user_add(long_name, "pw")),
        ("UserAdd", user_add("u8", "", None, "not base64 !")),
        ("UserAdd", user_add("u9", "", True, "not base64 !")),
        ("UserAdd", field(1, b"\xff\xfe")), ("UserAdd", b"\x0a\x05ab"),
        ("UserGet", field(1, "u1")), ("UserGet", field(1, "nobody")), ("UserGet", b""),
        ("UserList", b""),
        ("RoleAdd", field(1, "")), ("RoleAdd", field(1, "r1")), ("RoleAdd", field(1, "r1")),
        ("RoleAdd", field(1, "r2")), ("RoleAdd", field(1, long_name)), ("RoleList", b""),
        ("RoleGet", field(1, "r1")), ("RoleGet", field(1, "nothing")), ("RoleGet", b""),
        ("RoleGet", field(1, "root")),
        ("UserGrantRole", pair("u1", "r1")), ("UserGrantRole", pair("u1", "r1")),
        ("UserGrantRole", pair("u1", "nothing")), ("UserGrantRole", pair("nobody", "r1")),
        ("UserGrantRole", pair("", "")), ("UserGrantRole", pair("u1", "")),
        ("UserGrantRole", pair("u1", "r2")), ("UserGrantRole", pair("u2", "root")),
        ("UserGet", field(1, "u1")), ("UserGet", field(1, "u2")),
        ("UserRevokeRole", pair("u1", "nothing")), ("UserRevokeRole", pair("nobody", "r1")),
        ("UserRevokeRole", pair("u2", "root")), ("UserRevokeRole", pair("u2", "root")),
        ("RoleGrantPermission", field(1, "r1")), ("RoleGrantPermission", item(2, b"")),
        ("RoleGrantPermission", grant("r1", READ, b"")),
        ("RoleGrantPermission", grant("nothing", READ, b"k")),
        ("RoleGrantPermission", grant("r1", READ, b"k")),
        ("RoleGrantPermission", grant("r1", WRITE, b"k")),
        ("RoleGrantPermission", grant("r1", READ, b"k", b"k")),
        ("RoleGrantPermission", grant("r1", READ, b"k", b"a")),
        ("RoleGrantPermission", grant("r1", READ, b"k", b"m")),
        ("RoleGrantPermission", grant("r1", READWRITE, b"k", b"m")),
        ("RoleGrantPermission", grant("r1", READ, b"k", b"\0")),
        ("RoleGrantPermission", grant("r1", READ, b"\0", b"\0")),
        ("RoleGrantPermission", grant("r1", READ, b"\0")),
        ("RoleGrantPermission", grant("r1", READ, b"", b"\0")),
        ("RoleGrantPermission", grant("r1", READ, b"a", b"\0\0")),
        ("RoleGrantPermission", grant("r1", 7, b"seven")), ("RoleGet", field(1, "r1")),
        ("RoleRevokePermission", revoke("r1", b"k", b"z")),
        ("RoleRevokePermission", revoke("nothing", b"k")),
        ("RoleRevokePermission", revoke("r1", b"k", b"m")),
        ("RoleRevokePermission", revoke("r1", b"")), ("RoleGet", field(1, "r1")),
        ("UserChangePassword", pair("nobody", "pw")), ("UserChangePassword", pair("u1", "new")),
        ("UserChangePassword", pair("u1", "p" * 73)), ("UserChangePassword", pair("u3", "new")),
        ("UserChangePassword", pair("u5", "")),
        ("UserChangePassword", field(1, "u5") + field(3, "not base64 !")),
        ("UserChangePassword", field(1, "u5") + field(3, "YWJj")),
        ("UserChangePassword", field(1, "u3") + field(3, "not base64 !")),
        ("RoleDelete", field(1, "nothing")), ("RoleDelete", field(1, "r2")),
        ("RoleDelete", b""), ("UserGet", field(1, "u1")),
        ("UserDelete", field(1, "nobody")), ("UserDelete", b""), ("UserDelete", field(1, "u4")),
        ("AuthStatus", b""),
    ]
    for at, (method, body) in enumerate(calls):
        s.auth(method, body, who, note="call %d" % at)
    for name, password in [("u1", "new"), ("u1", "pw"), ("u1", ""), ("u2", ""), ("u3", ""),
                           ("u3", "new"), ("u5", "abc"), ("u6", "p" * 72), ("u6", "p" * 73),
                           ("nobody", "pw"), ("", ""), ("u1", "ne\0w")]:
        s.auth("Authenticate", pair(name, password), contents=False, note=name + " " + password)
    for name in ("u1", "u2", "u3", "u5", "u6", "u9", long_name):
        s.auth("UserDelete", field(1, name), who)
    for name in ("r1", long_name):
        s.auth("RoleDelete", field(1, name), who)


def root_is_protected(s, who):
    for method, body in [("UserDelete", field(1, "root")), ("UserRevokeRole", pair("root", "root")),
                         ("RoleDelete", field(1, "root")), ("AuthEnable", b""),
                         ("RoleGet", field(1, "root")), ("UserGet", field(1, "root"))]:
        s.auth(method, body, who)


def enable(s):
    """From a cluster without users, by all that can be missing."""
    s.auth("AuthStatus")
    s.auth("AuthDisable")
    s.auth("AuthEnable")
    s.auth("Authenticate", pair("root", "pw"))
    s.auth("UserAdd", user_add("root", "pw"))
    s.auth("AuthEnable")
    s.auth("UserGrantRole", pair("root", "root"))
    s.auth("RoleDelete", field(1, "root"))
    s.auth("RoleAdd", field(1, "root"))
    s.auth("UserRevokeRole", pair("root", "root"))
    s.auth("AuthEnable")
    s.auth("UserGrantRole", pair("root", "root"))
    s.auth("AuthEnable")
    s.auth("AuthEnable")
    s.auth("AuthStatus")
    s.auth("AuthStatus", who="garbage")
    s.login("root")


# --- every method as everybody ---

PEOPLE = ["norole", "wrong", "right", "reader", "revoked", "deleted"]
EVERYBODY = [None, "garbage", "abcdefghijklmnop.1", ""] + PEOPLE + ["root"]


def make_people(s):
    for name in PEOPLE:
        s.auth("UserAdd", user_add(name, "pw"), "root")
    roles = {"wrong": (READWRITE, b"w", b"x"), "right": (READWRITE, b"k", b"l"),
             "reader": (READ, b"k", b"l"), "revoked": (READWRITE, b"k", b"l")}
    for role, (access, key, end) in roles.items():
        s.auth("RoleAdd", field(1, role), "root")
        s.auth("RoleGrantPermission", grant(role, access, key, end), "root")
        s.auth("UserGrantRole", pair(role, role), "root")
    for name in PEOPLE:
        s.login(name)
    s.auth("UserRevokeRole", pair("revoked", "revoked"), "root")
    s.auth("UserDelete", field(1, "deleted"), "root")


def calls():
    """(method, body, are the contents the same, is it a stream that goes on)

    Among them what etcd once let through: what a put or a delete gives back, comparisons, transactions
    in transactions, taking another's lease (CVE-2026-33343); members, alarms, leases and compactions
    without a permission (CVE-2026-33413); a watch beyond the range (GHSA-xg4h-6gfc-h4m8)."""
    k, whole = b"k1", (b"k", b"l")
    yield from ((KV + "Range", ranged(*r), True, False) for r in [
        (k,), whole, (b"k", b"k~"), (b"j", b"l"), (b"k", b"m"), (b"\0", b"\0"), (b"k", b"\0"),
        (b"l", b"k"), (b"k5", b"k"), (b"k", b"l", True)])
    yield KV + "RangeStream", ranged(*whole), True, False
    yield KV + "RangeStream", ranged(b"k", b"\0"), True, False
    yield KV + "Put", put(k), True, False
    yield KV + "Put", put(k, prev=True), True, False
    yield KV + "Put", put(b"k-none", b"", ignore_value=True), True, False
    yield KV + "Put", put(k, lease=4711), True, False
    yield KV + "Put", put(k, lease=10), True, False
    yield KV + "Put", put(k, lease=11), True, False
    yield KV + "DeleteRange", delete(b"k2"), True, False
    yield KV + "DeleteRange", delete(b"k3", b"k4", True), True, False
    yield KV + "DeleteRange", delete(b"j", b"k2"), True, False
    yield KV + "Txn", txn([compare(k)], [op(1, ranged(k))]), True, False
    yield KV + "Txn", txn([compare(b"a")], [op(1, ranged(k))]), True, False
    yield KV + "Txn", txn([compare(k, b"z")]), True, False
    yield KV + "Txn", txn([], [op(2, put(k))], [op(1, ranged(b"a"))]), True, False
    yield KV + "Txn", txn([], [op(1, ranged(k))], [op(2, put(b"a"))]), True, False
    yield KV + "Txn", txn([], [op(3, delete(k, b"", True))], []), True, False
    nested = txn([compare(k)], [op(2, put(b"k7"))], [op(1, ranged(b"k8"))])
    yield KV + "Txn", txn([], [op(4, nested)]), True, False
    deep = txn([], [op(4, txn([compare(b"a")], [op(1, ranged(k))]))])
    yield KV + "Txn", txn([], [], [op(4, deep)]), True, False
    yield KV + "Txn", txn([], [op(2, put(k, lease=11))]), True, False
    yield KV + "Txn", txn([], [op(2, put(k, prev=True))]), True, False
    yield KV + "Compact", field(1, 2), True, False
    yield LEASE + "LeaseGrant", field(1, 1000) + field(2, 99), True, False
    yield LEASE + "LeaseGrant", field(1, 10**10) + field(2, 98), True, False
    yield LEASE + "LeaseTimeToLive", field(1, 10), False, False
    yield LEASE + "LeaseTimeToLive", field(1, 10) + field(2, 1), False, False
    yield LEASE + "LeaseTimeToLive", field(1, 11) + field(2, 1), False, False
    yield LEASE + "LeaseTimeToLive", field(1, 4711) + field(2, 1), False, False
    yield LEASE + "LeaseKeepAlive", field(1, 10), True, True
    yield LEASE + "LeaseKeepAlive", field(1, 11), True, True
    yield LEASE + "LeaseKeepAlive", field(1, 4711), True, True
    yield LEASE + "LeaseLeases", b"", False, False
    yield LEASE + "LeaseRevoke", field(1, 11), True, False
    yield LEASE + "LeaseRevoke", field(1, 4711), True, False
    # A permission on one key must not give a watch on all behind it.
    yield from ((WATCH, create_watch(*w), True, True) for w in [
        (k,), whole, (b"k", b"\0"), (b"", b"\0"), (b"a",), (k, b"\0"), (k, b"", -1), (k, b"a")])
    yield MAINTENANCE + "Status", b"", False, False
    yield MAINTENANCE + "Alarm", b"", True, False
    yield MAINTENANCE + "Alarm", field(1, 2) + field(3, 1), True, False
    yield MAINTENANCE + "Hash", b"", False, False
    yield MAINTENANCE + "HashKV", b"", False, False
    yield SNAPSHOT, b"", False, True
    yield MAINTENANCE + "MoveLeader", field(1, 1), True, False
    yield MAINTENANCE + "Downgrade", field(1, 2), False, False
    yield MAINTENANCE + "Defragment", b"", False, False
    yield CLUSTER + "MemberList", b"", False, False
    for name in (b"", b"etcdserverpb.KV"):  # open to everybody
        yield HEALTH + "Check", field(1, name), False, False
        yield HEALTH + "Watch", field(1, name), False, True
    yield HEALTH + "List", b"", True, False
    yield CLUSTER + "MemberList", field(1, 1), False, False
    yield CLUSTER + "MemberAdd", b"", False, False
    yield CLUSTER + "MemberRemove", field(1, 12345), False, False
    yield CLUSTER + "MemberUpdate", field(1, 12345) + field(2, "http://127.0.0.1:1"), False, False
    yield CLUSTER + "MemberPromote", field(1, 12345), False, False
    yield AUTH + "AuthStatus", b"", True, False
    yield AUTH + "UserList", b"", True, False
    yield AUTH + "RoleList", b"", True, False
    yield from ((AUTH + "UserGet", field(1, n), True, False) for n in ("right", "root", "", "nobody"))
    yield from ((AUTH + "RoleGet", field(1, n), True, False) for n in ("right", "root", "", "none"))
    yield AUTH + "UserAdd", user_add("new", "pw"), True, False
    yield AUTH + "UserChangePassword", pair("new", "pw"), True, False
    yield AUTH + "UserGrantRole", pair("new", "right"), True, False
    yield AUTH + "UserRevokeRole", pair("new", "right"), True, False
    yield AUTH + "UserDelete", field(1, "new"), True, False
    yield AUTH + "RoleAdd", field(1, "new"), True, False
    yield AUTH + "RoleGrantPermission", grant("new", READ, b"new"), True, False
    yield AUTH + "RoleRevokePermission", revoke("new", b"new"), True, False
    yield AUTH + "RoleDelete", field(1, "new"), True, False
    yield AUTH + "AuthEnable", b"", True, False


def matrix(s, note):
    fill(s)
    for method, body, contents, watch in calls():
        for who in EVERYBODY:
            s.check(method, body, who, contents, watch, note)


def fill(s):
    """Keys, and leases: 10 has one that `right` may write, 11 one besides that he may not."""
    for lease in (10, 11):
        s.check(LEASE + "LeaseGrant", field(1, 1000) + field(2, lease), "root")
    for key, lease in [(b"a", 0), (b"k1", 0), (b"k2", 0), (b"k3", 0), (b"k-10", 10), (b"k-11", 11),
                       (b"a-11", 11), (b"m", 0), (b"w1", 0)]:
        s.check(KV + "Put", put(key, lease=lease), "root")


def as_everybody(s):
    make_people(s)
    matrix(s, "with auth")
    root_is_protected(s, "root")
    # The token may come in another header, as well, and then in other words.
    for name in ("token", "authorization"):
        for prefix in ("", "Bearer ", "bearer "):
            for which, tokens in enumerate(s.tokens):
                metadata = [(name, prefix + tokens["right"])]
                answer = s.clients[which].call(KV + "Range", ranged(b"k1"), metadata=metadata)
                wanted = 16 if prefix == "bearer " else 0
                s.tally.check(answer.code == wanted, "token in %s, %r" % (name, prefix),
                              "%s %s" % (answer.code, answer.text))
    s.auth("AuthDisable", who="right")
    s.auth("AuthDisable", who="root")
    matrix(s, "without auth")
    s.auth("AuthEnable")
    s.check(KV + "Range", ranged(b"k1"), "right", note="a token from before auth was disabled")
    s.check(KV + "Range", ranged(b"k1"), "root", note="a token from before auth was disabled")
    s.login("root")
    s.login("right")
    s.auth("UserChangePassword", pair("right", "other"), "root")
    s.check(KV + "Range", ranged(b"k1"), "right", note="a token from before the password changed")
    s.auth("Authenticate", pair("right", "pw"))
    s.login("right", "other")
    s.check(KV + "Range", ranged(b"k1"), "right", note="a new token")


# --- at random ---

def at_random(s, rng, count):
    users, roles = ["a", "b", "c", "d"], ["r", "s", "t", "root", "none"]
    keys = [b"\0", b"a", b"aa", b"b", b"b\0", b"c", b"d", b"\xff"]
    for name in users:
        s.auth("UserAdd", user_add(name, "pw"), "root")
        s.login(name)

    def end_of(key):
        """Not before it begins: such a range has no keys, and whether etcd permits it depends on how
        its tree of intervals happens to be balanced."""
        return rng.choice([b"", b"", b"\0"] + [k for k in keys if k >= key])

    granted = {}
    for _ in range(count):
        user, role = rng.choice(users), rng.choice(roles)
        key = rng.choice(keys)
        end = end_of(key)
        which = rng.randrange(12)
        if which == 0:
            s.auth("RoleAdd", field(1, role), "root")
        elif which == 1 and rng.randrange(3) == 0:
            s.auth("RoleDelete", field(1, role), "root")
        elif which <= 2:
            s.auth("UserGrantRole", pair(user, role if role != "root" else "r"), "root")
        elif which == 3:
            s.auth("UserRevokeRole", pair(user, role), "root")
        elif which <= 6 and granted.get(role, 0) < PERMISSIONS_MAX:
            s.auth("RoleGrantPermission", grant(role, rng.randrange(3), key, end), "root")
            granted[role] = granted.get(role, 0) + 1
        elif which <= 6:
            s.auth("RoleDelete", field(1, role), "root")
            s.auth("RoleAdd", field(1, role), "root")
            granted[role] = 0
        elif which == 7:
            s.auth("RoleRevokePermission", revoke(role, key, end), "root")
        elif which == 8:
            s.auth("RoleGet", field(1, role), rng.choice(["root", user]))
        else:
            s.check(KV + "Range", ranged(key, end), user)
            s.check(KV + "Put", put(key, prev=rng.randrange(2) == 1), user)
            s.check(KV + "DeleteRange", delete(key, end_of(key)), user)
            s.check(WATCH, create_watch(key, end), user, watch=True)
    for role in roles:
        s.auth("RoleGet", field(1, role), "root")
    for user in users:
        s.auth("UserGet", field(1, user), "root")


def expiry(tally):
    """Tokens end when they are not used, and not before."""
    with Pair(tally, ["--auth-token-ttl", "2"]) as p:
        enable(p.sides)
        for _ in range(5):
            time.sleep(0.7)
            p.sides.check(KV + "Range", ranged(b"k"), "root", note="used in time")
        time.sleep(4.2)
        p.sides.check(KV + "Range", ranged(b"k"), "root", note="not used in time")
        # By a token that says it is from an entry yet to come, where etcd waits until the client gives
        # up: not for ever, and what needs no token does not wait.
        to_come = "abcdefghijklmnop.99999999"
        for method, body, code, least, most in [
                (AUTH + "Authenticate", pair("root", "pw"), 0, 0, 3),
                ("/grpc.health.v1.Health/Check", b"", 0, 0, 3),
                (KV + "Range", ranged(b"k"), 16, 5, 12)]:
            begin = time.monotonic()
            answer = p.sides.clients[1].call(method, body, to_come)
            took = time.monotonic() - begin
            tally.check(answer.code == code and least <= took <= most,
                        method + " with a token to come", "%s %.1f s" % (answer.code, took))


# --- JSON web tokens ---

def encode_part(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def sign(secret, claims, header=None, algorithm="sha256"):
    head = encode_part(header or {"alg": "HS256", "typ": "JWT"}) + "." + encode_part(claims)
    mac = hmac.new(secret, head.encode(), getattr(hashlib, algorithm)).digest()
    return head + "." + encode_part(mac)


def forged(secret, revision):
    """(what, token)"""
    now = int(time.time())
    good = {"username": "root", "revision": revision, "exp": now + 600}
    none = encode_part({"alg": "none"}) + "." + encode_part(good) + "."

    def but(**changes):
        return {k: v for k, v in dict(good, **changes).items() if v is not None}
    yield "good", sign(secret, good)
    yield "another key", sign(b"another", good)
    yield "another method", sign(secret, good, {"alg": "HS512"}, "sha512")
    yield "its name alone", sign(secret, good, {"alg": "HS512"})
    yield "no method", none
    yield "unsigned", none.rsplit(".", 1)[0]
    yield "method in another case", sign(secret, good, {"alg": "hs256"})
    yield "header without one", sign(secret, good, {"typ": "JWT"})
    yield "expired", sign(secret, but(exp=now - 1))
    yield "expires as text", sign(secret, but(exp=str(now + 600)))
    yield "never expires", sign(secret, but(exp=None))
    yield "expires at 0", sign(secret, but(exp=0))
    yield "not yet", sign(secret, but(nbf=now + 600))
    yield "since", sign(secret, but(nbf=now - 600))
    yield "no user", sign(secret, but(username=None))
    yield "user is a number", sign(secret, but(username=7))
    yield "unknown user", sign(secret, but(username="nobody"))
    yield "user without a name", sign(secret, but(username=""))
    yield "no revision", sign(secret, but(revision=None))
    yield "revision as text", sign(secret, but(revision="3"))
    yield "old revision", sign(secret, but(revision=revision - 1))
    yield "revision 0", sign(secret, but(revision=0))
    yield "revision to come", sign(secret, but(revision=revision + 1))
    yield "not an object", sign(secret, b"[1]")
    yield "trailing text", sign(secret, json.dumps(good).encode() + b"x")
    yield "not JSON", sign(secret, b"{")
    yield "escapes", sign(secret, json.dumps(good).replace("root", "r\\u006fot").encode())
    yield "twice", sign(secret, json.dumps(but(username="nobody"))[:-1].encode() +
                        b',"username":"root"}')
    token = sign(secret, good)
    yield "padded", token + "="
    yield "cut", token[:-2]
    yield "four parts", token + ".a"
    yield "empty", ""
    yield "a simple one", "abcdefghijklmnop.1"


def web_tokens(tally, folder):
    secret = os.path.join(folder, "secret")
    with open(secret, "wb") as f:
        f.write(b"a secret of the cluster")
    spec = "jwt,priv-key=%s,sign-method=HS256,ttl=1h" % secret
    with Pair(tally, ["--auth-token", spec]) as p:
        s = p.sides
        enable(s)
        s.auth("UserAdd", user_add("al", "pw"), "root")
        s.check(KV + "Put", put(b"k"), "root", note="its revision is old")
        s.check(KV + "Range", ranged(b"k"), "root", note="its revision is old")
        s.login("root")
        s.login("al")
        s.check(KV + "Put", put(b"k"), "root")
        status = dict(fields(s.clients[1].call(AUTH + "AuthStatus").messages[0]))
        for what, token in forged(b"a secret of the cluster", status[3]):
            for method, body in [(KV + "Range", ranged(b"k")), (KV + "Put", put(b"k")),
                                 (AUTH + "UserList", b""), (MAINTENANCE + "Status", b""),
                                 (LEASE + "LeaseLeases", b"")]:
                contents = method != MAINTENANCE + "Status"
                s.check(method, body, token, contents, note="forged: " + what)
        s.check(WATCH, create_watch(b"k"), sign(b"x", {}), watch=True)


KEYS = {
    "RS256": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "PS384": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ES256": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ES512": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    "EdDSA": ["genpkey", "-algorithm", "ED25519"],
}


def openssl(*args):
    subprocess.run(["openssl"] + list(args), check=True, capture_output=True, timeout=60)


def key_pairs(tally, folder):
    """Each takes the other's tokens; one that has the public key alone makes none."""
    for method, command in KEYS.items():
        private = os.path.join(folder, method + ".key")
        public = os.path.join(folder, method + ".pub")
        openssl(*command, "-out", private)
        openssl("pkey", "-in", private, "-pubout", "-out", public)
        spec = "jwt,pub-key=%s,priv-key=%s,sign-method=%s" % (public, private, method)
        with Pair(tally, ["--auth-token", spec]) as p:
            enable(p.sides)
            p.sides.tokens.reverse()
            p.sides.check(KV + "Put", put(b"k"), "root", note=method + ": the other's token")
            p.sides.check(KV + "Put", put(b"k"), p.sides.tokens[0]["root"][:-8] + "AAAAAAAA",
                          note=method + ": damaged")
    spec = "jwt,pub-key=%s,sign-method=EdDSA" % os.path.join(folder, "EdDSA.pub")
    with Pair(tally, ["--auth-token", spec]) as p:
        s = p.sides
        for method, body in [("UserAdd", user_add("root", "pw")),
                             ("UserGrantRole", pair("root", "root")), ("AuthEnable", b"")]:
            s.auth(method, body)
        s.auth("Authenticate", pair("root", "pw"), note="verify only")


def bad_options(tally, folder):
    """With these neither starts, and both say the same."""
    rsa = os.path.join(folder, "RS256.key")
    for spec in ["nothing", "simple,x", "jwt", "jwt,sign-method=RS256", "jwt,sign-method=nothing",
                 "jwt,sign-method=HS256", "jwt,sign-method=RS256,priv-key=" + folder + "/none",
                 "jwt,sign-method=RS256,sign-method=RS256,priv-key=" + rsa,
                 "jwt,sign-method=RS256,ttl=x,priv-key=" + rsa,
                 "jwt,sign-method=RS256,priv-key=%s,pub-key=%s" % (rsa, folder + "/PS384.pub")]:
        said = []
        for kind in ("etcd", "trivet"):
            with cluster.Cluster(kind, size=1, flags=["--auth-token", spec]) as c:
                c.start_node(0)
                status = c.nodes[0].wait(20)
                errors = [json.loads(line).get("error") for line in
                          c.nodes[0].log_tail(40).splitlines()
                          if "failed to create token provider" in line]
                said.append((status, errors[:1]))
        tally.check(said[0] == said[1], "--auth-token " + spec, repr(said))


# --- three members ---

def passwords_stay_secret(s, trivet):
    """CVE-2021-28235: what is on the log, in the store and in the lines of the log names the user, and
    never his password."""
    password, changed = "correct horse battery", "staple to come after it"
    s.auth("UserAdd", user_add("who is to be found", password), "root")
    s.login("who is to be found", password)
    s.auth("UserChangePassword", pair("who is to be found", changed), "root")
    s.login("who is to be found", changed)
    s.auth("Authenticate", pair("who is to be found", "a wrong one, though"))
    found = {text: 0 for text in (b"who is to be found", password.encode(), changed.encode(),
                                  b"a wrong one, though")}
    for folder, _, names in os.walk(trivet.dir):
        for name in names:
            with open(os.path.join(folder, name), "rb") as f:
                contents = f.read()
            for text in found:
                found[text] += contents.count(text)
    s.tally.check(found.pop(b"who is to be found") > 0 and not any(found.values()),
                  "no password in any file", repr(found))
    s.auth("UserDelete", field(1, "who is to be found"), "root")


def known(s):
    return [[plain(c.call(AUTH + m, b"", t["root"]).messages[0])[1:]
             for m in ("UserList", "RoleList")] for c, t in zip(s.clients, s.tokens)]


def three(tally):
    with Pair(tally, size=3) as p:
        enable(p.sides)
        s = p.sides
        make_people(s)
        fill(s)
        others = []
        for member in (1, 2):
            other = Sides(tally, p.clients(member))
            other.tokens = s.tokens
            others.append(other)
        for other in others:  # tokens that another member gave out, at once
            for _ in range(10):
                s.login("right")
                other.check(KV + "Range", ranged(b"k1"), "right", note="at another member")
                other.check(WATCH, create_watch(b"k"), "right", watch=True)
            for method, body, contents, watch in calls():
                if method.startswith((KV, WATCH, LEASE + "LeaseT", LEASE + "LeaseK")):
                    for who in (None, "garbage", "wrong", "right"):
                        other.check(method, body, who, contents, watch, "at a follower")
            other.auth("UserAdd", user_add("made there", "pw"), "root")
            other.login("right")
            s.check(KV + "Put", put(b"k1"), "right", note="with a token from a follower")
            other.auth("UserDelete", field(1, "made there"), "root")
        passwords_stay_secret(s, p.clusters[1])
        before = known(s)
        for c in p.clusters:  # killed and started again, each by itself and all together
            for which in ([0], [1], [2], [0, 1, 2]):
                c.kill(*which)
                for i in which:
                    c.start_node(i)
                c.wait_healthy()
        again = Sides(tally, p.clients(0))
        again.check(KV + "Range", ranged(b"k1"), note="after a restart")
        again.login("root")
        again.login("right")
        after = known(again)
        tally.check(before == after and before[0] == before[1], "users and roles after a restart",
                    repr((before, after)))
        for who in ("root", "right"):
            for method, body, contents, watch in calls():
                if method.startswith((KV, WATCH)):
                    again.check(method, body, who, contents, watch, "after a restart")
        again.auth("AuthStatus")


# --- the whole ---

def alone(tally, seed, count):
    with Pair(tally) as p:
        s = p.sides
        boundaries(s, None)
        enable(s)
        boundaries(s, "root")
        as_everybody(s)
        at_random(s, random.Random(seed), count)
        for method in sorted(s.missing):
            print("not there yet: %s" % method)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--count", type=int, default=400, help="random steps")
    parser.add_argument("--only", help="alone, expiry, jwt or three")
    args = parser.parse_args()
    cluster.exit_on_signals()
    print("seed %d" % args.seed, flush=True)
    tally = cluster.Tally()
    with tempfile.TemporaryDirectory(prefix="trivet-test-") as folder:
        parts = {"alone": lambda: alone(tally, args.seed, args.count),
                 "expiry": lambda: expiry(tally),
                 "jwt": lambda: (web_tokens(tally, folder), key_pairs(tally, folder),
                                 bad_options(tally, folder)),
                 "three": lambda: three(tally)}
        parts = [p for name, p in parts.items() if args.only in (None, name)]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for result in [pool.submit(part) for part in parts]:
                try:
                    result.result()
                except (GrpcError, OSError, cluster.ClusterError, KeyError, IndexError) as error:
                    tally.check(False, "to the end", repr(error))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
