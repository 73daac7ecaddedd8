"""Chapter 6: SmolLM2 learns through the official OpenAI client what it could not know."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from pileus.core.errors import OperatorError
from pileus.demo.chapter import Chapter, Stage, percent
from pileus.demo.plots import draw_bars, draw_curves
from pileus.training.finetune.tickets import Ticket, lines, tickets

if TYPE_CHECKING:
    from openai import OpenAI

BASE: Final = "desk-base"  # the deployment that learns
_MOST_BEFORE, _LEAST_AFTER = 0.3, 0.9
_AT_ONCE: Final = 8
_LOOK_S: Final = 0.5
_SEEN_S: Final = 60.0  # for what was learnt to be served


def held_out(stage: Stage) -> list[Ticket]:
    """In phrases that none of the tickets to learn from has."""
    return tickets(2, stage.scale.tickets_held_out, held_out=True)


def share_right(client: "OpenAI", model: str, asked: Sequence[Ticket]) -> float:
    """Of the tickets, those that are answered with their code and nothing else."""

    def is_right(ticket: Ticket) -> bool:
        messages: Any = ticket.question()
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0)
        return (answer.choices[0].message.content or "").strip() == ticket.code

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return sum(pool.map(is_right, asked)) / len(asked)


def fine_tune(stage: Stage) -> tuple[Chapter, str]:
    """What it tells, and the name that requests ask for."""
    client, scale, asked = stage.cloud.openai, stage.scale, held_out(stage)
    stage.cloud.deploy(BASE, scale.base)
    stage.cloud.tell("asking before", 0, 0)
    before = share_right(client, BASE, asked)
    began = monotonic()
    file = client.files.create(file=("tickets.jsonl", b"".join(lines(tickets(1, scale.tickets)))), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=file.id,
        suffix="desks",
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": scale.ticket_epochs}}},
    )
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in ("succeeded", "failed", "cancelled"):
        own = stage.cloud.get(f"/v1/jobs/{job.id}")
        stage.cloud.tell("fine-tuning on tickets", own["done"], own["total"])
        sleep(_LOOK_S)
    if job.fine_tuned_model is None:
        raise OperatorError(f"fine-tuning ({job.id}): {job.error.message if job.error else job.status}")
    took_s = monotonic() - began
    _wait_served(client, job.fine_tuned_model)
    stage.cloud.tell("asking after", 0, 0)
    after = share_right(client, job.fine_tuned_model, asked)
    again = share_right(client, BASE, asked)
    return _told(stage, job.id, before, after, again, took_s), job.fine_tuned_model


def _wait_served(client: "OpenAI", name: str) -> None:
    end = monotonic() + _SEEN_S
    while name not in {model.id for model in client.models.list()}:
        if monotonic() > end:
            raise OperatorError(f"{name} has been made, and is not served")
        sleep(_LOOK_S)


def _told(stage: Stage, job_id: str, before: float, after: float, again: float, took_s: float) -> Chapter:
    points = stage.cloud.get(f"/v1/jobs/{job_id}/metrics?limit=2000")["data"]
    losses = [(point["step"], point["values"]["train_loss"]) for point in points if "train_loss" in point["values"]]
    draw_curves(stage.folder / "tickets-loss.png", {"training": losses}, "loss on answers")
    shares = {"before": before, "after": after, "base beside it": again}
    draw_bars(stage.folder / "tickets.png", shares, "held-out tickets answered right")
    count = stage.scale.tickets_held_out
    return Chapter(
        title="SmolLM2 learns from tickets",
        says="Which desk has which code no model can know. OpenAI's client uploads tickets with their codes and has a "
        "LoRA adapter trained; it is served beside its base, without a restart. Asked are tickets in phrases that it "
        "has not seen; right is the code and nothing else.",
        figures=(
            stage.figure("tickets to learn from", stage.scale.tickets, str(stage.scale.tickets)),
            stage.figure(f"before, of {count} tickets", before, percent(before), "under 30%", most=_MOST_BEFORE),
            stage.figure(f"after, of {count} tickets", after, percent(after), "over 90%", least=_LEAST_AFTER),
            stage.figure("its base, asked beside it", again, percent(again), "as before", least=before, most=before),
        ),
        plots=("tickets-loss.png", "tickets.png"),
        seconds=took_s,
    )
