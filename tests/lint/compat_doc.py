#!/usr/bin/env python3
"""docs/compatibility.md: made of the server's table of methods and of what the tests say.

    tests/lint/compat_doc.py             # write it anew

A test that leaves something out of its comparison with etcd, or shows something that etcd has not, says so
where it does it, in a comment:

    COMPAT differs, Area: what is otherwise; because ...
    COMPAT   and goes on
    COMPAT better, Area: what etcd's users suffer from and ours do not
"""

import os
import re
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
METHODS = os.path.join(ROOT, "server", "services.c")
PAGE = os.path.join(ROOT, "docs", "compatibility.md")
TESTS = [os.path.join(ROOT, "tests", name) for name in ("clients", "faults")]
MARK = "<!-- What follows is made by tests/lint/compat_doc.py. -->\n"
SAYS = re.compile(r"COMPAT (differs|better), ([^:]+): (.*)$")
GOES_ON = re.compile(r"COMPAT   (\S.*)$")


def sources():
    """{path from the root: text} of the tests that run beside etcd or under faults."""
    found = {}
    for folder in TESTS:
        for path, folders, names in os.walk(folder):
            folders[:] = sorted(f for f in folders if f not in ("node_modules", "target", "__pycache__"))
            for name in sorted(names):
                if name.endswith((".py", ".go", ".c")):
                    with open(os.path.join(path, name), encoding="utf-8") as f:
                        found[os.path.relpath(os.path.join(path, name), ROOT)] = f.read()
    return found


def methods(tests):
    """[(service, [methods])], each compared somewhere."""
    with open(METHODS, encoding="utf-8") as f:
        paths = re.findall(r'"/([\w.]+)/(\w+)"', f.read())
    services = {}
    for service, method in paths:
        short = service.split(".")[-1]
        names = ("%s/%s" % (service, method), '%s" + "%s"' % (short, method), '"%s"' % method)
        if not any(name in text for text in tests.values() for name in names):
            raise ValueError("%s/%s is compared by no test" % (service, method))
        services.setdefault(service, []).append(method)
    return list(services.items())


def remarks(tests):
    """[(verdict, area, text, path)]"""
    found = []
    for path, text in tests.items():
        for line in text.splitlines():
            says, goes_on = SAYS.search(line), GOES_ON.search(line)
            if says:
                found.append([*says.groups(), path])
            elif goes_on and found and found[-1][3] == path:
                found[-1][2] += " " + goes_on.group(1)
    return sorted(found, key=lambda r: (r[1], r[0]))


def table():
    tests = sources()
    lines = ["## Methods", "", "All of them; each is compared with etcd's, its errors included.", "",
             "| service | methods |", "|---|---|"]
    lines += ["| `%s` | %s |" % (service, ", ".join(names)) for service, names in methods(tests)]
    for verdict, title in (("better", "Better"), ("differs", "Different")):
        lines += ["", "## " + title, "", "| | | shown by |", "|---|---|---|"]
        lines += ["| %s | %s | `%s` |" % (area, text, path)
                  for said, area, text, path in remarks(tests) if said == verdict]
    return "\n".join(lines) + "\n"


def page():
    with open(PAGE, encoding="utf-8") as current:
        words = current.read().split(MARK)[0]
    return words + MARK + "\n" + table()


def is_true():
    with open(PAGE, encoding="utf-8") as current:
        return current.read() == page()


def main():
    text = page()
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    sys.exit(main())
