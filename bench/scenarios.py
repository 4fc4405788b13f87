"""The rows of `./dev bench compare`: what is done, which figures come of it, and how good they should be.

A scenario runs against one cluster of one kind and returns its figures by name. Scenarios of a group
share a cluster, in this order; the groups run one after the other, each against both kinds, so that a
later group may build on the figures of both (half of etcd's rate, four times its rate).
"""

import dataclasses
import statistics
import time
import typing

import measure
from measure import MANY, LoadFailed, fill

LONG_ROUNDS_MAX = 5  # of what takes minutes
WATCHERS_MANY = ("--conns", "100", "--streams", "10", "--prefix", "/watched/")


class LeftOut(Exception):
    """A scenario cannot be run here, and why."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """`floor` and `goal`: of trivet's figure divided by etcd's, or of trivet's alone (absolute)."""
    key: str
    unit: str
    floor: typing.Optional[float] = None
    goal: typing.Optional[float] = None
    higher_is_better: bool = False
    absolute: bool = False


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    text: str
    run: typing.Callable
    figures: tuple
    kinds: tuple = measure.KINDS
    needs: tuple = ()  # scenarios whose figures of the same round it builds on
    rounds_max: int = 1000


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    prepare: typing.Callable
    scenarios: tuple
    tls: bool = False


class Run:
    """One scenario, or a group's preparation, against a cluster."""

    def __init__(self, cluster, options, round_results):
        self.cluster = cluster
        self.kind = cluster.kind
        self.options = options
        self.round_results = round_results  # {kind: {scenario: {figure: number}}}
        self.notes = []

    def size(self, count):
        """A number of keys, watchers, leases: less of it with --scale."""
        return max(1, round(count * self.options.scale))

    def duration(self, at_least=0):
        return ("--duration", max(self.options.duration, at_least * min(1, self.options.scale)))

    def load(self, *args):
        measure.touch_memory(self.options.scale)
        return measure.run_load(self.cluster, *args)

    def beside(self, *args):
        return measure.Background(self.cluster, *args)

    def earlier(self, kind, scenario, figure):
        value = self.round_results.get(kind, {}).get(scenario, {}).get(figure)
        if not value:
            raise LeftOut("needs %s of %s in the same round" % (scenario, kind))
        return value


# --- calls ---

def latency_figures(result, name):
    latency = result["latency"].get(name)
    if not latency:
        raise LoadFailed("nothing was measured")
    return {"per_second": result["per_second"], "p50_ms": latency["p50_ms"],
            "p99_ms": latency["p99_ms"]}


def calls(*args):
    """A scenario that is one load: how many, how long, and the servers' CPU for each, the warm-up's
    included."""
    name = "put" if args[0] == "mixed" else args[0]

    def run(r):
        before = measure.cpu_seconds(r.cluster)
        result = r.load(*args, *r.duration())
        cpu = measure.cpu_seconds(r.cluster) - before
        figures = latency_figures(result, name)
        figures["cpu_us"] = cpu * 1e6 / result["done_in_all"]
        return figures
    return run


def rate_figures(floor=None, goal=None):
    return (Figure("per_second", "/s", floor, goal, higher_is_better=True),
            Figure("p50_ms", "p50 ms"), Figure("p99_ms", "p99 ms"), Figure("cpu_us", "CPU us/op"))


def put_tls(r):
    """And how many of those without TLS that is, in the same round."""
    figures = calls("put", *MANY)(r)
    plain = r.earlier(r.kind, "put", "per_second")
    figures["kept"] = 100 * figures["per_second"] / plain
    return figures


def list_all(*args):
    def run(r):
        result = r.load("list", "--prefix", "/list/", *args, *r.duration())
        keys = result["operations"] * r.size(100000)
        if result["listed_keys"] != keys:
            raise LoadFailed("%d keys were listed, not %d" % (result["listed_keys"], keys))
        return latency_figures(result, "list")
    return run


LIST_FIGURES = (Figure("p50_ms", "p50 ms", 1 / 4, 1 / 10), Figure("p99_ms", "p99 ms"))


def prepare_plain(r):
    """What is read is there."""
    fill(r.cluster, "/bench/", 10000)
    fill(r.cluster, "/list/", r.size(100000))


