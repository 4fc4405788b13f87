"""What `regress.py` compares with: which commit, and its figures, recorded or measured here.

Figures of two compilers, of two versions of a library, or of processors for which libc takes other
routines are not comparable. A record therefore says in what environment and in which way it was measured,
and where either differs the commit is built and measured anew, under .dev/regress/<commit>.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess

import regress_measure
from regress_measure import clusters

FOLDER = os.path.join(clusters.ROOT, ".dev", "regress")
RECORD = os.path.join(clusters.ROOT, "bench", "regress.json")
TRIVETD = os.path.join("server", "trivetd")
LIBRARIES = ("libc6-dev", "libuv1-dev", "libnghttp2-dev", "libprotobuf-c-dev", "librocksdb-dev",
             "liburing-dev", "libjemalloc-dev", "libssl-dev", "libxxhash-dev")
BUILD_TIMEOUT_S = 1800


class BaseError(Exception):
    pass


def output_of(*command):
    """Its output, or None when it failed or is not there."""
    try:
        done = subprocess.run(command, cwd=clusters.ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def first_line_of(*command):
    return (output_of(*command) or "?").split("\n")[0]


def has_avx2():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        return " avx2 " in f.read().replace("\n", " ")


def system_name():
    with open("/etc/os-release", encoding="utf-8") as f:
        named = dict(line.rstrip().split("=", 1) for line in f if "=" in line)
    return "%s %s" % (named.get("ID", "?").strip('"'), named.get("VERSION_ID", "?").strip('"'))


def environment():
    """What the count of instructions depends on beside the source."""
    found = {"system": system_name(), "machine": platform.machine(), "avx2": has_avx2(),
             "compiler": first_line_of(os.environ.get("CC", "cc"), "--version"),
             "valgrind": first_line_of("valgrind", "--version")}
    for package in LIBRARIES:
        found[package] = first_line_of("dpkg-query", "-W", "-f", "${Version}\\n", package)
    return found


def method_id():
    return hashlib.sha256(repr(regress_measure.method()).encode()).hexdigest()[:16]


def built_trivetd():
    return os.path.join(clusters.build_dir(), TRIVETD)


def read_record(path):
    """{} when there is none."""
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BaseError("%s: %s" % (path, error)) from None


def write_record(path, record):
    with open(path + ".new", "w", encoding="utf-8") as out:
        json.dump(record, out, indent=1)
        out.write("\n")
    os.replace(path + ".new", path)


def differences(record, commit):
    """Why the record's figures are not those that would be measured here; [] = they are."""
    if record.get("commit") != commit:
        return ["it is of %s" % str(record.get("commit"))[:12]]
    found = [] if record.get("method") == method_id() else ["it was measured in another way"]
    there = record.get("environment", {})
    for name, value in environment().items():
        if there.get(name) != value:
            found.append("%s was %s and is %s" % (name, there.get(name), value))
    return found


# --- a commit of the past ---

def commit_of(name):
    return output_of("git", "rev-parse", "--verify", "--quiet", name + "^{commit}")


def run_logged(folder, *command):
    with open(os.path.join(folder, "build.log"), "ab") as log:
        done = clusters.run(command, timeout=BUILD_TIMEOUT_S, cwd=clusters.ROOT, stdout=log, stderr=log,
                            stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise BaseError("%s failed; see %s" % (command[0], log.name))


def build(commit, folder):
    """trivetd of that commit, with the same options. git's own worktrees would leave traces in .git."""
    source, made = os.path.join(folder, "source"), os.path.join(folder, "build")
    if not os.path.isdir(source):
        archive, partly = os.path.join(folder, "source.tar"), source + ".partly"
        shutil.rmtree(partly, ignore_errors=True)
        os.makedirs(partly)
        run_logged(folder, "git", "archive", "-o", archive, commit)
        run_logged(folder, "tar", "-xf", archive, "-C", partly)
        os.unlink(archive)
        os.rename(partly, source)
    if not os.path.exists(os.path.join(made, "build.ninja")):
        run_logged(folder, "meson", "setup", made, source, "-Dtests=false")
    run_logged(folder, "ninja", "-C", made, TRIVETD)
    return os.path.join(made, TRIVETD)


def measure_commit(commit, say):
    """A record of that commit, measured here and now."""
    if commit_of(commit) != commit:
        raise BaseError("CANNOT COMPARE: COMMIT %s IS NOT IN THIS CLONE'S HISTORY, AND NO FIGURES OF THE "
                        "SAME ENVIRONMENT ARE RECORDED.\nFetch the history (git fetch --unshallow "
                        "--tags), or record anew: ./dev bench regress --record" % commit[:12])
    folder = os.path.join(FOLDER, commit)
    profiles = os.path.join(folder, "profiles")
    os.makedirs(profiles, exist_ok=True)
    say("building %s" % commit[:12])
    trivetd = build(commit, folder)
    say("measuring %s" % commit[:12])
    record = {"commit": commit, "method": method_id(), "environment": environment(),
              "figures": regress_measure.measure(trivetd, profiles=profiles, say=say)}
    write_record(os.path.join(folder, "figures.json"), record)
    return record


class Base:
    """`name` says what it is; `accepted`: {load: percent} that may be more than there."""

    def __init__(self, name, commit, recorded):
        self.name, self.commit, self.recorded = name, commit, recorded
        self.accepted = {load: entry["percent"] for load, entry in recorded.get("accepted", {}).items()
                         if commit_of(entry["base"]) == commit}

    def figures(self, say):
        why = differences(self.recorded, self.commit)
        if not why:
            return self.recorded["figures"]
        cached = read_record(os.path.join(FOLDER, self.commit, "figures.json"))
        if cached and not differences(cached, self.commit):
            return cached["figures"]
        say("the figures of bench/regress.json do not count here: %s" % "; ".join(why))
        return measure_commit(self.commit, say)["figures"]


def find(wanted, say):
    """The Base: `wanted`, or the last release before this commit, or what was recorded."""
    recorded = read_record(RECORD)
    if wanted:
        commit = commit_of(wanted)
        if not commit:
            raise BaseError("there is no commit %s" % wanted)
        return Base("%s (%s)" % (wanted, commit[:12]), commit, recorded)
    # From the parent: a release is compared with the one before it.
    tag = output_of("git", "describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    if tag:
        return Base("%s, the previous release" % tag, commit_of(tag), recorded)
    if not recorded:
        raise BaseError("NOTHING TO COMPARE WITH: THERE IS NO EARLIER RELEASE IN THIS CLONE'S HISTORY "
                        "AND NO bench/regress.json")
    return Base("%s, as recorded; there is no earlier release in this clone" % recorded["commit"][:12],
                recorded["commit"], recorded)


def record(name, say):
    """Write bench/regress.json. What was accepted stays; it ends with the release it is about."""
    commit = commit_of(name)
    if not commit:
        raise BaseError("there is no commit %s" % name)
    made = measure_commit(commit, say)
    made["accepted"] = read_record(RECORD).get("accepted", {})
    write_record(RECORD, made)
    say("written: bench/regress.json, of %s" % commit[:12])
