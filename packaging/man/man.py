#!/usr/bin/env python3
"""The man pages, from what cannot be stale: the programs' own --help, and trivet.h. Meson runs this in every build.

    man.py --out FOLDER --version V --header trivet.h --trivetd PROGRAM --trivetctl PROGRAM --bench PROGRAM
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time

import header
import troff

PROGRAMS = {
    "trivetd": {
        "section": 8,
        "name": "a replicated key-value store that speaks etcd's API",
        "about": [
            "trivetd is one member of a cluster, three to a rule, each in a zone of its own. It takes the place of "
            "etcd: the same flags, variables and files, the same API. Without flags it is a cluster of one on "
            "localhost.",
            "SIGTERM and SIGINT end it: a leader hands over first, and calls that are under way are given two "
            "seconds. As a systemd service (Type=notify) it says when it serves, and answers the watchdog from the "
            "thread without which nothing goes on."],
        "files": [("/etc/trivet/trivetd.yaml", "options of trivetd.service"),
                  ("/etc/trivet/NAME.yaml", "options of trivetd@NAME.service"),
                  ("/var/lib/trivet", "data")],
        "see": ["trivetctl(1)", "trivet-bench(1)", "systemd.service(5)"]},
    "trivetctl": {
        "section": 1,
        "name": "ask and operate a cluster of trivet or etcd",
        "about": ["trivetctl takes the commands of etcdctl and prints what etcdctl prints."],
        "files": [],
        "see": ["trivetd(8)", "trivet-bench(1)"]},
    "trivet-bench": {
        "section": 1,
        "name": "load a cluster of trivet or etcd and measure",
        "about": [],
        "files": [],
        "see": ["trivetd(8)", "trivetctl(1)"]},
}


def help_of(program, *command):
    """What it says of itself, or None when it does not know the command."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run([program, *command, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=False, env=environment)
    if command and done.returncode != 0:
        return None
    lines = [line.expandtabs() for line in (done.stderr + done.stdout).splitlines()]
    return [line for line in lines if "unrecognized option" not in line]


HEADING = re.compile(r"^([A-Za-z][^:]{0,60}:|usage:(\s+\S.*)?)$")


def sections(lines):
    """[(heading, [lines])]; what comes before the first heading has None."""
    found = [(None, [])]
    for line in lines:
        match = HEADING.match(line)
        if match:
            found.append((line[:line.index(":")], []))
            if match.group(2):
                found[-1][1].append("  " + match.group(2).strip())
        else:
            found[-1][1].append(line)
    return found


def entries(lines):
    """[(term, [description])] of indented lines; a term of None is a paragraph."""
    depths = [len(line) - len(line.lstrip()) for line in lines if line.strip() and line.startswith(" ")]
    base = min(depths, default=0)
    found, fresh = [], True
    for line in lines:
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if not text:
            fresh = True
        elif depth == 0 and base > 0:
            if fresh or found[-1][0] is not None:
                found.append((None, []))
            found[-1][1].append(text)
            fresh = False
        elif depth <= base + 1:
            term, _, rest = (text + "  ").partition("  ")
            found.append((term, [rest.strip()] if rest.strip() else []))
            fresh = False
        elif found:
            term, description = found[-1]
            if term is not None and not description and text.startswith("["):
                found[-1] = (term + " " + text, [])
            else:
                description.append(text)
    return found


def write_entries(page, lines):
    for term, description in entries(lines):
        if term is None:
            page.paragraph(" ".join(description))
        else:
            page.item(term, " ".join(description))


def commands_of(parts):
    for heading, lines in parts:
        if heading and heading.lower() == "commands":
            return [re.split(r"[\[<]|  ", term)[0].split() for term, _ in entries(lines) if term]
    return []


def program_page(name, path, version, out):
    about = PROGRAMS[name]
    page = troff.Page(name, about["section"], version)
    page.heading("NAME")
    page.text("%s - %s" % (name, about["name"]))
    parts = sections(help_of(path))
    for heading, lines in parts:
        if heading and heading.lower() == "usage":
            page.heading("SYNOPSIS")
            write_entries(page, lines)
    if about["about"] or parts[0][1]:
        page.heading("DESCRIPTION")
    for text in about["about"]:
        page.paragraph(text)
    write_entries(page, parts[0][1])
    for heading, lines in parts[1:]:
        if heading.lower() in ("usage", "name"):
            continue
        page.heading(heading.upper())
        write_entries(page, lines)
    if name == "trivetctl":
        for command in commands_of(parts):
            lines = help_of(path, *command)
            if lines and lines != help_of(path):
                page.subheading(" ".join([name] + command))
                for heading, more in sections(lines):
                    if heading and heading.lower() not in ("usage", "name"):
                        page.paragraph(heading + ":")
                    write_entries(page, more)
    if about["files"]:
        page.heading("FILES")
        for file, what in about["files"]:
            page.item(file, what)
    page.heading("SEE ALSO")
    page.text(", ".join(about["see"]))
    page.write(out)


def main():
    parser = argparse.ArgumentParser()
    for name in ("out", "version", "header", "trivetd", "trivetctl", "bench"):
        parser.add_argument("--" + name, required=True)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    os.makedirs(args.out)
    for name, path in (("trivetd", args.trivetd), ("trivetctl", args.trivetctl), ("trivet-bench", args.bench)):
        program_page(name, os.path.abspath(path), args.version, args.out)
    with open(args.header, encoding="utf-8") as f:
        header.write_pages(f.read(), args.version, args.out)
    now = time.time()
    os.utime(args.out, (now, now))
    return 0


if __name__ == "__main__":
    sys.exit(main())
