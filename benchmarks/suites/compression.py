"""What `pileus compress --all` makes of the default model and of a small one that is trained here."""

import json
import subprocess
import sys
from collections.abc import Sequence
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
    SMALL: "a Llama of 4 layers and 1M parameters, trained here",
}
_SMALL_MODEL = "small"
_STEPS = {DEFAULT: 40, SMALL: 100}
_RATE = {DEFAULT: 1e-4, SMALL: 1e-3}
_QUICK_STEPS = 2


async def measure(run: Run, setting: Setting, chosen: Sequence[str], text: Path | None, *, quick: bool) -> None:
    """Each once, since what comes out is the same again; the speeds are medians over rounds in which all take turns."""
    pull(setting.cache, run.say)
    for load in (name for name in LOADS if name in chosen):
        run.results.titles[load] = LOADS[load]
        home = make_home(setting.family, setting.cache, "")
        options = ["--data", str(home.data), "--config", str(home.config)]
        model = MODEL if load == DEFAULT else _SMALL_MODEL
        if load == SMALL:
            options += ["--weights", str(_small(setting.cache, text, run))]
            _call("models", "import", options[-1], model, "--data", str(home.data))
        steps = _QUICK_STEPS if quick else _STEPS[load]
        rounds = 1 if quick else run.rounds
        if text is not None:
            options += ["--text", str(text), "--calibration", str(text)]
        folder = run.folder / load
        run.say(f"compressing {model}: minutes")
        asked = ["--steps", str(steps), "--rate", str(_RATE[load]), "--rounds", str(rounds), "--report", str(folder)]
        _call("compress", model, "--all", *asked, *options)
        _keep(run, load, model, json.loads((folder / "report.json").read_bytes()))


def _keep(run: Run, load: str, model: str, report: dict[str, Any]) -> None:
    known = {target.name for target in run.results.targets}
    for row in report["rows"]:
        name = PARENT if row["name"] == model else row["name"].removeprefix(f"{model}-")
        if name not in known:
            known.add(name)
            run.take_part(Target(name, name, __version__, row["how"], f"{report['tokens']} tokens of a text"))
        run.keep(SUITE, load, name, 1, _figures(row))


def _figures(row: dict[str, Any]) -> Figures:
    rates = {f"tokens_per_s_{count}": rate["median"] for count, rate in row["tokens_per_s"].items()}
    return {
        "size_mb": row["size_bytes"] / 1e6,
        "perplexity": row["perplexity"]["value"],
        "perplexity_ratio": row["perplexity_ratio"]["value"],
        "perplexity_ratio_high": row["perplexity_ratio"]["high"],
        **({"task_percent": 100 * row["task"]["value"]} if row["task"] else {}),
        **rates,
        "memory_mb": row["memory_bytes"] / 1e6,
    }


def _small(cache: Path, text: Path | None, run: Run) -> Path:
    """Trained once; some minutes."""
    folder = cache / "small-model"
    if not (folder / "model.safetensors").exists():
        run.say("training the small model")
        command = [sys.executable, "-m", "benchmarks.small_model", str(folder), str(text or "")]
        subprocess.run(command, check=True)
    return folder


def _call(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pileus", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"pileus {arguments[0]}: {done.stderr.strip()[-300:]}")
