"""Where each key of a TOML text stands, so that a mistake can be shown with its line.

`tomllib` keeps no positions. But a TOML document is a sequence of statements, each beginning on its own line, and each
is a valid document by itself: so the text is cut into the shortest runs of lines that parse, and every run tells which
key it sets.
"""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

KeyPath = tuple[str | int, ...]


def locate(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every table and key of a valid TOML text; items of arrays of tables go by their index."""
    lines: dict[KeyPath, int] = {}
    tables: dict[KeyPath, int] = {}  # array of tables -> number of items so far
    here: KeyPath = ()
    for number, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            here = _open_table(parsed, tables)
            lines.setdefault(here, number)
        else:
            for path in key_paths(parsed):
                lines.setdefault(here + path, number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The text's statements with the line that each begins on."""
    pending: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not pending:
            begin = number
            if not line.strip() or line.lstrip().startswith("#"):
                continue
        pending.append(line)
        statement = "\n".join(pending)
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # a value over several lines
        yield begin, statement
        pending = []


def _open_table(header: Mapping[str, Any], tables: dict[KeyPath, int]) -> KeyPath:
    """The path that `[a.b]` or `[[a.b]]` opens; a name on the way that is an array of tables means its last item."""
    path: KeyPath = ()
    node: Any = header
    while node:
        if isinstance(node, list):
            tables[path] = tables.get(path, 0) + 1
            return (*path, tables[path] - 1)
        name, node = next(iter(node.items()))
        path = (*path, name)
        if path in tables and isinstance(node, dict):
            path = (*path, tables[path] - 1)
    return path


def key_paths(value: Any) -> Iterator[KeyPath]:
    """Every path inside a parsed value: of tables by name, of arrays by index."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield (name,)
        for rest in key_paths(child):
            yield (name, *rest)
