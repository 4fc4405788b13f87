#!/usr/bin/env python3
"""A newcomer's hour: the commands of README.md and docs/operations.md, pasted as they stand there into three
machines that are booted for it, with the addresses of that page; and what comes of each is looked at.

A block whose info string says `on=` is pasted: on=all on the three at the same time, on=each one after the other.
"""

import concurrent.futures
import glob
import json
import os
import re
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib"))
import cluster  # noqa: E402
import container  # noqa: E402
import debian  # noqa: E402

PAGE = os.path.join(cluster.ROOT, "docs", "operations.md")
README = os.path.join(cluster.ROOT, "README.md")
ADDRESSES = {"trivet1": "10.0.0.1", "trivet2": "10.0.1.1", "trivet3": "10.0.2.1"}
FIRST = "trivet1"
HOME = os.path.join(os.sep, "root")  # of the machines
BLOCK = re.compile(r"^```sh on=(\S+)[^\n]*\n(.*?)^```$", re.M | re.S)

tally = cluster.Tally()


def blocks(path):
    """[(heading, where, commands)]"""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    found = []
    for match in BLOCK.finditer(text):
        heading = re.findall(r"^## (.*)$", text[:match.start()], re.M)[-1]
        found.append((heading, match.group(1), match.group(2)))
    return found


def until(seconds, what):
    return cluster.wait_until(what, seconds)


