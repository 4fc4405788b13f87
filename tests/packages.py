#!/usr/bin/env python3
"""The Debian packages: built, nothing for lintian to say; installed without systemd, used, upgraded while a member
runs, removed and purged without a trace. `packages.py bookworm trixie`: of these releases."""

import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib"))
import cluster  # noqa: E402
import debian  # noqa: E402

tally = cluster.Tally()

# Each check prints a line "ok NAME" or "not ok NAME"; the last line of all is "end".
SCRIPT = r"""
check() { local name=$1; shift; if "$@" >/tmp/said 2>&1; then echo "ok $name"; else echo "not ok $name"; sed 's/^/    /' /tmp/said | tail -15; fi; }
no() { ! "$@"; }
touch -d '5 seconds ago' /tmp/before
find / -xdev -not -path '/proc/*' -not -path '/tmp/*' -not -path '/packages/*' | sort >/tmp/files.before
cp /etc/passwd /tmp/passwd.before

check "they install" dpkg -i /packages/old/*.deb
check "nothing is amiss with them" sh -c '[ -z "$(dpkg --verify trivet-server trivet-client libtrivet1)" ]'
check "there is a user" sh -c 'getent passwd trivet | grep -q /var/lib/trivet'
check "who may see the data" sh -c '[ "$(stat -c "%U %a" /var/lib/trivet)" = "trivet 700" ]'
check "who may see the keys" sh -c '[ "$(stat -c "%U:%G %a" /etc/trivet/pki)" = "root:trivet 750" ]'
check "the configuration is a conffile" sh -c 'dpkg-query -W -f "\${Conffiles}" trivet-server | grep -q /etc/trivet/trivetd.yaml'
check "nothing was started" no pgrep trivetd
check "the allocator is jemalloc" sh -c 'for p in /usr/sbin/trivetd /usr/bin/trivetctl /usr/bin/trivet-bench; do ldd $p | grep -q libjemalloc || exit 1; done'
check "the units are where systemd looks" sh -c 'systemd-analyze verify --man=no trivetd.service trivet-snapshot.timer'

mkdir /tmp/run; chown trivet /tmp/run
runuser -u trivet -- trivetd --name a --data-dir /var/lib/trivet/data --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 >/tmp/run/log 2>&1 &
member=$!
for n in $(seq 200); do curl -s -m 2 http://127.0.0.1:2379/health | grep -q true && break; sleep 0.1; done
check "a member takes a write" sh -c 'trivetctl put k v | grep -qx OK || { tail -5 /tmp/run/log; exit 1; }'
check "trivet-bench loads it" sh -c 'trivet-bench put --duration 1 --warmup 0 --keys 10 --quiet --json - | grep -q "{"'

cd /tmp
check "a program is built with the shared library" sh -c 'cc -Wall -Werror /usr/share/doc/libtrivet-dev/examples/hello.c -o hello $(pkg-config --cflags --libs libtrivet)'
check "and finds it" sh -c './hello 127.0.0.1:2379 </dev/null'
check "it needs libtrivet.so.1 in its version" sh -c 'readelf -d hello | grep -q "libtrivet.so.1]" && readelf -V hello | grep -q LIBTRIVET_1.0'
check "a program is built with the static library" sh -c 'cc /usr/share/doc/libtrivet-dev/examples/hello.c -o static $(pkg-config --cflags libtrivet) -Wl,-Bstatic -ltrivet -Wl,-Bdynamic $(pkg-config --libs --static libtrivet | sed s/-ltrivet//) && ./static 127.0.0.1:2379 && ! ldd static | grep -q libtrivet'
check "each function has a man page" sh -c 'for f in $(grep -o "trivet_[a-z_]*" /usr/include/trivet.h | sort -u); do grep -q "TRIVET_API.*\b$f(" /usr/include/trivet.h || continue; [ -e /usr/share/man/man3/$f.3.gz ] || { echo $f; exit 1; }; done'

check "an upgrade goes through while it runs" dpkg -i /packages/new/*.deb
check "which does not stop it" sh -c 'trivetctl get k --print-value-only | grep -qx v'
kill $(pgrep -x trivetd); wait $member; status=$?
check "it ends by the signal, as etcd does" [ $status = 143 ]
echo '# mine' >>/etc/trivet/trivetd.yaml
check "an upgrade leaves the configuration alone" sh -c 'dpkg -i /packages/old/trivet-server*.deb && grep -qx "# mine" /etc/trivet/trivetd.yaml'
check "removing leaves data and configuration" sh -c 'dpkg -r trivet-server && [ -d /var/lib/trivet/data ] && [ -e /etc/trivet/trivetd.yaml ]'
rm -rf /tmp/hello /tmp/static
check "purging takes them" sh -c 'dpkg -P trivet-server trivet-client libtrivet-dev libtrivet1'
find / -xdev -not -path '/proc/*' -not -path '/tmp/*' -not -path '/packages/*' | sort >/tmp/files.after
comm -13 /tmp/files.before /tmp/files.after | grep -v -E '^/(etc/.*-|var/lib/dpkg/.*|var/cache/.*|var/log/.*|root/.*|etc/\.pwd\.lock|var/lib/systemd.*|etc/systemd/system.*|run/systemd(/.*)?)$' >/tmp/left
check "no file is left" sh -c 'cat /tmp/left; [ ! -s /tmp/left ]'
check "no link of a unit is left" sh -c '! find /etc/systemd /var/lib/systemd/deb-systemd-helper* -name "*trivet*" 2>/dev/null | grep .'
echo end
"""


def release(name):
    debian.ready(name)
    built = debian.packages(name)
    for package in ("trivet-server", "trivet-client", "libtrivet1", "libtrivet-dev"):
        tally.check(package in built, "%s: there is %s" % (name, package))
    said = debian.lintian(name)
    tally.check(said == [], "%s: lintian has nothing to say" % name, "\n".join(said))
    with tempfile.TemporaryDirectory(prefix="trivet-packages-") as folder:
        files = []
        for package in ("trivet-server", "trivet-client", "libtrivet1", "libtrivet-dev"):
            later = debian.raised(built[package], "9.0.0", folder)
            files += [(built[package], "/packages/old/%s.deb" % package), (later, "/packages/new/%s.deb" % package)]
        done = debian.overlaid(name, SCRIPT, files)
    lines = done.stdout.splitlines()
    for n, line in enumerate(lines):
        if line.startswith(("ok ", "not ok ")):
            why = [more for more in lines[n + 1:n + 17] if more.startswith("    ")]
            tally.check(line.startswith("ok "), "%s: %s" % (name, line.split("ok ", 1)[1]), "\n".join(why))
    tally.check(lines and lines[-1] == "end", "%s: to the end" % name, done.stdout[-1500:])


def main():
    cluster.exit_on_signals()
    for name in sys.argv[1:] or [debian.here() or "bookworm"]:
        release(name)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
