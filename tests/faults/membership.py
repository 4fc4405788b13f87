#!/usr/bin/env python3
"""Members come and go, as etcdctl tells them to: the same script on etcd 3.7 and on trivet.

What etcdctl prints must be the same in both, ids and ports aside; what the members say in their logs when
they may not join, or must go, is looked for in etcd's words. At the end a cluster grows from one member to
five and shrinks to one again under clients whose every answer is judged (tests/clients/go/robust).

    tests/faults/membership.py [--kinds etcd] [--only NAME,...] [--verbose]
"""

# COMPAT better, MemberUpdate: what is no URL is refused; etcd takes it, and then cannot reach the member
import argparse
import concurrent.futures
import json
import os
import random
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402
from robust import Load  # noqa: E402

AT_ONCE = 4
PATIENCE_S = 40
UNHEALTHY = "unhealthy cluster"
NOT_ENOUGH = "re-configuration failed due to not enough started members"
IN_SYNC = "can only promote a learner member which is in sync with leader"


class Side:
    """One cluster, of which some nodes run, and what was printed."""

    def __init__(self, kind, size):
        self.kind = kind
        self.nodes = cluster.Cluster(kind, size=size)
        self.transcript = []
        self.roles = {}  # index -> what the node is called in the transcript, where that differs

    # --- nodes ---

    def node(self, i):
        return self.nodes.nodes[i]

    def begin(self, *indices):
        """A new cluster of these."""
        for i in indices:
            self.node(i).initial = [self.node(j) for j in indices]
        for i in indices:
            self.node(i).start()
        self.settle(*indices)

    def join(self, i, *others):
        """Start a node that was added, with the flags that etcdctl tells one to use."""
        self.node(i).initial = [self.node(j) for j in others] + [self.node(i)]
        self.node(i).state = "existing"
        self.node(i).start()

    def wipe(self, i):
        shutil.rmtree(self.node(i).data_dir, ignore_errors=True)

    def ends(self, i):
        """Does the node end by itself? Its status is its own affair."""
        try:
            self.node(i).wait(PATIENCE_S)
            return "ended"
        except cluster.ClusterError:
            return "runs on"

    def logged(self, i, *texts):
        with open(self.node(i).log_path, encoding="utf-8", errors="replace") as log:
            said = log.read()
        return [text for text in texts if text in said]

    # --- etcdctl ---

    def ctl(self, at, *args, timeout="5s"):
        result = cluster.run([cluster.ETCDCTL, "--endpoints", self.node(at).endpoint(),
                              "--command-timeout", timeout, "--dial-timeout", "3s"] + list(args),
                             capture_output=True, text=True, timeout=60)
        return result.returncode, result.stdout + result.stderr

    def members(self, at):
        code, text = self.ctl(at, "member", "list", "-w", "json")
        if code != 0:
            raise cluster.ClusterError("member list: " + text)
        return json.loads(text)["members"]

    def id_of(self, i, at=0):
        for member in self.members(at):
            if self.node(i).peer_url() in member["peerURLs"]:
                return "%x" % member["ID"]
        return None

    def leader(self):
        for node in self.nodes.nodes:
            if not node.running():
                continue
            code, text = self.ctl(node.index, "endpoint", "status", "-w", "json", timeout="2s")
            if code == 0:
                status = json.loads(text)[0]["Status"]
                if status.get("leader", 0) == status["header"]["member_id"] != 0:
                    return node.index
        return None

    # --- what is compared ---

    def clean(self, text):
        lines = [line for line in text.strip().split("\n") if '"level":"warn"' not in line]
        for node in self.nodes.nodes:
            lines = [line.replace(node.peer_url(), "PEER-%s" % node.name)
                     .replace("http://" + node.endpoint(), "CLIENT-%s" % node.name)
                     .replace(node.endpoint(), "CLIENT-%s" % node.name) for line in lines]
        text = "\n".join(re.sub(r" *\b[0-9a-f]{12,16}\b", " ID", line).strip() for line in lines)
        for i, role in self.roles.items():
            text = re.sub(r"\b%s\b" % self.node(i).name, role, text)
        text = re.sub(r'ETCD_INITIAL_CLUSTER="([^"]*)"',
                      lambda m: 'ETCD_INITIAL_CLUSTER="%s"' % ",".join(sorted(m[1].split(","))), text)
        return re.sub(r"took = \S+", "took = T", text)

    def say(self, what, value):
        self.transcript.append((what, value))
        return value

    def do(self, at, *args, retry=None, wants=None, timeout="5s"):
        """A command whose outcome is compared. `retry`: what etcd answers for some time after a change;
        `wants`: what must be in the answer of both."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            code, text = self.ctl(at, *args, timeout=timeout)
            if not retry or code == 0 or not any(r in text for r in retry) or \
                    time.monotonic() > deadline:
                break
            time.sleep(0.3)
        # Which id is meant differs, and whom somebody else's list begins with.
        shown = [re.sub(r"^[0-9a-f]{6,16}$", "ID", a).replace(self.node(at).peer_url(), "PEER") for a in args]
        shown = " ".join(self.clean(a) for a in shown)
        if args[:2] == ("member", "list"):
            text = "\n".join(sorted(self.clean(text).split("\n")))
        self.say(shown, "%d %s" % (code, self.clean(text)))
        if wants is not None and wants not in text:
            self.say(shown + ": " + wants, "NOT SAID")
        return code, text

    def settle(self, *indices):
        """Until the nodes serve, and have told the others where."""
        self.nodes.wait_healthy(indices)
        deadline = time.monotonic() + PATIENCE_S
        want = {"http://" + self.node(i).endpoint() for i in indices}
        while not want <= {url for m in self.members(indices[0]) for url in m.get("clientURLs", [])}:
            if time.monotonic() > deadline:
                raise cluster.ClusterError("not all say where they serve clients")
            time.sleep(0.05)

    def close(self):
        self.nodes.close()


SOON = (UNHEALTHY, IN_SYNC, "leader changed", "request timed out", "context deadline", "Unavailable")


# --- the stories ---

def learners(side):
    """A learner, from being added to being promoted."""
    side.begin(0)
    side.do(0, "member", "list")
    side.do(0, "put", "a", "b")
    side.do(0, "member", "add", "n1", "--learner", "--peer-urls", side.node(1).peer_url())
    side.do(0, "member", "list")
    side.do(0, "member", "promote", side.id_of(1), wants=IN_SYNC)
    side.do(0, "member", "add", "n2", "--learner", "--peer-urls", side.node(2).peer_url(),
            wants="too many learner members in cluster")
    side.do(0, "member", "add", "n2", "--peer-urls",
            side.node(1).peer_url() + "," + side.node(2).peer_url(), wants="Peer URLs already exists")
    side.join(1, 0)
    deadline = time.monotonic() + PATIENCE_S
    while side.ctl(1, "get", "a", "--consistency", "s")[1] != "a\nb\n":
        if time.monotonic() > deadline:
            raise cluster.ClusterError("the learner does not serve\n" + side.node(1).log_tail())
        time.sleep(0.1)
    side.do(0, "member", "list")
    side.do(0, "member", "list", "-w", "simple", "--consistency", "s")
    for args in (["get", "a"], ["put", "a", "c"], ["del", "a"], ["lease", "grant", "100"], ["compaction", "1"],
                 ["txn", "--interactive=false"], ["member", "list"], ["lease", "list"], ["alarm", "list"]):
        side.do(1, *args)
    side.do(1, "get", "a", "--consistency", "s")
    code, text = side.ctl(1, "endpoint", "status", "-w", "json")
    side.say("the learner says that it is one", code == 0 and json.loads(text)[0]["Status"].get("isLearner"))
    side.do(0, "move-leader", side.id_of(1))
    side.do(0, "member", "promote", side.id_of(1), retry=SOON)
    side.do(0, "member", "list")
    side.do(0, "member", "promote", side.id_of(1), retry=(UNHEALTHY,),
            wants="can only promote a learner member")
    side.do(1, "get", "a", retry=SOON)
    side.do(0, "member", "promote", "1234", wants="member not found")
    side.do(0, "member", "remove", "1234", wants="member not found")
    side.do(0, "member", "update", "1234", "--peer-urls", "http://127.0.0.1:1", wants="member not found")


def updates(side):
    """Peer URLs that change."""
    side.begin(0, 1, 2)
    time.sleep(5.5)  # etcd's strict check wants connections of that age
    side.do(0, "member", "update", side.id_of(1), "--peer-urls", side.node(0).peer_url(),
            wants="Peer URLs already exists")
    side.do(0, "member", "update", side.id_of(1), "--peer-urls", side.node(1).peer_url())
    side.do(0, "member", "update", side.id_of(1), "--peer-urls", side.node(3).peer_url())
    side.do(2, "member", "list")
    side.do(2, "put", "a", "b")
    # It listens where it did; told to listen there it is with the others again.
    identifier = side.id_of(3)
    side.nodes.stop(1)
    side.node(1).peer_port, side.node(3).peer_port = side.node(3).peer_port, side.node(1).peer_port
    side.node(1).start()
    side.settle(0, 1, 2)
    side.say("the same id as before", side.id_of(1) == identifier)
    side.do(1, "get", "a")
    side.do(0, "member", "add", "bad", "--peer-urls", "not-a-url")
    side.do(0, "member", "add", "bad", "--peer-urls", "http://127.0.0.1")
    side.do(0, "member", "add", "bad", "--peer-urls", "http://127.0.0.1:1/path")


def strict(side):
    """What etcd's strict check refuses."""
    side.begin(0, 1)
    time.sleep(5.5)
    side.do(0, "member", "add", "n2", "--peer-urls", side.node(2).peer_url(), retry=SOON)
    side.do(0, "member", "add", "n3", "--peer-urls", side.node(3).peer_url(), wants=NOT_ENOUGH)
    side.do(0, "member", "remove", side.id_of(1), wants=NOT_ENOUGH)
    side.join(2, 0, 1)
    side.settle(0, 1, 2)
    side.do(0, "member", "list")
    time.sleep(5.5)
    side.nodes.kill(2)
    time.sleep(1)
    side.do(0, "member", "add", "n3", "--peer-urls", side.node(3).peer_url(), wants=UNHEALTHY)
    side.do(0, "member", "add", "n3", "--learner", "--peer-urls", side.node(3).peer_url())
    side.do(0, "member", "remove", side.id_of(1), wants=UNHEALTHY)
    side.do(0, "put", "still", "works")
    side.do(0, "member", "remove", side.id_of(2), retry=("leader changed",))
    side.do(0, "member", "list")