class Hour:
    def __init__(self, release, folder):
        self.release, self.folder = release, folder
        self.tree = debian.ready(release)
        self.machines = {}
        for name in ADDRESSES:
            self.machines[name] = container.Container(self.tree, name)
        container.connect([(self.machines[name], address + "/8") for name, address in ADDRESSES.items()])
        for c in self.machines.values():
            self.furnish(c)
        self.written = 0

    def close(self):
        for c in self.machines.values():
            c.close()

    def furnish(self, c):
        """What the page says to copy to a machine, and etcdctl."""
        for name in ("trivet-server", "trivet-client"):
            deb = debian.packages(self.release)[name]
            c.copy(deb, HOME + "/" + os.path.basename(deb))
        c.copy(cluster.ETCDCTL, "/usr/local/bin/etcdctl")

    def copy_certificates(self, name):
        first, c = self.machines[FIRST], self.machines[name]
        for source, target in (("ca.crt", "ca.crt"), (name + ".crt", "server.crt"), (name + ".key", "server.key")):
            with open(first.path(HOME + "/pki/" + source), encoding="ascii") as f:
                c.write("/etc/trivet/pki/" + target, f.read())

    def copy_backup(self):
        with open(self.machines[FIRST].path(HOME + "/backup.db"), "rb") as f:
            data = f.read()
        for name, c in self.machines.items():
            if name != FIRST:
                with open(c.path(HOME + "/backup.db"), "wb") as f:
                    f.write(data)

    def paste(self, heading, where, commands):
        names = [where] if where in self.machines else list(self.machines)
        prelude = "set -e\n[ ! -e ~/trivet.env ] || . ~/trivet.env\n"

        def one(name):
            return self.machines[name].shell(prelude + commands, timeout=180)
        if where == "each":
            results = [one(name) for name in names]
        else:
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                results = list(pool.map(one, names))
        for name, done in zip(names, results):
            tally.check(done.returncode == 0, "%s, on %s: %s" % (heading, name, commands.strip().split("\n")[0][:60]),
                        (done.stdout + done.stderr)[-1500:] + self.machines[name].journal("trivet*")[-1500:]
                        if done.returncode else "")
        if any(done.returncode for done in results):
            raise container.ContainerError("what comes next needs what failed")
        return [done.stdout for done in results]

    def first(self, commands):
        return self.machines[FIRST].shell(". ~/trivet.env\n" + commands)

    def serves(self, what):
        """A write is read back from each member by itself, and what was written at first is there."""
        self.written += 1
        value = "write-%d" % self.written
        done = None

        def written():
            nonlocal done
            done = self.first("trivetctl --command-timeout 20s put newcomer " + value)
            return done.stdout == "OK\n"
        tally.check(until(30, written), "%s: a write is taken" % what, done.stdout + done.stderr)
        for address in ADDRESSES.values():
            one = "ETCDCTL_ENDPOINTS=https://%s:2379 trivetctl get %%s --print-value-only" % address
            good = until(60, lambda: self.first(one % "newcomer").stdout.strip() == value)
            tally.check(good and self.first(one % "hello").stdout.strip() == "world", "%s: %s has it all" % (what, address),
                        repr(self.first(one % "newcomer")))
            if not good:
                raise container.ContainerError("what comes next needs a cluster that serves")

    def members(self):
        done = self.first("etcdctl member list")
        return (done.stdout + done.stderr).strip().splitlines()

    # --- around single blocks ---

    def before(self, heading, number):
        if heading == "Secure" and number == 1:
            for name in self.machines:
                self.copy_certificates(name)
        elif heading == "Back up and restore" and number == 2:
            self.copy_backup()
        elif heading == "Upgrade":
            for c in self.machines.values():
                for deb in glob.glob(c.path(HOME + "/*.deb")):
                    os.unlink(deb)
                for name in ("trivet-server", "trivet-client"):
                    c.copy(debian.raised(debian.packages(self.release)[name], "9.0.0", self.folder), HOME + "/%s_9.deb" % name)
        elif heading == "Replace a member" and number == 1:
            self.machines["trivet3"].shell("systemctl kill -s KILL trivetd; systemctl stop trivetd")  # it is lost
            time.sleep(7)  # as the page says
        elif heading == "Replace a member" and number == 2:
            self.new_machine("trivet3")
        elif heading == "Lose a majority" and number == 2:
            time.sleep(7)
        elif heading == "Lose a majority" and number == 0:
            for name in ("trivet2", "trivet3"):
                self.machines[name].shell("systemctl kill -s KILL trivetd; systemctl stop trivetd; rm -rf /var/lib/trivet/data")

    def new_machine(self, name):
        """In the place of one that is gone: everything up to the start, again."""
        self.machines[name].close()
        c = self.machines[name] = container.Container(self.tree, name)
        container.connect([(self.machines[FIRST], ADDRESSES[FIRST] + "/8"), (c, ADDRESSES[name] + "/8")])
        self.furnish(c)
        for heading, where, commands in blocks(PAGE):
            if where == "all" and heading in ("Install", "Secure", "Configure and start") and "enable --now" not in commands:
                if heading == "Secure":
                    self.copy_certificates(name)
                self.paste(heading + " (again)", name, commands)

    def after(self, heading, number, last, said):
        if heading == "Configure and start" and number == 1:
            states = [c.show("trivetd", "ActiveState") for c in self.machines.values()]
            tally.check(states == ["active"] * 3, "three services are active", repr(states))
        elif heading == "Configure and start" and last:
            tally.check("hello\nworld\n" in said[0] and said[0].count("started") == 3, "a key, and three members", said[0])
            self.refuses_strangers()
        elif heading == "Back up and restore" and number == 0:
            tally.check(all(".db" in text for text in said), "each machine has a snapshot", repr(said))
        elif heading == "Upgrade":
            versions = [c.run("dpkg-query", "-W", "-f", "${Version}", "trivet-server").stdout for c in self.machines.values()]
            tally.check(versions == ["9.0.0"] * 3, "each machine has the new package", repr(versions))
        if heading == "Back up and restore" and number < 3 or heading == "Lose a majority" and not last or \
                heading == "Replace a member" and number == 1 or heading in ("Install", "Secure") or \
                heading == "Configure and start" and not last:
            return
        self.serves(heading)
        tally.check(len(self.members()) == 3 and all("started" in m for m in self.members()),
                    "%s: there are three members" % heading, repr(self.members()))

    def refuses_strangers(self):
        done = self.machines["trivet2"].run("curl", "-sk", "-m", "5", "https://10.0.0.1:2379/version")
        tally.check(done.returncode != 0, "without a certificate nobody is let in", done.stdout)
        done = self.machines["trivet2"].run("curl", "-s", "-m", "5", "http://10.0.0.1:2379/version")
        tally.check(done.returncode != 0, "nor without TLS", done.stdout)
        keys = [c.run("stat", "-c", "%U:%G %a", "/etc/trivet/pki/server.key").stdout.strip() for c in self.machines.values()]
        tally.check(keys == ["root:trivet 640"] * 3, "keys are the service's alone", repr(keys))

    # --- what Prometheus makes of it ---

    def ask(self, path):
        done = self.machines[FIRST].run("curl", "-s", "-m", "10", "http://127.0.0.1:9090/api/v1/" + path)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            return None
        return answer["data"] if answer["status"] == "success" else None

    def query(self, text):
        found = self.ask("query?query=" + urllib.parse.quote(text))
        return None if found is None else found["result"]

    def watched(self):
        until(60, lambda: len(self.query('up{job="trivet"} == 1') or []) == 3)
        up = self.query('up{job="trivet"} == 1') or []
        tally.check(len(up) == 3, "Prometheus reaches the three members", repr(self.query("up")))
        rules = self.ask("rules") or {"groups": []}
        loaded = [r for g in rules["groups"] for r in g["rules"]]
        with open(os.path.join(cluster.ROOT, "packaging", "prometheus", "alerts.yaml"), encoding="utf-8") as f:
            names = re.findall(r"- alert: (\w+)", f.read())
        tally.check(names and sorted(r["name"] for r in loaded) == sorted(names), "the alerts are loaded", repr(loaded)[:500])
        until(60, lambda: all(r["health"] == "ok" for g in self.ask("rules")["groups"] for r in g["rules"]))
        bad = [r for g in self.ask("rules")["groups"] for r in g["rules"] if r["health"] != "ok"]
        tally.check(bad == [], "and can be evaluated", repr(bad)[:500])
        # A rate takes two samples of what there is.
        until(60, lambda: len(self.query('count_over_time(up{job="trivet"}[1m]) >= 3') or []) == 3)
        panels = 0
        for path in glob.glob(os.path.join(cluster.ROOT, "packaging", "grafana", "*.json")):
            with open(path, encoding="utf-8") as f:
                dashboard = json.load(f)
            for panel in dashboard["panels"]:
                for target in panel.get("targets", []):
                    text = target["expr"].replace("$job", "trivet").replace("$__rate_interval", "2m")
                    rows = self.query(text)
                    # No call may have failed.
                    tally.check(rows is not None and (rows or panel["title"] == "Calls that failed"),
                                "the dashboard's %s shows something" % panel["title"], text)
                    panels += 1
        tally.check(panels > 30, "there are panels")


