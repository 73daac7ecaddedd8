"""The card of a version: what it is for, how it did, what it was made from; as a record, and as Markdown for people."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from pileus.store.version_table import Edge, Version


class Card(Struct, frozen=True, kw_only=True):
    """What people and jobs say of a version. It is kept as JSON, and signed as those very bytes."""

    figures: dict[str, float | None] = {}  # e.g. validation loss; None where it was no number
    notes: str = ""
    intended_use: str = ""
    limits: str = ""  # what it should not be used for, and where it fails
    data: str = ""  # what it was trained on, in words; datasets of jobs stand in the lineage


def read_card(raw: bytes) -> Card:
    """What cannot be read is empty: a card is nothing that a model could fail by."""
    try:
        return msgspec.json.decode(raw, type=Card)
    except msgspec.MsgspecError:
        return Card()


def write_card(card: Card) -> bytes:
    """The same bytes for the same card."""
    return msgspec.json.encode(card, order="deterministic")


def as_markdown(version: Version, aliases: Sequence[str], parents: Iterable[Edge], files: Sequence[str]) -> str:
    """A page that stands alone."""
    card = read_card(version.card)
    parts = [f"# {version.model}, version {version.number}", "\n".join(_facts(version, aliases))]
    for title, text in (
        ("Intended use", card.intended_use),
        ("Limits", card.limits),
        ("Data", card.data),
        ("Notes", card.notes),
    ):
        if text:
            parts.append(f"## {title}\n\n{text}")
    if card.figures:
        parts.append("## Figures\n\n" + "\n".join(_figures(card)))
    if made_of := [f"- {edge.relation} {edge.parent_kind} `{edge.parent}`" for edge in parents]:
        parts.append("## Made of\n\n" + "\n".join(made_of))
    if files:
        parts.append("## Files\n\n" + "\n".join(f"- `{name}`" for name in files))
    return "\n\n".join(parts) + "\n"


def _facts(version: Version, aliases: Sequence[str]) -> Iterator[str]:
    made = datetime.fromtimestamp(version.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = {
        "Kind": version.kind,
        "Licence": version.licence or "not stated",
        "Stage": version.stage,
        "Aliases": ", ".join(aliases),
        "Size": f"{version.size_bytes / 1e6:,.1f} MB",
        "Made": made,
        "By job": version.job_id and f"`{version.job_id}`",
        "Manifest": f"`sha256:{version.sha256}`",
    }
    yield from ("| what | value |", "| ---- | ----- |")
    for name, value in facts.items():
        if value:
            yield f"| {name} | {_cell(value)} |"


def _figures(card: Card) -> Iterator[str]:
    yield from ("| figure | value |", "| ------ | ----- |")
    for name, value in sorted(card.figures.items()):
        yield f"| {_cell(name)} | {'not a number' if value is None else f'{value:.6g}'} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
