#!/usr/bin/env python3
"""The rules of the house that a program can check. `./dev lint`.

One line per finding, `path:line: text`; the closing line counts rules, not findings. Lists of files
come from git, so what is ignored there is ignored here.
"""

import os
import re
import shutil
import subprocess
import sys

import compat_doc
import metrics_doc

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
LINE_COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
CLANG_FORMAT = "clang-format-19"

# Who may include whom. "proto/wire" is the codecs alone; "proto" is them and the transport. A folder
# of a module may have a line of its own.
MODULES = ("base", "raft", "proto", "storage", "state", "server", "client", "bench", "tests")
MAY_INCLUDE = {
    "base": {"base"},
    "raft": {"raft", "base"},
    "proto": {"proto", "base"},
    "storage": {"storage", "base", "proto/wire"},
    "state": {"state", "base", "raft", "proto/wire", "storage"},
    "server": {"server", "base", "raft", "proto", "storage", "state"},
    "client": {"client", "base", "proto"},
    "client/ctl": {"client", "base", "proto", "state"},
    "bench": {"bench", "base", "proto", "client"},
    "tests": set(MODULES),
}
# Libraries and system headers that only some modules may see; a prefix of the included path.
FENCED = {
    "uv.h": {"proto", "server", "client", "bench", "tests"},
    "nghttp2/": {"proto", "tests"},
    "openssl/": {"proto", "state", "server", "client", "tests"},
    "rocksdb/": {"storage", "tests"},
    "liburing": {"storage", "tests"},
    "protobuf-c/": {"proto", "server", "client", "bench", "tests"},
    "check.h": {"tests"},
}
# The consensus core is a pure function of its inputs.
RAFT_NEVER = ("time.h", "stdio.h", "pthread.h", "unistd.h", "fcntl.h", "sys/", "uv.h",
              "base/clock.h", "base/mpsc.h", "base/epoch.h", "base/log.h")

BANNED_CALLS = {
    "strcpy": "memcpy with a known size", "strcat": "a struct buf", "sprintf": "snprintf",
    "vsprintf": "vsnprintf", "gets": "fgets", "strtok": "strchr or strtok_r", "rand": "base/rng.h",
    "srand": "base/rng.h", "random": "base/rng.h", "atoi": "strtoul with its checks",
    "atol": "strtoul with its checks", "alloca": "an arena", "assert": "ASSERT",
    "malloc": "mem_alloc", "calloc": "mem_alloc_zero", "realloc": "mem_realloc",
}
# Where the allocator itself, or a child process's own memory, is at home.
BANNED_CALLS_EXCEPT = {("base/src/mem.c", "malloc"), ("base/src/mem.c", "calloc"),
                       ("base/src/mem.c", "realloc")}

# Left-over marks, and paths that exist on one machine only.
FORBIDDEN = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|(?<![\w.])/(work|root|home)/\w")

# Functions that were longer than the limit when it was set or are one flat switch: "path:name" -> lines.
# An entry may shrink or go, never grow.
LONG_FUNCTIONS = {}

findings = []


def find(path, line, text):
    findings.append("%s:%d: %s" % (path, line, text))


def tracked(*patterns):
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--"] + list(patterns),
                           cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    return sorted(n for n in names if n and os.path.isfile(os.path.join(ROOT, n)))


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def code_of(text):
    """The same lines without comments and without the contents of strings."""
    def blank(match):
        found = match.group(0)
        if found.startswith("/"):
            return re.sub(r"[^\n]", " ", found)
        return found[0] + found[-1]
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, text,
                  flags=re.S)


def module_of(path):
    if path.startswith("server/state/"):  # a library of its own
        return "state"
    first = path.split("/")[0]
    return first if first in MODULES else None


INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def includes_of(path):
    text = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text_of(path), flags=re.S)
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match.group(2), match.group(1)


def included_module(name):
    first = name.split("/")[0]
    if "/" not in name or first not in MODULES:
        return None
    return "proto/wire" if name.startswith("proto/wire") else first


