#!/usr/bin/env python3
"""What the load generator can do at all, so that nobody takes its limits for a server's.

    ./dev bench ceiling [--duration S]

The same puts, 100 connections x 10, from trivet-bench and from h2load (nghttp2's own, which knows
nothing of gRPC beyond the bytes it is given), to a server that answers at once and to the leader of three
trivets. Where both generators achieve the same, it is the server that was measured; the CPU of each
generator for a call says how much of the machine it takes from the servers. A last line has how many
events of watchers trivet-bench can receive.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

import measure
from measure import MANY, LoadFailed, clusters, number

H2LOAD_HEADERS = ("content-type: application/grpc", "te: trailers")
KEY = b"/bench/%025d" % 0
VALUE_BYTES = 256


def varint(value):
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def put_message(value):
    """A PutRequest as it goes over the wire: not compressed, the length, then fields 1 and 2."""
    body = b"\x0a" + varint(len(KEY)) + KEY + b"\x12" + varint(len(value)) + value
    return b"\0" + len(body).to_bytes(4, "big") + body


class Echo:
    """grpc_echo on a port of its own."""

    def __enter__(self):
        self.endpoint = "127.0.0.1:%d" % clusters.free_ports(1)[0]
        self.process = subprocess.Popen([measure.echo_binary(), self.endpoint],
                                        stdout=subprocess.DEVNULL,
                                        preexec_fn=clusters.die_with_parent)
        time.sleep(0.2)
        return self

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.wait()


def children_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def by_trivet_bench(endpoint, options):
    """(puts a second, own CPU us for each)"""
    result = measure.run_load_at(endpoint, "put", *MANY, "--keys", 1, "--key-size", len(KEY),
                                 "--value-size", VALUE_BYTES, "--duration", options.duration)
    failure = measure.failure_of(result)
    if failure:
        raise LoadFailed(failure)
    return result["per_second"], result["own_cpu_us"]


def by_h2load(endpoint, options):
    before = children_cpu_seconds()
    with tempfile.NamedTemporaryFile() as message:
        message.write(put_message(os.urandom(VALUE_BYTES)))
        message.flush()
        command = ["h2load", "-c", "100", "-m", "10", "-t", "1", "-D", str(options.duration),
                   "--warm-up-time", "1", "-d", message.name]
        for header in H2LOAD_HEADERS:
            command += ["-H", header]
        done = clusters.run(command + ["http://%s/etcdserverpb.KV/Put" % endpoint],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    rate = re.search(r"finished in .*?, ([0-9.]+) req/s", done.stdout)
    counts = re.search(r"requests: (\d+) total.* (\d+) failed, (\d+) errored", done.stdout)
    if done.returncode != 0 or not rate or not counts or int(counts[2]) + int(counts[3]) > 0:
        raise LoadFailed("h2load: " + done.stdout)
    calls = float(rate[1]) * (options.duration + 1)  # the warm-up's are not in its count
    return float(rate[1]), (children_cpu_seconds() - before) * 1e6 / calls


def to_trivet(load, options):
    """h2load does not see a refused put: the leader's revision tells how many there were."""
    with measure.fresh_cluster("trivet") as cluster:
        leader, before = measure.leader_status(cluster)
        rate, cpu = load(cluster.nodes[leader].endpoint(), options)
        puts = measure.leader_status(cluster)[1] - before
        if puts < rate * options.duration * 0.95:
            raise LoadFailed("the generator counts %s/s, the server had %d puts" %
                             (number(rate), puts))
        cluster.check_running()
    return rate, cpu


def to_echo(load, options):
    with Echo() as echo:
        return load(echo.endpoint, options)


def events(options):
    with Echo() as echo:
        result = measure.run_load_at(
            echo.endpoint, "watch", "--conns", 10, "--streams", 10, "--watchers", 100,
            "--writers", 0, "--duration", options.duration)
    return result["events_per_second"], result["own_cpu_us"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=int, default=5, help="seconds of each load")
    options = parser.parse_args()
    measure.prepare(["trivet"])
    print("%-32s %14s %24s" % ("", "/s", "generator's CPU us each"))
    try:
        for server, to_server in (("a server that only answers", to_echo),
                                  ("the leader of three trivets", to_trivet)):
            print("puts to " + server)
            for name, load in (("trivet-bench", by_trivet_bench), ("h2load", by_h2load)):
                print("  %-30s %14s %24s" % ((name,) + tuple(map(number, to_server(load, options)))))
        print("%-32s %14s %24s" % (("events received by trivet-bench",) +
                                   tuple(map(number, events(options)))))
    except (clusters.ClusterError, LoadFailed) as error:
        sys.exit("ceiling: %s" % error)


if __name__ == "__main__":
    main()
