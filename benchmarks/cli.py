"""`python -m benchmarks`: measure, or write the page about it."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from platformdirs import user_cache_path

from benchmarks import machine, plot, report, results
from benchmarks.engines import Setting
from benchmarks.processes import Family
from benchmarks.run import Run
from benchmarks.session import ALL_WORKLOADS, ENGINES, SUITES, measure

_HERE = Path(__file__).parent
_DOCS = _HERE.parent / "docs"
_CACHE = user_cache_path("pileus", appauthor=False) / "benchmarks"
_MOONCAKE = _CACHE / "mooncake_conversation_trace.jsonl"


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.command == "docs":
        record = results.join([results.load(path) for path in options.results])
        record.save(_DOCS / "benchmarks.json")
        write_docs(record, _DOCS)
    else:
        _measure(options)


def write_docs(measured: results.Results, docs: Path) -> None:
    """docs/benchmarks.md and its plots."""
    (docs / "images").mkdir(parents=True, exist_ok=True)
    (docs / "benchmarks.md").write_text(report.page(measured))
    (docs / "images" / "benchmarks-engines.svg").write_text(plot.svg(measured, plot.ENGINE_PANELS))
    (docs / "images" / "benchmarks-gateway.svg").write_text(plot.svg(measured, plot.GATEWAY_PANELS))


def _measure(options: argparse.Namespace) -> None:
    begun = datetime.now(UTC)
    folder = options.out or _HERE / "results" / begun.strftime("%Y%m%dT%H%M%SZ")
    record = results.Results(
        date=begun.strftime("%Y-%m-%d %H:%M UTC"),
        command=f"python -m benchmarks {shlex.join(sys.argv[1:])}".strip(),
        commit=_commit(),
        machine=machine.describe(),
    )
    run = Run(record, folder, 1 if options.quick and not options.rounds else options.rounds or 5)
    _CACHE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stop from outside takes everything down too
    with Family() as family:
        setting = Setting(len(os.sched_getaffinity(0)), _CACHE, run.logs, run.say, family)
        chosen = (options.only, options.engines, options.workloads)
        uvloop.run(measure(run, setting, *chosen, options.mooncake, options.text, quick=options.quick))
    write_docs(record, folder)
    print(f"\n{report.goals(record)}\n\nAll of it: {folder / 'benchmarks.md'}")
    print(f"To publish it: python -m benchmarks docs {run.file}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.set_defaults(command="run")
    parser.add_argument("--quick", action="store_true", help="one round of short loads: does everything run?")
    parser.add_argument("--only", type=_names(SUITES), default=SUITES, help=f"suites, of {','.join(SUITES)}")
    parser.add_argument("--engines", type=_names(ENGINES), default=ENGINES, help=f"engines, of {','.join(ENGINES)}")
    parser.add_argument(
        "--workloads",
        type=_names(ALL_WORKLOADS),
        default=ALL_WORKLOADS,
        help=f"of the suites that have several: {','.join(ALL_WORKLOADS)}",
    )
    parser.add_argument("--rounds", type=int, help="rounds of everything; 5, and 1 with --quick")
    parser.add_argument(
        "--mooncake",
        type=Path,
        default=_MOONCAKE,
        metavar="FILE",
        help="Mooncake's conversation_trace.jsonl (github.com/kvcache-ai/Mooncake), for the suite prefix; %(default)s",
    )
    parser.add_argument(
        "--text", type=Path, help="English text for the suite compression; else Pileus' own generator's"
    )
    parser.add_argument("--out", type=Path, help="folder for the results; benchmarks/results/DATE")
    docs = parser.add_subparsers().add_parser("docs", help="write docs/benchmarks.md from a run")
    docs.set_defaults(command="docs")
    docs.add_argument("results", type=Path, nargs="*", default=[_DOCS / "benchmarks.json"], help="of different suites")
    return parser


def _names(known: tuple[str, ...]) -> "type[tuple[str, ...]]":
    def split(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return names

    return split  # type: ignore[return-value]


def _commit() -> str:
    git = ["git", "-C", str(_HERE), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
