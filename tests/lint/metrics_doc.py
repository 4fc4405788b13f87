#!/usr/bin/env python3
"""docs/metrics.md: its table is made of the program's own (server/metrics_table.c).

    tests/lint/metrics_doc.py            # write it anew
"""

import os
import re
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
SOURCE = os.path.join(ROOT, "server", "metrics_table.c")
LABELS = os.path.join(ROOT, "server", "metrics_labels.c")
PAGE = os.path.join(ROOT, "docs", "metrics.md")
MARK = "<!-- The table is made by tests/lint/metrics_doc.py. -->\n"

ROW = re.compile(r'^    (NUMBER|SECONDS|COUNTER|HISTOGRAM|WRITTEN)\("(\w+)",\s+([^;]*?),\n'
                 r'        "((?:[^"\\]|\\.)*)"\),$', re.M)
BOUNDS = re.compile(r'(\w+)_labels\[\] = \{([^}]*)\};\n'
                    r'(?:static )?const struct metric_bounds (\w+) ')


def rows():
    """[(name, type, bounds or "", help)], in the order of the table."""
    with open(SOURCE, encoding="utf-8") as source:
        text = source.read()
    bounds = {}
    for _, labels, name in BOUNDS.findall(text):
        values = re.findall(r'"([^"]+)"', labels)
        bounds[name] = "%s, x 2, to %s" % (values[0], values[-1])
    found = []
    for kind, name, rest, meaning in ROW.findall(text):
        if kind == "HISTOGRAM":
            found.append((name, "histogram", bounds[rest.split(",")[0].strip()], meaning))
        else:
            found.append((name, re.match(r'"(\w+)"', rest).group(1), "", meaning))
    kinds = r'^    (?:NUMBER|SECONDS|COUNTER|HISTOGRAM|WRITTEN)\('
    if len(found) != len(re.findall(kinds, text, re.M)):
        raise ValueError("a row of %s is not understood" % SOURCE)
    return found


def table():
    lines = ["| metric | type | bounds | meaning |", "|---|---|---|---|"]
    lines += ["| `%s` | %s | %s | %s |" % row for row in rows()]
    return "\n".join(lines) + "\n"


def page():
    """What docs/metrics.md should be: its words, and the table."""
    with open(PAGE, encoding="utf-8") as current:
        words = current.read().split(MARK)[0]
    return words + MARK + "\n" + table()


def is_true():
    with open(PAGE, encoding="utf-8") as current:
        return current.read() == page()


if __name__ == "__main__":
    wanted = page()
    with open(PAGE, "w", encoding="utf-8") as out:
        out.write(wanted)
    sys.exit(0)
