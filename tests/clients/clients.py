#!/usr/bin/env python3
"""Real clients as they are published, in their own languages: the same program against three members of
etcd and of trivet, in the clear and with TLS and users. What a client can do with etcd, it can with trivet.

    clients.py python node          # which; see PROGRAMS

A program finds in its environment ENDPOINTS (host:port, with commas) and for a secure cluster CA, USER and
PASSWORD. It prints "ok NAME" or "FAILED NAME: why" for each check. To "KILL 1", "START 1" and the like this
one does so and says "done". Every check must hold of trivet; one that does not of etcd is said.
"""

import argparse
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import certs  # noqa: E402
import cluster  # noqa: E402

HERE = os.path.dirname(os.path.realpath(__file__))
CACHE = os.path.join(cluster.ROOT, ".dev", "clients")
PROGRAM_TIMEOUT_S = 240
PREPARE_TIMEOUT_S = 900
EXIT_SKIPPED = 77
DEBIAN_PYTHON = "/usr/bin/python3"  # whose packages are apt's
USER, PASSWORD = "root", "secret"


class Missing(Exception):
    """What this machine lacks for a client."""


# --- what each client needs, from its own package manager, into .dev/clients ---

def tool(name):
    found = shutil.which(name)
    if found is None:
        raise Missing("there is no %s here" % name)
    return found


