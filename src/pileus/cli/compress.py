"""`pileus compress`: a smaller or quicker model of one that is here, with a report of what that costs.

With a key (`PILEUS_API_KEY`) the running server does it, as a job. Without one, a server is started for it, and ended
with it. Interrupted, the same command goes on where it was.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Alone, Config, Data, Json, Url
from pileus.cli.serving import server
from pileus.cli.watch import begin_job, demand_success, lines_of, watch_job

_FORMS = ("fp16", "int8", "int4", "full-int8", "pruned", "distilled")
_TUNED = {"none": [], "awq": ["awq", "scale"], "scale": ["scale"], "gptq": ["gptq"], "awq-gptq": ["awq", "gptq"]}
_AWQ_SHARE = 0.8
_FORGOTTEN = "say with --to what to make of it, or with --all to make one of each"

Of = Annotated[str, typer.Argument(help="An installed model, or an adapter, which is merged with its base first.")]
To = Annotated[str | None, typer.Option(help=f"What to make of it: {', '.join(_FORMS)}.")]
Name = Annotated[str | None, typer.Option(help="What it shall be called; MODEL-TO.")]
Target = Annotated[str, typer.Option(help="Who serves it: native, gguf (llama.cpp too) or vllm.")]
Tuned = Annotated[str, typer.Option(help=f"How 4 bits are chosen: {', '.join(_TUNED)}.")]
Group = Annotated[int, typer.Option(help="Weights of 4 bits that share a scale: 32, 64, 128; -1 is a row.")]
Share = Annotated[
    float | None, typer.Option(help="Of the weights that get 4 bits; the tenderest keep 8. 0.8 with awq; else 1.")
]
Symmetric = Annotated[bool, typer.Option("--symmetric", help="No zero points: smaller, quicker, less exact.")]
Smooth = Annotated[
    float, typer.Option(help="Full 8 bits: how much of the activations' outliers goes into the weights, 0 to 1.")
]
PruneBy = Annotated[str, typer.Option(help="What is pruned: channels, heads, magnitude or wanda.")]
Amount = Annotated[float, typer.Option(help="How much of it is pruned, 0 to 1.")]
Layers = Annotated[int, typer.Option(min=0, help="Of a student; 0 is half of the teacher's.")]
Channels = Annotated[float, typer.Option(help="Share of the teacher's FFN channels in a student.")]
Hidden = Annotated[float, typer.Option(min=0.0, help="Weight of the teacher's hidden states in what a student learns.")]
Steps = Annotated[int, typer.Option(min=0, help="Of training: a pruned model recovers, a student learns.")]
Rate = Annotated[float, typer.Option(help="Highest learning rate; small models bear more.")]
Then = Annotated[str, typer.Option(help="Weights of what was pruned or distilled: fp16, int8 or int4.")]
Everything = Annotated[bool, typer.Option("--all", help="One of each form, side by side in one report.")]
Calibration = Annotated[Path | None, typer.Option(help="A text to calibrate and train on; else a built-in one.")]
Text = Annotated[Path | None, typer.Option(help="A text for the perplexity; else a built-in one.")]
Tokens = Annotated[int, typer.Option(min=2, help="Of that text, the last so many.")]
Window = Annotated[int, typer.Option(min=2, help="Tokens of it that a model sees at once; half of them anew.")]
Rounds = Annotated[int, typer.Option(min=0, help="In which speed is measured; 0 measures none.")]
Weights = Annotated[Path | None, typer.Option(help="A Hugging Face folder, where the model's own was not kept.")]
Report = Annotated[Path | None, typer.Option(help="Folder for the report; in the data folder.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for vLLM's weights.")]
Seed = Annotated[int, typer.Option(help="Of whatever is drawn.")]


def compress(
    model: Of,
    to: To = None,
    name: Name = None,
    target: Target = "native",
    tuned: Tuned = "gptq",
    group: Group = 32,
    share: Share = None,
    symmetric: Symmetric = False,
    smooth: Smooth = 0.8,
    prune_by: PruneBy = "channels",
    amount: Amount = 0.25,
    layers: Layers = 0,
    channels: Channels = 1.0,
    hidden: Hidden = 0.0,
    steps: Steps = 200,
    rate: Rate = 2e-4,
    then: Then = "fp16",
    everything: Everything = False,
    calibration: Calibration = None,
    text: Text = None,
    tokens: Tokens = 6000,
    window: Window = 512,
    rounds: Rounds = 3,
    weights: Weights = None,
    report: Report = None,
    out: Output = None,
    seed: Seed = 0,
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a model smaller or quicker, and report what that costs. Paths are those of the server's machine.

    Example: `pileus compress smollm2-135m-instruct --to int8`

    Example: `pileus compress smollm2-135m-instruct --to int4 --tuned gptq --calibration notes.txt --name smol-4`

    Example: `pileus compress smollm2-135m-instruct --all --report report`
    """
    _of(_TUNED, tuned, "--tuned")
    bits = {"group": group, "symmetric": symmetric, "smooth": smooth} | _bits(tuned, share)
    pruning, student = {"by": prune_by, "amount": amount}, {"layers": layers, "channels": channels}
    common = {"target": target, "weights": bits, "then": then} | _learning(pruning, student, steps, rate, hidden)
    spec = {
        "model": model,
        "variants": _one_of_each(model, common, share) if everything else [_variant(model, to, name, common)],
        "texts": {"file": _path(calibration)},
        "checks": _checks(text, tokens, window, rounds, everything=everything),
        "weights": _path(weights),
        "report": _path(report),
        "output": _path(out),
        "seed": seed,
    }
    with server(url, data, config, alone=alone) as client:
        _have_done(client, spec, json=json)


