"""`pileus eval` and `pileus gate`: how good a model is, and whether it may take its parent's place."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.evaluating import existing, run_job, save, served, task_specs
from pileus.cli.options import DEFAULT_URL, Alone, Config, Data, Json, Url
from pileus.cli.serving import server
from pileus.core.errors import OperatorError

Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks",
        "-t",
        help="A file of questions, PATH or FORMAT=PATH; again for more. "
        "Formats: jsonl, squad, gsm8k, banking77, sentiment, tatoeba.",
    ),
]
Texts = Annotated[list[Path] | None, typer.Option("--text", help="A long text, for perplexity; again for more.")]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="exact_match, f1, accuracy, number, contains, chrf, bleu or rouge_l; "
        "again for more. Without it, what is usual for the format.",
    ),
]
Limit = Annotated[int, typer.Option(min=0, help="Only the first so many questions of each file; 0 is all.")]
Longest = Annotated[int, typer.Option("--max-tokens", min=0, help="Of an answer; 0 is what is usual for the format.")]
Raw = Annotated[bool, typer.Option("--raw", help="Continue each prompt as it stands: for models without a chat.")]
Parallel = Annotated[int, typer.Option(min=1, max=64, help="Questions at the same time.")]
Out = Annotated[Path | None, typer.Option("--output", "-o", help="A folder for the report, as Markdown and JSON.")]


def evaluate(
    model: Annotated[str, typer.Argument(help="A deployment, or a model of the catalogue.")],
    tasks: Tasks = None,
    text: Texts = None,
    against: Annotated[str, typer.Option(help="Another, which answers the same: both are compared.")] = "",
    metric: MetricNames = None,
    limit: Limit = 0,
    max_tokens: Longest = 0,
    raw: Raw = False,
    parallel: Parallel = 8,
    harness: Annotated[
        str, typer.Option(help="Tasks of lm-evaluation-harness, separated by commas, through this API.")
    ] = "",
    out: Out = None,
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Put questions to a model, judge its answers, and say how sure the figures are.

    Questions go through the server as any other request, in the batch lane. Files are read by the server, on its
    machine.

    Example: `pileus eval smollm2-135m --tasks questions.jsonl --metric f1`

    Example: `pileus eval chat-v2 --against chat --tasks gsm8k=gsm8k_test.jsonl --limit 100 --text book.txt -o report`
    """
    from pileus.evaluation.records import EvaluationResult
    from pileus.evaluation.report import evaluation_markdown

    specs = task_specs(tasks, metrics=metric, limit=limit, max_tokens=max_tokens, raw=raw)
    texts = [str(existing(path)) for path in text or []]
    if not (specs or texts or harness):
        raise OperatorError("there is nothing to evaluate: name --tasks, --text or --harness")
    names = tuple(filter(None, (model, against)))
    with server(url, data, config, alone=alone, names=names) as client:
        if not specs and not harness:
            found = run_job(client, "evaluate", {"model": model, "against": against, "texts": texts}, "evaluating")
        else:
            with served(client, *names) as answering:
                if harness:
                    from pileus.cli.harness import run_harness

                    run_harness(client, answering.deployments[0], harness.split(","), out, limit)
                if not (specs or texts):
                    return
                spec: dict[str, Any] = {"tasks": specs, "texts": texts, "parallel": parallel}
                spec |= dict(zip(("model", "against"), answering.deployments, strict=False))
                found = run_job(client, "evaluate", spec, "evaluating", answering)
    import msgspec

    report = evaluation_markdown(msgspec.convert(found, EvaluationResult))
    save(out, f"evaluation-{model}", report, found)
    if json:
        output.json(found)
    else:
        output.line(report)


def gate(
    candidate: Annotated[str, typer.Argument(help="The model that is to be judged, as `pileus models list` names it.")],
    parent: Annotated[str, typer.Option(help="The model whose place it is to take.")],
    margin: Annotated[float, typer.Option(min=0, help="By how much perplexity may be worse: a share of it.")] = 0.05,
    score_margin: Annotated[float, typer.Option(min=0, max=1, help="By how much a task's score may be.")] = 0.02,
    text: Texts = None,
    new_tokenizer: Annotated[
        bool, typer.Option("--new-tokenizer", help="It has another tokenizer than its parent, and should have.")
    ] = False,
    tasks: Tasks = None,
    metric: MetricNames = None,
    limit: Limit = 0,
    max_tokens: Longest = 0,
    raw: Raw = False,
    parallel: Parallel = 8,
    out: Out = None,
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Judge a model beside its parent, before anybody's request comes to it. The verdict is signed and kept.

    Looks at its files, its weights, its tokenizer and its perplexity; with --tasks also at its answers. Ends with
    status 1 where it is refused.

    Example: `pileus gate smollm2-int8 --parent smollm2-135m-instruct --margin 0.01`
    """
    spec: dict[str, Any] = {
        "candidate": candidate,
        "parent": parent,
        "texts": [str(existing(path)) for path in text or []],
        "margins": {"perplexity": margin, "score": score_margin},
        "new_tokenizer": new_tokenizer,
        "parallel": parallel,
        "tasks": task_specs(tasks, metrics=metric, limit=limit, max_tokens=max_tokens, raw=raw),
    }
    with server(url, data, config, alone=alone, names=()) as client:
        if spec["tasks"]:
            with served(client, candidate, parent, by_model=True) as answering:
                spec |= dict(zip(("serves_candidate", "serves_parent"), answering.deployments, strict=True))
                found = run_job(client, "gate", spec, "judging", answering)
        else:
            found = run_job(client, "gate", spec, "judging")
    import msgspec

    from pileus.evaluation.records import GateResult
    from pileus.evaluation.report import gate_markdown

    report = gate_markdown(msgspec.convert(found, GateResult))
    save(out, f"gate-{candidate}", report, found)
    if json:
        output.json(found)
    else:
        output.line(report)
    if not found["passed"]:
        raise typer.Exit(1)
