"""Debian trees by mmdebstrap, and trivet's packages built for them. Both are kept in .dev: the first run takes
minutes and needs a mirror, later ones seconds and none.

    debian.packages("bookworm")     # {"trivet-server": path, ...}
    debian.ready("bookworm")        # the tree, with what trivet's packages depend on, and without them
"""

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request

import cluster

FOLDER = os.path.join(cluster.ROOT, ".dev", "debian")
BUILT = os.path.join(cluster.ROOT, ".dev", "packages")
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
INCLUDE = ["systemd", "systemd-sysv", "dbus", "openssl", "ca-certificates", "iproute2", "procps", "curl",
           "nftables", "python3-minimal"]
MORE = ["gcc", "pkg-config", "libc6-dev", "prometheus"]  # a program is compiled; metrics are scraped
SCRIPT = os.path.join(cluster.ROOT, "packaging", "package")


class DebianError(Exception):
    pass


def here():
    """This machine's own release, or None."""
    with open("/etc/os-release", encoding="utf-8") as f:
        fields = dict(line.strip().split("=", 1) for line in f if "=" in line)
    return fields.get("VERSION_CODENAME") if fields.get("ID") == "debian" else None


def run(*args, timeout=1500, **more):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, check=False, errors="replace", **more)
    if done.returncode != 0:
        raise DebianError("%s: %s" % (" ".join(args)[:200], done.stdout[-2000:]))
    return done.stdout


def inside(tree, script, timeout=1500, binds=()):
    """Run it in a chroot, in mounts and processes of its own; no service is started by what it installs."""
    policy = os.path.join(tree, "usr", "sbin", "policy-rc.d")
    with open(policy, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nexit 101\n")
    os.chmod(policy, 0o755)
    mounts = "".join("mkdir -p '%s%s' && mount --bind '%s' '%s%s' && " % (tree, to, what, tree, to) for what, to in binds)
    try:
        return run("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec",
                   mounts + "mount -t proc proc '%s/proc' && cp /etc/resolv.conf '%s/etc/' 2>/dev/null; "
                   "exec chroot '%s' /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "
                   "DEBIAN_FRONTEND=noninteractive sh -ec \"$0\"" % (tree, tree, tree), script, timeout=timeout)
    finally:
        os.unlink(policy)


def stamped(path, text):
    try:
        with open(path + ".stamp", encoding="utf-8") as f:
            return f.read() == text and os.path.isdir(path)
    except OSError:
        return False


def stamp(path, text):
    with open(path + ".stamp", "w", encoding="utf-8") as f:
        f.write(text)


def bootstrap(release, path, names):
    """A tree with these packages, unless there is one."""
    wanted = " ".join(names)
    if stamped(path, wanted):
        return path
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(FOLDER, exist_ok=True)
    # Nobody keeps a tree whose making was cut off: dpkg need not wait for the disk.
    run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io",
        "--customize-hook=! [ -e \"$1/usr/bin/prometheus\" ] || chroot \"$1\" systemctl disable prometheus.service",
        "--include=" + ",".join(names), release, path, MIRROR)
    for name in ("hostname", "resolv.conf"):
        if os.path.exists(os.path.join(path, "etc", name)):
            os.unlink(os.path.join(path, "etc", name))
    with open(os.path.join(path, "etc", "hosts"), "w", encoding="ascii") as f:
        f.write("127.0.0.1 localhost\n::1 localhost\n")
    stamp(path, wanted)
    return path


def build_tree(release):
    """One that has what building takes."""
    with open(os.path.join(cluster.ROOT, "packaging", "debian", "control"), encoding="utf-8") as f:
        depends = re.search(r"Build-Depends: (.*?)\n\S", f.read(), re.S).group(1)
    names = [re.sub(r"\(.*?\)|:any|\|.*", "", d).strip().replace("debhelper-compat", "debhelper")
             for d in depends.replace("\n", " ").split(",")]
    return bootstrap(release, os.path.join(FOLDER, release + "-build"),
                     ["build-essential", "dpkg-dev", "lintian"] + sorted(n for n in names if n))


def sources():
    names = run("git", "-C", cluster.ROOT, "ls-files", "-co", "--exclude-standard").split("\n")
    digest = hashlib.sha256()
    for name in sorted(names):
        path = os.path.join(cluster.ROOT, name)
        if os.path.isfile(path) and not name.startswith(("tests/", "docs/", ".ci/")):
            with open(path, "rb") as f:
                digest.update(name.encode() + b"\0" + hashlib.sha256(f.read()).digest())
    return digest.hexdigest()