def _learning(
    pruning: dict[str, Any], student: dict[str, Any], steps: int, rate: float, hidden: float
) -> dict[str, Any]:
    """How a pruned model recovers and a student learns; without steps, none does."""
    if not steps:
        return {"pruning": pruning | {"recovery": {}}, "distillation": {}}
    recovery = {"steps": steps, "rate": rate, "logits": 1.0, "truth": 0.5}
    return {
        "pruning": pruning | {"recovery": recovery},
        "distillation": student | {"learning": recovery | {"hidden": hidden}},
    }


def _checks(text: Path | None, tokens: int, window: int, rounds: int, *, everything: bool) -> dict[str, Any]:
    checks = {"text": _path(text), "tokens": tokens, "window": window, "stride": window // 2, "speed_rounds": rounds}
    return checks | ({"kv": ["u8", "f16", "f32"]} if everything else {})


def _have_done(client: Client, spec: dict[str, Any], *, json: bool) -> None:
    job = begin_job(client, "compress", spec)
    output.note(f"{job['id']} compresses {spec['model']}.")
    ended = watch_job(client, job["id"], "waiting", pauses=not client.lasts)
    lines = lines_of(client, job["id"])
    demand_success(ended)
    if json:
        output.json(ended | {"lines": lines})
        return
    for line in lines[-_told_at_the_end(spec) :]:
        output.line(line)


def _told_at_the_end(spec: dict[str, Any]) -> int:
    """Lines: the parent, the variants that were measured, where the report is."""
    measured = [variant for variant in spec["variants"] if variant["target"] != "vllm"]
    return 2 + len(measured)


def _variant(model: str, to: str | None, name: str | None, common: dict[str, Any]) -> dict[str, Any]:
    if to is None:
        raise typer.BadParameter(_FORGOTTEN)
    _of(dict.fromkeys(_FORMS), to, "--to")
    suffix = "" if common["target"] == "native" else f"-{common['target']}"
    return common | {"name": name or f"{model}-{to}{suffix}", "to": to}


def _one_of_each(model: str, common: dict[str, Any], share: float | None) -> list[dict[str, Any]]:
    """Every form; 4 bits by two methods; and the student once more without its teacher, to be compared."""
    found = [_variant(model, form, None, common) for form in _FORMS if form != "int4"]
    for tuned in ("awq", "gptq"):
        weights = common["weights"] | _bits(tuned, share)
        found.append(_variant(model, "int4", f"{model}-int4-{tuned}", common | {"weights": weights}))
    learning = common["pruning"]["recovery"]
    if learning:
        alone = {"steps": learning["steps"], "rate": learning["rate"]}
        student = {"distillation": common["distillation"] | {"learning": alone}}
        found.append(_variant(model, "distilled", f"{model}-distilled-alone", common | student))
    return found


def _bits(tuned: str, share: float | None) -> dict[str, Any]:
    """How 4 bits are chosen, and for how many: what AWQ would lose on small models, the tenderest fifth keeps."""
    usual = _AWQ_SHARE if tuned == "awq" else 1.0
    return {"tuned": _TUNED[tuned], "share": usual if share is None else share}


def _of(known: dict[str, Any], given: str, option: str) -> Any:
    if given not in known:
        raise typer.BadParameter(f"{given!r} is none of {', '.join(known)}", param_hint=option)
    return known[given]


def _path(path: Path | None) -> str:
    """The job runs in a folder of its own."""
    return "" if path is None else str(path.absolute())
