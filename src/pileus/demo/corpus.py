"""Chapter 1: texts, with what real collections suffer from, become a dataset."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pileus.data.report import Report, read_report
from pileus.demo.chapter import Chapter, Stage, percent
from pileus.demo.texts import documents

_VOCABULARY: Final = 2000
_COPIES: Final = 0.05  # of the documents, once more; and as many nearly so
_ADDRESSES: Final = 0.02  # of them, that an address was written under
_GARBLED: Final = 0.02  # of them, decoded wrongly and saved so


def prepare_corpus(stage: Stage) -> tuple[Chapter, Path]:
    """What it tells, and the dataset's folder."""
    collected, dataset = stage.file("collected.jsonl"), stage.folder / "dataset"
    texts = list(documents(stage.scale.documents, seed=1))
    with collected.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in _as_collected(texts))
    job = stage.run(
        "data",
        "preparing the corpus",
        inputs=[str(collected)],
        out=str(dataset),
        tokenizer={"vocabulary": _VOCABULARY},
        validation=0.05,
        test=0.0,
    )
    report = read_report(dataset)
    return _told(stage, report, len(texts), job.seconds), dataset


def _as_collected(texts: list[str]) -> Iterator[str]:
    """With copies, near copies, addresses and wrong encodings among them."""
    draw = random.Random(2)  # noqa: S311  # texts, not secrets
    yield from texts
    for text in draw.sample(texts, round(_COPIES * len(texts))):
        yield text
    for text in draw.sample(texts, round(_COPIES * len(texts))):
        yield f"{text} That is all."
    for number, text in enumerate(draw.sample(texts, round(_ADDRESSES * len(texts)))):
        yield f"{text} Letters to writer{number}@example.org were answered on day {number}."
    for number, text in enumerate(draw.sample(texts, round(_GARBLED * len(texts)))):
        garbled = f"The café “Zur Brücke” was open on day {number}. ".encode().decode("cp1252", errors="ignore")
        yield f"{garbled}{text}"


def _told(stage: Stage, report: Report, made: int, seconds: float) -> Chapter:
    account, personal = report.account, sum(report.account.personal.values())
    tokens = sum(split.tokens for split in report.splits.values())
    left_out = [
        stage.figure(f"left out: {reason.replace('_', ' ')}", count, f"{count:,}")
        for reason, count in report.left_out.items()
    ]
    figures = (
        stage.figure("documents collected", account.read, f"{account.read:,}"),
        *left_out,
        stage.figure("encoding repaired", account.repaired, f"{account.repaired:,}"),
        stage.figure("personal data replaced", personal, f"{personal:,}"),
        stage.figure("documents kept", report.documents, f"{report.documents:,}"),
        stage.figure("tokens", tokens, f"{tokens:,}"),
        stage.figure("vocabulary (byte-level BPE, trained on them)", report.vocabulary, f"{report.vocabulary:,}"),
    )
    planted = f"{percent(_COPIES)} copies and as many near copies, addresses, and wrongly decoded characters"
    return Chapter(
        title="A corpus",
        says=f"{made:,} documents of a small world by a seeded generator, and among them {planted}; repaired, "
        "filtered, deduplicated, split and packed. `dataset/report.html` has more.",
        figures=figures,
        seconds=seconds,
    )