def packages(release):
    """Built now, unless nothing has changed since; and lintian's word on them is in the folder."""
    folder = os.path.join(BUILT, "here" if release == here() else release)
    wanted = sources()
    if not stamped(os.path.join(folder, "trivet"), wanted) or not glob.glob(folder + "/*.deb"):
        lint = "lintian --allow-root --fail-on error,warning --tag-display-limit 0 *.changes >lintian.txt 2>&1 || true"
        if release == here():
            run(os.path.join(cluster.ROOT, "dev"), "package", "--no-lint")
            run("sh", "-c", lint, cwd=folder)
        else:
            run(SCRIPT, "stage", folder)
            inside(build_tree(release), "/packages/trivet/packaging/package build /packages; cd /packages; " + lint,
                   binds=[(folder, "/packages")])
        stamp(os.path.join(folder, "trivet"), wanted)
    return {os.path.basename(p).split("_")[0]: p for p in glob.glob(folder + "/*.deb")}


def lintian(release):
    with open(os.path.join(BUILT, "here" if release == here() else release, "lintian.txt"), encoding="utf-8") as f:
        return [line for line in f.read().splitlines() if line]


def raised(deb, version, out):
    """The same package under a later version; its path."""
    folder = os.path.join(out, "raise")
    shutil.rmtree(folder, ignore_errors=True)
    run("dpkg-deb", "-R", deb, folder)
    control = os.path.join(folder, "DEBIAN", "control")
    with open(control, encoding="utf-8") as f:
        text = f.read()
    old = re.search(r"^Version: (.*)$", text, re.M).group(1)
    with open(control, "w", encoding="utf-8") as f:
        f.write(text.replace("Version: " + old, "Version: " + version).replace("(= %s)" % old, "(= %s)" % version))
    path = os.path.join(out, os.path.basename(deb).replace("_%s_" % old, "_%s_" % version))
    run("dpkg-deb", "--root-owner-group", "-b", folder, path)
    shutil.rmtree(folder)
    return path


@contextlib.contextmanager
def alone():
    """What is made once for all is made by one: the others wait for it."""
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ready(release):
    """The tree with the dependencies of the packages, so that dpkg alone installs them."""
    with alone():
        return made_ready(release)


def made_ready(release):
    chosen = [packages(release)[n] for n in ("trivet-server", "trivet-client", "libtrivet1", "libtrivet-dev")]
    depends = ",".join(run("dpkg-deb", "-f", deb, "Depends") for deb in chosen)
    names = {re.sub(r"\(.*?\)", "", d).split("|")[0].strip() for d in depends.replace("\n", ",").split(",")}
    return bootstrap(release, os.path.join(FOLDER, release),
                     INCLUDE + MORE + sorted(n for n in names if n and not n.startswith("libtrivet")))


def lacking(release):
    """Why packages cannot be tried out: None when they can. A tree that is there is believed to be the right one."""
    if os.path.exists(os.path.join(FOLDER, release + ".stamp")):
        return None
    try:
        with urllib.request.urlopen("%s/dists/%s/Release" % (MIRROR, release), timeout=20) as answer:
            answer.read(1)
    except OSError as why:
        return "the mirror %s cannot be reached: %s" % (MIRROR, why)
    return None


def overlaid(release, script, files=(), timeout=300):
    """Run it in a chroot of the tree that forgets everything, without systemd, with a loopback and nothing else.
    `files`: (outside, inside). The result as of subprocess.run()."""
    mount = """
set -e
mount --make-rprivate /
mount -t tmpfs none "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
script=$3
mount -t proc proc "$root/proc"
for node in null zero full random urandom; do [ -e "$root/dev/$node" ] || touch "$root/dev/$node"; mount --bind /dev/$node "$root/dev/$node"; done
printf '#!/bin/sh\\nexit 101\\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
ip link set lo up
shift 3
while [ $# -gt 0 ]; do mkdir -p "$root$(dirname "$2")"; cp "$1" "$root$2"; shift 2; done
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root bash -c "$script"
"""
    with tempfile.TemporaryDirectory(prefix="trivet-chroot-") as folder:
        return subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "sh", "-c", mount, "sh",
                               ready(release), folder, script] + [word for pair in files for word in pair],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=timeout, check=False, errors="replace", preexec_fn=cluster.die_with_parent)
