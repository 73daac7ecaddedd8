"""What a terminal shows of lineage and of the difference of two versions."""

from collections.abc import Iterator
from typing import Any

from pileus.cli import output


def lineage_lines(graph: dict[str, Any]) -> Iterator[str]:
    """A tree from what everything came of, down to what is deployed; what has several parents stands below the first,
    and the others are named."""
    nodes = {f"{node['kind']}:{node['id']}": node for node in graph["nodes"]}
    below: dict[str, list[dict[str, Any]]] = {}
    for edge in graph["edges"]:
        below.setdefault(edge["parent"], []).append(edge)
    children = {edge["child"] for edge in graph["edges"]}
    told: set[str] = set()
    for key in nodes:
        if key not in children:
            yield from _tree(key, "", "", nodes, below, told)


def _tree(
    key: str,
    indent: str,
    relation: str,
    nodes: dict[str, dict[str, Any]],
    below: dict[str, list[dict[str, Any]]],
    told: set[str],
) -> Iterator[str]:
    node = nodes[key]
    detail = f" ({node['detail']})" if node["detail"] else ""
    how = f"  {relation}" if relation else ""
    again = key in told and bool(below.get(key))
    yield f"{indent}{node['kind']} {node['label']}{detail}{how}{' ...' if again else ''}"
    if key in told:
        return
    told.add(key)
    for edge in below.get(key, ()):
        yield from _tree(edge["child"], f"{indent}  ", edge["relation"], nodes, below, told)


def difference_lines(found: dict[str, Any]) -> Iterator[str]:
    """As people read it."""
    yield f"{found['before']} -> {found['after']}{': the same, byte for byte' if found['same'] else ''}"
    before, after = found["size_bytes"]
    if before != after:
        yield f"size     {output.size(before)} -> {output.size(after)}"
    if found["licence"][0] != found["licence"][1]:
        yield "licence  " + " -> ".join(each or "not stated" for each in found["licence"])
    for each in found["figures"]:
        yield f"figure   {each['name']}  {_figure(each['before'])} -> {_figure(each['after'])}"
    for sign, parents in (("-", found["parents_before"]), ("+", found["parents_after"])):
        yield from (f"parent   {sign} {parent}" for parent in parents)
    if found["files"] is None:
        yield "files    not compared: one of them is not installed here"
        return
    yield from (f"file     {_file(each)}" for each in found["files"])
    if found["files_same"]:
        yield f"files    {len(found['files_same'])} the same: {', '.join(found['files_same'])}"


def _file(change: dict[str, Any]) -> str:
    before, after = change["before"], change["after"]
    if before is None:
        return f"+ {change['name']} ({output.size(after['size'])})"
    if after is None:
        return f"- {change['name']} ({output.size(before['size'])})"
    return f"~ {change['name']} ({before['sha256'][:12]} -> {after['sha256'][:12]})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
