#!/usr/bin/env python3
"""Configuration, against etcd: the same flags, variables and files, good and bad, are taken and refused alike.

Every case is given to both programs, and is made to end by itself: what is good ends with a retention that does
not parse, which is looked at last of all. The exit status and what is said to be wrong must be the same.
"""

import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import cluster as clusters  # noqa: E402
from cluster import Tally  # noqa: E402

KINDS = ("etcd", "trivet")
TIMEOUT_S = 8  # a case that runs on is a wrong one
tally = Tally()

# --- one run ---

def run(kind, args, env, folder):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "NOTIFY_"))}
    environment.update(env)
    done = subprocess.run([clusters.binary(kind)] + args, env=environment, cwd=folder,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=TIMEOUT_S, check=False,
                          preexec_fn=clusters.die_with_parent)
    return done.returncode, done.stdout, done.stderr


def lines_of(text):
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "msg" in value:
            yield value


def complaint(stdout, stderr):
    """What is said to be wrong: the last error of the log, or else the first line that is none of the log's."""
    found = None
    for line in lines_of(stdout + stderr):
        if line["level"] == "fatal" and "environment-variable" in line:
            return "shadowed: " + line["environment-variable"]
        if "error" in line and line["level"] in ("warn", "error", "fatal"):
            found = line["error"]
    if found is not None:
        return found
    for line in stderr.splitlines():
        if line and not line.startswith("{"):
            return line
    return ""


# COMPAT differs, flags: the feature gates CompactHashCheck, FastLeaseKeepAlive, LeaseCheckpointPersist, StopGRPCServiceOnDefrag and
# COMPAT   TxnModeWriteWithSharedBuffer change nothing, for the reasons that the log gives
# COMPAT differs, flags: the subcommands `gateway` and `grpc-proxy` are not there
# COMPAT differs, --unsafe-no-fsync: for the log alone; RocksDB's files are still synced
# COMPAT differs, --force-new-cluster: what was on the log and not committed is kept; etcd discards it
# What is worded differently on purpose, or has things in it that no two programs share.
def plain(text, folder):
    text = re.sub(r" \(resolved urls: .*\)$", "", text)
    text = text.replace(folder, "DIR")
    text = re.sub(r"^(error converting YAML to JSON: yaml: ).*", r"\1...", text)
    text = re.sub(r"(improperly formatted log rotation config: )invalid .*", r"\1...", text)
    return text


class Case:
    def __init__(self, name, args=(), env=None, file=None, ends=True, look=None):
        self.name, self.args, self.env, self.file = name, list(args), env or {}, file
        self.ends = ends  # by itself; otherwise it is made to
        self.look = look

    def result(self, kind):
        with tempfile.TemporaryDirectory(prefix="trivet-config-") as folder:
            args = list(self.args)
            if self.file is not None:
                with open(os.path.join(folder, "conf"), "w", encoding="utf-8") as f:
                    f.write(self.file)
                args += ["--config-file", "conf"]
            try:
                status, stdout, stderr = run(kind, args, self.env, folder)
            except subprocess.TimeoutExpired:
                return "%s did not end: %s" % (kind, self.args)
            if self.look is not None:
                return self.look(kind, status, stdout, stderr)
            return status, plain(complaint(stdout, stderr), folder)


LAST = "--auto-compaction-retention=x"
PORTS = ["--listen-peer-urls", "http://127.0.0.1:0", "--listen-client-urls", "http://127.0.0.1:0",
         "--advertise-client-urls", "http://127.0.0.1:0"]
LAST_IN_FILE = ("auto-compaction-retention: x\nlisten-peer-urls: http://127.0.0.1:0\n"
                "listen-client-urls: http://127.0.0.1:0\n")


def flag(*args):
    return Case(" ".join(args) or "nothing", list(args) + PORTS + [LAST])


def bare(*args):
    return Case(" ".join(args), args)


