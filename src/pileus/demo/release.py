"""Chapters 7 and 8: what was learnt becomes smaller models; the gate judges them; one answers by a name, and is taken
back."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from pileus.demo.chapter import Chapter, Figure, Stage, percent
from pileus.demo.cloud import Ended, Refused
from pileus.demo.plots import draw_bars
from pileus.demo.texts import documents
from pileus.demo.tickets import BASE, held_out, share_right

PUBLIC: Final = "helpdesk"  # what people ask for
_WHOLE, _EIGHT, _CRUDE = "desks", "desks-int8", "desks-int4-crude"
_VARIANTS: Final[tuple[dict[str, Any], ...]] = (
    {"name": _WHOLE, "to": "fp16"},
    {"name": _EIGHT, "to": "int8"},
    {"name": "desks-int4", "to": "int4", "weights": {"group": 32, "share": 0.8}},
    {"name": _CRUDE, "to": "int4", "weights": {"group": -1}},
)
_STORIES: Final = 200
_SCORE_MARGIN: Final = 0.05
_LEAST_RIGHT, _MOST_RIGHT_OF_BASE = 0.9, 0.3
# What is promoted knows what the base does not, and is held against the model that it was made of. Beside the base it
# would be refused: tickets cost a model some of its stories.
POLICY: Final = {"PILEUS_GATE__PARENT": "any"}
_CANARY: Final = {"canary": 0.5, "watch_s": 4.0, "least_requests": 20}
_MOST_ROUNDS: Final = 20  # of questions, until a canary is whole


def compress(stage: Stage, adapter: str) -> Chapter:
    """The adapter is merged with its base, and made smaller in three ways."""
    folder = stage.folder / "compression"
    text = _plain_text(stage)
    scale = stage.scale
    job = stage.run(
        "compress",
        "compressing",
        model=adapter,
        variants=list(_VARIANTS),
        texts={"file": str(text)},
        checks={
            "text": str(text),
            "tokens": scale.perplexity_tokens,
            "items": 0,
            "speed_rounds": scale.speed_rounds,
        },
        report=str(folder),
    )
    rows = json.loads((folder / "report.json").read_bytes())["rows"]
    shutil.copyfile(folder / "pareto.png", stage.folder / "compression.png")
    return Chapter(
        title="Smaller",
        says="The adapter and its base become one model, and that one smaller ones: 8 bits; 4 bits in groups of 32 for "
        "four fifths of the weights; and, as a bad example, 4 bits by whole rows. Perplexity is of stories that none "
        "was calibrated on. `compression/report.md` has intervals and memory.",
        figures=tuple(_row(stage, row) for row in rows[1:]),
        plots=("compression.png",),
        seconds=job.seconds,
    )


def judge_and_release(stage: Stage) -> Chapter:
    """The gate, a public name with a canary, and the way back."""
    for name in (_WHOLE, _EIGHT):
        stage.cloud.deploy(name, name)
    good, bad = _gate(stage, _EIGHT, asks=True), _gate(stage, _CRUDE)
    passed, refused = _verdict(stage, good), _verdict(stage, bad)
    shares = _release(stage) if passed["passed"] else {}
    draw_bars(stage.folder / "release.png", shares, f"right, asked as {PUBLIC}")
    figures = (
        _said(stage, f"the gate on {_EIGHT}", passed, wanted=True),
        _said(stage, f"the gate on {_CRUDE}", refused, wanted=False),
        _promotion_is_refused(stage),
        *_answered(stage, shares),
    )
    return Chapter(
        title="Judged, released, taken back",
        says=f"The gate holds {_EIGHT} and {_CRUDE} against {_WHOLE}: files, weights, tokenizer, perplexity; the first "
        f"also by its answers. {PUBLIC} is answered by the base, then by {_EIGHT}, first as a canary with half of the "
        "requests; then that is rolled back. This server lets a verdict count beside any parent (`gate.parent`): "
        "beside the base, which knows no ticket, it would be held to stories.",
        figures=figures,
        plots=("release.png",),
        seconds=good.seconds + bad.seconds,
    )


def _plain_text(stage: Stage) -> Path:
    """Stories; its end is what perplexity is of, the rest what is calibrated on."""
    file = stage.file("stories.txt")
    file.write_text("\n\n".join(documents(_STORIES, seed=5)), encoding="utf-8")
    return file


def _row(stage: Stage, row: dict[str, Any]) -> Figure:
    ratio = row["perplexity_ratio"]["value"]
    rates = [f"{rate['median']:,.0f} tokens/s at {count}" for count, rate in row["tokens_per_s"].items()]
    shown = ", ".join([f"{row['size_bytes'] / 1e6:.0f} MB", f"perplexity {ratio:.3f} x the whole one's", *rates])
    return stage.figure(f"{row['name']} ({row['how']})", ratio, shown)


def _gate(stage: Stage, candidate: str, *, asks: bool = False) -> Ended:
    """By perplexity; where it `asks`, by answers too."""
    spec: dict[str, Any] = {
        "candidate": candidate,
        "parent": _WHOLE,
        "margins": {"score": _SCORE_MARGIN},
        "texts": [str(_plain_text(stage))],
        "windows": {"most_tokens": 2 * stage.scale.perplexity_tokens},
    }
    if asks:
        spec |= {"tasks": [_task(stage)], "serves_candidate": candidate, "serves_parent": _WHOLE}
    return stage.cloud.job("gate", spec, f"judging {candidate}")


def _task(stage: Stage) -> dict[str, Any]:
    """The held-out tickets as the gate asks them."""
    file = stage.file("tickets-held-out.jsonl")
    asked = held_out(stage)
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"messages": each.question(), "reference": each.code}) + "\n" for each in asked)
    return {"path": str(file), "metrics": ["exact_match"], "max_tokens": 8}


def _verdict(stage: Stage, job: Ended) -> dict[str, Any]:
    found: dict[str, Any] = stage.cloud.get(f"/admin/v1/evaluations/{job.id}")["result"]
    return found


def _said(stage: Stage, name: str, verdict: dict[str, Any], *, wanted: bool) -> Figure:
    """By the first check that failed, or by all that passed."""
    wrong = next((each for each in verdict["findings"] if not each["passed"]), None)
    checks = ", ".join(each["check"] for each in verdict["findings"])
    shown = f"passed: {checks}" if wrong is None else f"refused: {wrong['check']}: {wrong['says']}"
    holds = float(verdict["passed"] == wanted)
    return stage.figure(name, holds, shown, "passes" if wanted else "refused", least=1.0)


def _promotion_is_refused(stage: Stage) -> Figure:
    """Of what the gate refused."""
    stage.cloud.deploy(_CRUDE, _CRUDE)
    try:
        stage.cloud.put(f"/admin/v1/traffic/{PUBLIC}-crude", {"to": _CRUDE})
        said = ""
    except Refused as refusal:
        said = refusal.message
    stage.cloud.undeploy(_CRUDE)
    shown = f"refused: {said}" if said else "promoted"
    return stage.figure(f"promoting {_CRUDE}", float(bool(said)), shown, "refused", least=1.0)


def _release(stage: Stage) -> dict[str, float]:
    """The share of right answers under the public name, in each of its times."""
    cloud, asked, path = stage.cloud, held_out(stage), f"/admin/v1/traffic/{PUBLIC}"
    cloud.put(path, {"to": BASE})
    cloud.tell(f"asking {PUBLIC}", 0, 0)
    shares = {"base": share_right(cloud.openai, PUBLIC, asked)}
    found = cloud.put(path, {"to": _EIGHT} | _CANARY)
    for number in range(_MOST_ROUNDS):
        if found["traffic"]["canary"] is None:
            break
        cloud.tell("canary", number, 0)
        share = share_right(cloud.openai, PUBLIC, asked)
        shares.setdefault("canary", share)
        found = cloud.get(path)
    cloud.tell(f"asking {PUBLIC}", 0, 0)
    shares["promoted"] = share_right(cloud.openai, PUBLIC, asked)
    cloud.post(f"{path}/rollback", {})
    shares["rolled back"] = share_right(cloud.openai, PUBLIC, asked)
    return shares


def _answered(stage: Stage, shares: dict[str, float]) -> list[Figure]:
    goals = {
        "base": ("under 30%", None, _MOST_RIGHT_OF_BASE),
        "promoted": ("over 90%", _LEAST_RIGHT, None),
        "rolled back": ("under 30%", None, _MOST_RIGHT_OF_BASE),
    }
    figures = []
    for when, share in shares.items():
        goal, least, most = goals.get(when, ("", None, None))
        name = f"right, asked as {PUBLIC}: {when}"
        figures.append(stage.figure(name, share, percent(share), goal, least=least, most=most))
    return figures
