"""Prometheus' text form, read: as much of it as etcd and trivet write."""

import re
import urllib.request

SERIES = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)')


class Page:
    """types: name -> type. values: (name, labels as a sorted tuple of pairs) -> float."""

    def __init__(self, text):
        self.types, self.values, self.helps = {}, {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                if name in self.types:
                    raise ValueError("twice: " + name)
                self.types[name] = kind
            elif line.startswith("# HELP "):
                self.helps[line.split(" ")[2]] = line.split(" ", 3)[3]
            elif line:
                self.take(line)

    def take(self, line):
        found = SERIES.match(line)
        if not found:
            raise ValueError("no series: " + line)
        name, labels, value = found.groups()
        pairs = LABEL.findall(labels or "")
        if ",".join('%s="%s"' % p for p in pairs) != (labels or ""):
            raise ValueError("labels: " + line)
        key = (name, tuple(sorted(pairs)))
        if key in self.values:
            raise ValueError("twice: " + line)
        self.values[key] = float(value)

    def value(self, name, **labels):
        """The sum of the series with these labels; None when there is none."""
        wanted = set(labels.items())
        found = [v for (n, have), v in self.values.items() if n == name and wanted <= set(have)]
        return sum(found) if found else None

    def label_names(self, name):
        """Of a family: the sets of label names that its series have; "le" is not one of them."""
        family = {name, name + "_bucket", name + "_sum", name + "_count"}
        return {tuple(k for k, _ in labels if k != "le")
                for (n, labels) in self.values if n in family}

    def bounds(self, name):
        return sorted({dict(labels)["le"] for (n, labels) in self.values if n == name + "_bucket"})


def fetch(endpoint, timeout=10):
    with urllib.request.urlopen("http://%s/metrics" % endpoint, timeout=timeout) as answer:
        return Page(answer.read().decode())