def env(args=(), **variables):
    variables = {"ETCD_" + k: v for k, v in variables.items()}
    variables.setdefault("ETCD_AUTO_COMPACTION_RETENTION", "x")
    name = " ".join("%s=%s" % i for i in sorted(variables.items())) + " " + " ".join(args)
    return Case(name, PORTS + list(args), variables)


def file(text, last=True):
    return Case("file: " + text.replace("\n", "\\n"), (), None,
                text + ("\n" + LAST_IN_FILE if last else ""))


# --- the cases ---

BOOLEANS = ["initial-election-tick-advance", "memory-mlock", "socket-reuse-port",
            "socket-reuse-address", "enable-grpc-gateway", "discovery-insecure-transport",
            "discovery-insecure-skip-tls-verify", "strict-reconfig-check", "pre-vote",
            "client-cert-auth", "auto-tls", "peer-client-cert-auth", "peer-auto-tls", "enable-pprof",
            "enable-log-rotation", "peer-skip-client-san-verification",
            "enable-distributed-tracing", "force-new-cluster", "unsafe-no-fsync"]
UNSIGNED = ["snapshot-count", "heartbeat-interval", "election-timeout", "max-wals", "max-snapshots",
            "max-txn-ops", "max-request-bytes", "self-signed-cert-validity", "bcrypt-cost",
            "auth-token-ttl", "snapshot-catchup-entries", "bootstrap-defrag-threshold-megabytes"]
SIGNED = ["quota-backend-bytes", "backend-batch-limit", "compaction-batch-limit",
          "distributed-tracing-sampling-rate"]
DURATIONS = ["backend-batch-interval", "grpc-keepalive-min-time", "grpc-keepalive-interval",
             "grpc-keepalive-timeout", "raft-read-timeout", "raft-write-timeout",
             "discovery-dial-timeout", "discovery-request-timeout", "discovery-keepalive-time",
             "discovery-keepalive-timeout", "corrupt-check-time", "compact-hash-check-time",
             "compaction-sleep-interval", "watch-progress-notify-interval",
             "warning-apply-duration", "warning-unary-request-duration", "downgrade-check-time"]
TEXTS = ["name", "data-dir", "wal-dir", "backend-bbolt-freelist-type", "initial-cluster-token",
         "discovery-cert", "discovery-user", "auth-token", "metrics",
         "distributed-tracing-address", "distributed-tracing-service-name"]
URLS = ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls",
        "initial-advertise-peer-urls", "advertise-client-urls", "cors"]


def flag_cases():
    yield flag()
    for name in BOOLEANS:
        if name not in ("enable-log-rotation", "auto-tls", "peer-auto-tls"):
            yield flag("--" + name)
        yield flag("--%s=F" % name)
        yield flag("--%s=maybe" % name)
    for i, name in enumerate(UNSIGNED):
        values = ("0x10", "-1", "x", "", "1_0", "18446744073709551616", "1e3", "08")
        for value in values if i < 3 else values[:3]:
            yield flag("--%s=%s" % (name, value))
    for name in SIGNED:
        for value in ("-1", "+7", "x", "9223372036854775808", "0b11", "1__0"):
            yield flag("--%s=%s" % (name, value))
    for i, name in enumerate(DURATIONS):
        values = ("1h2m3.5s", "-1s", "x", "0", "5", "", "1us", "9999999h")
        for value in values if i < 2 else values[:3]:
            yield flag("--%s=%s" % (name, value))
    for name in TEXTS:
        yield bare("--" + name)
    for i, name in enumerate(URLS):
        values = ("foo", "http://127.0.0.1:1/path", "http://127.0.0.1:1,foo", "ftp://a:1",
                  "http://127.0.0.1", "http://a b:1", "http://127.0.0.1:x", "://x")
        for value in values if i < 2 else values[:3]:
            yield flag("--%s=%s" % (name, value))
    for value in ("x", "-1", "4294967296", "4294967295", ""):
        yield flag("--max-concurrent-streams=" + value)
        yield flag("--max-learners=" + value)


