#!/usr/bin/env python3
"""docs/configuration.md has the table of all flags as the program itself tells them (`--help`), and they are etcd's, with its
defaults. `--write` writes the table anew."""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import cluster as clusters  # noqa: E402
from cluster import Tally  # noqa: E402

PAGE = os.path.join(clusters.ROOT, "docs", "configuration.md")
BEGIN, END = "<!-- flags: from trivetd --help -->\n", "<!-- end of flags -->\n"
FLAG = re.compile(r"^  --([a-z0-9-]+)(?: '(.*)'| (\d+))?$")
# What etcd's help text says other than what it does, or in words.
ETCD_HELP = {
    "data-dir": "", "max-concurrent-streams": "4294967295", "memory-mlock": "false",
    "backend-batch-interval": "0", "enable-grpc-gateway": "true", "compaction-batch-limit": "0",
    "compaction-sleep-interval": "0", "bootstrap-defrag-threshold-megabytes": "0",
    "downgrade-check-time": "5s", "snapshot-catchup-entries": "5000", "feature-gates": None,
}
NOT_IN_ETCD = {"discovery", "discovery-proxy"}  # in its help, and not defined


def flags_of(kind):
    """[(group, name, default, [lines])]"""
    text = subprocess.run([clusters.binary(kind), "--help"], capture_output=True, text=True, check=False).stdout
    found, group = [], ""
    for line in text.splitlines():
        match = FLAG.match(line)
        if match:
            found.append((group, match.group(1), match.group(2) if match.group(3) is None else match.group(3), []))
        elif re.fullmatch(r"[A-Z].*:", line) or line == "trivet:":
            group = line[:-1]
        elif line.startswith("    ") and found:
            found[-1][3].append(line.strip())
    return found


def table(flags, theirs):
    out, last = [], None
    for group, name, default, lines in flags:
        if group != last:
            out.append("\n### %s\n\n| flag | default | | etcd's |\n|---|---|---|---|\n" % group)
            last = group
        here = [line for line in lines if line.startswith("Other than in etcd: ")]
        text = " ".join(line for line in lines if line not in here).replace("|", "\\|")
        same = "-" if name not in theirs else "means here: " + here[0][20:].rstrip(".") if here else "same"
        value = "" if default in (None, "") else "`%s`" % default
        out.append("| `--%s` | %s | %s | %s |\n" % (name, value, text, same))
    return "".join(out) + "\n"


def main():
    tally = Tally()
    ours = flags_of("trivet")
    by_name = {f[1]: f for f in ours}
    theirs = {f[1]: f for f in flags_of("etcd") if f[1] not in NOT_IN_ETCD}
    tally.check(len(theirs) > 100, "etcd has told its flags", str(len(theirs)))
    for name, (_, _, default, _) in theirs.items():
        default = ETCD_HELP.get(name, default)
        if name == "v2-deprecation" or not tally.check(name in by_name, "--%s is there" % name):
            continue
        mine = by_name[name][2]
        tally.check((mine or "") == (default or ""), "the default of --" + name, "%s, etcd's is %s" % (mine, default))
    with open(PAGE, encoding="utf-8") as f:
        page = f.read()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    wanted = before + BEGIN + table(ours, theirs) + END + after
    if "--write" in sys.argv:
        with open(PAGE, "w", encoding="utf-8") as f:
            f.write(wanted)
    else:
        tally.check(page == wanted, "docs/configuration.md has what --help says (config_docs.py --write)")
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
