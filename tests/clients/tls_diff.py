#!/usr/bin/env python3
"""TLS, against etcd: with the same flags and files the same clients get in, and the same do not.

Both run side by side, one member each, and every attempt is made at both: by etcdctl, by Python's ssl
module, by plain sockets. Then what etcd does not have or cannot be asked: a CA that changes, clusters of
three with TLS between the members, thousands of handshakes that never end.
"""

import concurrent.futures
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import certs  # noqa: E402
import cluster as clusters  # noqa: E402
from cluster import Cluster, Tally, http_get, wait_until  # noqa: E402

KINDS = ("etcd", "trivet")
HALF_OPEN = 2000
tally = Tally()


class Pki:
    """Two authorities and all sorts of certificates."""

    def __init__(self, folder):
        self.dir = folder
        self.ca = certs.Authority(folder, "ca")
        self.other = certs.Authority(folder, "other")
        names = ["DNS:localhost", "IP:127.0.0.1"]
        self.server = self.ca.issue("server", sans=names)
        self.client = self.ca.issue("client", cn="alice", uses=("clientAuth",))
        self.named = self.ca.issue("named", cn="bob", sans=["DNS:b.example", "IP:127.0.0.1"])
        self.away = self.ca.issue("away", cn="bob", sans=["IP:10.1.2.3"])
        self.expired = self.ca.issue("expired", expired=True)
        self.revoked = self.ca.issue("revoked")
        self.for_servers = self.ca.issue("for-servers", uses=("serverAuth",))
        self.stranger = self.other.issue("stranger")
        self.ca.revoke(self.revoked)
        self.crl = os.path.join(folder, "crl.der")
        self.ca.write_crl(self.crl)


# --- attempts ---

def etcdctl(node, *args, scheme="https", host="127.0.0.1", endpoint=None, timeout="2s"):
    command = [clusters.ETCDCTL, "--endpoints",
               endpoint or "%s://%s:%d" % (scheme, host, node.client_port), "--dial-timeout", "1s",
               "--command-timeout", timeout] + list(args)
    env = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
    return subprocess.run(command + ["put", "k", "v"], env=env, capture_output=True, text=True,
                          timeout=30).returncode == 0


def by_etcdctl(ca, who=None, **more):
    args = ["--cacert", ca] if ca else []
    if who is not None:
        args += ["--cert", who.cert, "--key", who.key]
    return lambda node: etcdctl(node, *args, **more)