def prepare(args, cwd=None, env=None):
    try:
        done = cluster.run(args, cwd=cwd, env=dict(os.environ, **(env or {})), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=PREPARE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Missing("%s took too long" % args[0]) from None
    if done.returncode != 0:
        print(done.stdout[-3000:])
        raise Missing("%s failed: %s" % (" ".join(args[:3]), done.stdout.strip().split("\n")[-1]))
    return done.stdout


def stale(made, *sources):
    """Whether `made` has to be made anew."""
    return not os.path.exists(made) or any(os.path.getmtime(s) > os.path.getmtime(made) for s in sources)


def copied(name, *files):
    """A folder of the cache with copies of a client's files."""
    folder = os.path.join(CACHE, name)
    for file in files:
        source, target = os.path.join(HERE, name, file), os.path.join(folder, file)
        if stale(target, source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(source, target)
    return folder


def go():
    program = os.path.join(cluster.TOOLS, "clientfeatures")
    if not os.access(program, os.X_OK):
        raise Missing("no Go 1.26 here to build tests/clients/go with")
    return [program]


def python_etcd3():
    """Debian's package; it is an old release, and PyPI has no newer one."""
    if cluster.run([DEBIAN_PYTHON, "-c", "import etcd3"], capture_output=True).returncode != 0:
        raise Missing("there is no python3-etcd3 here")
    return [DEBIAN_PYTHON, os.path.join(HERE, "python", "etcd3_features.py")]


def python_etcd3gw():
    """By the JSON gateway."""
    if cluster.run([DEBIAN_PYTHON, "-c", "import etcd3gw"], capture_output=True).returncode != 0:
        raise Missing("there is no python3-etcd3gw here")
    return [DEBIAN_PYTHON, os.path.join(HERE, "python", "etcd3gw_features.py")]


def python_aetcd():
    requirements = os.path.join(HERE, "python", "aetcd.txt")
    folder = os.path.join(CACHE, "aetcd")
    python = os.path.join(folder, "bin", "python")
    mark = os.path.join(folder, "ready")
    if stale(mark, requirements):
        prepare([sys.executable, "-m", "venv", "--clear", folder])
        prepare([python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", requirements])
        open(mark, "w").close()
    return [python, os.path.join(HERE, "python", "aetcd_features.py")]


def node():
    npm, binary = tool("npm"), tool("node")
    folder = copied("node", "package.json", "package-lock.json", "features.js")
    mark = os.path.join(folder, "node_modules", ".package-lock.json")
    if stale(mark, os.path.join(HERE, "node", "package-lock.json")):
        prepare([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
    return [binary, os.path.join(folder, "features.js")]


def java():
    mvn, binary = tool("mvn"), tool("java")
    tool("javac")
    source = os.path.join("src", "main", "java", "Features.java")
    folder = copied("java", "pom.xml", source)
    mark = os.path.join(folder, "target", "ready")
    if stale(mark, os.path.join(folder, "pom.xml"), os.path.join(folder, source)):
        prepare([mvn, "-q", "-B", "package", "dependency:copy-dependencies"], cwd=folder)
        open(mark, "w").close()
    target = os.path.join(folder, "target")
    return [binary, "-cp", os.path.join(target, "classes") + ":" + os.path.join(target, "dependency", "*"),
            "Features"]


def rust():
    cargo = tool("cargo")
    tool("protoc")
    said = prepare([cargo, "--version"]).split()[1].split(".")
    if (int(said[0]), int(said[1])) < (1, 85):
        raise Missing("cargo %s is too old for etcd-client" % ".".join(said))
    folder = copied("rust", "Cargo.toml", "Cargo.lock", os.path.join("src", "main.rs"))
    prepare([cargo, "build", "--quiet", "--locked"], cwd=folder)
    return [os.path.join(folder, "target", "debug", "features")]


def grpcurl():
    program = os.path.join(cluster.TOOLS, "grpcurl")
    if not os.access(program, os.X_OK):
        raise Missing("no Go 1.26 here to build grpcurl with")
    return [sys.executable, os.path.join(HERE, "grpcurl_features.py")]


# Name: what makes it ready and returns the command; the scenes in which it runs.
PROGRAMS = {
    "go": (go, ("plain", "secure")),
    "python": (python_etcd3, ("plain", "secure")),
    "aetcd": (python_aetcd, ("plain",)),  # it cannot do TLS
    "etcd3gw": (python_etcd3gw, ("plain", "secure")),
    "node": (node, ("plain", "secure")),
    "java": (java, ("plain", "secure")),
    "rust": (rust, ("plain", "secure")),
    "grpcurl": (grpcurl, ("plain", "secure")),
}


# --- the clusters ---

class Scene:
    """Three members, in the clear or with TLS and users."""

    def __init__(self, kind, secure, folder):
        flags = ["--bcrypt-cost", "4", "--max-request-bytes", "2097152"]
        self.ca = None
        if secure:
            # One authority to a cluster: nothing of the other one's is let in.
            ca = certs.Authority(folder, "ca-" + kind)
            server = ca.issue("server", sans=["DNS:localhost", "IP:127.0.0.1"])
            flags += ["--cert-file", server.cert, "--key-file", server.key]
            self.ca = ca.cert
        self.kind, self.secure = kind, secure
        self.nodes = cluster.Cluster(kind, flags=flags)
        if secure:
            self.nodes.client_scheme = "https"
            self.nodes.ssl_context = ssl.create_default_context(cafile=self.ca)

    def start(self):
        self.nodes.start()
        if self.secure:
            for args in (["user", "add", USER + ":" + PASSWORD], ["user", "grant-role", USER, "root"],
                         ["auth", "enable"]):
                cluster.run([cluster.ETCDCTL, "--endpoints", "https://" + self.nodes.nodes[0].endpoint(),
                             "--cacert", self.ca] + args, check=True, capture_output=True,
                            env=self.nodes.environment())

    def environment(self):
        env = dict(self.nodes.environment(), ENDPOINTS=self.nodes.endpoints(), KIND=self.kind,
                   PYTHONPATH=os.path.join(cluster.ROOT, "tests", "lib"))
        if self.secure:
            env.update(CA=self.ca, USER=USER, PASSWORD=PASSWORD)
        else:
            for name in ("CA", "USER", "PASSWORD"):
                env.pop(name, None)
        return env

    def obey(self, order):
        verb, index = order.split()
        if verb == "KILL":
            self.nodes.kill(int(index))
        else:
            self.nodes.start_node(int(index))
            self.nodes.wait_healthy()

    def play(self, command):
        """What the program said: {check: why it failed, or None}, and all its output."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace",
                                   env=self.environment(), preexec_fn=cluster.die_with_parent)
        killer = threading.Timer(PROGRAM_TIMEOUT_S, process.kill)
        killer.start()
        said, output = {}, []
        for line in process.stdout:
            output.append(line)
            word, _, rest = line.strip().partition(" ")
            if word in ("KILL", "START"):
                self.obey(line)
                process.stdin.write("done\n")
                process.stdin.flush()
            elif word == "ok":
                said[rest] = None
            elif word == "FAILED":
                name, _, why = rest.partition(": ")
                said[name] = why or "?"
        status = process.wait()
        killer.cancel()
        if status != 0:
            said["its end"] = "status %d\n%s" % (status, "".join(output[-30:]))
        return said, "".join(output)


def compare(tally, name, want, got):
    for check in list(want) + [c for c in got if c not in want]:
        theirs, ours = want.get(check, "never came to it"), got.get(check, "never came to it")
        if theirs is not None:  # a race of etcd's own, as with tokens, is said; with trivet it must go all the same
            print("ETCD: %s: %s: %s" % (name, check, theirs), flush=True)
        tally.check(ours is None, "%s: %s" % (name, check),
                    "  etcd: %s; trivet: %s" % (theirs or "ok", ours or "ok"))


def run_scene(tally, scene_name, commands, kinds, verbose):
    with tempfile.TemporaryDirectory() as folder:
        scenes = [Scene(kind, scene_name == "secure", folder) for kind in kinds]
        results = [{} for _ in scenes]
        failures = []

        def one(scene, result):
            try:
                scene.start()
                for name, command in commands.items():
                    result[name] = scene.play(command)
                    scene.nodes.check_running()
            except Exception as error:  # whatever it is, the other side must not wait for it
                failures.append("%s: %r\n%s" % (scene.kind, error, traceback.format_exc()))

        threads = [threading.Thread(target=one, args=pair) for pair in zip(scenes, results)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for what in failures:
            tally.check(False, scene_name, what)
        for name in commands:
            said = [result.get(name, ({}, "")) for result in results]
            if verbose:
                print("\n".join("--- %s, %s\n%s" % (s.kind, scene_name, out)
                                for s, (_, out) in zip(scenes, said)))
            compare(tally, "%s, %s" % (name, scene_name), said[0][0], said[-1][0])
        bad = [s for s in scenes if tally.failed and s.kind == "trivet"]
        for scene in bad:
            scene.nodes.keep()
        for scene in scenes:
            scene.nodes.close()


def run_program(tally, scene, name, command, kinds, verbose):
    """On clusters of its own: what one leaves behind is not the next one's. The packages have time limits that
    a busy machine misses, with etcd as well: what fails is played once more, and that counts, whole."""
    first = cluster.Tally()
    run_scene(first, scene, {name: command}, kinds, verbose)
    if first.failed:
        print("AGAIN: %s, %s" % (name, scene), flush=True)
        run_scene(tally, scene, {name: command}, kinds, verbose)
    else:
        tally.passed += first.passed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", nargs="+", choices=sorted(PROGRAMS))
    parser.add_argument("--got", default="trivet", choices=("trivet", "etcd"))
    parser.add_argument("--scene", choices=("plain", "secure"))
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    cluster.exit_on_signals()
    ready, missing = {}, []
    for name in args.programs:
        try:
            ready[name] = PROGRAMS[name][0]()
        except Missing as why:
            missing.append("%s: %s" % (name, why))
    for what in missing:
        print("SKIPPED: %s" % what, flush=True)
    if not ready:
        return EXIT_SKIPPED
    tally = cluster.Tally()
    for scene in [args.scene] if args.scene else ["plain", "secure"]:
        commands = {name: command for name, command in ready.items() if scene in PROGRAMS[name][1]}
        if not commands:
            continue
        kinds = ("etcd", args.got) if args.got != "etcd" else ("etcd",)
        for name, command in commands.items():
            run_program(tally, scene, name, command, kinds, args.verbose)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
