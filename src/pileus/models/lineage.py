"""Where a version comes from and where it went, as a graph: dataset -> job -> version -> compressed -> deployment."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct

from pileus.store.version_table import Edge, Version

_SHORT = 12  # digits of a hash that people are shown


class Deployed(Struct, frozen=True):
    """A deployment, and the artefact that it serves."""

    name: str
    artefact: str


class Node(Struct, frozen=True):
    """A thing in the graph; `id` is unique together with `kind`."""

    kind: str  # version, dataset, job, deployment, artefact, source
    id: str
    label: str  # what people call it
    detail: str = ""  # e.g. a version's stage


class Link(Struct, frozen=True):
    """`child` came of `parent`; both are `kind:id` of a node."""

    child: str
    parent: str
    relation: str


class Graph(Struct, frozen=True):
    """Nodes, those first that others came of, and how they hang together."""

    nodes: list[Node]
    edges: list[Link]


Key = tuple[str, str]  # kind and id


def trace(
    starts: Iterable[Version], versions: Iterable[Version], edges: Iterable[Edge], deployed: Iterable[Deployed]
) -> Graph:
    """All that the `starts` came of, and all that came of them, each with the job that made it and the data that went
    into it. Only the given `versions` are seen, since whoever asks may not see others; what hangs on those alone stays
    hidden too."""
    seen = {version.id: version for version in versions}
    of_artefact = _latest_of_artefacts(seen.values())
    links = [link for edge in edges if (link := _resolved(edge, seen, of_artefact))]
    links += [
        (("deployment", each.name), ("version", of_artefact[each.artefact].id), "serves")
        for each in deployed
        if each.artefact in of_artefact
    ]
    roots = {("version", version.id) for version in starts}
    keys = _reach(roots, links, upward=True) | _reach(roots, links, upward=False)
    keys |= {parent for child, parent, _ in links if child in keys and parent[0] in ("job", "dataset")}
    kept = [link for link in dict.fromkeys(links) if link[0] in keys and link[1] in keys]
    order = _in_order(keys, kept)
    return Graph(
        nodes=[_node(key, seen) for key in order],
        edges=[Link(":".join(child), ":".join(parent), relation) for child, parent, relation in kept],
    )


_Link = tuple[Key, Key, str]  # child, parent, relation


def _latest_of_artefacts(versions: Iterable[Version]) -> dict[str, Version]:
    return {version.artefact: version for version in sorted(versions, key=lambda each: each.created_at)}


def _resolved(edge: Edge, seen: Mapping[str, Version], of_artefact: Mapping[str, Version]) -> _Link | None:
    """An artefact that became a version later is that version; None where it leads to a version that is not seen."""
    child, parent = (edge.child_kind, edge.child), (edge.parent_kind, edge.parent)
    if parent[0] == "artefact" and parent[1] in of_artefact:
        parent = ("version", of_artefact[parent[1]].id)
    hidden = any(kind == "version" and name not in seen for kind, name in (child, parent))
    return None if hidden or child == parent else (child, parent, edge.relation)


def _reach(roots: set[Key], links: Iterable[_Link], *, upward: bool) -> set[Key]:
    steps: defaultdict[Key, list[Key]] = defaultdict(list)
    for child, parent, _ in links:
        if upward:
            steps[child].append(parent)
        else:
            steps[parent].append(child)
    reached, waiting = set(roots), list(roots)
    while waiting:
        for key in steps[waiting.pop()]:
            if key not in reached:
                reached.add(key)
                waiting.append(key)
    return reached


def _in_order(keys: set[Key], links: Iterable[_Link]) -> list[Key]:
    """Parents before their children; what goes in a circle, which nothing honest does, comes last."""
    parents: defaultdict[Key, set[Key]] = defaultdict(set)
    for child, parent, _ in links:
        parents[child].add(parent)
    order: list[Key] = []
    left = sorted(keys)
    while left:
        ready = [key for key in left if parents[key] <= set(order)]
        order += ready or left
        left = [key for key in left if key not in set(order)]
    return order


def _node(key: Key, seen: Mapping[str, Version]) -> Node:
    kind, name = key
    if kind == "version":
        version = seen[name]
        return Node(kind, name, f"{version.model} {version.number}", version.stage)
    if kind == "source":
        return Node(kind, name, _shortened(name))
    return Node(kind, name, name)


def _shortened(source: str) -> str:
    method, colon, digest = source.rpartition(":")
    return f"{method}{colon}{digest[:_SHORT]}" if method.endswith("sha256") else source
