"""What a preparation came to: for programs, and as a page for people."""

from html import escape
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.data.cleaning import Account
from pileus.data.spec import DataSpec

REPORT: Final = "report.json"
PAGE: Final = "report.html"


class SplitReport(Struct, frozen=True, kw_only=True):
    documents: int
    tokens: int
    shards: int


class Report(Struct, frozen=True, kw_only=True):
    """`report.json`."""

    id: str
    spec: DataSpec
    files: int
    input_bytes: int
    other_files: tuple[str, ...]  # of formats that nobody knows, left aside; the first of them
    other_file_count: int
    account: Account  # of all documents, by themselves and within their pieces
    exact_duplicates: int  # in other pieces
    near_duplicates: int
    evaluation_runs: int  # what documents were compared with
    vocabulary: int
    splits: dict[str, SplitReport]
    seconds: dict[str, float]  # by stage

    @property
    def left_out(self) -> dict[str, int]:
        """Documents by the reason, the most frequent first."""
        reasons = dict(self.account.left_out)
        for name, count in (("exact_duplicate", self.exact_duplicates), ("near_duplicate", self.near_duplicates)):
            if count:
                reasons[name] = reasons.get(name, 0) + count
        return dict(sorted(reasons.items(), key=lambda item: -item[1]))

    @property
    def documents(self) -> int:
        """That are in the dataset."""
        return sum(split.documents for split in self.splits.values())


def read_report(folder: Path) -> Report:
    """Raises `OperatorError` where the folder holds none."""
    try:
        return msgspec.json.decode((folder / REPORT).read_bytes(), type=Report)
    except (FileNotFoundError, NotADirectoryError):
        raise OperatorError(f"{folder} holds no dataset: `pileus data prepare` makes one") from None
    except msgspec.DecodeError as error:
        raise OperatorError(f"{folder / REPORT} cannot be read: {error}") from None


def write_report(folder: Path, report: Report) -> None:
    from pileus.data.plots import plots

    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    (folder / PAGE).write_text(_page(report, plots(report)), encoding="utf-8")


def _page(report: Report, pictures: list[str]) -> str:
    account = report.account
    parts = [
        _table("Documents", {"read": account.read, "bad records": account.bad, "in the dataset": report.documents}),
        _table("Left out, by the first reason", report.left_out),
        _table("Repaired", {"encoding": account.repaired, "with notices taken out": account.notices}),
        _table("Personal data replaced", account.personal),
        _table("Languages of those that were looked at", account.languages),
        _splits(report),
        *pictures,
        _table("Seconds", {name: f"{seconds:.1f}" for name, seconds in report.seconds.items()}),
        _table("Bad records, the first of them", {bad.place: bad.reason for bad in account.bad_records}),
        _table("Files left aside", dict.fromkeys(report.other_files, "of no known format")),
    ]
    return _FRAME.format(id=escape(report.id), body="\n".join(parts), spec=escape(_pretty(report.spec)))


def _splits(report: Report) -> str:
    rows = {
        name: f"{split.documents:,} documents, {split.tokens:,} tokens, {split.shards} shards"
        for name, split in report.splits.items()
    }
    return _table(f"Splits, with a vocabulary of {report.vocabulary:,}", rows)


def _table(title: str, rows: dict[str, Any]) -> str:
    """Empty for a table without rows."""
    lines = [
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in rows.items()
    ]
    return f"<h2>{escape(title)}</h2><table>{''.join(lines)}</table>" if lines else ""


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _pretty(spec: DataSpec) -> str:
    return msgspec.json.format(msgspec.json.encode(spec), indent=2).decode()


_FRAME: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{id}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
th {{ text-align: left; font-weight: normal; padding-right: 2rem }}
td {{ text-align: right; font-variant-numeric: tabular-nums }}
pre {{ background: #f4f4f4; padding: 1rem; overflow: auto }}
svg {{ max-width: 100%; height: auto }}
</style>
<h1>Dataset {id}</h1>
{body}
<h2>Recipe</h2><pre>{spec}</pre>
</html>
"""
