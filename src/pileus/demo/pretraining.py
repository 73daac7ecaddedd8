"""Chapters 2 to 4: a GPT and a BERT from nothing, and a classifier of the second."""

import json
import math
from pathlib import Path
from typing import Any, Final

from pileus.demo.chapter import Chapter, Figure, Stage, percent
from pileus.demo.cloud import Ended
from pileus.demo.plots import draw_curves
from pileus.demo.texts import Labelled, reviews

_GPT: Final = {"layers": 4, "context": 128, "batch": 32, "rate": 2e-3}
# Short windows: in long ones it learns for a long time no more than which tokens are frequent.
_BERT: Final = {"layers": 2, "context": 34, "batch": 64, "rate": 4e-3, "warmup": 0.1}
_GPT_FACTOR, _BERT_FACTOR = 6.0, 3.0  # by which the loss should fall
_LEAST_ACCURACY: Final = 0.95
_AT_ONCE: Final = 100  # texts of one request


def train_gpt(stage: Stage, dataset: Path) -> Chapter:
    """It learns to go on with stories; then it is served, and does."""
    job = _pretrain(stage, "gpt", dataset, "storyteller", steps=stage.scale.gpt_steps, **_GPT)
    name = stage.cloud.latest("storyteller")["artefact"]
    stage.cloud.deploy("storyteller", name)
    begun = "On Monday there was snow over the harbour. The road was"
    answer = stage.cloud.openai.completions.create(
        model="storyteller", prompt=begun, max_tokens=60, temperature=0.7, seed=1
    )
    stage.cloud.undeploy("storyteller")
    validation = job.curve("validation_loss")[-1][1]
    told = _falls(stage, job, _GPT_FACTOR)
    plot = "gpt.png"
    draw_curves(stage.folder / plot, _losses(job), "loss, nats per token")
    return Chapter(
        title="A GPT from nothing",
        says="A decoder of Llama's architecture learns to foresee the next token of the corpus. It is installed, "
        "deployed and asked to go on with a story.",
        figures=(
            *told,
            stage.figure("perplexity of held-out stories", validation, f"{math.exp(validation):.2f}"),
            *_pace(stage, job),
        ),
        plots=(plot,),
        samples=(begun + answer.choices[0].text,),
        seconds=job.seconds,
    )


def train_bert(stage: Stage, dataset: Path) -> tuple[Chapter, str]:
    """It learns to fill in masked words; what it tells, and the model's name."""
    job = _pretrain(stage, "bert", dataset, "reader", steps=stage.scale.bert_steps, **_BERT)
    plot = "bert.png"
    draw_curves(stage.folder / plot, _losses(job), "loss, nats per masked token")
    chapter = Chapter(
        title="A BERT from nothing",
        says="An encoder learns to fill in the 15% of the tokens that are hidden from it.",
        figures=(*_falls(stage, job, _BERT_FACTOR), *_pace(stage, job)),
        plots=(plot,),
        seconds=job.seconds,
    )
    return chapter, str(stage.cloud.latest("reader")["artefact"])


def fine_tune_classifier(stage: Stage, bert: str) -> Chapter:
    """The BERT learns to tell good reviews from bad ones, and is served at `/v1/classify`."""
    scale = stage.scale
    known, asked = _split(reviews(2 * scale.reviews, seed=3), scale.reviews)
    file = stage.file("reviews.jsonl")
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": each.text, "label": each.label}) + "\n" for each in known)
    job = stage.run(
        "train",
        "fine-tuning a classifier",
        recipe="classifier",
        name="moods",
        base=bert,
        data=[str(file)],
        epochs=scale.review_epochs,
        rate=5e-4,
        batch=32,
        context=_BERT["context"],
    )
    stage.cloud.deploy("moods", stage.cloud.latest("moods")["artefact"], "encoder")
    told = _classified(stage, [each.text for each in asked])
    stage.cloud.undeploy("moods")
    right = sum(label == each.label for label, each in zip(told, asked, strict=True)) / len(asked)
    return Chapter(
        title="A classifier, served",
        says="The BERT is fine-tuned on reviews and deployed; `POST /v1/classify` is asked about reviews that it has "
        "not seen.",
        figures=(
            stage.figure("reviews to learn from", len(known), f"{len(known):,}"),
            stage.figure(
                f"accuracy over HTTP, on {len(asked):,} held-out reviews",
                right,
                percent(right),
                f"at least {percent(_LEAST_ACCURACY)}",
                least=_LEAST_ACCURACY,
            ),
        ),
        samples=tuple(f"{label}: {each.text}" for label, each in list(zip(told, asked, strict=True))[:3]),
        seconds=job.seconds,
    )


def _pretrain(stage: Stage, recipe: str, dataset: Path, name: str, **plan: Any) -> Ended:
    ended: Ended = stage.run(
        "train",
        f"training a {recipe.upper()}",
        recipe=recipe,
        name=name,
        data=[str(dataset)],
        width=stage.scale.width,
        log_every=1,
        **plan,
    )
    return ended


def _falls(stage: Stage, job: Ended, factor: float) -> tuple[Figure, ...]:
    first, last = job.curve("loss")[0][1], job.curve("validation_loss")[-1][1]
    return (
        stage.figure("loss of the first step", first, f"{first:.3f}"),
        stage.figure("loss on what was held out, in the end", last, f"{last:.3f}"),
        stage.figure(
            "so it fell by the factor", first / last, f"{first / last:.1f}", f"at least {factor:g}", least=factor
        ),
    )


def _pace(stage: Stage, job: Ended) -> tuple[Figure, ...]:
    rates = sorted(value for _, value in job.curve("tokens_per_s"))
    if not rates:
        return ()
    middle = rates[len(rates) // 2]
    return (stage.figure("training tokens per second, median", middle, f"{middle:,.0f}"),)


def _losses(job: Ended) -> dict[str, list[tuple[int, float]]]:
    return {"training": job.curve("loss"), "held out": job.curve("validation_loss")}


def _split(texts: list[Labelled], known: int) -> tuple[list[Labelled], list[Labelled]]:
    """So many to learn from, and of the rest what is none of them: at most a quarter as many."""
    learnt = texts[:known]
    seen = {each.text for each in learnt}
    others = {each.text: each for each in texts[known:] if each.text not in seen}
    return learnt, list(others.values())[: known // 4]


def _classified(stage: Stage, texts: list[str]) -> list[str]:
    """The likeliest label of each."""
    found: list[str] = []
    for begin in range(0, len(texts), _AT_ONCE):
        answer = stage.cloud.post("/v1/classify", {"model": "moods", "input": texts[begin : begin + _AT_ONCE]})
        found += [each["label"] for each in sorted(answer["data"], key=lambda each: each["index"])]
    return found
