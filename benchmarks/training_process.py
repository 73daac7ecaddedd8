"""One round of training: the same model on the same windows, by our loop, a plain one, and Transformers' Trainer.

`python -m benchmarks.training_process FOLDER STEPS TARGET,TARGET,...` prints one line of JSON per target. Timed is what
lies between the end of the warm-up's last step and the end of the last one.
"""

import copy
import json
import random
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from pileus.training.examples import Order
from pileus.training.loop import Loop
from pileus.training.prepared import prepare
from pileus.training.ranks import use_threads
from pileus.training.recipes import open_recipe
from pileus.training.recipes.gpt import Gpt
from pileus.training.recipes.recipe import Setting
from pileus.training.spec import Train

WARM = 3
_WORDS = 2000


class Clock:
    """When each step ended."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._at: dict[int, float] = {}
        self.loss = 0.0

    def ended(self, step: int) -> None:
        self._at[step] = perf_counter()

    def tokens_per_s(self, tokens_per_step: int) -> float:
        return (self._steps - WARM) * tokens_per_step / (self._at[self._steps] - self._at[WARM])


class Followed(Clock):
    """Our loop's watcher."""

    def told(self, step: int, steps: int, figures: dict[str, float]) -> None:
        self.loss = figures["loss"]

    def kept(self, step: int, steps: int) -> None:
        pass

    def stops(self) -> bool:
        self.ended(self.step())
        return False

    def step(self) -> int:
        return len(self._at) + 1


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
    folder, steps, targets = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
    spec = _spec(folder, steps)
    use_threads(spec)
    recipe = open_recipe(Setting(spec, prepare(spec, folder, None, lambda _: None), None))
    assert isinstance(recipe, Gpt)
    recipe.validation = None
    begin = copy.deepcopy(recipe.model)
    for number, target in enumerate(targets):
        recipe.model = copy.deepcopy(begin)
        clock = Followed(steps) if target == "pileus-train" else Clock(steps)
        if isinstance(clock, Followed):
            ours(recipe, spec, folder / f"run-{number}", clock)
        elif target == "plain-loop":
            plain(recipe, spec, clock)
        else:
            trainer(recipe, spec, folder, clock)
        figures = {"tokens_per_s": clock.tokens_per_s(spec.batch * spec.context), "final_loss": clock.loss}
        print(json.dumps({"target": target, "figures": figures}), flush=True)


def _spec(folder: Path, steps: int) -> Train:
    """A decoder of about six million parameters, float32, batches of 8 windows of 256 tokens."""
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
        context=256,
        vocabulary=4096,
        batch=8,
        steps=steps,
        log_every=10,
        precision="float32",
        checkpoint_s=1e6,
    )


if __name__ == "__main__":
    main()
