#!/usr/bin/env python3
"""trivet-bench's runs as wholes, against trivet and against etcd: what it says it did is what the server's
revision says; an open loop leaves out nothing that a stopped server delays; `kubernetes` does each kind
as often as it was told; the screen, the report and the comparison say what was measured."""

import html.parser
import json
import math
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
import cluster  # noqa: E402

BENCH = os.path.join(cluster.build_dir(), "bench", "trivet-bench")
SHORT = ["--duration", "0.6", "--warmup", "0.1"]


def bench(args, timeout=120, **options):
    return cluster.run([BENCH] + args, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, **options)


def started(args):
    """A load that has begun."""
    process = subprocess.Popen([BENCH] + args + ["--json", "-"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=cluster.die_with_parent)
    process.stderr.readline()  # it is told of its first second, or of the warm-up
    return process


def run_load(tally, nodes, name, args):
    """The parsed result of a load without a failed call, or {}."""
    done = bench(args + ["--endpoints", nodes.endpoints(), "--json", "-", "--quiet"])
    if not tally.check(done.returncode == 0, name, done.stderr):
        return {}
    result = json.loads(done.stdout)
    tally.check(result["errors"] == 0 and result["never_begun"] == 0, name + ": no call failed",
                done.stdout[:2000])
    return result


def revision(nodes):
    done = cluster.run([cluster.ETCDCTL, "--endpoints", nodes.endpoints(), "get", "none", "-w", "json"],
                       stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["header"]["revision"]


# --- every scenario ---

def scenarios(tally, nodes):
    """What it counts is what the server counts; and of an open loop all that was due is done."""
    many = ["--conns", "4", "--streams", "4"]
    rate = ["--rate", "150"]
    seen = set()
    for args in [["put"] + many, ["put"] + many + rate, ["put", "--processes", "2"] + many + rate,
                 ["put", "--processes", "2", "--threads", "2"] + many, ["txn", "--keys", "50"] + many,
                 ["txn", "--keys", "50", "--processes", "2"] + many + rate, ["get"] + many + rate,
                 ["list", "--limit", "20", "--keys", "10", "--rate", "20"] + many,
                 ["watch", "--watchers", "8"] + many + rate,
                 ["watch", "--watchers", "8", "--processes", "2", "--rate", "0"] + many,
                 ["lease", "--processes", "2"] + many, ["lease", "--rate", "20"] + many,
                 ["mixed", "--mix", "put=3,get=3,txn=2,list=1,lease=1", "--keys", "40",
                  "--processes", "2", "--rate", "100"] + many]:
        if nodes.kind == "etcd" and args[0] in seen:
            continue  # each command once will do
        seen.add(args[0])
        name = "%s: %s" % (nodes.kind, " ".join(args))
        before = revision(nodes)
        result = run_load(tally, nodes, name, args + SHORT + ["--prefix", "/%s/" % args[0]])
        made = revision(nodes) - before
        tally.check(result.get("revisions_in_all") == made, name + ": as many revisions",
                    "%s here, %d there" % (result.get("revisions_in_all"), made))
        done = result.get("operations", 0)
        tally.check(done > 0 and sum(k["count"] for k in result["latency"].values()) >= done,
                    name + ": did something", str(done))
        if "--rate" in args and args[args.index("--rate") + 1] != "0":
            due = 0.6 * int(args[args.index("--rate") + 1])
            tally.check(due - 2 <= done <= due + 2, name + ": all that was due", str(done))
        if args[0] == "watch":
            tally.check(result["events_in_all"] == 8 * result["done_in_all"] and
                        result["events_missing"] == 0, name + ": every event", str(result)[:800])
    for args in [["fill", "--keys", "500", "--rate", "100", "--batch", "10"],
                 ["grant", "--leases", "60", "--rate", "100"]]:
        result = run_load(tally, nodes, "%s: %s" % (nodes.kind, " ".join(args)), args)
        tally.check(result.get("operations") in (50, 60) and result["seconds"] > 0.4,
                    "%s: %s at its rate" % (nodes.kind, args[0]), str(result)[:800])


# --- Kubernetes ---

def kubernetes_rates(options):
    """Operations a second, by kind, as docs/benchmark.md says."""
    o = options
    churn = o["pod-churn"]
    return {"node-lease": o["nodes"] / o["lease-every"], "node-status": o["nodes"] / o["status-every"],
            "system-lease": 2 / 2 + o["api-servers"] / 10, "pod-create": churn, "pod-bind": churn,
            "pod-status": 3 * churn, "pod-terminate": churn, "pod-delete": churn,
            "event-create": 5 * churn, "object-get": o["gets"], "consistent-read": o["reads"],
            "count": o["api-servers"] * (4 + o["idle-watches"]) / o["count-every"],
            "relist": o["api-servers"] / o["relist-every"],
            "compact-try": o["api-servers"] / o["compact-every"]}


def kubernetes(tally, nodes):
    options = {"nodes": 60, "pods-per-node": 10, "api-servers": 2, "pod-churn": 10, "lease-every": 2,
               "status-every": 10, "gets": 10, "reads": 10, "count-every": 3, "relist-every": 1,
               "compact-every": 0.8, "page": 100, "idle-watches": 3, "processes": 2, "warmup": 0.5,
               "duration": 3, "pod-bytes": 1000, "node-bytes": 2000}
    args = [word for name, value in options.items() for word in ("--" + name, str(value))]
    name = nodes.kind + ": kubernetes"
    before = revision(nodes)
    result = run_load(tally, nodes, name, ["kubernetes"] + args)
    latency = result.get("latency", {})
    for kind, rate in kubernetes_rates(options).items():
        count = latency.get(kind, {}).get("count", 0)
        due = rate * options["duration"]
        # Each of the streams of each process may have one more or one less in that time.
        streams = options["processes"] * {"pod-status": 3, "system-lease": 2}.get(kind, 1)
        late = kind == "compact-try" and options["api-servers"]  # the first comes after one interval
        tally.check(due - streams - late <= count <= due + streams,
                    "%s: %s as often as it should" % (name, kind), "%d, not %.1f" % (count, due))
    made = revision(nodes) - before
    # Deleting what was there before is a revision too, when something was.
    tally.check(made - 1 <= result.get("revisions_in_all", -1) <= made, name + ": as many revisions",
                "%s here, %d there" % (result.get("revisions_in_all"), made))
    tally.check(result.get("empty") == 0 and result["conflicts"] <= latency["compact-try"]["count"],
                name + ": every object was there, as expected", str(result["conflicts"]))
    tally.check(result["listed_keys"] > 60 and result["progress_requests"] > 0,
                name + ": relists and progress requests", str(result)[:800])
    watched = sum(latency[kind]["count"] for kind in latency
                  if kind.startswith(("node", "pod", "system")))
    tally.check(result["events_in_all"] >= 0.7 * options["api-servers"] * watched,
                name + ": each API server has the events", "%d of %d" % (result["events_in_all"],
                                                                         2 * watched))
    old = cluster.run([cluster.ETCDCTL, "--endpoints", nodes.endpoints(), "get", "x", "--rev", "2"],
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tally.check("compacted" in old.stderr, name + ": the history is gone", old.stderr)


def watches_come_back(tally):
    """A member goes and comes: what it served is watched again, and the run ends well."""
    with cluster.Cluster("trivet") as nodes:
        nodes.start()
        process = started(["kubernetes", "--nodes", "30", "--duration", "3", "--pod-churn", "5",
                           "--idle-watches", "2", "--endpoints", nodes.endpoints()])
        nodes.kill(2)
        nodes.start_node(2)
        nodes.wait_healthy()
        output = process.communicate(timeout=60)[0]
        result = json.loads(output) if process.returncode == 0 else {}
        tally.check(result.get("watches_reopened", 0) > 0 and result["operations"] > 100,
                    "kubernetes: watches come back", output[:800])


# --- nothing is left out ---

def open_loop(tally):
    """One call at a time, and the server stands still for a second: all that was due meanwhile is late,
    not only the one call that was under way."""
    with cluster.Cluster("trivet", size=1) as nodes:
        nodes.start()
        for args in [["list", "--keys", "10"], ["mixed", "--mix", "put=1,get=1,txn=1"]]:
            process = started(args + ["--rate", "100", "--duration", "3", "--warmup", "0.5",
                                      "--endpoints", nodes.endpoints()])
            nodes.pause(0)
            time.sleep(1)
            nodes.resume(0)
            result = json.loads(process.communicate(timeout=60)[0])
            name = "open loop: " + args[0]
            tally.check(result["operations"] == 300 and result["errors"] == 0, name + ": all are done",
                        str(result)[:800])
            counts = [count for kind in result["latency"].values()
                      for upper, count in kind["histogram"] if upper > 100e6]
            tally.check(sum(counts) >= 60, name + ": what was due meanwhile is late", str(sum(counts)))
            tally.check(max(k["p99_ms"] for k in result["latency"].values()) > 800,
                        name + ": p99 tells", str(result)[:800])


def lost_process(tally, nodes):
    """One of the processes of a load is killed: there is no result, and nobody is left behind."""
    process = started(["put", "--processes", "3", "--conns", "3", "--duration", "60",
                       "--endpoints", nodes.endpoints()])
    with open("/proc/%d/task/%d/children" % (process.pid, process.pid), encoding="ascii") as f:
        children = [int(pid) for pid in f.read().split()]
    os.kill(children[1], signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    tally.check(process.returncode == 1 and not output and "before its time" in errors,
                "a process of the load is lost", errors)
    tally.check(not [pid for pid in children if os.path.exists("/proc/%d" % pid)],
                "and none is left", str(children))


# --- the screen ---

def screen(tally, nodes):
    master, slave = pty.openpty()
    process = subprocess.Popen([BENCH, "put", "--duration", "2", "--endpoints", nodes.endpoints()],
                               stdout=subprocess.PIPE, stderr=slave, preexec_fn=cluster.die_with_parent)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    words = process.communicate(timeout=60)[0].decode()
    text = seen.decode()
    tally.check("\x1b[" in text and "█" in text and "p99 ms" in text and
                re.search(r"^put +\d+", text, re.M), "a screen on a terminal", text[-800:])
    tally.check(re.search(r"^put +\d+ +\d+/s", words, re.M), "and words at the end", words)


# --- the report ---

class Page(html.parser.HTMLParser):
    """Balanced tags, and the text."""

    VOID = ("meta", "br", "line", "path")

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.text, self.tags, self.loads = [], [], [], {}, []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def page_of(path):
    done = bench(["report", path])
    page = Page()
    page.feed(done.stdout)
    page.close()
    return done, page


def reports(tally, nodes, folder):
    path = os.path.join(folder, "run.json")
    done = bench(["mixed", "--duration", "1.5", "--json", path, "--endpoints", nodes.endpoints()])
    tally.check(re.search(r"^get +\d+", done.stdout, re.M), "words beside the file", done.stderr)
    with open(path, encoding="utf-8") as f:
        result = json.load(f)
    for kind, figures in result["latency"].items():
        tally.check(sum(count for _, count in figures["histogram"]) == figures["count"] and
                    sum(result["series"]["operations"][kind]["count"]) == figures["count"],
                    kind + ": histogram and series add up", str(figures)[:400])
    done, page = page_of(path)
    words = " ".join(page.text)
    tally.check(done.returncode == 0 and not page.open and not page.wrong, "the page is HTML",
                "%s %s" % (page.open, page.wrong))
    for kind, figures in result["latency"].items():
        tally.check(kind in words and "%d" % figures["count"] in words and
                    "%.3f" % figures["p99_ms"] in words, "the page has the figures of " + kind)
    tally.check(page.tags.get("svg") == 3 * len(result["latency"]) and page.tags["path"] >= 10,
                "plots", str(page.tags))
    tally.check(not page.loads and "url(" not in done.stdout and "@import" not in done.stdout,
                "nothing is loaded from elsewhere", str(page.loads))
    result["arguments"] = "<script>alert(1)</script>"
    result["errors"] = 1
    result["error_text"] = "</p><b>&\""
    with open(path, "w", encoding="utf-8") as f:
        json.dump(result, f)
    done, page = page_of(path)
    tally.check(page.tags["script"] == 1 and not page.wrong and "</p><b>&" in " ".join(page.text),
                "what stands in a run is text", str(page.tags))
    for name, text in [("cut", json.dumps(result)[:-9]), ("other", '{"format": 1}'), ("none", "x"),
                       ("deep", "[" * 100000), ("empty", "")]:
        bad = os.path.join(folder, name + ".json")
        with open(bad, "w", encoding="utf-8") as f:
            f.write(text)
        for args in [["report", bad], ["compare", path, bad], ["compare", bad, path]]:
            done = bench(args)
            tally.check(done.returncode == 2 and bad in done.stderr and not done.stdout,
                        "refused: %s %s" % (args[0], name), done.stderr)
    for args in [["report"], ["report", path, path], ["report", path + "x"], ["compare", path],
                 ["compare", path + "," + path, path], ["compare", path, path + ",,"]]:
        tally.check(bench(args).returncode == 2, "refused: " + " ".join(args))


# --- comparisons ---

def invented(path, source, seconds, rate, p50, p99):
    """A run whose seconds lie around these figures, each resembling the one before."""
    columns = {}
    for name, middle in (("count", rate), ("p50_ms", p50), ("p99_ms", p99)):
        error, values = source.gauss(0, 1), []
        for _ in range(seconds):
            error = 0.6 * error + 0.8 * source.gauss(0, 1)
            values.append(max(1, middle * math.exp(0.08 * error)))
        columns[name] = [round(v) for v in values] if name == "count" else values
    figures = {"count": sum(columns["count"]), "per_second": sum(columns["count"]) / seconds,
               "p50_ms": p50, "p99_ms": p99}
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"format": 1, "latency": {"put": figures}, "series": {
            "at_s": list(range(1, seconds + 1)), "seconds": [1.0] * seconds,
            "operations": {"put": columns}}}, f)


def differences(a, b):
    done = bench(["compare", a, b])
    found = re.search(r"^(\d+) of (\d+) figures differ", done.stdout, re.M)
    return (int(found[1]) if found else -1), done.stdout + done.stderr


def comparisons(tally, nodes, folder):
    source = random.Random(7)
    a, b = os.path.join(folder, "a.json"), os.path.join(folder, "b.json")
    imagined = 0
    for _ in range(100):
        invented(a, source, 30, 1000, 2, 10)
        invented(b, source, 30, 1000, 2, 10)
        imagined += differences(a, b)[0] > 0
    # Of a hundred pairs without a difference five may seem to have one; ten would be improbable.
    tally.check(imagined <= 10, "compare: no difference is invented", "%d of 100" % imagined)
    missed = 0
    for _ in range(20):
        invented(a, source, 30, 1000, 2, 10)
        invented(b, source, 30, 1500, 1.3, 15)
        missed += differences(a, b)[0] < 3
    tally.check(missed == 0, "compare: a real difference is found", "%d of 20 missed" % missed)
    found, text = differences(a, a)
    tally.check(found == 0, "compare: a run does not differ from itself", text)
    invented(b, source, 3, 3000, 2, 10)
    found, text = differences(a, b)
    tally.check(found == 0 and "too few" in text, "compare: three seconds say nothing", text)
    sides = []
    for side, rate in (("x", 1000), ("y", 1000), ("z", 1400)):
        paths = [os.path.join(folder, "%s%d.json" % (side, i)) for i in range(6)]
        for path in paths:
            invented(path, source, 5, source.gauss(rate, 20), source.gauss(2, 0.05), source.gauss(10, 1))
        sides.append(",".join(paths))
    found, text = differences(sides[0], sides[1])
    tally.check(found == 0 and "by the runs" in text, "compare: runs that are alike", text)
    found, text = differences(sides[0], sides[2])
    tally.check(found == 1 and "B HAS MORE" in text, "compare: runs that are not", text)
    text = ""
    for _ in range(3):  # a machine that stands still for seconds makes the intervals wide
        both = [started(["put", "--rate", rate, "--duration", "7", "--endpoints", nodes.endpoints()])
                for rate in ("100", "400")]
        for path, process in zip((a, b), both):
            with open(path, "w", encoding="utf-8") as f:
                f.write(process.communicate(timeout=60)[0])
        text = differences(a, b)[1]
        if re.search(r"put +/s .* B HAS MORE", text):
            break
    tally.check(re.search(r"put +/s .* B HAS MORE", text), "compare: two real runs", text)


def main():
    cluster.exit_on_signals()
    tally = cluster.Tally()
    folder = tempfile.mkdtemp(prefix="trivet-bench-", dir=os.environ.get("TRIVET_TEST_DIR"))
    kinds = [kind for kind in ("trivet", "etcd") if cluster.available(kind)]
    try:
        for kind in kinds:
            with cluster.Cluster(kind) as nodes:
                nodes.start()
                scenarios(tally, nodes)
                kubernetes(tally, nodes)
                if kind == "trivet":
                    lost_process(tally, nodes)
                    screen(tally, nodes)
                    reports(tally, nodes, folder)
                    comparisons(tally, nodes, folder)
                nodes.check_running()
        watches_come_back(tally)
        open_loop(tally)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
