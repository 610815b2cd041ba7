"""Problems: where they stand, in which order they are told, and how they read.

Finding the place means scanning the file again (where.py), so that is done here, once something is wrong, and not
while reading.
"""

from collections.abc import Iterable

from vmsilo_generator.model import Problem
from vmsilo_generator.source import ConfigFile

# A line is quoted this far; what is cut off shows as an ellipsis.
QUOTE_MAX = 100
INDENT = "    "


def locate(problems: Iterable[Problem], files: Iterable[ConfigFile]) -> tuple[Problem, ...]:
    """The problems with line, column and quoted line, sorted by file and place, each once."""
    from vmsilo_generator import where

    texts = {file.path: file.text for file in files}
    places: dict[str, where.Places] = {}
    located = set()
    for problem in problems:
        text = texts.get(problem.file, "")
        if not problem.line and text:
            if problem.file not in places:
                places[problem.file] = where.scan(text)
            at = places[problem.file].of(problem.key, of_key=problem.of_key)
            problem = problem._replace(line=at.line, column=at.column)
        if problem.line and not problem.quote:
            problem = problem._replace(quote=where.line(text, problem.line))
        located.add(problem)
    return tuple(sorted(located, key=_order))


def _order(problem: Problem) -> tuple[str, int, int, str, str]:
    return problem.file, problem.line, problem.column, problem.message, dotted(problem.key)


def dotted(key: tuple[str | int, ...]) -> str:
    """A key as a user would write it; the items of a list count from 1."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
            quoted = part if bare else '"' + part.encode("unicode_escape").decode().replace('"', '\\"') + '"'
            text += f".{quoted}" if text else quoted
    return text


def headline(problem: Problem) -> str:
    """File, place, key and message on one line."""
    place = _printable(problem.file)
    if problem.line:
        place += f":{problem.line}:{problem.column}"
    key = dotted(problem.key)
    return f"{place}: {key}: {problem.message}" if key else f"{place}: {problem.message}"


def render(problem: Problem) -> str:
    """The whole message: the headline, the quoted line, and a caret under the place."""
    if not problem.line:
        return headline(problem)
    quote, column = _window(problem.quote, problem.column - 1)
    return f"{headline(problem)}\n{INDENT}{_printable(quote)}\n{INDENT}{_blank(quote[:column])}^"


def _window(quote: str, column: int) -> tuple[str, int]:
    """The part of a long line around *column*, and the column in it."""
    if len(quote) <= QUOTE_MAX:
        return quote, column
    start = max(0, min(column - QUOTE_MAX // 2, len(quote) - QUOTE_MAX))
    part = quote[start : start + QUOTE_MAX]
    if start + QUOTE_MAX < len(quote):
        part = part[:-1] + "…"
    if start:
        part = "…" + part[1:]
    return part, column - start


def _printable(text: str) -> str:
    """The text without what would move a terminal's cursor: the file may hold anything."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "�" for c in text)


def _blank(text: str) -> str:
    """Spaces as wide as the text."""
    from unicodedata import combining, east_asian_width

    return "".join("" if combining(c) else "  " if east_asian_width(c) in "WF" else " " for c in text)
