"""A systemd of its own, booted from a Debian tree: in mounts, processes, a network and a cgroup of its own, over
an overlay, so that nothing of it is left behind.

    with Container(debian.ready("bookworm")) as c:
        c.write("/etc/trivet/trivetd.yaml", text)
        c.run("systemctl", "start", "trivetd")

    one, two = Container(tree, "one"), Container(tree, "two")
    connect([(one, "10.0.0.1/8"), (two, "10.0.1.1/8")])

It ends with the process that made it. Needs root, overlayfs and cgroup2; why not is in ContainerError.
"""

import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import cluster

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Runs as the first process of its namespaces; $1 the tree, $2 a folder for the overlay.
BOOT = r"""
set -e
mount --make-rprivate /
mkdir -p "$2/upper" "$2/work" "$2/root"
if ! mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" 2>/dev/null; then
    mount -t tmpfs none "$2"
    mkdir -p "$2/upper" "$2/work" "$2/root"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
fi
cd "$2/root"
echo "$3" >etc/hostname
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} dev/${n#*:}; done
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p .before
pivot_root . .before
umount -l /.before
rmdir /.before
mount --make-rshared / # credentials reach a service by propagation
hostname "$3"
exec env -i container=trivet-test /lib/systemd/systemd --system --unit=multi-user.target --show-status=0
"""

# $$ goes into a cgroup of its own, which becomes the root of the container's.
ENTER = r"""
set -e
mount --make-rprivate /
mount -t cgroup2 none "$3"
mkdir -p "$3/$4"
echo $$ >"$3/$4/cgroup.procs"
exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup sh -c "$0" boot "$1" "$2" "$5"
"""


class ContainerError(Exception):
    pass


class Container:
    def __init__(self, tree, name="trivet-test"):
        if os.geteuid() != 0:
            raise ContainerError("booting a systemd needs root")
        self.dir = tempfile.mkdtemp(prefix="trivet-container-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.group = "trivet-test-%d-%s" % (os.getpid(), os.path.basename(self.dir)[-6:])
        self.log = os.path.join(self.dir, "console")
        os.mkdir(os.path.join(self.dir, "cgroup"))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", ENTER, BOOT, tree, os.path.join(self.dir, "layers"),
                 os.path.join(self.dir, "cgroup"), self.group, name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=cluster.die_with_parent)
        try:
            self._wait_booted()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def _console(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()[-1500:]

    def _find_init(self):
        try:
            with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid), encoding="ascii") as f:
                children = f.read().split()
            with open("/proc/%s/comm" % children[0], encoding="ascii") as f:
                return children[0] if f.read().strip() == "systemd" else None
        except (OSError, IndexError):
            return None

    def _wait_booted(self, seconds=90):
        until = time.monotonic() + seconds
        self.init = None
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise ContainerError("the container ended: %s" % self._console())
            self.init = self.init or self._find_init()
            if self.init and self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return
            time.sleep(0.1)
        raise ContainerError("systemd does not boot here: %s" % self._console())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()  # its child, the first process, goes with it, and that ends all others
            self.process.wait()
        self._remove_group()
        for _ in range(50):
            shutil.rmtree(self.dir, ignore_errors=True)
            if not os.path.exists(self.dir):
                break
            time.sleep(0.1)

    def _remove_group(self):
        script = ("mount --make-rprivate /; mount -t cgroup2 none /mnt; for i in $(seq 50); do "
                  "find /mnt/%s -depth -type d -exec rmdir {} + 2>/dev/null; [ -d /mnt/%s ] || break; sleep 0.1; done")
        subprocess.run(["unshare", "--mount", "sh", "-c", script % (self.group, self.group)], check=False,
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=60)

    def run(self, *args, timeout=120, check=False, stdin=None, cwd="/root"):
        """As subprocess.run(), inside; what was printed is text."""
        done = subprocess.run(["nsenter", "-t", self.init, "-m", "-u", "-i", "-n", "-p", "-C", "env", "-i", "-C", cwd,
                               "PATH=" + PATH, "HOME=/root", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", *args],
                              input=stdin or "", capture_output=True, text=True, timeout=timeout, check=False,
                              errors="replace")
        if check and done.returncode != 0:
            raise ContainerError("%s: %s" % (" ".join(args)[:300], (done.stdout + done.stderr)[-3000:]))
        return done

    def shell(self, script, **more):
        return self.run("bash", "-ec", script, **more)

    def path(self, inside):
        """The same file, seen from outside."""
        return "/proc/%s/root%s" % (self.init, inside)

    def write(self, inside, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(inside)), exist_ok=True)
        with open(self.path(inside), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.path(inside), mode)

    def copy(self, outside, inside):
        os.makedirs(os.path.dirname(self.path(inside)), exist_ok=True)
        shutil.copy(outside, self.path(inside))

    # --- units ---

    def show(self, unit, name):
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def main_pid(self, unit):
        return int(self.show(unit, "MainPID") or 0)

    def outside(self, pid):
        """The number out here of a process in there; 0 when it is gone."""
        ours = os.readlink("/proc/%s/ns/pid" % self.init)
        for path in glob.glob("/proc/[0-9]*"):
            try:
                with open(path + "/status", encoding="utf-8", errors="replace") as f:
                    numbers = re.search(r"^NSpid:(.*)$", f.read(), re.M).group(1).split()
                if numbers[-1] == str(pid) and os.readlink(path + "/ns/pid") == ours:
                    return int(numbers[0])
            except OSError:
                pass  # it is gone
        return 0

    def kill(self, unit, number=signal.SIGKILL):
        self.run("kill", "-%d" % number, str(self.main_pid(unit)), check=True)

    def journal(self, unit, *more):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, *more).stdout


def connect(members):
    """[(container, address/size)]: one network for all of them, a bridge at the first one, called eth0 everywhere."""
    hub = members[0][0]
    script = "ip link show eth0 >/dev/null 2>&1 || ip link add eth0 type bridge\n"
    for c, _ in members[1:]:
        # Named by the process: a machine that is gone may have left its end for a moment.
        script += "ip link add to{0} master eth0 type veth peer name eth0 netns {0}\nip link set to{0} up\n".format(c.init)
    # By our own numbers of processes: only the network is the container's.
    done = subprocess.run(["nsenter", "-t", hub.init, "-n", "sh", "-ec", script], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ContainerError(done.stderr)
    for c, address in members:
        c.shell("ip address replace %s dev eth0; ip link set eth0 up" % address, check=True)
