"""A man page in man(7)'s macros."""

import datetime
import os
import textwrap
import time


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha").replace("`", "\\(ga")
    text = "".join(c if ord(c) < 128 else "\\[u%04X]" % ord(c) for c in text)
    return "\\&" + text if text[:1] in (".", "'") else text


class Page:
    def __init__(self, name, section, version):
        seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
        day = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d")
        self.name, self.section = name, section
        self.lines = ['.TH "%s" "%d" "%s" "trivet %s" "trivet"' % (name.upper().replace("-", "\\-"), section, day, version)]

    def heading(self, text):
        self.lines.append('.SH "%s"' % escape(text))

    def subheading(self, text):
        self.lines.append('.SS "%s"' % escape(text))

    def text(self, text):
        for line in textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False):
            self.lines.append(escape(line))

    def paragraph(self, text):
        if not self.lines[-1].startswith((".SH", ".SS")):
            self.lines.append(".PP")
        self.text(text)

    def item(self, term, text):
        self.lines.append(".TP")
        self.lines.append("\\fB%s\\fR" % escape(term).removeprefix("\\&"))
        if text:
            self.text(text)
        else:
            self.lines.append("\\&")

    def code(self, lines):
        if not self.lines[-1].startswith((".SH", ".SS")):
            self.lines.append(".PP")
        self.lines += [".nf"] + [escape(line.rstrip()) if line.strip() else ".sp" for line in lines] + [".fi"]

    def write(self, out):
        folder = os.path.join(out, "man%d" % self.section)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "%s.%d" % (self.name, self.section)), "w", encoding="ascii") as f:
            f.write("\n".join(self.lines) + "\n")


def alias(name, of, section, out):
    os.symlink("%s.%d" % (of, section), os.path.join(out, "man%d" % section, "%s.%d" % (name, section)))
