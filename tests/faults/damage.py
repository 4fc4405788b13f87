#!/usr/bin/env python3
"""Damage to a member's files, one sort after the other: found, said, never served from, and healed.

One member of three is stopped and its files are damaged: a bit in every region of every kind of file,
files cut off, gone, swapped, taken from another member, or older copies put back. With --repair=refuse
the member must either end with one line that names the file and the offset, and change nothing, or the
damage must be of a sort that cannot matter; with --repair=auto it must come back by itself. Whatever
happens, a member that serves holds exactly what the others hold, and no acknowledged key is missing.
"""

# COMPAT better, damaged files: a member says what is damaged, sets it aside, and gets its data back from the others
import argparse
import glob
import json
import os
import random
import shutil
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import cluster  # noqa: E402

FLAGS = ["--log-segment-bytes", str(16 << 20)]
BLOCK = 4096
WAL_HEADER_MAGIC, WAL_FRAME_MAGIC = 0x53575654, 0x42575654
FRAME_BYTES = 88
SST_FOOTER_BYTES = 53
VALUE_BYTES = 64 << 10
REFUSED, HARMLESS, EITHER = "refused", "harmless", "either"
HEAL_TIMEOUT = 40


def etcdctl(node, *args, timeout=30):
    return cluster.run([cluster.ETCDCTL, "--endpoints", node.endpoint(), "--command-timeout", "20s"] +
                       list(args), capture_output=True, text=True, timeout=timeout)


# --- what the files look like ---

def wal_files(member):
    return sorted(glob.glob(os.path.join(member, "wal", "*.wal")))


def header_of(path):
    """(magic, sequence number) of a segment's header."""
    with open(path, "rb") as f:
        block = f.read(24)
    return struct.unpack_from("<I", block)[0], struct.unpack_from("<Q", block, 16)[0]


def used_segments(member):
    return [p for p in wal_files(member)
            if header_of(p) == (WAL_HEADER_MAGIC, int(os.path.basename(p)[:-4], 16))]


def spare_segments(member):
    return [p for p in wal_files(member) if p not in used_segments(member)]


def batches(path):
    """(offset, bytes of the body, entries) of each batch of a segment."""
    found, seq = [], int(os.path.basename(path)[:-4], 16)
    with open(path, "rb") as f:
        data = f.read()
    at = BLOCK
    while at + FRAME_BYTES <= len(data):
        magic, _, segment = struct.unpack_from("<IIQ", data, at)
        if magic != WAL_FRAME_MAGIC or segment != seq:
            break
        entries, body = struct.unpack_from("<II", data, at + 72)
        found.append((at, body, entries))
        at += (FRAME_BYTES + body + BLOCK - 1) // BLOCK * BLOCK
    return found


def tables(member):
    """Table files, the largest (versions) first."""
    return sorted(glob.glob(os.path.join(member, "lsm", "*.sst")), key=os.path.getsize, reverse=True)


def one(member, pattern):
    return glob.glob(os.path.join(member, "lsm", pattern))[0]


# --- doing damage ---

def flip(path, offset, rng):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ (1 << rng.randrange(8))]))
    return "%s at %d" % (os.path.basename(path), offset)


def flip_in(path, begin, end, rng):
    return flip(path, rng.randrange(begin, end), rng)


def truncate(path, size):
    os.truncate(path, size)
    return "%s to %d" % (os.path.basename(path), size)


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
    return os.path.basename(path)


def swap(files):
    if len(files) < 2:
        return None
    a, b = files[0], files[-1]
    os.rename(a, a + ".x")
    os.rename(b, a)
    os.rename(a + ".x", b)
    return "%s and %s" % (os.path.basename(a), os.path.basename(b))


def replace(path, by):
    remove(path)
    if os.path.isdir(by):
        shutil.copytree(by, path)
    else:
        shutil.copyfile(by, path)
    return "%s by %s" % (os.path.basename(path), by)


class Case:
    """`damage(member, test)` does it and says what; None: there is nothing of that sort."""

    def __init__(self, name, outcome, damage):
        self.name, self.outcome, self.damage = name, outcome, damage