def removals(side):
    """A follower, the leader and a dead member go; a removed one comes back, and is added again."""
    side.begin(0, 1, 2, 3, 4)
    side.do(0, "put", "a", "b")
    time.sleep(5.5)
    leader = side.leader()
    follower, dead, two, three = [i for i in range(5) if i != leader]
    side.roles = {leader: "leader", follower: "follower", dead: "dead", two: "two", three: "three"}
    side.do(leader, "member", "remove", side.id_of(follower, leader))
    side.say("a removed follower", side.ends(follower))
    side.do(leader, "get", "a")
    # With its data it is told, or knows, that it was removed; it does not disturb the others.
    side.node(follower).start()
    side.say("with its old data", side.ends(follower))
    side.say("it says why", bool(side.logged(follower, "removed")))
    side.do(leader, "get", "a")
    side.say("the leader is the same", side.leader() == leader)
    # A dead one.
    side.nodes.kill(dead)
    time.sleep(1)
    side.do(leader, "member", "remove", side.id_of(dead, leader), retry=SOON)
    side.say("members", len(side.members(leader)))
    # The leader itself.
    side.do(two, "member", "remove", side.id_of(leader, two), retry=SOON)
    side.say("a removed leader", side.ends(leader))
    side.do(two, "put", "a", "c", retry=SOON)
    side.do(three, "get", "a", retry=SOON)
    side.say("members", len(side.members(two)))
    # The first one again, under a new id.
    side.wipe(follower)
    side.do(two, "member", "add", side.node(follower).name, "--peer-urls",
            side.node(follower).peer_url(), retry=SOON)
    side.join(follower, two, three)
    side.settle(two, three, follower)
    side.do(follower, "get", "a", retry=SOON)
    side.say("members", len(side.members(follower)))


