"""Chapter 5: an LSTM and a Transformer learn the same small language, with the same budget."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pileus.demo.chapter import Chapter, Stage, percent
from pileus.demo.plots import draw_curves
from pileus.demo.texts import Pair, translations

# About as many weights each (the report says how many bytes), at widths that suit them.
_SHAPES: dict[str, dict[str, Any]] = {
    "transformer": {"layers": 2, "width": 128, "heads": 4},
    "lstm": {"layers": 1, "width": 256},
}


def translate(stage: Stage) -> Chapter:
    """Both are scored on sentences that neither has seen."""
    scale = stage.scale
    pairs = translations(scale.pairs + scale.pairs_held_out, seed=4)
    known = _written(stage.file("pairs.jsonl"), pairs[: scale.pairs])
    asked = _written(stage.file("pairs-held-out.jsonl"), pairs[scale.pairs :])
    figures, curves, seconds = [], {}, 0.0
    for architecture, shape in _SHAPES.items():
        job = stage.run(
            "train",
            f"training a translator ({architecture})",
            recipe="seq2seq",
            architecture=architecture,
            name=f"translator-{architecture}",
            data=[str(known)],
            validation=[str(asked)],
            vocabulary=400,
            steps=scale.pair_steps,
            batch=64,
            rate=2e-3,
            context=32,
            decode_most=scale.pairs_held_out,
            log_every=5,
            **shape,
        )
        version = stage.cloud.latest(f"translator-{architecture}")
        scores = version["figures"]
        shown = (
            f"{percent(scores['exact_match'])} word for word, {percent(scores['token_match'])} of the tokens; "
            f"{version['size_bytes'] / 1e6:.1f} MB, {job.seconds:.0f} s"
        )
        figures.append(stage.figure(f"{architecture}: held-out sentences", scores["exact_match"], shown))
        curves[architecture] = job.curve("validation_loss")
        seconds += job.seconds
    plot = "translation.png"
    draw_curves(stage.folder / plot, curves, "loss on held-out sentences")
    return Chapter(
        title="Translation: a Transformer and an LSTM",
        says=f"The same {scale.pairs:,} pairs, {scale.pair_steps:,} steps of 64 pairs, about as many weights, seed and "
        f"rate: {scale.pairs_held_out:,} held-out sentences of a toy language, decoded greedily. The best step is "
        "chosen by the loss on these same sentences.",
        figures=tuple(figures),
        plots=(plot,),
        samples=tuple(f"{pair.source} -> {pair.target}" for pair in pairs[:2]),
        seconds=seconds,
    )


def _written(file: Path, pairs: Sequence[Pair]) -> Path:
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"source": pair.source, "target": pair.target}) + "\n" for pair in pairs)
    return file
