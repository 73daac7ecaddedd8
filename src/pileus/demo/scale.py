"""How much of everything: enough to reach the goals, or just enough to see that it works."""

from typing import Final

from msgspec import Struct


class Scale(Struct, frozen=True, kw_only=True):
    """Counts of texts, and of training steps."""

    base: str = "smollm2-135m-instruct"  # that learns the desks' codes
    documents: int = 3000
    width: int = 128
    gpt_steps: int = 160
    bert_steps: int = 800
    reviews: int = 1200
    review_epochs: int = 5
    pairs: int = 6000
    pairs_held_out: int = 300
    pair_steps: int = 250
    tickets: int = 300
    tickets_held_out: int = 120
    ticket_epochs: int = 2
    perplexity_tokens: int = 3000
    speed_rounds: int = 2
    has_goals: bool = True


FULL: Final = Scale()
QUICK: Final = Scale(
    documents=400,
    width=64,
    gpt_steps=30,
    bert_steps=30,
    reviews=240,
    review_epochs=1,
    pairs=400,
    pairs_held_out=40,
    pair_steps=30,
    tickets=24,
    tickets_held_out=24,
    ticket_epochs=1,
    perplexity_tokens=600,
    speed_rounds=0,
    has_goals=False,
)