def rule_cases():
    for args in (["--listen-peer-urls=http://example.com:1"], ["--listen-metrics-urls=http://:1"],
                 ["--listen-client-http-urls=http://example.com:1"],
                 ["--initial-advertise-peer-urls=http://:1"], ["--advertise-client-urls=http://:1"],
                 ["--heartbeat-interval=0"], ["--election-timeout=0"], ["--election-timeout=499"],
                 ["--election-timeout=50001"], ["--heartbeat-interval=10000"],
                 ["--auto-compaction-mode="], ["--auto-compaction-mode=x"],
                 ["--compact-hash-check-time=0s"], ["--compact-hash-check-time=-1m"],
                 ["--compact-hash-check-time=-1h1m1.5s"],
                 ["--tls-min-version=x"], ["--tls-max-version=TLS1.1"],
                 ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
                 ["--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"],
                 ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
                 ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"],
                 ["--discovery-token=t"], ["--discovery-endpoints=http://a:1"],
                 ["--discovery-endpoints=a,,b", "--discovery-token=t"],
                 ["--discovery-endpoints= ", "--discovery-token=t"],
                 ["--discovery-endpoints=a", "--discovery-token=t", "--initial-cluster=a=http://a:1"],
                 ["--discovery-srv=a", "--initial-cluster=a=http://a:1"],
                 ["--discovery-srv=a", "--discovery-endpoints=a", "--discovery-token=t"],
                 ["--discovery-fallback=proxy"], ["--discovery-fallback=x"],
                 ["--initial-cluster-state=x"], ["--initial-cluster-state="],
                 ["--v2-deprecation=not-yet"], ["--v2-deprecation=gone,write-only"],
                 ["--v2-deprecation=gone,x"], ["--v=1"], ["--snapshot"], ["--config=x"],
                 ["--logger=x"], ["--logger=capnslog"], ["--logger="], ["--log-format=x"],
                 ["--log-format="], ["--log-level=x"], ["--log-level="], ["--log-level=WARN"],
                 ["--log-level=Error"], ["--log-level=warning"],
                 ["--log-outputs=default,stderr"], ["--log-outputs=stdout,stderr"],
                 ["--log-outputs=systemd/journal,stderr"], ["--log-outputs=/no/such/dir/x"],
                 ["--log-outputs=/no/such/dir/x,stderr"], ["--log-outputs="],
                 ["--log-outputs=.", ], ["--enable-log-rotation"],
                 ["--enable-log-rotation", "--log-outputs=stderr"],
                 ["--enable-log-rotation", "--log-outputs=stderr,stdout"],
                 ["--enable-log-rotation", "--log-outputs=a,b"],
                 ["--enable-log-rotation", "--log-outputs=a,stderr"]):
        if args[0].startswith(("--advertise", "--listen-c")):
            yield flag(*args)
        else:
            yield flag(*args)
    for text in ("{", "", "[]", "5", '{"maxsize":"x"}', '{"maxsize":1.5}', '{"maxage":true}',
                 '{"compress":1}', '{"localtime":"yes"}', '{"maxsize":5,}',
                 '{"MaxSize":5}', '{"maxsize":null}', '{"maxbackups":-1}', '{"maxage":1e40}',
                 '{"maxsize":99999999999999999999}', '{"maxsize":1e2}'):
        yield flag("--enable-log-rotation", "--log-outputs=a,stderr",
                   "--log-rotation-config-json=" + text)
    for text in ("X=true", "CompactHashCheck", "CompactHashCheck=z", "=true", "AllAlpha=true",
                 "AllBeta=false", "LeaseCheckpoint=true", "LeaseCheckpointPersist=true",
                 "LeaseCheckpoint=true,LeaseCheckpointPersist=true", "", ",,",
                 " FastLeaseKeepAlive = false ", "AllAlpha=true,LeaseCheckpoint=false",
                 "compactHashCheck=true", "TxnModeWriteWithSharedBuffer=0"):
        yield flag("--feature-gates=" + text)
    for mode in ("periodic", "revision"):
        for text in ("-1", "1x", "x", "1h1", "-5m1", "1.", ".", "s", "1 h", "99999999999999999999"):
            yield Case("%s retention %s" % (mode, text), PORTS + [
                "--auto-compaction-mode=" + mode, "--auto-compaction-retention=" + text])
    for text in ("", "a=http://127.0.0.1:1", "default", "default=foo", "=http://a:1",
                 "a=http://127.0.0.1:1,a"):
        yield Case("initial cluster " + text, PORTS + ["--initial-cluster=" + text])
    yield Case("not the advertised address", PORTS + [
        "--name=a", "--initial-cluster=a=http://127.0.0.1:1",
        "--initial-advertise-peer-urls=http://127.0.0.1:2"])