def context(ca, who=None, version=None, alpn=None, ciphers=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        c.check_hostname = False
        c.verify_mode = ssl.CERT_NONE
    else:
        c.load_verify_locations(ca)
    c.set_ciphers(ciphers or "ALL:@SECLEVEL=0")
    c.minimum_version = version or ssl.TLSVersion.TLSv1_2
    if version is not None:
        c.maximum_version = version
    if who is not None:
        c.load_cert_chain(who.cert, who.key)
    if alpn:
        c.set_alpn_protocols(alpn)
    return c


def page(c, port="client_port", path="/health"):
    """The status of a page by HTTP/1.1; None when there is none."""
    def attempt(node):
        answer = http_get(getattr(node, port), path, timeout=5, context=c)
        return answer and answer[0]
    return attempt


def shake(c):
    """What is negotiated, and whether it holds: with TLS 1.3 a refusal comes after the handshake."""
    def attempt(node):
        try:
            with socket.create_connection(("127.0.0.1", node.client_port), timeout=5) as s, \
                    c.wrap_socket(s, server_hostname="localhost") as t:
                t.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                return t.version(), t.recv(1) != b""
        except (ssl.SSLError, OSError):
            return None
    return attempt


def curl(ca, path, *args, port="client_port"):
    """The status, by HTTP/2; None when nobody answers so."""
    def attempt(node):
        done = subprocess.run(
            ["curl", "-s", "--max-time", "5", "--http2", "--cacert", ca, "-o", os.devnull, "-w",
             "%{http_version} %{http_code}", *args,
             "https://127.0.0.1:%d%s" % (getattr(node, port), path)],
            capture_output=True, text=True, timeout=30)
        version, _, status = done.stdout.partition(" ")
        return status if version == "2" else None
    return attempt


def send_bytes(data):
    """Is the connection ended?"""
    def attempt(node):
        with socket.create_connection(("127.0.0.1", node.client_port), timeout=5) as s:
            try:
                s.sendall(data)
                return s.recv(4096) if data.startswith(b"GET") else s.recv(4096)[:0]
            except ConnectionError:
                return b""
            except socket.timeout:
                return "it stays open"
    return attempt


# --- both side by side ---

class Pair:
    """One member of each kind with the same flags."""

    def __init__(self, pki, flags=(), scheme="https", prepare=None):
        self.clusters = {}
        for kind in KINDS:
            c = Cluster(kind, size=1, flags=list(flags))
            c.client_scheme = scheme
            if scheme == "https":
                c.ssl_context = context(None, pki.client)
            if prepare is not None:
                prepare(c.nodes[0])
            self.clusters[kind] = c

    def __enter__(self):
        for c in self.clusters.values():
            c.nodes[0].start()
        for c in self.clusters.values():
            c.wait_healthy()
        return self

    def __exit__(self, *_):
        for c in self.clusters.values():
            c.close()

    def node(self, kind):
        return self.clusters[kind].nodes[0]

    def check(self, rule, attempts):
        """attempts: {name: (attempt, what is expected)}"""
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            running = {(name, kind): pool.submit(attempt, self.node(kind))
                       for name, (attempt, _) in attempts.items() for kind in KINDS}
        for name, (_, expected) in attempts.items():
            results = {kind: running[name, kind].result() for kind in KINDS}
            tally.check(results["etcd"] == results["trivet"] == expected, "%s: %s" % (rule, name),
                        "expected %r, %r" % (expected, results))


def own(pki, *more):
    return ["--cert-file", pki.server.cert, "--key-file", pki.server.key] + list(more)


def check_server_alone(pki):
    ca, v = pki.ca.cert, ssl.TLSVersion
    with Pair(pki, own(pki)) as pair:
        pair.check("a server's certificate", {
            "etcdctl": (by_etcdctl(ca), True),
            "etcdctl by name": (by_etcdctl(ca, host="localhost"), True),
            "another CA": (by_etcdctl(pki.other.cert), False),
            "the system's CAs": (by_etcdctl(None), False),
            "without TLS": (by_etcdctl(None, scheme="http"), False),
            "not verified": (lambda n: etcdctl(n, "--insecure-skip-tls-verify"), True),
            "TLS where no scheme says so": (lambda n: etcdctl(
                n, "--cacert", ca, endpoint="127.0.0.1:%d" % n.client_port), True),
            "TLS 1.0": (shake(context(ca, version=v.TLSv1)), None),
            "TLS 1.1": (shake(context(ca, version=v.TLSv1_1)), None),
            "TLS 1.2": (shake(context(ca, version=v.TLSv1_2)), ("TLSv1.2", True)),
            "TLS 1.3": (shake(context(ca, version=v.TLSv1_3)), ("TLSv1.3", True)),
            "http/1.1": (page(context(ca, alpn=["http/1.1"])), 200),
            "no protocol asked for": (page(context(ca)), 200),
            "an unknown protocol": (shake(context(ca, alpn=["xyz"])), None),
            "pages by HTTP/2": (curl(ca, "/health"), "200"),
            "a page that is not there, by HTTP/2": (curl(ca, "/nowhere"), "404"),
            "a body by HTTP/2": (curl(ca, "/health", "--data", "x" * 100), "405"),
            "HTTP to a TLS port": (send_bytes(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"), b""),
            "garbage": (send_bytes(b"\x00" * 64), b""),
            "a broken hello": (send_bytes(b"\x16\x03\x01\x00\x05abcde"), b""),
        })
        check_reload(pki, pair)


def serial_of(node):
    pem = ssl.get_server_certificate(("127.0.0.1", node.client_port))
    return ssl.PEM_cert_to_DER_cert(pem)


def check_reload(pki, pair):
    """Certificate and key, while they serve. One that is half written: etcd fails handshakes until it is
    whole, trivet keeps the old one."""
    before = {kind: serial_of(pair.node(kind)) for kind in KINDS}
    fresh = pki.ca.issue("server-2", sans=["DNS:localhost", "IP:127.0.0.1"])
    pki.server.replace(fresh)
    for kind in KINDS:
        tally.check(before[kind] != serial_of(pair.node(kind)), "%s shows the new certificate" % kind)
    pair.check("after the certificate changed", {"etcdctl": (by_etcdctl(pki.ca.cert), True)})
    node = pair.node("trivet")
    with open(pki.server.key) as f:
        key = f.read()
    with open(pki.server.key, "w") as f:
        f.write("nonsense")
    tally.check(etcdctl(node, "--cacert", pki.ca.cert), "a broken key: the old pair stays")
    with open(node.log_path) as log:
        tally.check(log.read().count("a TLS file cannot be used") == 1, "a broken key is said once")
    with open(pki.server.key, "w") as f:
        f.write(key)
    tally.check(etcdctl(node, "--cacert", pki.ca.cert), "the key is whole again")


def check_client_certificates(pki):
    ca = pki.ca.cert
    flags = own(pki, "--client-cert-auth", "--trusted-ca-file", ca, "--client-crl-file", pki.crl)
    with Pair(pki, flags) as pair:
        pair.check("client certificates", {
            "a good one": (by_etcdctl(ca, pki.client), True),
            "another good one": (by_etcdctl(ca, pki.away), True),
            "none": (by_etcdctl(ca), False),
            "of another CA": (by_etcdctl(ca, pki.stranger), False),
            "expired": (by_etcdctl(ca, pki.expired), False),
            "revoked": (by_etcdctl(ca, pki.revoked), False),
            "for servers": (by_etcdctl(ca, pki.for_servers), False),
            "pages, with one": (page(context(ca, pki.client)), 200),
            "pages, without": (page(context(ca)), None),
            "pages, revoked, TLS 1.2": (page(context(ca, pki.revoked, ssl.TLSVersion.TLSv1_2)), None),
            "pages, revoked": (page(context(ca, pki.revoked)), None),
        })
        late = pki.ca.issue("late")
        pair.check("revoked while it serves, before", {"late": (by_etcdctl(ca, late), True)})
        pki.ca.revoke(late)
        pki.ca.write_crl(pki.crl)
        pair.check("revoked while it serves, after", {
            "late": (by_etcdctl(ca, late), False),
            "a good one": (by_etcdctl(ca, pki.client), True)})
        check_new_ca(pki, pair)


def check_names(pki):
    """Who has a certificate and no token is whom it names, where certificates are asked for."""
    ca = pki.ca.cert
    root, carol = (pki.ca.issue("user-" + cn, cn=cn) for cn in ("root", "carol"))

    def said(who, *args):
        def attempt(node):
            command = [clusters.ETCDCTL, "--endpoints", "https://127.0.0.1:%d" % node.client_port,
                       "--cacert", ca, "--cert", who.cert, "--key", who.key] + list(args)
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            words = re.search(r'"error":"([^"]*)"|Error: (.*)|error":"rpc error: ([^"]*)"', done.stderr)
            return done.returncode, done.stdout, words.group(0)[-60:] if words else ""
        return attempt

    def same(rule, attempts):
        for name, attempt in attempts.items():
            results = {kind: attempt(pair.node(kind)) for kind in KINDS}
            tally.check(results["etcd"] == results["trivet"], "%s: %s" % (rule, name), repr(results))

    for asked in (True, False):
        more = ["--client-cert-auth", "--trusted-ca-file", ca] if asked else ["--trusted-ca-file", ca]
        rule = "names in certificates" + ("" if asked else ", not asked for")
        with Pair(pki, own(pki, "--bcrypt-cost", "4", *more)) as pair:
            for args in (("user", "add", "root:pw"), ("role", "add", "root"), ("user", "grant-role", "root", "root"),
                         ("user", "add", "carol", "--no-password"), ("user", "add", "dave:pw"),
                         ("role", "add", "r"), ("role", "grant-permission", "r", "readwrite", "k"),
                         ("user", "grant-role", "carol", "r"), ("auth", "enable")):
                same(rule, {"setting up: " + " ".join(args): said(root, *args)})
            same(rule, {
                "carol may": said(carol, "put", "k", "v"),
                "carol may not": said(carol, "put", "other", "v"),
                "carol is not root": said(carol, "user", "list"),
                "root is": said(root, "user", "list"),
                "nobody's name": said(pki.client, "put", "k", "v"),
                "a token goes before": said(root, "--user", "dave:pw", "put", "k", "v"),
                "and gives more": said(carol, "--user", "root:pw", "put", "other", "v"),
                "a user without password has no token": said(carol, "--user", "carol:pw", "get", "k"),
            })


# COMPAT better, TLS: CAs are read again when their file changes, like certificates, keys and revocations
# COMPAT better, TLS: revocations in PEM, too, not in DER alone
def check_new_ca(pki, pair):
    """Beyond etcd: the CA file is read again too."""
    node = pair.node("trivet")
    with open(pki.ca.cert) as f:
        old = f.read()
    with open(pki.other.cert) as f:
        both = old + f.read()
    args = ["--cacert", pki.ca.cert, "--cert", pki.stranger.cert, "--key", pki.stranger.key]
    tally.check(not etcdctl(node, *args), "a certificate of another CA is refused")
    for text, allowed in ((both, True), (old, False)):
        with open(pki.ca.cert + ".new", "w") as f:
            f.write(text)
        os.replace(pki.ca.cert + ".new", pki.ca.cert)
        tally.check(etcdctl(node, *args) == allowed,
                    "the other CA is %s the file" % ("in" if allowed else "no more in"))


def check_more_settings(pki):
    ca, v = pki.ca.cert, ssl.TLSVersion
    # A CA alone asks for certificates, in etcd as well.
    with Pair(pki, own(pki, "--trusted-ca-file", ca)) as pair:
        pair.check("a CA without --client-cert-auth", {
            "none": (by_etcdctl(ca), False), "a good one": (by_etcdctl(ca, pki.client), True)})
    with Pair(pki, own(pki, "--client-cert-auth", "--trusted-ca-file", ca,
                       "--client-cert-allowed-hostname", "b.example,127.0.0.1"),
              prepare=lambda n: setattr(n.cluster, "ssl_context", context(None, pki.named))) as pair:
        pair.check("allowed names", {
            "the name": (by_etcdctl(ca, pki.named), True),
            "no name": (by_etcdctl(ca, pki.client), False),
            "another address": (by_etcdctl(ca, pki.away), False)})
    with Pair(pki, own(pki, "--tls-min-version", "TLS1.3")) as pair:
        pair.check("TLS 1.3 alone", {
            "1.2": (shake(context(ca, version=v.TLSv1_2)), None),
            "1.3": (shake(context(ca, version=v.TLSv1_3)), ("TLSv1.3", True))})
    with Pair(pki, own(pki, "--tls-max-version", "TLS1.2", "--cipher-suites",
                       "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,"
                       "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")) as pair:
        pair.check("a cipher suite", {
            "1.3": (shake(context(ca, version=v.TLSv1_3)), None),
            "that": (shake(context(ca, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")), ("TLSv1.2", True)),
            "another": (shake(context(ca, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305")), None)})
    with Pair(pki, ["--auto-tls"]) as pair:
        made = {kind: os.path.join(pair.node(kind).data_dir, "fixtures", "client", "cert.pem")
                for kind in KINDS}
        pair.check("--auto-tls", {
            "believed": (lambda n: etcdctl(n, "--cacert", made[n.cluster.kind]), True),
            "any": (lambda n: etcdctl(n, "--insecure-skip-tls-verify"), True),
            "another": (by_etcdctl(ca), False)})


# --- where it listens ---

def add_ports(node, pki):
    """HTTP apart from gRPC, metrics with and without TLS, and a second scheme on the client port."""
    node.http_port, node.metrics_port, node.metrics_tls_port = clusters.free_ports(3)
    node.flags = ["--listen-client-http-urls", "https://127.0.0.1:%d" % node.http_port,
                  "--listen-metrics-urls", "http://127.0.0.1:%d,https://127.0.0.1:%d" % (
                      node.metrics_port, node.metrics_tls_port)]
    node.healthy_port, node.client_port_of_grpc = node.http_port, node.client_port
    node.healthy = lambda timeout=5: (page(context(None), "http_port")(node) == 200)


def pages(port, c, expected):
    return {"%s %s" % (port, path): (page(c, port, path), status)
            for path, status in zip(("/health", "/version", "/livez", "/readyz", "/metrics"), expected)}


def check_ports(pki):
    ca = pki.ca.cert
    c = context(ca)
    grpc_on = lambda port: lambda n: etcdctl(  # noqa: E731
        n, "--cacert", ca, endpoint="https://127.0.0.1:%d" % getattr(n, port))
    with Pair(pki, own(pki), prepare=lambda n: add_ports(n, pki)) as pair:
        everything = (200, 200, 200, 200, 200)
        metrics = (200, 404, 200, 200, 200)
        pair.check("ports", dict(
            **pages("client_port", c, (None,) * 5), **pages("http_port", c, everything),
            **pages("metrics_port", None, metrics), **pages("metrics_tls_port", c, metrics),
            http2_to_grpc=(curl(ca, "/health"), "415"),
            http2_to_http=(curl(ca, "/metrics", port="http_port"), "200"),
            http2_to_metrics=(curl(ca, "/metrics", port="metrics_tls_port"), "200"),
            http2_to_metrics_alone=(curl(ca, "/version", port="metrics_tls_port"), "404"),
            grpc=(grpc_on("client_port"), True), grpc_to_http=(grpc_on("http_port"), False)))
        tally.check(not grpc_on("metrics_tls_port")(pair.node("trivet")), "metrics alone: no gRPC")

    def both(node):
        node.flags = ["--listen-client-urls", "http://%s,https://%s" % (
            node.endpoint(), node.endpoint())]
    with Pair(pki, own(pki), prepare=both) as pair:
        pair.check("http and https on one port", {
            "with": (by_etcdctl(ca), True), "without": (by_etcdctl(None, scheme="http"), True),
            "page with": (page(c), 200), "page without": (page(None), 200)})

    def paths(node):
        node.sockets = [os.path.join(node.cluster.dir, name) for name in ("plain", "secure")]
        node.flags = ["--listen-client-urls", "https://%s,unix://%s,unixs://%s" % (
            node.endpoint(), *node.sockets)]
    with Pair(pki, own(pki), prepare=paths) as pair:
        pair.check("sockets of the file system", {
            "unix": (lambda n: etcdctl(n, endpoint="unix://" + n.sockets[0]), True),
            "unixs": (lambda n: etcdctl(n, "--insecure-skip-tls-verify",
                                        endpoint="unixs://" + n.sockets[1]), True),
            "unix to unixs": (lambda n: etcdctl(n, endpoint="unix://" + n.sockets[1]), False)})


# --- flags that do not go together ---

ENDED = re.compile(r'"error":"((?:[^"\\]|\\.)*)"')


def start_error(kind, flags, schemes):
    """What a start that fails says; None when it does not fail."""
    c = Cluster(kind, size=1, flags=list(flags))
    c.client_scheme, c.peer_scheme = schemes
    try:
        c.nodes[0].start()
        status = c.nodes[0].process.wait(10)
        with open(c.nodes[0].log_path) as log:
            text = log.read()
        found = ENDED.findall(text)
        said = json.loads('"%s"' % found[-1]) if found else text
        for port, name in ((c.nodes[0].client_port, "CLIENT"), (c.nodes[0].peer_port, "PEER")):
            said = said.replace(str(port), name)
        return said.replace(c.dir, "DIR") if status != 0 else None
    except subprocess.TimeoutExpired:
        return None
    finally:
        c.close()


def check_flags(pki):
    s, http, https = pki.server, ("http", "http"), ("https", "http")
    peers = ("http", "https")
    cases = [
        (["--tls-min-version", "TLS1.1"], http),
        (["--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"], http),
        (["--tls-min-version", "TLS1.3", "--cipher-suites", "TLS_AES_128_GCM_SHA256"], http),
        (["--cipher-suites", "nonsense"], http),
        (["--cipher-suites", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "--cert-file", s.cert,
          "--key-file", s.key], https),
        ([], https),
        ([], peers),
        (["--peer-cert-file", s.cert], peers),
        (["--peer-cert-file", s.cert, "--peer-key-file", s.key, "--peer-cert-allowed-cn", "a,b",
          "--peer-cert-allowed-hostname", "c"], peers),
        (["--peer-cert-file", s.cert, "--peer-key-file", s.key, "--peer-client-cert-file", s.cert],
         peers),
        (["--listen-metrics-urls", "https://127.0.0.1:1"], http),
        (["--listen-metrics-urls", "http://host.example:1"], http),
        (["--listen-client-http-urls", "http://host.example:1"], http),
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [{kind: pool.submit(start_error, kind, *case) for kind in KINDS} for case in cases]
    for case, both in zip(cases, running):
        said = {kind: result.result() for kind, result in both.items()}
        tally.check(said["etcd"] is not None and said["etcd"] == said["trivet"],
                    "what is said of %s" % " ".join(case[0] or case[1]), repr(said))


# --- members ---

def three(*flags):
    c = Cluster("trivet", size=3, flags=list(flags))
    c.peer_scheme = "https"
    return c


def mutual(pki, certificate):
    return ["--peer-cert-file", certificate.cert, "--peer-key-file", certificate.key,
            "--peer-client-cert-auth", "--peer-trusted-ca-file", pki.ca.cert]


def put(node, key="k"):
    command = [clusters.ETCDCTL, "--endpoints", node.endpoint(), "--command-timeout", "10s", "put",
               key, "v" * 1000]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def log_has(node, text):
    with open(node.log_path) as log:
        return text in log.read()


def lose_and_get_back(c, name):
    """kill -9, and a disk that is lost: then a snapshot comes over the same TLS."""
    c.start()
    tally.check(all(put(node) for node in c.nodes), name + ": each member serves")
    c.kill(2)
    tally.check(put(c.nodes[0]), name + ": two of three serve")
    c.start_node(2)
    c.wait_healthy()
    c.kill(1)
    subprocess.run(["rm", "-r", os.path.join(c.nodes[1].data_dir, "member")], check=True)
    for i in range(20):
        put(c.nodes[0], "key%d" % i)
    c.start_node(1)
    tally.check(wait_until(c.nodes[1].healthy), name + ": a member without data is back",
                c.nodes[1].log_tail())
    tally.check(put(c.nodes[1]), name + ": and serves")
    tally.check(log_has(c.nodes[1], "installed a snapshot"), name + ": by a snapshot")


def check_members(pki):
    node = pki.ca.issue("member", sans=["DNS:localhost", "IP:127.0.0.1"])
    with three(*mutual(pki, node), "--peer-crl-file", pki.crl,
               "--peer-cert-allowed-cn", "someone,member") as c:
        lose_and_get_back(c, "mutual TLS")
        check_strangers(pki, c)
    # The certificate that is shown as a server is for servers alone; connections show another.
    serving = pki.ca.issue("serving", sans=["IP:127.0.0.1"], uses=("serverAuth",))
    with three(*mutual(pki, serving), "--peer-client-cert-file", pki.client.cert,
               "--peer-client-key-file", pki.client.key) as c:
        c.start()
        tally.check(put(c.nodes[2]), "a certificate of its own for connections")
    with three("--peer-auto-tls") as c:
        lose_and_get_back(c, "--peer-auto-tls")


def check_strangers(pki, c):
    """What connects to a peer port without a certificate that is allowed."""
    port = c.nodes[0].peer_port
    other = pki.ca.issue("other", sans=["DNS:localhost", "IP:127.0.0.1"])
    away = pki.ca.issue("member-away", cn="member", sans=["IP:10.1.2.3"])
    good = pki.ca.issue("member-here", cn="member", sans=["IP:127.0.0.1"])

    def gets_in(who):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as s, \
                    context(pki.ca.cert, who).wrap_socket(s, server_hostname="localhost") as t:
                t.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
                return t.recv(1) != b""
        except (ssl.SSLError, OSError):
            return False
    for name, who, expected in (("none", None, False), ("of another CA", pki.stranger, False),
                                ("revoked", pki.revoked, False), ("with another CN", other, False),
                                ("of another address", away, False), ("a good one", good, True)):
        tally.check(gets_in(who) == expected, "a peer's certificate: " + name)
    tally.check(log_has(c.nodes[0], "rejected connection on peer endpoint"), "which is logged")


# --- many that never end ---

def check_half_open(pki):
    flags = own(pki)
    c = Cluster("trivet", size=1, flags=flags)
    c.client_scheme, c.ssl_context = "https", context(None)
    with c:
        c.start()
        node = c.nodes[0]
        idle, before = [], node.rss_bytes()
        tls = context(pki.ca.cert)
        for _ in range(500):
            s = tls.wrap_socket(socket.create_connection(("127.0.0.1", node.client_port)),
                                server_hostname="localhost")
            idle.append(s)
        grown = (node.rss_bytes() - before) / len(idle)
        print("an idle TLS connection takes %.1f KB" % (grown / 1000))
        sanitized = clusters.build_dir().endswith(("asan", "tsan"))
        tally.check(grown < 40000 or sanitized, "memory of an idle connection", "%d bytes" % grown)
        for s in idle:
            s.close()
        begin = time.monotonic()
        sockets = [socket.create_connection(("127.0.0.1", node.client_port))
                   for _ in range(HALF_OPEN)]
        for i, s in enumerate(sockets):
            if i % 2 == 0:
                s.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        tally.check(etcdctl(node, "--cacert", pki.ca.cert), "serves beside %d handshakes" % HALF_OPEN)
        open_files = "/proc/%d/fd" % node.process.pid
        tally.check(len(os.listdir(open_files)) > HALF_OPEN, "they are open")
        tally.check(wait_until(lambda: len(os.listdir(open_files)) < 200, 20), "they are ended")
        took = time.monotonic() - begin
        tally.check(9 < took < 20, "after ten seconds", "%.1f s" % took)
        for s in sockets:
            s.close()


def check_trivetctl(pki):
    """Its flags are etcdctl's."""
    program = os.path.join(clusters.build_dir(), "client", "trivetctl")
    ca = pki.ca.cert
    c = Cluster("trivet", size=1, flags=own(pki, "--client-cert-auth", "--trusted-ca-file", ca))
    c.client_scheme, c.ssl_context = "https", context(None, pki.client)
    with c:
        c.start()
        address = c.nodes[0].endpoint()
        who = ["--cert", pki.client.cert, "--key", pki.client.key]
        cases = (
                (["--endpoints", "https://" + address, "--cacert", ca] + who, True),
                (["--endpoints", address, "--cacert", ca] + who, True),
                (["--endpoints", address, "--insecure-transport=false",
                  "--insecure-skip-tls-verify"] + who, True),
                (["--endpoints", "https://" + address] + who, False),
                (["--endpoints", "https://" + address, "--cacert", ca], False),
                (["--endpoints", "http://" + address, "--cacert", ca] + who, False))

        def attempt(binary, args, expected):
            done = subprocess.run([binary, "--command-timeout=2s"] + args +
                                  ["put", "a", "b"], capture_output=True, timeout=30)
            tally.check((done.returncode == 0) == expected, "%s %s" % (
                os.path.basename(binary), " ".join(args)), done.stderr.decode())
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(attempt, binary, *case) for case in cases
                         for binary in (clusters.ETCDCTL, program)]:
                done.result()


def check_bench(pki):
    """trivet-bench, and members with TLS beside."""
    ca = pki.ca.cert
    member = pki.ca.issue("member", sans=["DNS:localhost", "IP:127.0.0.1"])
    c = Cluster("trivet", size=3, flags=own(pki) + mutual(pki, member))
    c.client_scheme = c.peer_scheme = "https"
    c.ssl_context = context(ca)
    with c:
        c.start()
        program = os.path.join(clusters.build_dir(), "bench", "trivet-bench")
        for args, expected in ((["--cacert", ca], 2000), (["--cacert", pki.other.cert], None),
                               (["--insecure-skip-tls-verify", "--insecure-transport=false"], 2000)):
            done = subprocess.run([program, "put", "--total", "2000", "--warmup", "0", "--conns", "10",
                                   "--streams", "4", "--json", "-", "--quiet",
                                   "--endpoints", c.endpoints()] + args, capture_output=True,
                                  timeout=60)
            result = json.loads(done.stdout) if done.returncode == 0 else {}
            tally.check(result.get("operations") == expected and not result.get("errors"),
                        "trivet-bench %s" % args[0], done.stderr.decode())


def run_check(check, folder):
    folder = os.path.join(folder, check.__name__)
    os.makedirs(folder)
    begin = time.monotonic()
    check(Pki(folder))
    print("%s: %.1f s" % (check.__name__, time.monotonic() - begin), flush=True)


def main():
    clusters.exit_on_signals()
    holder = Cluster("trivet", size=0)  # for its folder, which goes with it
    try:
        checks = [c for c in (check_half_open, check_server_alone, check_client_certificates, check_names,
                              check_more_settings, check_ports, check_flags, check_members,
                              check_trivetctl, check_bench)
                  if len(sys.argv) == 1 or c.__name__ in sys.argv[1:]]
        # Much of it waits: for etcd to begin, for time to run out.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(run_check, check, holder.dir) for check in checks]:
                done.result()
    finally:
        holder.close()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
