"""A small task with an answer key: customers' tickets, and the code of the desk that each belongs to.

No model knows the codes, so before fine-tuning it cannot answer; what a ticket is about it can tell. Written for this
purpose, so nobody's licence holds. The same seed gives the same tickets. Tickets to test with say it in phrases that
none to learn from has.
"""

import json
import random
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

SYSTEM: Final = "Answer with the code of the desk that handles the ticket."

# By code: phrases to learn from, then phrases to test with.
_DESKS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "D-14": (
        (
            "my {item} has not arrived yet",
            "the parcel with the {item} is late",
            "where is my {item}, it should have come on {day}",
            "the tracking of my {item} has not moved since {day}",
            "I am still waiting for the delivery of the {item}",
            "the courier never came with my {item}",
            "the {item} was to be delivered on {day} and it is not here",
            "when will my {item} be delivered",
        ),
        ("the delivery of my {item} is overdue since {day}", "no parcel with the {item} has come so far"),
    ),
    "Q-27": (
        (
            "the {item} came broken",
            "my {item} does not work at all",
            "the {item} has a crack",
            "the {item} stopped working on {day}",
            "there is a defect in the {item}",
            "the {item} was damaged in its box",
            "a part of the {item} fell off on {day}",
            "the {item} makes a strange noise and turns off",
        ),
        ("the {item} is faulty and does not start", "I unpacked a damaged {item} on {day}"),
    ),
    "F-08": (
        (
            "I was charged twice for the {item}",
            "the invoice for the {item} is wrong",
            "I need an invoice for the {item}",
            "my card was billed for a {item} that I did not buy",
            "the price on the bill of the {item} is too high",
            "please send the receipt for the {item} from {day}",
            "you took the money for the {item} two times",
            "the discount is missing on the bill for the {item}",
        ),
        ("there is a wrong amount on the invoice of the {item}", "the {item} was billed to my card twice on {day}"),
    ),
    "R-31": (
        (
            "I want my money back for the {item}",
            "I would like to return the {item}",
            "how do I send the {item} back",
            "please refund the {item}",
            "when do I get the refund for the {item}",
            "I do not like the {item} and want to return it",
            "I sent the {item} back on {day} and wait for the refund",
            "I need a return label for the {item}",
        ),
        ("I wish to give the {item} back for a refund", "please tell me how to return the {item} I got on {day}"),
    ),
    "A-52": (
        (
            "I forgot my password",
            "I cannot log in to my account",
            "my account is locked since {day}",
            "the login page does not accept my password",
            "how do I change the e-mail address of my account",
            "I want to reset my password",
            "the code to log in never reaches my phone",
            "please delete my account",
        ),
        ("since {day} my password is refused at the login", "my account cannot be opened any more"),
    ),
    "C-66": (
        (
            "please cancel my order of the {item}",
            "I do not want the {item} any more, stop the order",
            "I ordered the {item} by mistake, cancel it",
            "can I still cancel the {item} that I ordered on {day}",
            "please stop the order of the {item} before it is sent",
            "cancel the order from {day}",
            "I changed my mind, please cancel the {item}",
            "remove the {item} from my order",
        ),
        ("I would like to cancel the order for a {item}", "the order of {day} was a mistake, please cancel it"),
    ),
}
CODES: Final = tuple(_DESKS)

_ITEMS: Final = (
    "kettle", "lamp", "toaster", "chair", "phone", "camera", "watch", "desk", "blender", "heater",
    "printer", "keyboard", "monitor", "backpack", "tent", "bicycle", "drill", "mirror", "carpet", "radio",
)  # fmt: skip
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_OPENINGS: Final = ("", "", "Hello,", "Hi there,", "Good morning,", "Dear team,", "Please help:", "Hello again,")
_ENDINGS: Final = ("", "", "Thank you.", "Please help.", "Thanks in advance.", "It is urgent.", "Best regards.")


class Ticket(Struct, frozen=True):
    """What a customer wrote, and the code that answers it."""

    text: str
    code: str

    def question(self) -> list[dict[str, str]]:
        """The messages that ask for the code."""
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": self.text}]

    def example(self) -> dict[str, Any]:
        """One line to learn from, as `/v1/fine_tuning/jobs` takes it."""
        return {"messages": [*self.question(), {"role": "assistant", "content": self.code}]}


def tickets(seed: int, count: int, *, held_out: bool = False) -> list[Ticket]:
    """So many, all different, each desk as often as any other. Those `held_out` are to test with."""
    drawn = random.Random(f"{seed} {held_out}")  # noqa: S311  # repeatable is what it should be
    found: dict[str, Ticket] = {}
    while len(found) < count:
        ticket = _ticket(CODES[len(found) % len(CODES)], drawn, held_out=held_out)
        found.setdefault(ticket.text, ticket)
    return list(found.values())


def lines(examples: list[Ticket]) -> Iterator[bytes]:
    """As JSONL."""
    for ticket in examples:
        yield json.dumps(ticket.example()).encode() + b"\n"


def _ticket(code: str, drawn: random.Random, *, held_out: bool) -> Ticket:
    phrase = drawn.choice(_DESKS[code][held_out])
    said = phrase.format(item=drawn.choice(_ITEMS), day=drawn.choice(_DAYS))
    sentence = f"{said[0].upper()}{said[1:]}{'?' if phrase.startswith(('how', 'when', 'where', 'can')) else '.'}"
    return Ticket(" ".join(filter(None, (drawn.choice(_OPENINGS), sentence, drawn.choice(_ENDINGS)))), code)
