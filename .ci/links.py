#!/usr/bin/env python3
"""Checks that relative links and anchors in Markdown files, and paths of pages in all other files, lead somewhere.

Usage: links.py

Reads the tracked and new files of the repository around it. Prints each broken link with its file and line.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^\s*(```|~~~)")
CODE = re.compile(r"`+[^`]*`+")
LINK = re.compile(r"\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|\b(?:href|src)=\"([^\"]+)\"|^\[[^\]]+\]:\s*(\S+)")
PAGE = re.compile(r"(?<![\w./-])docs/[\w/.-]+\.(?:md|json)\b")


def tracked():
    """All files that belong to the repository, as paths below its root."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(name for name in names if name and (ROOT / name).is_file())


def lines(text):
    """Numbered lines outside of code blocks."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def anchors(text):
    """The anchors that GitHub gives a page's headings: lower case, dashes for spaces, no punctuation, numbers for repeats."""
    found = {}
    names = set()
    for _, line in lines(text):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if not heading:
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        repeats = found.get(slug, 0)
        found[slug] = repeats + 1
        names.add(f"{slug}-{repeats}" if repeats else slug)
    return names | set(re.findall(r"\b(?:id|name)=\"([^\"]+)\"", text))


def broken_links(name, text):
    """Broken relative links of a Markdown file, as (line, target, reason)."""
    for number, line in lines(text):
        for groups in LINK.findall(CODE.sub("", line)):
            target = next(filter(None, groups))
            if re.match(r"[a-z][a-z+.-]*:|//", target):
                continue
            path, _, anchor = unquote(target).partition("#")
            file = (ROOT / name).parent / path if path else ROOT / name
            if not file.exists():
                yield number, target, "no such file"
            elif not file.resolve().is_relative_to(ROOT):
                yield number, target, "outside the repository"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
                yield number, target, "no such heading"


def broken_pages(text):
    """Pages that a file names but that do not exist, as (line, target, reason)."""
    for number, line in enumerate(text.splitlines(), 1):
        for page in PAGE.findall(line):
            if not (ROOT / page).exists():
                yield number, page, "no such page"


def main():
    broken = 0
    for name in tracked():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        faults = list(broken_pages(text))
        if name.endswith(".md"):
            faults += broken_links(name, text)
        for number, target, reason in faults:
            print(f"{name}:{number}: {target}: {reason}")
        broken += len(faults)
    if broken:
        sys.exit(f"{broken} broken links")


if __name__ == "__main__":
    main()