def readme():
    """The sources' own commands. A cluster of `./dev up` that runs already is left running."""
    for heading, where, commands in blocks(README):
        running = os.path.exists(os.path.join(cluster.ROOT, ".dev", "cluster", "trivet1.pid"))
        tally.check(where == "build", "README.md's block runs in the sources")
        said = debian.run("bash", "-ec", commands, cwd=cluster.ROOT)
        tally.check("three nodes serve" in said, "README.md, %s: it does what it says" % heading, said[-1000:])
        if not running:
            debian.run("./dev", "down", "--clean", cwd=cluster.ROOT)


def main():
    cluster.exit_on_signals()
    readme()
    release = debian.here() or "bookworm"
    todo = blocks(PAGE)
    tally.check(len(todo) > 15, "the page has blocks to paste", str(len(todo)))
    build = [commands.strip() for _, where, commands in todo if where == "build"]
    # debian.packages() does just this, when something has changed.
    tally.check(build == ["./dev package"], "building the packages is one command", repr(build))
    debian.packages(release)
    todo = [block for block in todo if block[1] != "build"]
    with tempfile.TemporaryDirectory(prefix="trivet-newcomer-") as folder:
        hour = Hour(release, folder)
        try:
            for i, (heading, where, commands) in enumerate(todo):
                number = len([b for b in todo[:i] if b[0] == heading])
                last = all(b[0] != heading for b in todo[i + 1:])
                hour.before(heading, number)
                said = hour.paste(heading, where, commands)
                hour.after(heading, number, last, said)
            hour.watched()
        except container.ContainerError as why:
            tally.check(False, "the hour goes to its end", str(why))
        finally:
            hour.close()
    print("GRAFANA ITSELF IS NOT IN DEBIAN: ITS DASHBOARD WAS ASKED OF PROMETHEUS, PANEL BY PANEL")
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
