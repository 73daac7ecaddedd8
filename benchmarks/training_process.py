"""One who trains in one round: our loop, a plain one, or Transformers' Trainer; the same model on the same windows.

`python -m benchmarks.training_process FOLDER TURNS TARGET` prepares the data, takes its first steps, and says so by a
line of JSON. Then it takes a turn of some steps for each line on standard input, and says how long that took; after
the last one, the loss as well. So the others, each in a process of its own, can take theirs in between.
"""

import json
import os
import random
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks.suites.training import BATCH, CONTEXT, KEPT, OURS, PLAIN, TURN
from pileus.training.examples import Order
from pileus.training.loop import Loop
from pileus.training.prepared import prepare
from pileus.training.ranks import settle
from pileus.training.recipes import open_recipe
from pileus.training.recipes.gpt import Gpt
from pileus.training.recipes.recipe import Setting
from pileus.training.spec import Train

WARM = 3  # steps
_WORDS = 2000


class Clock:
    """Times the steps of this process's own turns."""

    def __init__(self, turns: int) -> None:
        self.steps = WARM + turns * TURN
        self.loss = 0.0
        self._begun_s = 0.0

    def ended(self, step: int) -> None:
        """A step, counted from 1. At the end of a turn it says how long that was, and waits for the next."""
        if (step - WARM) % TURN or step < WARM:
            return
        _say({"seconds": perf_counter() - self._begun_s})
        if step < self.steps:
            sys.stdin.readline()
        self._begun_s = perf_counter()


class Followed(Clock):
    """Our loop's watcher."""

    def __init__(self, turns: int) -> None:
        super().__init__(turns)
        self._step = 0

    def told(self, step: int, steps: int, figures: dict[str, float]) -> None:
        self.loss = figures["loss"]

    def kept(self, step: int, steps: int) -> None:
        pass

    def stops(self) -> bool:
        self._step += 1
        self.ended(self._step)
        return False


class Ticking(TrainerCallback):
    """The Trainer's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._clock.ended(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._clock.loss = (logs or {}).get("loss", self._clock.loss)


def ours(recipe: Gpt, spec: Train, folder: Path, clock: Followed) -> None:
    Loop(recipe.model, recipe, spec, folder).run(clock)


def plain(recipe: Gpt, spec: Train, clock: Clock) -> None:
    """As one would write it: batches in order, forward, backward, clip, step."""
    model, order = recipe.model.train(), Order(len(recipe.train), spec.batch, spec.seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.rate, weight_decay=spec.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: spec.rate_at(step, spec.steps) / spec.rate)
    for step in range(spec.steps):
        batch = recipe.train.batch(order.of_step(step), 0).tensors
        logits = model(input_ids=batch["ids"], use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["next"].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if (step + 1) % spec.log_every == 0:
            clock.loss = loss.item()
        clock.ended(step + 1)


def trainer(recipe: Gpt, spec: Train, folder: Path, clock: Clock) -> None:
    """Transformers' own, with the same optimiser, schedule and length."""
    rows = [recipe.train.batch([index], 0).tensors["ids"][0] for index in range(len(recipe.train))]
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=spec.steps,
        per_device_train_batch_size=spec.batch,
        learning_rate=spec.rate,
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.clip,
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        logging_steps=spec.log_every,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    data = [{"input_ids": row, "labels": row} for row in rows]
    Trainer(model=recipe.model, args=arguments, train_dataset=data, callbacks=[Ticking(clock)]).train()


def main() -> None:
    folder, turns, target = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    clock = Followed(turns)
    spec = _spec(folder, clock.steps)
    if target in (OURS, KEPT):
        settle(spec)  # as the process of a job does; the others are left as they come
    recipe = open_recipe(Setting(spec, prepare(spec, folder, None, lambda _: None), None))
    assert isinstance(recipe, Gpt)
    recipe.validation = None
    if target == OURS:
        ours(recipe, spec, folder / target, clock)
    elif target in (PLAIN, KEPT):
        plain(recipe, spec, clock)
    else:
        trainer(recipe, spec, folder, clock)
    _say({"loss": clock.loss})


def _say(what: dict[str, float]) -> None:
    os.write(_OUT, json.dumps(what).encode() + b"\n")


def _spec(folder: Path, steps: int) -> Train:
    """A decoder of about four million parameters, float32, in batches."""
    drawn = random.Random(5)
    words = ["".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(2, 9))) for _ in range(_WORDS)]
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(drawn.choices(words, k=12)) for _ in range(6000)))
    return Train(
        recipe="gpt",
        data=(str(text),),
        layers=4,
        width=256,
        heads=4,
        context=CONTEXT,
        vocabulary=4096,
        batch=BATCH,
        steps=steps,
        log_every=10,
        precision="float32",
        checkpoint_s=1e6,
    )


if __name__ == "__main__":
    _OUT = os.dup(1)
    os.dup2(2, 1)  # the Trainer prints, too
    main()