def some_batch(path, rng):
    """One with entries that is not the last."""
    return rng.choice([b for b in batches(path)[:-2] if b[2] > 0])


def wal_flip_head(m, t):
    path = used_segments(m)[-1]
    at, _, _ = some_batch(path, t.rng)
    return flip_in(path, at, at + FRAME_BYTES, t.rng)


def wal_flip_payload(m, t, which):
    path = used_segments(m)[which]
    at, body, _ = some_batch(path, t.rng)
    return flip_in(path, at + FRAME_BYTES, at + FRAME_BYTES + body, t.rng)


def wal_flip_padding(m, t):
    for path in used_segments(m):
        for at, body, entries in batches(path)[:-2]:
            end = at + (FRAME_BYTES + body + BLOCK - 1) // BLOCK * BLOCK
            if entries > 0 and at + FRAME_BYTES + body < end:
                return flip_in(path, at + FRAME_BYTES + body, end, t.rng)
    return None


def wal_flip_unused(m, t):
    path = used_segments(m)[-1]
    at, body, _ = batches(path)[-1]
    begin = at + (FRAME_BYTES + body + BLOCK - 1) // BLOCK * BLOCK
    return flip_in(path, begin, os.path.getsize(path), t.rng)


def end_of_log(path):
    at, body, _ = batches(path)[-1]
    return at + FRAME_BYTES + body


def sst_flip_index(m, t):
    """Index, properties and what else lies between the data and the footer."""
    path = tables(m)[0]
    size = os.path.getsize(path)
    return flip_in(path, size - SST_FOOTER_BYTES - 200, size - SST_FOOTER_BYTES, t.rng)


def manifest_cut(m, t, share):
    path = one(m, "MANIFEST-*")
    return truncate(path, int(os.path.getsize(path) * share))


