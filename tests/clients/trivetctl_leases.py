"""trivetctl copy, its leases and users: scenes of trivetctl_more.py."""

import base64
import http.client
import json
import os
import signal
import subprocess
import time

from cluster import Cluster
from trivetctl import PATIENCE, all_keys, check, ctl, endpoints_of, start, wait_for

LEASES = ("--prefix", "/src/", "--dest-prefix", "/dst/", "--with-leases")


def post(endpoints, path, requests):
    """The answers of the gateway to each request, one after the other."""
    host, port = endpoints.split(",")[0].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    answers = []
    for request in requests:
        connection.request("POST", path, json.dumps(request))
        answers.append(json.loads(connection.getresponse().read()))
    connection.close()
    return answers


def grant(endpoints, ttl, lease=0):
    """A lease, of an ID of one's own; returns the ID in hex. By the gateway: etcdctl cannot name one."""
    return "%x" % int(post(endpoints, "/v3/lease/grant", [{"TTL": ttl, "ID": lease}])[0]["ID"])


def lease_of(endpoints, lease):
    """(granted TTL, keys), or None."""
    status, out, err = ctl(endpoints, "lease", "timetolive", lease, "--keys", "-w", "json")
    if status != 0:
        raise RuntimeError(err)
    found = json.loads(out)
    if found.get("granted-ttl", 0) <= 0:
        return None
    return found["granted-ttl"], sorted(base64.b64decode(k).decode() for k in found.get("keys") or [])


def put(endpoints, key, value, lease=None):
    status, _, err = ctl(endpoints, "put", key, value, *(["--lease=" + lease] if lease else []))
    if status != 0:
        raise RuntimeError(err)


