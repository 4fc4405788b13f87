"""trivet.h as man pages: libtrivet(3), and one page for each of its parts, under the name of its first function;
the other functions are aliases of it."""

import re

import troff

PART = re.compile(r"^/\* --- (.+) --- \*/$", re.M)
FUNCTION = re.compile(r"^TRIVET_API [^;{]*?\b(trivet_\w+)\([^;]*\);", re.S)
INLINE = re.compile(r"^static inline [^\n]*?\b(trivet_\w+)\([^)]*\)\n\{.*?\n\}", re.S)


def comment_text(comment):
    """Paragraphs of a comment."""
    inner = comment.strip()[2:-2]
    lines = [re.sub(r"^ ?\* ?", "", line.strip("\n")) .rstrip() for line in inner.split("\n")]
    paragraphs = [[]]
    for line in lines:
        if not line.strip():
            paragraphs.append([])
        else:
            paragraphs[-1].append(line.strip())
    return [" ".join(p) for p in paragraphs if p]


def pieces(text):
    """[(kind, text)] of a part: 'comment', 'function', or 'type'."""
    found, at = [], 0
    while at < len(text):
        rest = text[at:]
        if rest[0] in "\n ":
            at += 1
            continue
        if rest.startswith("/*"):
            end = rest.index("*/") + 2
            found.append(("comment", rest[:end]))
        elif rest.startswith("#"):
            end = rest.index("\n") if "\n" in rest else len(rest)
        else:
            match = FUNCTION.match(rest) or INLINE.match(rest)
            if match:
                end = match.end()
                found.append(("function", match.group(0)))
            else:
                end = declaration_end(rest)
                found.append(("type", rest[:end]))
        at += end
    return found


def declaration_end(text):
    """Behind the semicolon outside of all braces and comments."""
    depth, at = 0, 0
    while at < len(text):
        if text.startswith("/*", at):
            at = text.index("*/", at) + 2
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
        if text[at - 1] == ";" and depth == 0:
            return at
    raise ValueError("a declaration without an end: %s" % text[:80])


def name_of(function):
    return re.search(r"\b(trivet_\w+)\(", function).group(1)


def prototype(function):
    """On one line, as a caller sees it."""
    head = function.split("\n{")[0] + (";" if "\n{" in function else "")
    return re.sub(r"\s+", " ", head.replace("TRIVET_API ", "").replace("static inline ", "")).strip()


def split(text):
    """The opening comment, and [(title, [pieces])]."""
    opening = text[text.index("/*"):text.index("*/") + 2]
    marks = list(PART.finditer(text))
    parts = []
    for i, mark in enumerate(marks):
        end = marks[i + 1].start() if i + 1 < len(marks) else text.index("#ifdef __cplusplus\n}")
        parts.append((mark.group(1), pieces(text[mark.end():end])))
    return opening, parts


def functions_of(part):
    return [name_of(text) for kind, text in part if kind == "function"]


def write_part(title, part, version, out, page_name, summary):
    page = troff.Page(page_name, 3, version)
    names = functions_of(part) or [page_name]
    page.heading("NAME")
    page.text("%s - %s" % (", ".join(names), summary))
    page.heading("LIBRARY")
    page.text("libtrivet, the client of trivet and of etcd (libtrivet, \\-ltrivet)".replace("\\-", "-"))
    page.heading("SYNOPSIS")
    page.code(["#include <trivet.h>", ""] + [prototype(text) for kind, text in part if kind == "function"])
    page.heading("DESCRIPTION")
    for kind, text in part:
        if kind == "comment":
            for paragraph in comment_text(text):
                page.paragraph(paragraph)
        elif kind == "function":
            page.code([prototype(text)])
        else:
            page.code(text.split("\n"))
    page.heading("SEE ALSO")
    page.text("libtrivet(3)")
    page.write(out)
    for name in names:
        if name != page_name:
            troff.alias(name, page_name, 3, out)


def write_pages(text, version, out):
    opening, parts = split(text)
    page = troff.Page("libtrivet", 3, version)
    page.heading("NAME")
    page.text("libtrivet - client of trivet and of etcd (API v3)")
    page.heading("SYNOPSIS")
    page.code(["#include <trivet.h>", "", "cc ... $(pkg-config --cflags --libs libtrivet)"])
    page.heading("DESCRIPTION")
    for paragraph in comment_text(opening)[1:]:
        page.paragraph(paragraph)
    page.heading("PAGES")
    see = []
    for title, part in parts:
        names = functions_of(part)
        page_name = names[0] if names else "trivet_" + re.sub(r"\W+", "_", title)
        write_part(title, part, version, out, page_name, title)
        page.item("%s(3)" % page_name, title + (": " + ", ".join(names) if names else ""))
        see.append("%s(3)" % page_name)
    page.heading("SEE ALSO")
    page.text(", ".join(see + ["trivetd(8)"]))
    page.write(out)
