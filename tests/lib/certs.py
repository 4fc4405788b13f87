"""Certificates made on the spot with the openssl program, for tests: nothing is kept in the repository.

    ca = Authority(folder, "ca")
    server = ca.issue("server", sans=["DNS:localhost", "IP:127.0.0.1"])
    ca.revoke(server); ca.write_crl(path)
"""

import os
import subprocess

CONFIG = """
[ca]
default_ca = this
[this]
dir = %(dir)s
database = $dir/index.txt
new_certs_dir = $dir
serial = $dir/serial
crlnumber = $dir/crlnumber
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
copy_extensions = none
unique_subject = no
[any]
commonName = supplied
"""


def openssl(*args):
    done = subprocess.run(["openssl"] + list(args), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError("openssl %s: %s" % (args[0], done.stderr))
    return done.stdout


class Certificate:
    def __init__(self, cert, key):
        self.cert, self.key = cert, key

    def replace(self, other):
        """The files of this one become the other's, each in one step."""
        for mine, theirs in ((self.key, other.key), (self.cert, other.cert)):
            with open(theirs, "rb") as f:
                data = f.read()
            with open(mine + ".new", "wb") as f:
                f.write(data)
            os.replace(mine + ".new", mine)


class Authority:
    def __init__(self, folder, name):
        self.dir = os.path.join(folder, name)
        os.makedirs(self.dir)
        self.cert, self.key = self._path("ca.pem"), self._path("ca.key")
        self.config = self._path("ca.cnf")
        with open(self.config, "w") as f:
            f.write(CONFIG % {"dir": self.dir})
        open(self._path("index.txt"), "w").close()
        for counter in ("serial", "crlnumber"):
            with open(self._path(counter), "w") as f:
                f.write("%s\n" % os.urandom(8).hex())
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.key, "-out", self.cert, "-subj", "/CN=" + name, "-days", "30",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def _path(self, name):
        return os.path.join(self.dir, name)

    def issue(self, name, cn=None, sans=(), uses=("serverAuth", "clientAuth"), expired=False):
        """Files called after `name`; its subject is CN=`cn` or else `name`."""
        cert, key, extensions = (self._path(name + end) for end in (".pem", ".key", ".ext"))
        request = self._path(name + ".csr")
        with open(extensions, "w") as f:
            f.write("basicConstraints=critical,CA:FALSE\n")
            if uses:
                f.write("extendedKeyUsage=%s\n" % ",".join(uses))
            if sans:
                f.write("subjectAltName=%s\n" % ",".join(sans))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", key, "-out", request, "-subj", "/CN=" + (cn or name))
        times = ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z") if expired else ()
        openssl("ca", "-batch", "-notext", "-config", self.config, "-in", request, "-out", cert,
                "-extfile", extensions, *times)
        return Certificate(cert, key)

    def revoke(self, certificate):
        openssl("ca", "-config", self.config, "-revoke", certificate.cert)

    def write_crl(self, path, form="DER"):
        """etcd reads DER alone."""
        openssl("ca", "-config", self.config, "-gencrl", "-out", self._path("crl.pem"))
        openssl("crl", "-in", self._path("crl.pem"), "-outform", form, "-out", path + ".new")
        os.replace(path + ".new", path)