def check_includes(sources):
    for path in sources:
        module = module_of(path)
        if module is None:
            continue
        folder = "/".join(path.split("/")[:2])
        allowed = MAY_INCLUDE.get(folder, MAY_INCLUDE[module])
        for line, name, _ in includes_of(path):
            if ".." in name.split("/"):
                find(path, line, 'include without "..": %s' % name)
            other = included_module(name)
            if other and other not in allowed and other.split("/")[0] not in allowed:
                find(path, line, "%s may not include %s" % (module, name))
            for prefix, homes in FENCED.items():
                if name.startswith(prefix) and module not in homes:
                    find(path, line, "%s may not include %s" % (module, name))
            if module == "raft" and name.startswith(RAFT_NEVER):
                find(path, line, "raft is pure: it may not include %s" % name)


def resolve(path, name, headers):
    """The project's file that `name` means in `path`, or None."""
    near = os.path.normpath(os.path.join(os.path.dirname(path), name))
    if near in headers:
        return near
    for candidate in (name, "%s/include/%s" % (name.split("/")[0], name), "client/include/" + name):
        if candidate in headers:
            return candidate
    return None


def check_cycles(headers):
    graph = {h: [r for r in (resolve(h, name, headers) for _, name, _ in includes_of(h)) if r]
             for h in headers}
    done, path = set(), []

    def visit(header):
        if header in path:
            find(header, 1, "header cycle: " + " -> ".join(path[path.index(header):] + [header]))
            return
        if header in done:
            return
        path.append(header)
        for other in graph[header]:
            visit(other)
        path.pop()
        done.add(header)

    for header in headers:
        visit(header)


def check_guards(headers):
    for path in headers:
        text = text_of(path)
        parts = [p for p in path[:-2].split("/")]
        if "include" in parts:
            parts = parts[parts.index("include") + 1:]
        want = re.sub(r"[^A-Z0-9]", "_", "_".join(parts).upper()) + "_H"
        found = re.search(r"^#ifndef (\w+)\n#define \1$", text, re.M)
        if not found or found.group(1) not in (want, want.replace("_SRC_", "_")):
            find(path, 1, "the include guard should be %s" % want)
        elif not text.rstrip().endswith("#endif"):
            find(path, text.count("\n"), "the include guard should end the file, as #endif alone")


def check_openings(sources):
    """Every header, and every .c file that has no header of its name to say it."""
    for path in sources:
        stem = os.path.basename(path)[:-2]
        if path.endswith(".c") and any(os.path.basename(p) == stem + ".h" and
                                       module_of(p) == module_of(path) for p in sources):
            continue
        if not text_of(path).startswith("/* "):
            find(path, 1, "a file begins with a comment that says what it is for")


def check_lines(paths):
    for path in paths:
        text = text_of(path)
        is_c = path.endswith((".c", ".h"))
        for number, line in enumerate(text.split("\n"), 1):
            if is_c and len(line) > LINE_COLUMNS_MAX:
                find(path, number, "%d columns (at most %d)" % (len(line), LINE_COLUMNS_MAX))
            if "\t" in line and not path.endswith((".go", "go.mod", "go.sum")):
                find(path, number, "a tab")
            if line.rstrip(" \r") != line:
                find(path, number, "blanks at the end")
        if text and not text.endswith("\n"):
            find(path, text.count("\n") + 1, "no newline at the end")


def check_words(paths):
    for path in paths:
        if path == "tests/lint/lint.py":
            continue
        for number, line in enumerate(text_of(path).split("\n"), 1):
            match = FORBIDDEN.search(line)
            if match:
                find(path, number, "does not belong here: %s" % match.group(0))


def check_calls(sources):
    calls = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(BANNED_CALLS))
    for path in sources:
        for number, line in enumerate(code_of(text_of(path)).split("\n"), 1):
            for match in calls.finditer(line):
                name = match.group(1)
                if (path, name) not in BANNED_CALLS_EXCEPT:
                    find(path, number, "%s(): use %s" % (name, BANNED_CALLS[name]))