CASES = [
    Case("log: header of the first segment", REFUSED,
         lambda m, t: flip_in(used_segments(m)[0], 0, 112, t.rng)),
    Case("log: rest of a header's block", REFUSED,
         lambda m, t: flip_in(used_segments(m)[0], 112, BLOCK, t.rng)),
    Case("log: header of the last segment", REFUSED,
         lambda m, t: flip_in(used_segments(m)[-1], 0, 112, t.rng)),
    Case("log: head of a batch", REFUSED, wal_flip_head),
    Case("log: payload in the first segment", REFUSED, lambda m, t: wal_flip_payload(m, t, 0)),
    Case("log: payload in the last segment", REFUSED, lambda m, t: wal_flip_payload(m, t, -1)),
    Case("log: zeros behind a batch", REFUSED, wal_flip_padding),
    Case("log: the empty batch at its end", HARMLESS,
         lambda m, t: flip_in(used_segments(m)[-1], batches(used_segments(m)[-1])[-1][0],
                              batches(used_segments(m)[-1])[-1][0] + BLOCK, t.rng)),
    Case("log: behind its end", HARMLESS, wal_flip_unused),
    Case("log: a spare file", HARMLESS,
         lambda m, t: flip_in(spare_segments(m)[0], BLOCK, 64 * BLOCK, t.rng)
         if spare_segments(m) else None),
    Case("log: first segment cut off", REFUSED,
         lambda m, t: truncate(used_segments(m)[0], 8 << 20)),
    Case("log: last segment cut off behind its end", REFUSED,
         lambda m, t: truncate(used_segments(m)[-1],
                               (end_of_log(used_segments(m)[-1]) // BLOCK + 20) * BLOCK)),
    Case("log: last segment cut off within a batch", REFUSED,
         lambda m, t: truncate(used_segments(m)[-1], some_batch(used_segments(m)[-1], t.rng)[0] + 700)),
    Case("log: last segment empty", REFUSED, lambda m, t: truncate(used_segments(m)[-1], 0)),
    Case("log: last segment gone", REFUSED, lambda m, t: remove(used_segments(m)[-1])
         if spare_segments(m) else None),
    Case("log: all files gone", REFUSED,
         lambda m, t: [remove(p) for p in wal_files(m)] and "all"),
    Case("log: folder gone", REFUSED, lambda m, t: remove(os.path.join(m, "wal"))),
    Case("log: two segments swapped", REFUSED,
         lambda m, t: swap(used_segments(m))),
    Case("log: first segment of another member", REFUSED,
         lambda m, t: replace(used_segments(m)[0], t.others(used_segments(m)[0]))),
    Case("log: last segment of another member", REFUSED,
         lambda m, t: replace(used_segments(m)[-1], t.others(used_segments(m)[-1]))),
    Case("log: first segment gone", EITHER, lambda m, t: remove(used_segments(m)[0])),
    Case("log: an older copy of the folder", REFUSED,
         lambda m, t: replace(os.path.join(m, "wal"), os.path.join(t.older, "member", "wal"))),
    Case("store: data of a table file", REFUSED,
         lambda m, t: flip_in(tables(m)[0], 100, os.path.getsize(tables(m)[0]) // 2, t.rng)),
    Case("store: data of a small table file", REFUSED,
         lambda m, t: flip_in(tables(m)[-1], 0, 60, t.rng)),
    Case("store: index and properties of a table file", EITHER, sst_flip_index),
    Case("store: footer of a table file", REFUSED,
         lambda m, t: flip_in(tables(m)[0], os.path.getsize(tables(m)[0]) - 8,
                              os.path.getsize(tables(m)[0]), t.rng)),
    Case("store: a table file cut off", REFUSED,
         lambda m, t: truncate(tables(m)[0], os.path.getsize(tables(m)[0]) // 2)),
    Case("store: a table file empty", REFUSED, lambda m, t: truncate(tables(m)[0], 0)),
    Case("store: the largest table file gone", REFUSED, lambda m, t: remove(tables(m)[0])),
    Case("store: the smallest table file gone", REFUSED, lambda m, t: remove(tables(m)[-1])),
    Case("store: two table files swapped", REFUSED,
         lambda m, t: swap(tables(m)[:2])),
    Case("store: a table file of another member", REFUSED,
         lambda m, t: replace(tables(m)[0], tables(os.path.join(t.other, "member"))[0])),
    Case("store: begin of the manifest", REFUSED,
         lambda m, t: flip_in(one(m, "MANIFEST-*"), 7, 60, t.rng)),
    Case("store: manifest cut in the middle", EITHER, lambda m, t: manifest_cut(m, t, 0.6)),
    Case("store: end of the manifest cut off", EITHER, lambda m, t: manifest_cut(m, t, 0.95)),
    Case("store: manifest empty", REFUSED, lambda m, t: manifest_cut(m, t, 0)),
    Case("store: manifest gone", REFUSED, lambda m, t: remove(one(m, "MANIFEST-*"))),
    Case("store: CURRENT", REFUSED, lambda m, t: flip_in(one(m, "CURRENT"), 0, 15, t.rng)),
    Case("store: CURRENT gone", REFUSED, lambda m, t: remove(one(m, "CURRENT"))),
    Case("store: CURRENT empty", REFUSED, lambda m, t: truncate(one(m, "CURRENT"), 0)),
    Case("store: OPTIONS", HARMLESS, lambda m, t: flip_in(one(m, "OPTIONS-*"), 0, 500, t.rng)),
    Case("store: OPTIONS gone", HARMLESS, lambda m, t: remove(one(m, "OPTIONS-*"))),
    Case("store: IDENTITY gone", HARMLESS, lambda m, t: remove(one(m, "IDENTITY"))),
    Case("store: folder gone", REFUSED, lambda m, t: remove(os.path.join(m, "lsm"))),
    Case("store: folder of another member", REFUSED,
         lambda m, t: replace(os.path.join(m, "lsm"), os.path.join(t.other, "member", "lsm"))),
    Case("store: an older copy of the folder", EITHER,
         lambda m, t: replace(os.path.join(m, "lsm"), os.path.join(t.older, "member", "lsm"))),
]


# --- the test ---

class Test:
    def __init__(self, nodes, rng):
        self.nodes, self.rng = nodes, rng
        self.victim = 2
        self.node = nodes.nodes[self.victim]
        self.member = os.path.join(self.node.data_dir, "member")
        self.template = os.path.join(nodes.dir, "template")  # the victim's files, whole
        self.older = os.path.join(nodes.dir, "older")
        self.other = os.path.join(nodes.dir, "other")
        self.written = 0

    def others(self, path):
        """The file of another member that has the same name, or one like it."""
        same = os.path.join(self.other, "member", "wal", os.path.basename(path))
        return same if os.path.exists(same) else used_segments(os.path.join(self.other, "member"))[-1]

    def write(self, count):
        bench = os.path.join(cluster.build_dir(), "bench", "trivet-bench")
        there = ",".join(n.endpoint() for n in self.nodes.nodes if n.running())
        result = cluster.run([bench, "put", "--endpoints", there, "--conns", "1", "--streams", "4",
                              "--total", str(count), "--keys", "100000", "--warmup", "0",
                              "--value-size", str(VALUE_BYTES), "--prefix", "/damage/%d/" % self.written],
                             capture_output=True, text=True, timeout=120)
        if result.returncode != 0:
            raise cluster.ClusterError("cannot write\n" + result.stdout + result.stderr)
        self.written += 1

    def stop(self):
        self.nodes.stop(self.victim)

    def keep_as(self, path):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.node.data_dir, path,
                        ignore=lambda d, names: [n for n in names if n.endswith(".damaged")])

    def restore(self):
        shutil.rmtree(self.node.data_dir)
        shutil.copytree(self.template, self.node.data_dir)

    def start(self, mode):
        self.nodes.flags = [f for f in self.nodes.flags if not f.startswith("--repair")]
        self.nodes.flags.append("--repair=" + mode)
        self.log_from = os.path.getsize(self.node.log_path)
        self.nodes.start_node(self.victim)

    def log(self):
        with open(self.node.log_path, "rb") as f:
            f.seek(self.log_from)
            return f.read().decode(errors="replace")

    def lines(self, level):
        return [line for line in self.log().split("\n") if '"level":"%s"' % level in line]

    def prepare(self):
        """Two table files of versions at least, two segments of the log, and an older copy."""
        self.write(60)
        self.nodes.stop(0)
        shutil.copytree(self.nodes.nodes[0].data_dir, self.other)
        self.nodes.start_node(0)
        self.nodes.wait_healthy()
        self.write(60)
        self.stop()
        self.keep_as(self.older)
        self.nodes.start_node(self.victim)
        self.nodes.wait_healthy()
        self.write(240)
        self.stop()
        self.keep_as(self.template)
        self.nodes.stop(0)  # now as new as the victim's
        shutil.rmtree(self.other)
        shutil.copytree(self.nodes.nodes[0].data_dir, self.other)
        self.nodes.start_node(0)
        self.nodes.wait_healthy([0, 1])

    def same_as_others(self):
        """Every member holds the same, at one revision. Returns '' or what is wrong."""
        reference = json.loads(etcdctl(self.nodes.nodes[1], "get", "x", "-w", "json").stdout)
        revision = reference["header"]["revision"]
        hashes = []
        deadline = time.monotonic() + 15
        for n in self.nodes.nodes:
            while True:
                out = etcdctl(n, "endpoint", "hashkv", "--rev", str(revision), "-w", "json")
                if out.returncode == 0:
                    hashes.append(json.loads(out.stdout)[0]["HashKV"]["hash"])
                    break
                if time.monotonic() > deadline:
                    return "%s does not answer: %s" % (n.name, out.stderr[-300:])
                time.sleep(0.1)
        return "" if len(set(hashes)) == 1 else "the members differ: %s" % hashes

    def wait_serving(self):
        """Healthy, and a full member again: a learner serves no linearizable read."""
        deadline = time.monotonic() + HEAL_TIMEOUT
        self.nodes.wait_healthy([self.victim], timeout=HEAL_TIMEOUT)
        while etcdctl(self.node, "get", "x").returncode != 0:
            if time.monotonic() > deadline:
                raise cluster.ClusterError("does not serve\n" + self.node.log_tail(30))
            time.sleep(0.1)

    def ended(self):
        """The exit status when the member ends by itself, None when it serves instead."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.node.process.poll() is not None:
                return self.node.wait(1)
            if self.node.healthy(timeout=1):
                return None
            time.sleep(0.02)
        raise cluster.ClusterError("neither serves nor ends\n" + self.node.log_tail(30))

    def check_refusal(self, status):
        fatal = self.lines("fatal")
        if status != 1 or len(fatal) != 1:
            return "status %s, %d fatal lines\n%s" % (status, len(fatal), self.log()[-2000:])
        if "data of this member is damaged" not in fatal[0] or self.member not in fatal[0]:
            return "the line does not say what and where: " + fatal[0]
        if os.path.exists(os.path.join(self.node.data_dir, "member.damaged")):
            return "something was set aside"
        return ""

    def run_case(self, case):
        """Under --repair=refuse. Returns (what was done, '' or what is wrong, was it refused?)."""
        what = case.damage(self.member, self)
        if what is None:
            return None, "", False
        self.start("refuse")
        status = self.ended()
        if status is not None:
            wrong = self.check_refusal(status)
            if case.outcome == HARMLESS:
                wrong = "should not matter: " + self.log()[-1500:]
            return what, wrong, True
        self.wait_serving()
        wrong = self.same_as_others()
        if case.outcome == REFUSED:
            wrong = "was not noticed; " + (wrong or "the contents are right")
        self.stop()
        self.keep_as(self.template)
        return what, wrong, False

    def heal(self, case):
        """Under --repair=auto. Returns (what was done, '' or what is wrong)."""
        what = case.damage(self.member, self)
        if what is None:
            return None, ""
        self.start("auto")
        self.wait_serving()
        warned = [line for line in self.lines("warn") if "it is set aside" in line]
        wrong = self.same_as_others()
        if case.outcome == REFUSED and (len(warned) != 1 or self.member not in warned[0]):
            wrong = wrong or "not said in one line: %s" % warned
        if warned and not os.path.isdir(os.path.join(self.node.data_dir, "member.damaged")):
            wrong = wrong or "nothing was set aside"
        # The next one finds a log and table files again.
        self.write(4)
        self.stop()
        self.nodes.start_node(self.victim)
        self.wait_serving()
        self.write(4)
        self.stop()
        self.keep_as(self.template)
        return what, wrong


def older_folder(test):
    """All of the member's data from an earlier time, consistent in itself: the leader knows better."""
    test.restore()
    test.start("auto")
    test.wait_serving()
    test.stop()
    test.keep_as(test.older)
    test.nodes.start_node(test.victim)
    test.wait_serving()
    test.write(5)
    if test.same_as_others():
        return "not in step before"
    test.stop()
    shutil.rmtree(test.node.data_dir)
    shutil.copytree(test.older, test.node.data_dir)
    test.start("auto")
    try:
        status = test.node.wait(20)
    except cluster.ClusterError as error:
        return "the older copy was not noticed: %s" % error
    if status >= 0 or "from another time" not in test.log():
        return "ended with %d\n%s" % (status, test.log()[-1500:])
    test.start("auto")  # as a supervisor does: the process left a marker
    test.wait_serving()
    wrong = test.same_as_others()
    test.stop()
    test.keep_as(test.template)
    return wrong


def last_batch_after_a_kill(test):
    """Looks like a torn write; but the member had acknowledged it, and the leader knows."""
    test.restore()
    test.start("auto")
    test.wait_serving()
    test.write(5)
    if test.same_as_others():
        return "not in step before"
    test.nodes.kill(test.victim)
    path = used_segments(test.member)[-1]
    at, body, _ = [b for b in batches(path) if b[2] > 0][-1]
    flip_in(path, at + FRAME_BYTES, at + FRAME_BYTES + body, test.rng)
    test.start("auto")
    deadline = time.monotonic() + HEAL_TIMEOUT
    while test.node.running() and etcdctl(test.node, "get", "x").returncode != 0:
        if time.monotonic() > deadline:
            return "neither serves nor ends\n" + test.node.log_tail(20)
    if not test.node.running():
        test.node.wait(1)
        if "from another time" not in test.log():
            return "ended by itself\n" + test.log()[-1500:]
        test.start("auto")
        test.wait_serving()
    wrong = test.same_as_others()
    test.stop()
    test.keep_as(test.template)
    return wrong


def other_members_folder(test):
    """An operator's mistake: refused with the right words, and nothing is touched."""
    test.restore()
    shutil.rmtree(test.node.data_dir)
    shutil.copytree(test.other, test.node.data_dir)
    test.start("auto")
    status = test.node.wait(20)
    wrong = "" if status == 1 and "belongs to another member" in test.log() else test.log()[-1500:]
    if os.path.exists(os.path.join(test.node.data_dir, "member.damaged")):
        wrong = wrong or "it was set aside"
    test.restore()
    return wrong


def alone(rng):
    """A cluster of one: nobody to bring the data back from, so it is refused with auto too."""
    with cluster.Cluster("trivet", size=1, flags=FLAGS) as nodes:
        nodes.start()
        node = nodes.nodes[0]
        for i in range(20):
            etcdctl(node, "put", "k%d" % i, "v")
        nodes.stop(0)
        member = os.path.join(node.data_dir, "member")
        flip_in(tables(member)[-1], 0, 60, rng)
        nodes.start_node(0)
        status = node.wait(20)
        tail = node.log_tail(1)
        return "" if status == 1 and "no other members" in tail else "status %d: %s" % (status, tail)


def run_refusals(test, tally):
    for case in CASES:
        began = time.monotonic()
        test.restore()
        what = done = None
        try:
            what, wrong, refused = test.run_case(case)
            done = "nothing of that sort" if what is None else "refused" if refused else "harmless"
        except cluster.ClusterError as error:
            wrong = str(error)
        print("%s (%s): %s, %.1f s" % (case.name, what, done or "FAILED", time.monotonic() - began),
              flush=True)
        if not tally.check(not wrong, case.name, wrong):
            test.nodes.keep()
            if test.node.process is not None:
                test.nodes.kill(test.victim)


def run_heals(test, tally, cases):
    for case in cases:
        began = time.monotonic()
        test.restore()
        what = None
        try:
            what, wrong = test.heal(case)
        except cluster.ClusterError as error:
            wrong = str(error)
        done = "FAILED" if wrong else "healed" if what else "nothing of that sort"
        print("auto: %s (%s): %s, %.1f s" % (case.name, what, done, time.monotonic() - began), flush=True)
        if not tally.check(not wrong, "auto: " + case.name, wrong):
            test.nodes.keep()
            if test.node.process is not None:
                test.nodes.kill(test.victim)


def run_scenarios(test, tally):
    for name, scenario in [("another member's folder", other_members_folder),
                           ("the last batch after a kill", last_batch_after_a_kill),
                           ("an older folder", older_folder)]:
        try:
            wrong = scenario(test)
        except cluster.ClusterError as error:
            wrong = str(error)
        print("%s: %s" % (name, wrong or "as it should"), flush=True)
        if not tally.check(not wrong, name, wrong):
            test.nodes.keep()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1, help="all sorts of damage, so many times")
    parser.add_argument("--heals", type=int, default=24, help="sorts that are healed a round; -1 = all")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    print("seed %d, %d rounds" % (seed, args.rounds), flush=True)
    rng = random.Random(seed)
    cluster.exit_on_signals()
    tally = cluster.Tally()
    begin = time.monotonic()
    for _ in range(args.rounds):
        with cluster.Cluster("trivet", flags=FLAGS) as nodes:
            nodes.start()
            test = Test(nodes, rng)
            test.prepare()
            run_refusals(test, tally)
            chosen = [c for c in CASES if c.outcome != HARMLESS]
            run_heals(test, tally, chosen if args.heals < 0 else rng.sample(chosen, args.heals))
            run_scenarios(test, tally)
    wrong = alone(rng)
    tally.check(not wrong, "a cluster of one", wrong)
    print("%.1f s" % (time.monotonic() - begin))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