def line_cases():
    for args in (["--foo"], ["-foo=1"], ["---name"], ["-=x"], ["--="], ["--name"], ["foo"], ["--", "foo"],
                 ["--name", "x", "foo"], ["--version", "foo"], ["--version=maybe"], ["--discovery=x"],
                 ["--discovery-proxy=x"], ["--experimental-peer-skip-client-san-verification"],
                 ["--enable-v2"], ["--proxy=on"], ["-"], ["--name=a", "--name"],
                 ["--config-file=/no/such/file"], ["--config-file=/"], ["--config-file"],
                 ["--listen-client-urls=http://127.0.0.1:0"], ["--listen-client-urls="]):
        yield bare(*args)
    yield env(HEARTBEAT_INTERVAL="x")
    yield env(NAME="n", MAX_TXN_OPS="x", PRE_VOTE="maybe")
    yield env(["--name=x"], NAME="y")
    yield env(["--name=x"], NAME="")
    yield env(["--name=x"], NAME="y", MAX_TXN_OPS="x")
    yield env(["--pre-vote"], PRE_VOTE="true")
    yield env(FOO="1", VERSION="1", UNSUPPORTED_ARCH="x")
    yield env(CONFIG_FILE="/no/such/file")
    yield env(["--name=x"], CONFIG_FILE="/no/such/file", NAME="y")
    yield env(FEATURE_GATES="X=true")
    yield env(LISTEN_METRICS_URLS="foo")
    yield env(LOG_LEVEL="x")
    yield env(LOG_OUTPUTS="/no/such/dir/x")
    yield env(AUTO_COMPACTION_MODE="x")
    yield env(INITIAL_CLUSTER_STATE="x")
    yield env(V="1", CONFIG="x")