def wrong_joins(side):
    """--initial-cluster-state=existing with flags that do not fit."""
    side.begin(0)
    tries = [
        ("nobody added it", [0], "member count is unequal"),
        ("without the others", [], "cannot fetch cluster info from peer urls"),
    ]
    for name, others, text in tries:
        side.join(1, *others)
        side.say(name, (side.ends(1), side.logged(1, text)))
        side.wipe(1)
        os.unlink(side.node(1).log_path)
    side.do(0, "member", "add", "n2", "--peer-urls", side.node(2).peer_url())
    side.join(1, 0)  # another was added
    side.say("another address", (side.ends(1), side.logged(1, "PeerURLs: no match found for existing member")))
    side.wipe(1)
    os.unlink(side.node(1).log_path)
    side.node(2).name = "other"
    side.node(2).initial = [side.node(0), side.node(1)]
    side.node(2).state = "existing"
    side.node(2).start()
    side.say("its name is not among them",
             (side.ends(2), side.logged(2, "couldn't find local name")))
    os.unlink(side.node(2).log_path)
    side.wipe(2)
    side.node(2).name = "n2"
    side.join(2, 0)
    side.settle(0, 2)
    side.do(2, "member", "list")
    # In vain: a whole cluster of which nobody is there.
    side.node(3).initial = [side.node(3), side.node(4)]
    side.node(3).state = "existing"
    side.node(3).start()
    side.say("nobody is there",
             (side.ends(3), side.logged(3, "cannot fetch cluster info from peer urls")))