# --- at a rate that etcd sets ---

def put_at_four_times(r, *duration):
    rate = round(4 * r.earlier("etcd", "put", "per_second"))
    result = r.load("put", *MANY, "--rate", rate, *(duration or r.duration()))
    return latency_figures(result, "put")


def put_beside_everything(r):
    """200 watchers each watch their 200th of the keys that are put: every put is an event."""
    beside = [r.beside("watch", "--watchers", r.size(200), "--watch-keys", "slice", "--writers", 0,
                       "--conns", 10, "--streams", 20),
              r.beside("list", "--prefix", "/million/", "--every", 5),
              r.beside("compact", "--every", 5)]
    if measure.has_snapshot_stream(r.cluster):
        beside.append(r.beside("snapshot"))
    else:
        r.notes.append("NO SNAPSHOT STREAM RAN BESIDE IT: THE SERVER HAS NO Maintenance.Snapshot")
    figures = with_all(beside, lambda: put_at_four_times(r, *r.duration(at_least=12)))
    for load in beside:
        # Lists and compactions are few by their nature, but each was seen.
        if load.result["done_in_all"] + load.result["events_in_all"] == 0:
            raise LoadFailed("%s beside it did nothing" % load.name)
    return figures


def with_all(loads, work):
    if not loads:
        return work()
    with loads[0]:
        return with_all(loads[1:], work)


# --- watchers ---

def watch_many(r):
    """As many puts as the watchers keep up with: a put follows the events of those before."""
    result = r.load("watch", "--watchers", r.size(1000), "--rate", 0, *WATCHERS_MANY, *r.duration())
    return {"per_second": result["events_per_second"],
            "p99_ms": result["latency"]["event"]["p99_ms"]}


def delay_at(r, kind):
    """p99 of the events' delay at half of the rate that the kind has shown."""
    rate = r.earlier(kind, "watch-many", "per_second") / r.size(1000) / 2
    result = r.load("watch", "--watchers", r.size(1000), "--rate", max(1, round(rate)),
                    *WATCHERS_MANY, *r.duration())
    return result["latency"]["event"]["p99_ms"]


def watch_delay(r):
    at_etcds = delay_at(r, "etcd")
    return {"p99_ms": at_etcds, "own_p99_ms": at_etcds if r.kind == "etcd" else delay_at(r, r.kind)}


def watch_each(r):
    """10,000 of 100,000 keys are watched, each by one watcher, and all are put alike: every put is
    looked up among 10,000 watchers, and one in ten becomes an event. So what is shown is what it costs
    to have the watchers more than what an event costs. In one cluster, first without them, then with,
    with, without, and all that twice more: what drifts meanwhile drifts for both. Each load begins
    without the history of those before. Before that once for nothing: the first load of a cluster is
    slower."""
    keys = r.size(100000)
    put = ("put", *MANY, "--keys", keys, "--prefix", "/each/", *r.duration())
    watch = ("watch", "--watchers", r.size(10000), "--watch-keys", "one", "--writers", 0, "--keys",
             keys, "--prefix", "/each/", "--conns", 10, "--streams", 10)

    def load():
        measure.compact_now(r.cluster)
        time.sleep(1)  # so that it is freed before, not meanwhile
        return r.load(*put)

    fill(r.cluster, "/each/", keys)
    load()
    without, loads, events = [], [], 0
    for _ in range(3):
        without.append(load()["per_second"])
        with r.beside(*watch) as watchers:
            loads += [load(), load()]
        without.append(load()["per_second"])
        events += watchers.result["events_in_all"]
    puts = sum(load["done_in_all"] for load in loads)
    if events < puts / 20:
        raise LoadFailed("%d puts made only %d events" % (puts, events))
    beside = [load["per_second"] for load in loads]
    return {"kept": 100 * sum(beside) / sum(without), "per_second": statistics.mean(beside)}


# --- a million keys ---

def prepare_million(r):
    fill(r.cluster, "/million/", r.size(1000000))


def memory(r):
    time.sleep(5)
    r.cluster.check_running()
    return {"mb": measure.rss_bytes(r.cluster) / len(r.cluster.nodes) / 1e6}