FILE_VALUES = {
    "heartbeat-interval": ('"100"', "-1", "1.5", "yes", "[1]", "{}", "~", "0x64", "0144", "1_00", "100.0",
                           "1e2", "99999999999999999999"),
    "max-concurrent-streams": ("4294967296", "4294967295", "-1", "x"),
    "quota-backend-bytes": ("-5", "99999999999999999999", "x", "0"),
    "max-learners": ("x", "-1", "3"),
    "grpc-keepalive-min-time": ("5s", "5000000000", "-1", "1.5", "true"),
    "compact-hash-check-time": ("0", "-1", "60000000000"),
    "strict-reconfig-check": ("1", '"true"', "yes", "off", "TRUE", "y"),
    "name": ("5", "true", "[a]", "{a: b}", "~", '""', "'it''s'", '"a\\tb\\u00e9"', "a b", "a#b", "a #b",
             "2001-01-01", "1.5", ".5x", "-x", "a:b", "0x", "0o8", "12e03", "Null"),
    "initial-cluster-state": ("foo", '""', "existing", "5", "~"),
    "feature-gates": ("X=true", "5", "CompactHashCheck=true", '""'),
    "listen-peer-urls": ("foo", "5", '""', "http://127.0.0.1:0,foo"),
    "listen-client-urls": ("foo", "http://example.com:1"),
    "listen-client-http-urls": ("foo",), "initial-advertise-peer-urls": ("foo",),
    "advertise-client-urls": ("foo", "http://:1"), "listen-metrics-urls": ("foo", "5"),
    "cors": ("foo", "5", '"*"', "http://a:1"), "host-whitelist": ("a,b", "5", "[a]"),
    "cipher-suites": ("a", "[5]", "[a, b]", "~"), "log-outputs": ("x", "[5]", "[stderr]", "[]", "~"),
    "log-level": ("x", "5", "debug", '""'), "log-format": ("x",), "logger": ("x", '""'),
    "auto-compaction-mode": ("x", '""', "5"), "snapshot-count": ("x", "5"),
    "v2-deprecation": ("x", "5"), "tls-min-version": ("x", "1.3"),
    "client-transport-security": ("5", "[]", "~", "{}", "{cert-file: 5}", "{client-cert-auth: maybe}",
                                  "{allowed-cn: x}", "{allowed-hostname: [x]}", "{other: 1}",
                                  "{auto-tls: 5}"),
    "peer-transport-security": ("5", "~", "{}", "{allowed-cn: [5]}", "{cert-file: [x]}",
                                "{skip-client-san-verification: x}"),
    "discovery-config": ("5", "{token: 5}", "{client: 5}", "{client: {endpoints: 5}}",
                         "{client: {endpoints: [5]}}", "{client: {dial-timeout: x}}",
                         "{client: {secure: 5}}", "{client: {secure: {cert: 5}}}",
                         "{client: {auth: {username: 5}}}", "{token: t}",
                         "{client: {endpoints: [a]}}"),
    "socket-options": ("5", "{reuse-port: 5}", "{reuse-port: true}"),
    "discovery-srv": ("5",), "max-wals": ("-1", "x"), "max-snapshots": ("-1", "3"),
    "unknown-option": ("5", "[x]"), "version": ("true",), "config-file": ("x",),
    "enable-log-rotation": ("true", "x"), "compaction-batch-limit": ("-1", "x"),
}

DOCUMENTS = [
    "abc", "- a\n- b", "5", '{"heartbeat-interval": 0}', '{"heartbeat-interval": 0,}',
    "HEARTBEAT-INTERVAL: 0", "heartbeat-interval: 100\nheartbeat-interval: 0",
    "a: b\n c: d", "a: b: c", "\ta: b", "a:\n\tb: c", "a: *x", "a: [1,2", 'a: "x', "a: 'x",
    "a: {b: 1", "a: ]", "a: }", "a: @x", "a: `x", "%FOO\n---\na: b", "heartbeat-interval: 0\n---\nheartbeat-interval: 100",
    "---\nheartbeat-interval: 0\n...\nname: x", "# only a comment\n", "heartbeat-interval: 0 # zero",
    "heartbeat-interval:\n  0", "a: |\n  text\n  more\nheartbeat-interval: 0",
    "a: >-\n  text\n  more\n\nheartbeat-interval: 0", "a: x\n  y\n  z\nheartbeat-interval: 0",
    "? a\n: b", "a: - b", "a:\n- b\n- c\nheartbeat-interval: 0", "a:\n  - b\n  - c: d\n    e: f\nheartbeat-interval: 0",
    "a:\n  - b\n - c", "a: b\nc", "'a': b\n\"heartbeat-interval\": 0", "a: 'x'y", "a: \"\\q\"",
    "- a\nb: c", "a: b\r\nheartbeat-interval: 0\r\n", "\ufeffheartbeat-interval: 0",
    "a: {b: c, d: [e, {f: g}]}\nheartbeat-interval: 0", "a: {\n  b: c,\n  d: e\n}\nheartbeat-interval: 0",
    "a: \x01", "name: &x foo\nwal-dir: *x", "1: 2\ntrue: false\nheartbeat-interval: 0",
    "heartbeat-interval: 0\nname: [", "a: ''\nb: \"\"\nheartbeat-interval: 0",
    "heartbeat-interval: 5\nelection-timeout: x\nname: 7",
]
# Of YAML that is refused here, with a word of its own, and taken by etcd.
NOT_TAKEN = {"? a\n: b", "name: &x foo\nwal-dir: *x"}


