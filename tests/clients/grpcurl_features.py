"""grpcurl with our own descriptions of the services: every one of them, unary and streaming."""

import base64
import glob
import json
import os
import subprocess
import sys

import cluster

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "python"))
from checks import CA, PASSWORD, USER, check, equal  # noqa: E402

GRPCURL = os.path.join(cluster.TOOLS, "grpcurl")
SCHEMA = os.path.join(cluster.ROOT, "proto", "schema")
ENDPOINT = os.environ["ENDPOINTS"].split(",")[0]
token = None


class Failed(Exception):
    pass


def text(value):
    return base64.b64encode(value.encode()).decode()


def call(method, *messages, limit="10"):
    """The answers, one for each message of the server's."""
    args = [GRPCURL, "-import-path", SCHEMA, "-max-time", limit]
    for name in sorted(glob.glob("*.proto", root_dir=SCHEMA)):
        args += ["-proto", name]
    args += ["-cacert", CA, "-authority", "localhost"] if CA else ["-plaintext"]
    if token:
        args += ["-H", "token: " + token]
    done = subprocess.run(args + ["-d", "@", ENDPOINT, method], text=True, capture_output=True, timeout=60,
                          input="".join(json.dumps(m) for m in messages or ({},)), check=False)
    answers, rest = [], done.stdout.strip()
    while rest:
        answer, end = json.JSONDecoder().raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].strip()
    if done.returncode != 0 and not (answers and "DeadlineExceeded" in done.stderr):
        raise Failed(done.stderr)
    return answers


def refused(code, method, *messages):
    try:
        call(method, *messages)
    except Failed as error:
        if code not in str(error):
            raise
        return
    raise AssertionError("no error")


def one(method, message=None):
    answers = call(method, message or {})
    equal(len(answers), 1)
    return answers[0]


def kv():
    put = {"key": text("gu/a"), "value": text("1")}
    one("etcdserverpb.KV/Put", put)
    answer = one("etcdserverpb.KV/Range", {"key": text("gu/a")})
    equal((answer["kvs"][0]["value"], answer["count"]), (text("1"), "1"))
    answer = one("etcdserverpb.KV/Txn", {
        "compare": [{"target": "VALUE", "key": text("gu/a"), "value": text("1")}],
        "success": [{"requestPut": dict(put, prevKv=True)}, {"requestRange": {"key": text("gu/a")}}]})
    equal((answer["succeeded"], len(answer["responses"])), (True, 2))
    parts = call("etcdserverpb.KV/RangeStream", {"key": text("gu/"), "rangeEnd": text("gu0")})
    equal(sum(len(p["rangeResponse"].get("kvs", [])) for p in parts), 1)
    equal(one("etcdserverpb.KV/DeleteRange", {"key": text("gu/a")})["deleted"], "1")
    refused("OutOfRange", "etcdserverpb.KV/Compact", {"revision": "100000000"})
    refused("InvalidArgument", "etcdserverpb.KV/Put", {"value": text("x")})


def leases():
    lease = one("etcdserverpb.Lease/LeaseGrant", {"TTL": 60})["ID"]
    answers = call("etcdserverpb.Lease/LeaseKeepAlive", {"ID": lease}, {"ID": lease})
    equal([a["TTL"] for a in answers], ["60", "60"])
    equal(one("etcdserverpb.Lease/LeaseTimeToLive", {"ID": lease})["grantedTTL"], "60")
    equal(lease in [entry["ID"] for entry in one("etcdserverpb.Lease/LeaseLeases")["leases"]], True)
    one("etcdserverpb.Lease/LeaseRevoke", {"ID": lease})
    refused("NotFound", "etcdserverpb.Lease/LeaseRevoke", {"ID": lease})


def watches():
    revision = one("etcdserverpb.KV/Put", {"key": text("gu/w"), "value": text("1")})["header"]["revision"]
    answers = call("etcdserverpb.Watch/Watch",
                   {"createRequest": {"key": text("gu/w"), "startRevision": revision}}, limit="2")
    equal(answers[0]["created"], True)
    equal([e["kv"]["value"] for a in answers for e in a.get("events", [])], [text("1")])


def cluster_and_maintenance():
    equal(len(one("etcdserverpb.Cluster/MemberList")["members"]), 3)
    refused("NotFound", "etcdserverpb.Cluster/MemberRemove", {"ID": 1})
    equal(one("etcdserverpb.Maintenance/Status")["version"][:2], "3.")
    one("etcdserverpb.Maintenance/Defragment")
    one("etcdserverpb.Maintenance/HashKV")
    one("etcdserverpb.Maintenance/Alarm")
    one("etcdserverpb.Maintenance/Downgrade", {"action": "VALIDATE", "version": "3.6"})
    size = sum(len(base64.b64decode(p.get("blob", ""))) for p in call("etcdserverpb.Maintenance/Snapshot"))
    equal(size % 512, 32)


def users():
    one("etcdserverpb.Auth/UserAdd", {"name": "gu", "password": "pw"})
    one("etcdserverpb.Auth/RoleAdd", {"name": "gu"})
    one("etcdserverpb.Auth/RoleGrantPermission", {
        "name": "gu", "perm": {"permType": "READWRITE", "key": text("a"), "range_end": text("b")}})
    one("etcdserverpb.Auth/UserGrantRole", {"user": "gu", "role": "gu"})
    equal(one("etcdserverpb.Auth/UserGet", {"name": "gu"})["roles"], ["gu"])
    equal(one("etcdserverpb.Auth/RoleGet", {"role": "gu"})["perm"][0]["permType"], "READWRITE")
    equal(one("etcdserverpb.Auth/AuthStatus").get("enabled", False), bool(CA))
    one("etcdserverpb.Auth/UserDelete", {"name": "gu"})
    one("etcdserverpb.Auth/RoleDelete", {"role": "gu"})


def locks_and_elections():
    lease = one("etcdserverpb.Lease/LeaseGrant", {"TTL": 60})["ID"]
    key = one("v3lockpb.Lock/Lock", {"name": text("gu/lock"), "lease": lease})["key"]
    one("v3lockpb.Lock/Unlock", {"key": key})
    leader = one("v3electionpb.Election/Campaign", {"name": text("gu/e"), "lease": lease, "value": text("1")})
    one("v3electionpb.Election/Proclaim", {"leader": leader["leader"], "value": text("2")})
    equal(one("v3electionpb.Election/Leader", {"name": text("gu/e")})["kv"]["value"], text("2"))
    seen = call("v3electionpb.Election/Observe", {"name": text("gu/e")}, limit="2")
    equal(seen[0]["kv"]["value"], text("2"))
    one("v3electionpb.Election/Resign", {"leader": leader["leader"]})
    one("etcdserverpb.Lease/LeaseRevoke", {"ID": lease})


def main():
    global token
    if CA:
        token = one("etcdserverpb.Auth/Authenticate", {"name": USER, "password": PASSWORD})["token"]
    parts = [kv, leases, watches, cluster_and_maintenance, users]
    if os.path.exists(os.path.join(SCHEMA, "v3lockpb.proto")):
        parts.append(locks_and_elections)
    for part in parts:
        check(part.__name__.replace("_", " "), part)


main()