def grow_and_shrink(side):
    """1 -> 3 -> 5 -> 3 -> 1 members, under clients that are judged."""
    side.begin(0)
    out = side.nodes.dir
    endpoint = side.node(0).endpoint()
    load = Load(argparse.Namespace(endpoints=lambda: endpoint), random.SystemRandom().randrange(1 << 30), out)
    there = [0]
    for i in range(1, 5):
        side.do(0, "member", "add", side.node(i).name, "--peer-urls", side.node(i).peer_url(), retry=SOON)
        side.join(i, *there)
        there.append(i)
        side.settle(*there)
        if len(there) in (3, 5):
            side.say("%d members" % len(there), load.check()[:2])
            side.say("hashes", len(hashes(side, there)))
    for i in (4, 1, 2, 3):  # whoever leads
        side.do(0, "member", "remove", side.id_of(i), retry=SOON)
        side.say("the removed one", side.ends(i))
        there.remove(i)
        side.settle(*there)
        if len(there) in (3, 1):
            side.say("%d members" % len(there), load.check()[:2])
            side.say("hashes", len(hashes(side, there)))
    lines, status = load.finish()
    side.say("the clients", (status, re.sub(r"\d+ passed", "N passed", lines[-1])))
    if status != 0:
        print("\n".join(lines))


def hashes(side, there):
    found = set()
    code, text = side.ctl(0, "get", "~marker", "-w", "json")
    revision = str(json.loads(text)["header"]["revision"]) if code == 0 else "0"
    deadline = time.monotonic() + PATIENCE_S
    for i in there:
        while True:
            code, text = side.ctl(i, "endpoint", "hashkv", "--rev", revision, "-w", "json")
            if code == 0 or time.monotonic() > deadline:
                break
            time.sleep(0.1)  # it has not got so far yet
        found.add(json.loads(text)[0]["HashKV"]["hash"] if code == 0 else text)
    return found


STORIES = [(learners, 3), (updates, 4), (strict, 4), (removals, 5), (wrong_joins, 5), (grow_and_shrink, 5)]


def compare(tally, story, sides, verbose):
    name = story.__name__
    lists = [side.transcript for side in sides]
    for number in range(max(len(t) for t in lists)):
        said = [t[number] if number < len(t) else ("nothing more", "") for t in lists]
        if verbose:
            print("  %s\n    %s" % (said[0][0], str(said[0][1]).replace("\n", "\n    ")))
        ok = all(s == said[0] for s in said) and said[0][1] != "NOT SAID"
        tally.check(ok, "%s, step %d: %s" % (name, number + 1, said[0][0]), "\n".join(
            "  %-6s %s: %s" % (side.kind, s[0], s[1]) for side, s in zip(sides, said)))


def tell(story, size, kind):
    began = time.monotonic()
    side = Side(kind, size)
    try:
        story(side)
    except cluster.ClusterError as error:
        side.say("it ended with", str(error))
        side.nodes.keep()
    finally:
        side.close()
    print("%s, %s: %d steps, %.1f s" % (story.__name__, kind, len(side.transcript),
                                        time.monotonic() - began), flush=True)
    return side


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", default="etcd,trivet", type=lambda text: text.split(","))
    parser.add_argument("--only", default=",".join(s.__name__ for s, _ in STORIES),
                        type=lambda text: text.split(","))
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    cluster.exit_on_signals()
    tally = cluster.Tally()
    stories = [(story, size) for story, size in STORIES if story.__name__ in args.only]
    # They wait most of the time: for connections to be old enough, and for elections.
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        told = [[pool.submit(tell, story, size, kind) for kind in args.kinds]
                for story, size in stories]
        for (story, _), sides in zip(stories, told):
            compare(tally, story, [side.result() for side in sides], args.verbose)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