def file_cases():
    for name, values in FILE_VALUES.items():
        for value in values:
            yield file("%s: %s" % (name, value),
                       name not in ("listen-peer-urls", "listen-client-urls") or value == '""')
    for text in DOCUMENTS:
        if text not in NOT_TAKEN:
            yield file(text, "heartbeat-interval: 0" not in text and text.startswith(("#", "1: 2")))


# --- what is not about what is wrong ---

def said(wanted):
    """Which of these lines the log has."""
    def look(kind, status, stdout, stderr):
        lines = list(lines_of(stdout + stderr))
        return status, [any(line["msg"].startswith(w) for line in lines) for w in wanted]
    return look


def says(name, args, wanted, env_=None, text=None):
    return Case(name, args, env_, text, look=said(wanted))


def warning_cases():
    wanted = ["Running http and grpc server on single port", "it isn't recommended to use default",
              "recognized and used environment variable", "unrecognized environment variable",
              "cannot set special environment variable", "--max-snapshots is deprecated",
              "--v2-deprecation is deprecated", "Detected that checkpointing is enabled",
              "advertise client URLs are not set", "failed to verify flags"]
    yield says("warnings of a default start", PORTS + ["--tls-min-version=x"], wanted)
    yield says("variables that count and do not", PORTS + ["--tls-min-version=x"], wanted,
               {"ETCD_NAME": "x", "ETCD_FOO": "1", "ETCD_VERSION": "1"})
    yield says("what goes away", PORTS + ["--tls-min-version=x", "--max-snapshots=1",
                                          "--v2-deprecation=gone"], wanted)
    yield says("checkpoints", PORTS + ["--tls-min-version=x", "--feature-gates=LeaseCheckpoint=true"],
               wanted)
    yield says("no advertised address", ["--listen-client-urls=http://127.0.0.1:0"], wanted)
    yield says("levels", PORTS + ["--tls-min-version=x", "--log-level=error"], wanted)
    yield says("a file and no more", ["--name=x", "--pre-vote=false"], wanted,
               {"ETCD_NAME": "y", "ETCD_FOO": "1"}, "tls-min-version: x\nmax-snapshots: 2\n")


def where(kind, status, stdout, stderr):
    """Which of the two streams had something to say, but for the log before it is known where that goes."""
    return status, stdout != "", "{" in stderr, "Usage" in stdout, "Usage" in stderr


def stream_cases():
    for args in (["--help"], ["-h"], ["--name", "x", "-help"], ["--foo"], ["--version"],
                 PORTS + ["--tls-min-version=x", "--log-outputs=stdout"],
                 PORTS + ["--tls-min-version=x", "--log-outputs=stdout,stderr"],
                 PORTS + ["--tls-min-version=x", "--log-outputs=/dev/null,stderr"],
                 PORTS + ["--tls-min-version=x", "--log-outputs=file"]):
        yield Case("streams of " + " ".join(args), args, look=where)


CONSOLE_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\t(\w+)\t[\w/.@-]+:\d+\t([^\t]*)(\t\{.*\})?$")


def console(kind, status, stdout, stderr):
    found = []
    for line in stderr.splitlines():
        match = CONSOLE_LINE.match(line)
        if match is None:
            found.append("not a line: " + line)
        elif match.group(2).startswith(("failed to verify", "Running http", "it isn't")):
            fields = json.loads(match.group(3)) if match.group(3) else None
            found.append((match.group(1), match.group(2), fields))
    return status, found


def cases():
    yield from flag_cases()
    yield from rule_cases()
    yield from line_cases()
    yield from file_cases()
    yield from warning_cases()
    yield from stream_cases()
    yield Case("for a console", PORTS + ["--tls-min-version=x", "--log-format=console"], look=console)


def compare(case):
    return case, [case.result(kind) for kind in KINDS]


def main():
    chosen = [c for c in cases() if len(sys.argv) < 2 or sys.argv[1] in c.name]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for case, (theirs, ours) in pool.map(compare, chosen):
            tally.check(theirs == ours, case.name, "etcd:   %s\ntrivet: %s" % (theirs, ours))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