def list_memory(r):
    """How far the node that answers grows above what it had before; the kernel keeps the peak."""
    before = [node.rss_bytes() for node in r.cluster.nodes]
    for node in r.cluster.nodes:
        measure.reset_peak_rss(node)
    result = r.load("list", "--prefix", "/million/", "--total", 3)
    growth = max(measure.peak_rss_bytes(node) - rss for node, rss in zip(r.cluster.nodes, before))
    return {"growth_mb": growth / 1e6, "p50_ms": result["latency"]["list"]["p50_ms"]}


def restart_seconds(r, indices):
    r.cluster.kill(*indices)
    for i in indices:
        r.cluster.start_node(i)
    return measure.seconds_until_healthy(r.cluster, indices)


def restart(r):
    """kill -9, then started again at once: until it answers a linearizable read."""
    follower = (measure.leader_status(r.cluster)[0] + 1) % len(r.cluster.nodes)
    return {"one_s": restart_seconds(r, [follower]),
            "all_s": restart_seconds(r, range(len(r.cluster.nodes)))}


# --- leases ---

def prepare_leases(r):
    r.load("grant", "--leases", r.size(100000), "--ttl", 300, *MANY)


def keep_alive(r):
    """Of all three nodes, as a share of one core; both have to do the same keep-alives."""
    begin, before = time.monotonic(), measure.cpu_seconds(r.cluster)
    result = r.load("keepalive", "--leases", r.size(100000), "--every", 10, *MANY,
                    *r.duration(at_least=15))
    cpu, seconds = measure.cpu_seconds(r.cluster) - before, time.monotonic() - begin
    return {"cpu_percent": 100 * cpu / seconds, "p99_ms": result["latency"]["keepalive"]["p99_ms"]}


# --- overwrites ---

def overwrites(r):
    """Against a fresh cluster that was given the same keys once."""
    keys = r.size(100000)
    with measure.fresh_cluster(r.kind) as fresh:
        fill(fresh, "/over/", keys)
        rss_fresh, disk_fresh, _ = measure.settle(fresh)
    with r.beside("compact", "--every", 60):
        result = r.load("put", "--prefix", "/over/", "--keys", keys, "--total", r.size(10000000),
                        "--warmup", 0, *MANY)
    measure.compact_now(r.cluster)
    rss, disk, seconds = measure.settle(r.cluster)
    return {"memory": rss / rss_fresh, "disk": disk / disk_fresh, "settled_s": seconds,
            "memory_mb": rss / 1e6, "disk_mb": disk / 1e6, "per_second": result["per_second"]}


def prepare_nothing(_):
    pass


TRIVET = ("trivet",)
GET_ONE = ("get", "--keys", "1", *MANY)