def functions_of(path):
    """(name, first line, lines) of each function: a `{` alone in column 0 until the `}` there."""
    lines = code_of(text_of(path)).split("\n")
    start = None
    for number, line in enumerate(lines):
        if line.rstrip() == "{":
            start = number
        elif line.startswith("}") and start is not None:
            head = start - 1
            while head > 0 and lines[head][:1] in (" ", ")"):
                head -= 1
            match = re.search(r"(\w+)\(", lines[head])
            yield (match.group(1) if match else "?"), head + 1, number - start + 1
            start = None


def check_functions(sources):
    seen = set()
    for path in sources:
        for name, line, length in functions_of(path):
            key = "%s:%s" % (path, name)
            seen.add(key)
            limit = LONG_FUNCTIONS.get(key, FUNCTION_LINES_MAX)
            if length > limit:
                find(path, line, "%s() has %d lines (at most %d)" % (name, length, limit))
            elif key in LONG_FUNCTIONS and length < limit:
                find(path, line, "%s() has become shorter: make its limit %d" % (name, length))
    for key in set(LONG_FUNCTIONS) - seen:
        find("tests/lint/lint.py", 1, "%s is gone: take it off the list" % key)


def check_format(sources):
    tool = shutil.which(CLANG_FORMAT)
    if tool is None:
        find("tests/lint/lint.py", 1, "%s is not installed" % CLANG_FORMAT)
        return
    for first in range(0, len(sources), 40):
        result = subprocess.run([tool, "--dry-run", "--ferror-limit=1"] + sources[first:first + 40],
                                cwd=ROOT, capture_output=True, text=True)
        for match in re.finditer(r"^([^:\n]+):(\d+):\d+: (?:warning|error)", result.stderr, re.M):
            find(match.group(1), int(match.group(2)), "not formatted (./dev fmt)")


def check_links(documents):
    """What a page points to in the tree is there."""
    for path in documents:
        for match in re.finditer(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text_of(path)):
            where = os.path.normpath(os.path.join(ROOT, os.path.dirname(path), match.group(1)))
            if not os.path.exists(where):
                find(path, text_of(path).count("\n", 0, match.start()) + 1, "there is no %s" % match.group(1))


def check_metrics_page():
    if not metrics_doc.is_true():
        find("docs/metrics.md", 1, "not what the program has: run tests/lint/metrics_doc.py")


def check_compatibility_page():
    try:
        if not compat_doc.is_true():
            find("docs/compatibility.md", 1, "not what the tests say: run tests/lint/compat_doc.py")
    except ValueError as error:
        find("docs/compatibility.md", 1, str(error))


def check_mutants(patches):
    """One that no longer applies is never built, and says nothing of the simulator."""
    for path in patches:
        done = subprocess.run(["patch", "-p1", "--batch", "--dry-run", "-i", path], cwd=ROOT, capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            find(path, 1, "does not apply: %s" % " ".join(done.stdout.split("\n")[:2]))


def main():
    headers = tracked("*.h")
    sources = tracked("*.c", "*.h")
    text_files = tracked("*.c", "*.h", "*.py", "*.go", "*.md", "*.build", "*.txt", "*.proto", "dev",
                         ".ci/run", "*.sh")
    own = [p for p in sources if not p.startswith("tests/")]
    rules = [
        ("includes run one way", lambda: check_includes(sources)),
        ("headers without cycles", lambda: check_cycles(headers)),
        ("include guards", lambda: check_guards(headers)),
        ("files say what they are for", lambda: check_openings(sources)),
        ("lines", lambda: check_lines(text_files)),
        ("words", lambda: check_words(text_files)),
        ("calls", lambda: check_calls(own)),
        ("function lengths", lambda: check_functions(own)),
        ("links", lambda: check_links(tracked("*.md"))),
        ("docs/metrics.md", check_metrics_page),
        ("the page of compatibility is what the tests say", check_compatibility_page),
        ("mutants apply", lambda: check_mutants(tracked("tests/sim/mutants/*.patch"))),
        ("format", lambda: check_format(sources)),
    ]
    failed = 0
    for name, rule in rules:
        before = len(findings)
        rule()
        if len(findings) > before:
            failed += 1
            print("FAILED %s" % name)
            for text in sorted(set(findings[before:])):
                print("  " + text)
    print("%d passed, %d failed" % (len(rules) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
