#!/usr/bin/env python3
"""Finds circles of imports between the files of a crate.

Usage: circles.py [--strict] CRATE/src...

A file depends on another if one of its paths leads there: `use` or not, from the crate's root, a parent or a child. Paths through
a re-export lead to the file that re-exports. What a file imports from a module that it is in counts with --strict only: most
folders are a mod.rs and the parts that it lists, which share what it defines. Tests within files never count.
(`cargo modules dependencies --acyclic` looks at items, and calls each type that is named in its own methods a circle.)
"""

import re
import sys
from pathlib import Path

# Comments, strings and characters hold no paths. A lifetime is not a character.
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\\\'])\'', re.S)
TOKEN = re.compile(r"\bmod\s+(?P<mod>\w+)\s*\{|\buse\s+(?P<use>[^;]+);|(?P<path>\b\w+(?:::\w+)+)|(?P<brace>[{}])")


def module(root, file):
    parts = list(file.relative_to(root).with_suffix("").parts)
    if parts[-1] in ("mod", "lib", "main"):
        parts.pop()
    return tuple(parts)


def leaves(tree):
    """All paths of a `use`, as lists of words."""
    tree = re.sub(r"\bas\s+\w+", "", tree).strip()
    if "{" not in tree:
        return [[word.strip() for word in tree.split("::")]]
    prefix, rest = tree.split("{", 1)
    head = [word.strip() for word in prefix.split("::") if word.strip()]
    depth, part, parts = 0, "", []
    for letter in rest[: rest.rindex("}")]:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [head + leaf for part in [*parts, part] if part.strip() for leaf in leaves(part)]


def target(words, here, files):
    """The file that a path leads to, from within the module `here`."""
    at = list(here)
    if words[0] == "crate":
        at, words = [], words[1:]
    elif words[0] in ("self", "super"):
        while words and words[0] in ("self", "super"):
            at = at[:-1] if words[0] == "super" else at
            words = words[1:]
    elif tuple([*at, words[0]]) not in files:
        return None
    for word in words:
        if tuple([*at, word]) not in files:
            break
        at.append(word)
    while tuple(at) not in files:
        at.pop()
    return tuple(at)


def imports(text, own, files):
    text = re.split(r"#\[cfg\(test\)\]\s*mod\s+\w+\s*\{", NOISE.sub(" ", text))[0]
    stack = []
    for token in TOKEN.finditer(text):
        here = own + tuple(name for name in stack if name)
        if token["mod"]:
            stack.append(token["mod"])
        elif token["brace"] == "{":
            stack.append("")
        elif token["brace"]:
            stack and stack.pop()
        else:
            for words in leaves(token["use"]) if token["use"] else [token["path"].split("::")]:
                if to := target(words, here, files):
                    yield to


def circles(edges):
    """Strongly connected parts of more than one (Tarjan 1972)."""
    number, low, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for to in edges[node]:
            if to not in number:
                visit(to)
                low[node] = min(low[node], low[to])
            elif to in stack:
                low[node] = min(low[node], number[to])
        if low[node] == number[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(part)

    for node in edges:
        if node not in number:
            visit(node)
    return found


def main():
    strict = "--strict" in sys.argv
    count = 0
    for root in (Path(argument) for argument in sys.argv[1:] if argument != "--strict"):
        files = {module(root, file): file for file in sorted(root.rglob("*.rs")) if "bin" not in file.parts}
        edges = {own: {to for to in imports(file.read_text(), own, files) if to != own} for own, file in files.items()}
        if not strict:
            edges = {own: {to for to in all if own[: len(to)] != to} for own, all in edges.items()}
        for part in circles(edges):
            count += 1
            names = sorted("::".join(own) or "crate" for own in part)
            print(f"{root}: circle of {', '.join(names)}")
            for own in sorted(part):
                to = sorted("::".join(to) or "crate" for to in edges[own] if to in part)
                print(f"    {'::'.join(own) or 'crate'} -> {', '.join(to)}")
    if count:
        sys.exit(f"{count} circles of imports")


if __name__ == "__main__":
    main()
