"""What `pileus compress --all` makes of the default model and of a small one that is trained here."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.engines import Setting
from benchmarks.figures import Figures
from benchmarks.pileus_server import MODEL, make_home, pull
from benchmarks.processes import StartError
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__

SUITE = "compression"
PARENT = "parent"
DEFAULT, SMALL = "compress-default", "compress-small"
LOADS = {
    DEFAULT: f"{MODEL}, whose weights were 4 bits in groups of 32 when they came",
    SMALL: "a Llama of 4 layers and 1M parameters, trained here for 600 steps",
}
_SMALL_MODEL = "small"
_STEPS = {DEFAULT: 20, SMALL: 30}  # of those that learn
_RATE = {DEFAULT: 1e-4, SMALL: 1e-3}
_TOKENS = {DEFAULT: 2000, SMALL: 6000}  # that the perplexity is of
_WINDOW = {DEFAULT: 512, SMALL: 128}  # the small model saw no longer ones
_SEEDS = {DEFAULT: 1, SMALL: 3}  # rounds: of what learns, from another one each; all else is the same again
_QUICK_STEPS = 2


async def measure(run: Run, setting: Setting, chosen: Sequence[str], text: Path | None, *, quick: bool) -> None:
    """The speeds are medians over rounds in which all take turns, in the first round here."""
    pull(setting.cache, run.say)
    for load in (name for name in LOADS if name in chosen):
        run.results.titles[load] = LOADS[load]
        weights = _small(setting.cache, text, run) if load == SMALL else None
        for seed in range(1 if quick else _SEEDS[load]):
            speeds = 0 if seed else 1 if quick else run.rounds
            asked = ["--steps", str(_QUICK_STEPS if quick else _STEPS[load]), "--rounds", str(speeds)]
            report = _compress(run, setting, load, weights, text, [*asked, "--seed", str(seed)])
            _keep(run, load, report, seed + 1)


def _compress(
    run: Run, setting: Setting, load: str, weights: Path | None, text: Path | None, asked: Sequence[str]
) -> dict[str, Any]:
    """All forms, in a models folder of their own: what is made is installed, under names that would be taken then."""
    home = make_home(setting.family, setting.cache, "")
    _own_models(home.data / "models")
    options = ["--data", str(home.data), "--config", str(home.config)]
    model = MODEL if weights is None else _SMALL_MODEL
    if weights is not None:
        _call("models", "import", str(weights), model, "--data", str(home.data))
        options += ["--weights", str(weights)]
    if text is not None:
        options += ["--text", str(text), "--calibration", str(text)]
    run.say(f"compressing {model}: minutes")
    folder = run.folder / load
    common = ["--rate", str(_RATE[load]), "--tokens", str(_TOKENS[load]), "--window", str(_WINDOW[load])]
    _call("compress", model, "--all", *common, *asked, "--report", str(folder), *options)
    return dict(json.loads((folder / "report.json").read_bytes()))


def _own_models(models: Path) -> None:
    """In the place of a link to everybody's."""
    shared = models.resolve()
    models.unlink()
    shutil.copytree(shared, models, copy_function=os.link)


def _keep(run: Run, load: str, report: dict[str, Any], number: int) -> None:
    known = {target.name for target in run.results.targets}
    for row in report["rows"]:
        name = PARENT if row["name"] == report["model"] else row["name"].removeprefix(f"{report['model']}-")
        if name not in known:
            known.add(name)
            run.take_part(Target(name, name, __version__, row["how"], f"{report['tokens']} tokens of a text"))
        run.keep(SUITE, load, name, number, _figures(row))


def _figures(row: dict[str, Any]) -> Figures:
    rates = {f"tokens_per_s_{count}": rate["median"] for count, rate in row["tokens_per_s"].items()}
    return {
        "size_mb": row["size_bytes"] / 1e6,
        "perplexity": row["perplexity"]["value"],
        "perplexity_ratio": row["perplexity_ratio"]["value"],
        "perplexity_ratio_high": row["perplexity_ratio"]["high"],
        **({"task_percent": 100 * row["task"]["value"]} if row["task"] else {}),
        **(rates | {"memory_mb": row["memory_bytes"] / 1e6} if rates else {}),
    }


def _small(cache: Path, text: Path | None, run: Run) -> Path:
    """Trained once for each way to train it and each text; some minutes."""
    told = (Path(__file__).parents[1] / "small_model.py").read_bytes() + (text.read_bytes() if text else b"")
    folder = cache / f"small-model-{sha256(told).hexdigest()[:8]}"
    if not (folder / "model.safetensors").exists():
        run.say("training the small model")
        command = [sys.executable, "-m", "benchmarks.small_model", str(folder), str(text or "")]
        subprocess.run(command, check=True)
    return folder


def _call(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pileus", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"pileus {arguments[0]}: {done.stderr.strip()[-300:]}")