GROUPS = (
    Group("plain", prepare_plain, (
        Scenario("put", "puts of 256 B, 100 connections x 10", calls("put", *MANY), (
            Figure("per_second", "/s", 6, 10, higher_is_better=True), Figure("p50_ms", "p50 ms"),
            Figure("p99_ms", "p99 ms"), Figure("cpu_us", "CPU us/op", 1 / 6, 1 / 10))),
        Scenario("txn", "Kubernetes' update of 1 KB, 100 x 10",
                 calls("txn", "--prefix", "/txn/", "--keys", "20000", "--value-size", "1024", *MANY),
                 rate_figures(6, 10)),
        Scenario("put-1", "puts, one at a time", calls("put"), (
            Figure("per_second", "/s", higher_is_better=True),
            Figure("p50_ms", "p50 ms", 1 / 2, 1 / 3), Figure("p99_ms", "p99 ms"))),
        Scenario("put-100x1", "puts, 100 connections x 1", calls("put", "--conns", "100"),
                 rate_figures()),
        Scenario("get", "linearizable gets of one key, at the leader",
                 calls(*GET_ONE, "--to", "leader"), rate_figures(4, 6)),
        Scenario("get-serializable", "serializable gets of one key, at the leader",
                 calls(*GET_ONE, "--to", "leader", "--serializable"), rate_figures(4, 5.5)),
        Scenario("get-spread", "linearizable gets, over three members", calls(*GET_ONE),
                 rate_figures(5, 8)),
        Scenario("mixed", "9 gets to 1 put, 100 x 10", calls("mixed", *MANY), rate_figures()),
        Scenario("list", "LIST of 100,000 keys of 256 B", list_all(), LIST_FIGURES),
        Scenario("list-stream", "the same by RangeStream", list_all("--stream"), LIST_FIGURES),
        Scenario("watch-many", "1,000 watchers of one prefix", watch_many, (
            Figure("per_second", "events/s", 5, 10, higher_is_better=True),
            Figure("p99_ms", "p99 ms"))),
        Scenario("watch-each", "10,000 watchers of distinct keys", watch_each, (
            Figure("kept", "% of puts/s kept", 95, 99, higher_is_better=True, absolute=True),
            Figure("per_second", "puts/s", higher_is_better=True))),
    )),
    Group("tls", prepare_nothing, (
        Scenario("put-tls", "puts of 256 B over TLS, 100 x 10", put_tls, (
            Figure("per_second", "/s", 6, 10, higher_is_better=True), Figure("p50_ms", "p50 ms"),
            Figure("p99_ms", "p99 ms"), Figure("cpu_us", "CPU us/op"),
            Figure("kept", "% of puts/s kept", 60, 70, higher_is_better=True, absolute=True)),
            needs=("put",)),
    ), tls=True),
    Group("paced", prepare_plain, (
        Scenario("watch-delay", "1,000 watchers: delay at half of the rate", watch_delay, (
            Figure("p99_ms", "p99 ms, etcd's rate", 1 / 5, 1 / 10),
            Figure("own_p99_ms", "p99 ms, own rate", 1 / 5, 1 / 10)), needs=("watch-many",)),
        Scenario("put-open", "puts at 4x etcd's rate, open loop", put_at_four_times, (
            Figure("p99_ms", "p99 ms", 10, 5, absolute=True), Figure("p50_ms", "p50 ms"),
            Figure("per_second", "/s", higher_is_better=True)), TRIVET, ("put",)),
    )),
    Group("million", prepare_million, (
        Scenario("memory", "1,000,000 keys of 256 B", memory, (
            Figure("mb", "MB resident", 0.6, 0.4),), rounds_max=LONG_ROUNDS_MAX),
        Scenario("list-memory", "LIST of 1,000,000 keys", list_memory, (
            Figure("growth_mb", "MB more meanwhile", 64, 16, absolute=True),
            Figure("p50_ms", "p50 ms")), rounds_max=LONG_ROUNDS_MAX),
        Scenario("restart", "restart with 1,000,000 keys", restart, (
            Figure("one_s", "s, one member", 1 / 2, 1 / 4),
            Figure("all_s", "s, all three", 1 / 2, 1 / 4)), rounds_max=LONG_ROUNDS_MAX),
        Scenario("put-busy", "puts at 4x etcd's rate beside everything", put_beside_everything, (
            Figure("p99_ms", "p99 ms", 20, 10, absolute=True), Figure("p50_ms", "p50 ms"),
            Figure("per_second", "/s", higher_is_better=True)), TRIVET, ("put",),
            rounds_max=LONG_ROUNDS_MAX),
    )),
    Group("leases", prepare_leases, (
        Scenario("keepalive", "100,000 leases kept alive each 10 s", keep_alive, (
            Figure("cpu_percent", "CPU % of a core", 1 / 5, 1 / 10), Figure("p99_ms", "p99 ms")),
            rounds_max=LONG_ROUNDS_MAX),
    )),
    Group("overwrites", prepare_nothing, (
        Scenario("overwrites", "10 M overwrites of 100,000 keys", overwrites, (
            Figure("memory", "x memory of fresh", 1.3, 1.1, absolute=True),
            Figure("disk", "x disk of fresh", 1.3, 1.1, absolute=True),
            Figure("settled_s", "s until settled"), Figure("memory_mb", "MB memory, 3 nodes"),
            Figure("disk_mb", "MB disk, 3 nodes"),
            Figure("per_second", "/s", higher_is_better=True)), TRIVET,
            rounds_max=LONG_ROUNDS_MAX),
    )),
)
SCENARIOS = tuple(s for group in GROUPS for s in group.scenarios)
BY_NAME = {s.name: s for s in SCENARIOS}