def scene_leases(source_kind):
    """Leases are copied and kept, made again when they were lost, and let go when the source's end."""
    with Cluster(source_kind, size=1) as source, Cluster("trivet", size=1) as dest:
        source.start()
        dest.start()
        s, d = endpoints_of(source), endpoints_of(dest)
        long, short = grant(s, 600), grant(s, 4)
        keeper = start(s, "lease", "keep-alive", short, stdout=subprocess.DEVNULL)
        put(s, "/src/long", "1", long)
        put(s, "/src/short", "1", short)
        put(s, "/src/plain", "1")
        put(s, "/other/x", "1", grant(s, 600))
        lease_first_copy(s, d, long, short)
        copier = start(d, "copy", s, *LEASES, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        lease_following(s, d, long, short)
        # The copier is dead for longer than a TTL.
        copier.kill()
        copier.wait()
        check(wait_for(lambda: all_keys(d, "/dst/short") == {}), "nobody keeps it: it ends")
        status, _, err = ctl(d, "copy", s, "--prefix", "/src/", "--dest-prefix", "/dst/", "--once")
        check(status == 1 and "--with-leases" in err, "going on without is refused", (status, err))
        put(s, "/src/after", "1", short)
        copier = start(d, "copy", s, *LEASES, "--verify", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check(wait_for(lambda: lease_of(d, short) == (4, ["/dst/after", "/dst/short"])),
              "what ended meanwhile is made again", lease_of(d, short))
        lease_ends(s, d, short, keeper)
        lease_source_pauses(source, s, d)
        copier.send_signal(signal.SIGINT)
        out, err = copier.communicate(timeout=PATIENCE)
        check(copier.returncode == 0, "the same in the end", (copier.returncode, out, err))


def lease_first_copy(s, d, long, short):
    status, out, err = ctl(d, "copy", s, *LEASES, "--once", "--verify", "-o", "json")
    sums = json.loads(out) if status == 0 else {}
    check(sums.get("leases") == 2 and sums.get("without_lease") == 0 and sums.get("same") is True,
          "leases are copied", (status, out, err))
    check(lease_of(d, long) == (600, ["/dst/long"]) and lease_of(d, short) == (4, ["/dst/short"]),
          "with ID, TTL and key", (lease_of(d, long), lease_of(d, short)))


def lease_following(s, d, long, short):
    late = grant(s, 5)
    put(s, "/src/late", "1", late)
    check(wait_for(lambda: lease_of(d, late) == (5, ["/dst/late"])), "a new lease", lease_of(d, late))
    # From one lease to another, and to none.
    put(s, "/src/move", "1", long)
    check(wait_for(lambda: all_keys(d, "/dst/move") == {"/dst/move": "1"}), "a key of two leases")
    put(s, "/src/move", "2", short)
    put(s, "/src/long", "2")
    check(wait_for(lambda: lease_of(d, short) == (4, ["/dst/move", "/dst/short"]) and
                   lease_of(d, long) == (600, [])), "keys move", (lease_of(d, short), lease_of(d, long)))
    ctl(s, "del", "/src/move")
    # `late` is renewed by nobody, `short` by its owner: three of their TTLs.
    time.sleep(15)
    check(all_keys(d, "/dst/short") == {"/dst/short": "1"}, "one that the source keeps is kept")
    check(all_keys(d, "/dst/late") == {} and lease_of(d, late) is None, "one that ends there ends here")
    ctl(d, "lease", "revoke", short)
    check(wait_for(lambda: lease_of(d, short) == (4, ["/dst/short"])),
          "one that is revoked here is made again, with its key", lease_of(d, short))


def lease_source_pauses(source, s, d):
    paused = grant(s, 4)
    put(s, "/src/paused", "1", paused)
    check(wait_for(lambda: lease_of(d, paused) == (4, ["/dst/paused"])), "copied")
    source.pause(0)
    time.sleep(10)
    check(lease_of(d, paused) == (4, ["/dst/paused"]), "a source that does not answer has its leases")
    source.resume(0)
    check(wait_for(lambda: lease_of(s, paused) is None and lease_of(d, paused) is None),
          "and then they end on both sides")


def lease_ends(s, d, short, keeper):
    keeper.kill()
    keeper.wait()
    check(wait_for(lambda: lease_of(s, short) is None), "it ends at the source")
    check(wait_for(lambda: lease_of(d, short) is None, 5) and all_keys(d, "/dst/short") == {},
          "and here", lease_of(d, short))


def scene_lease_of_others():
    """The destination has a lease of that ID with keys of its own: said, and nothing is attached."""
    with Cluster("trivet", size=1) as source, Cluster("trivet", size=1) as dest:
        source.start()
        dest.start()
        s, d = endpoints_of(source), endpoints_of(dest)
        lease = grant(s, 600, 4711)
        put(s, "/a/x", "1", lease)
        for key in ("/elsewhere", "/a/theirs"):
            put(d, key, "1", grant(d, 600, 4711))
            status, _, err = ctl(d, "copy", s, "--prefix", "/a/", "--with-leases", "--once")
            check(status == 1 and key in err and lease in err, "a lease of others is said", (status, err))
            check(lease_of(d, lease) == (600, [key]), "and is left alone", lease_of(d, lease))
            ctl(d, "lease", "revoke", lease)
        # One without keys is taken as it is.
        grant(d, 300, 4711)
        status, _, err = ctl(d, "copy", s, "--prefix", "/a/", "--with-leases", "--once")
        check(status == 0 and "300 s" in err and lease_of(d, lease) == (300, ["/a/x"]),
              "an empty one is taken, and its TTL said", (status, err, lease_of(d, lease)))


# --- very many ---

MANY = 2000
MANY_BYTES_MAX = 16 << 20


def copy_measured(d, *args):
    """What it prints as JSON, and how much memory it had at most."""
    copier = start(d, "copy", *args, "--once", "--verify", "-o", "json", stdout=subprocess.PIPE,
                   stderr=subprocess.DEVNULL)
    out = copier.stdout.read()
    _, status, usage = os.wait4(copier.pid, 0)
    copier.returncode = os.waitstatus_to_exitcode(status)
    return json.loads(out or "{}"), usage.ru_maxrss * 1024


def lease_count(endpoints):
    return len(post(endpoints, "/v3/lease/leases", [{}])[0].get("leases", []))


def make_many(s):
    post(s, "/v3/lease/grant", [{"TTL": 600, "ID": 1 + i} for i in range(MANY)])
    puts = [{"requestPut": {"key": base64.b64encode(b"/src/%d" % i).decode(), "value": "eA==", "lease": 1 + i}}
            for i in range(MANY)]
    post(s, "/v3/kv/txn", [{"success": puts[i:i + 100]} for i in range(0, MANY, 100)])


def scene_many_leases():
    """Many times what is asked for at once: made, made again after all were lost, and let go; little memory."""
    with Cluster("trivet", size=1) as source, Cluster("trivet", size=1) as dest:
        source.start()
        dest.start()
        s, d = endpoints_of(source), endpoints_of(dest)
        make_many(s)
        _, plain_bytes = copy_measured(d, s, "--prefix", "/src/", "--dest-prefix", "/plain/", "--state-key", "plain")
        sums, bytes_max = copy_measured(d, s, *LEASES)
        check(sums.get("leases") == MANY and sums.get("same") is True and lease_count(d) == MANY,
              "many leases are copied", (sums, lease_count(d)))
        check(bytes_max - plain_bytes < MANY_BYTES_MAX, "in little memory", (bytes_max, plain_bytes))
        post(d, "/v3/lease/revoke", [{"ID": 1 + i} for i in range(MANY)])
        check(all_keys(d, "/dst/") == {}, "all are lost")
        sums, _ = copy_measured(d, s, *LEASES)
        check(sums.get("leases") == MANY and sums.get("same") is True and sums.get("written") == MANY,
              "and made again with their keys", sums)
        copier = start(d, "copy", s, *LEASES, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        put(s, "/src/new", "1")
        check(wait_for(lambda: "/dst/new" in all_keys(d, "/dst/")), "it follows")
        post(s, "/v3/lease/revoke", [{"ID": 1 + i} for i in range(MANY)])
        check(wait_for(lambda: lease_count(d) == 0) and all_keys(d, "/dst/") == {"/dst/new": "1"},
              "all end here as there", lease_count(d))
        check(copier.poll() is None, "it goes on", copier.returncode)
        copier.kill()
        copier.wait()


# --- whoever it is ---

def enable_auth(endpoints):
    """root:secret may all, u:pw may /src/ alone."""
    for line in ("role add r", "role grant-permission r --prefix=true readwrite /src/", "user add root:secret",
                 "user grant-role root root", "user add u:pw", "user grant-role u r", "auth enable"):
        status, _, err = ctl(endpoints, *line.split())
        if status != 0:
            raise RuntimeError(line + ": " + err)


def scene_copy_users(source_kind):
    """Users stay where they are, which is said; who may read a prefix can copy it."""
    with Cluster(source_kind, size=1) as source, Cluster("trivet", size=1) as dest:
        source.start()
        dest.start()
        s, d = endpoints_of(source), endpoints_of(dest)
        put(s, "/src/x", "1", grant(s, 600))
        put(s, "/other/x", "1", grant(s, 600))
        _, _, err = ctl(d, "copy", s, "--once", "--forget")
        check("users" not in err, "nothing is said where authentication is off", err)
        enable_auth(s)

        def copy(*args):
            status, _, err = ctl(d, *args[:-1], "copy", s, "--once", "--verify", *args[-1].split())
            return status, err
        status, err = copy("")
        check(status == 1 and "--source-user" in err, "nobody in particular may copy nothing", (status, err))
        status, err = copy("--source-user u:pw")
        check(status == 1 and "permission denied" in err, "nor who may not read all of it", (status, err))
        status, err = copy("--source-user u:pw --prefix /src/ --dest-prefix /a/")
        check(status == 0 and all_keys(d, "/a/") == {"/a/x": "1"} and "off at the destination" in err,
              "who may read a prefix copies it, and is told what is not copied", (status, err))
        status, err = copy("--source-user u:pw --prefix /src/ --dest-prefix /b/ --with-leases --state-key b")
        check(status == 1 and "--with-leases asks for all leases" in err and all_keys(d, "/b/") == {},
              "but not its leases, before anything is written", (status, err))
        enable_auth(d)
        status, err = copy("--source-user root:secret --prefix /src/ --restart")
        check(status == 1 and "who asks: --user" in err, "the destination as well wants to know", (status, err))
        status, err = copy("--user", "root:secret", "--source-user root:secret --prefix /src/ --restart --with-leases")
        check(status == 0 and "those of the destination hold" in err, "on at both", (status, err))
