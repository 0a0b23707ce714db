# SPDX-License-Identifier: Apache-2.0
"""What the operators' pages quote of the log, or of an error, is what the code says.

A quote has several words and begins as a sentence does, or is what `the log` shows in a table or a sentence.
Its `...`, and whatever stands where the code has a placeholder, may be any words.
"""

import ast
import re
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for directory in ("admin", "cli", "configuration", "install", "user")
    for page in sorted((ROOT / "doc" / "source" / directory).glob("*.rst"))
]
LITERAL = r"``([^`]+)``"
SENTENCE = re.compile(r"``((?:[A-Z][a-z]*|lane-0) [^`]+)``")
LOGGED = re.compile(rf"\blogs?(?:\s+for|\s+has|\s+says)?\s+{LITERAL}")
ROW = re.compile(r"\* - the log\b[^\n]*\n +- (.*?)\n +- ", re.S)
EXAMPLE = re.compile(r"^ +(?:INFO|WARNING|ERROR|CRITICAL) \S+ \[\S+\] (.+(?:\n +\S.*)*)", re.M)
LEVEL = re.compile(r"^(?:INFO|WARNING|ERROR|CRITICAL)\b")
PLACEHOLDER = re.compile(r"%(?:\.\d)?[a-z]|\0")
LEAST_WORDS = 2
PUNCTUATION = ".,:;'()"
OSLO_CONFIG = "Ignoring change to immutable option "


def quotes_in(text: str) -> set[str]:
    rows = chain.from_iterable(re.findall(LITERAL, row) for row in ROW.findall(text))
    found = {*SENTENCE.findall(text), *LOGGED.findall(text), *EXAMPLE.findall(text), *rows}
    return {" ".join(quote.split()) for quote in found}


def text_of(node: ast.JoinedStr) -> str:
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)


def docstrings(tree: ast.Module) -> set[ast.AST]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


@cache
def lines_of_the_code() -> list[list[str]]:
    """The words of each text in the code."""
    texts = set()
    for file in (ROOT / "tracker_worker").rglob("*.py"):
        tree = ast.parse(file.read_text())
        for node in set(ast.walk(tree)) - docstrings(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                texts.add(text_of(node))
    return [text.split() for text in texts]


def said(quote: Sequence[str], line: Sequence[str]) -> int | None:
    """How many words of a quote are those of the beginning of a line; None if a word differs."""
    if not quote:
        return 0
    if not line:
        return None
    if PLACEHOLDER.fullmatch(line[0].strip(PUNCTUATION)):
        counts = [said(quote[taken:], line[1:]) for taken in range(1, len(quote) + 1)]
        return max((count for count in counts if count is not None), default=None)
    word = ".+".join(map(re.escape, PLACEHOLDER.split(line[0].rstrip(PUNCTUATION))))
    if not re.fullmatch(word, quote[0].rstrip(PUNCTUATION)):
        return None
    rest = said(quote[1:], line[1:])
    return None if rest is None else rest + 1


def plain(words: Sequence[str]) -> set[str]:
    """Words without punctuation and placeholders."""
    return {word.strip(PUNCTUATION) for word in words if not PLACEHOLDER.search(word)}


def is_part_said(part: str) -> bool:
    """Whether words are in a line: at its beginning if they begin as a sentence does.

    Half of those before a colon, or all that the line has, are the line's own: no values of placeholders.
    """
    words = part.split()
    half = (len(part.partition(": ")[0].split()) + 1) // 2
    for line in lines_of_the_code():
        needed = min(half, max(len(plain(line)), LEAST_WORDS))
        if len(plain(line) & plain(words)) < needed:
            continue
        starts = range(1) if part[0].isupper() else range(len(line))
        if any((said(words, line[start:]) or 0) >= needed for start in starts):
            return True
    return False


def is_said(quote: str) -> bool:
    """Whether each part of a quote is in a line of the code."""
    parts = re.split(r"\s*\.\.\.\s*", LEVEL.sub("", quote).strip())
    return all(is_part_said(part.strip(" :")) for part in parts if part.strip(" :"))


def quotes() -> list[tuple[str, str]]:
    return [
        (page.name, quote)
        for page in PAGES
        for quote in sorted(quotes_in(page.read_text()))
        if not quote.startswith(OSLO_CONFIG)
    ]


@pytest.mark.parametrize(("page", "quote"), quotes())
def test_quote_of_the_log_is_in_the_code(page: str, quote: str) -> None:
    assert is_said(quote), f"{page}: nothing in tracker_worker says {quote!r}"


def test_quotes_are_found() -> None:
    text = """
       * - the log
         - ``was declared otherwise``, with a command
         - See the log for ``Connection``. It logs ``Stopping:``; ``node list`` and ``DEBUG`` are none.
       * - ``node list``
         - ``Node a is held``

    ::

        INFO tracker_worker.worker [-] Node a
        granted it
    """
    assert quotes_in(text) == {
        "was declared otherwise", "Connection", "Stopping:", "Node a is held", "Node a granted it"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("quote", "expected"),
    [
        ("Node compute1 and its events are held", True),
        ("RabbitMQ at ... cannot be used", True),
        ("lane-0 has made no progress for 20 s: a batch of 3, at: committing compute1", True),
        ("Node compute1 and its events are parked", False),
        ("Connection", False),
        ("Any words at all", False),
    ],
)
def test_quote_is_compared_with_the_code(quote: str, expected: bool) -> None:
    assert is_said(quote) is expected
