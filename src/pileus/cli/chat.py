"""`pileus chat`: a conversation in the terminal, or one answer for a pipe."""

import sys
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Json, Url
from pileus.core.errors import OperatorError

_COMPLETIONS = "/v1/chat/completions"
_HELP = "/reset forgets the conversation, /system TEXT sets the instruction, /quit leaves. Ctrl-C stops an answer."


@dataclass
class Answer:
    """One answer as it came in. Times are by this side's clock."""

    asked_at: float = field(default_factory=time.monotonic)
    text: str = ""
    first_at: float | None = None
    tokens: int = 0

    def stats(self) -> str:
        now = time.monotonic()
        first_at = self.first_at or now
        rate = (self.tokens - 1) / (now - first_at) if self.tokens > 1 else 0.0
        return f"{self.tokens} tokens, {rate:.0f} tokens/s, first after {1000 * (first_at - self.asked_at):.0f} ms"


@dataclass
class Conversation:
    """What was said, and how the next answer is asked for."""

    client: Client
    model: str
    options: dict[str, Any]
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        instruction = [{"role": "system", "content": self.system}] if self.system else []
        return {"model": self.model, "messages": [*instruction, *self.turns], **self.options}

    def ask(self, text: str, answer: Answer) -> Generator[str, None, None]:
        """The answer's text, piece by piece; `answer` gathers it. The turn counts also if it is left halfway."""
        self.turns.append({"role": "user", "content": text})
        body = self.body() | {"stream": True, "stream_options": {"include_usage": True}}
        try:
            with closing(self.client.stream(_COMPLETIONS, body)) as events:
                for event in events:
                    if usage := event.get("usage"):
                        answer.tokens = usage["completion_tokens"]
                    for choice in event["choices"]:
                        if piece := choice["delta"].get("content"):
                            answer.first_at = answer.first_at or time.monotonic()
                            answer.text += piece
                            yield piece
        finally:
            if answer.text:
                self.turns.append({"role": "assistant", "content": answer.text})
            else:
                self.turns.pop()  # nothing was said to it: as if it had not been asked


def chat(
    prompt: Annotated[
        list[str] | None, typer.Argument(help="Ask this and leave; standard input is added to it.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Deployment; else the server's first.")] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="Instruction for the whole conversation.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same draw.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Show the speed of each answer.")] = False,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Talk to a model.

    Examples: `pileus chat`, `pileus chat "Name three clouds."`, `pileus chat "Summarise this:" < notes.txt`
    """
    question = _question(prompt)
    with Client(url) as client:
        wishes = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        options = {name: value for name, value in wishes.items() if value is not None}
        conversation = Conversation(client, model or _first_model(client), options, system)
        if question is None and not json:
            _talk(conversation, show_stats=stats)
        elif not question:
            raise OperatorError('nothing was asked: pileus chat "your question", or a text on standard input')
        elif json:
            conversation.turns.append({"role": "user", "content": question})
            output.json(client.post(_COMPLETIONS, conversation.body()))
        else:
            _say(conversation, question, show_stats=stats)


def _question(prompt: list[str] | None) -> str | None:
    """What was asked on the command line and in the pipe; `None` where a person sits at the terminal."""
    piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    words = " ".join(prompt or ())
    if not words and sys.stdin.isatty():
        return None
    return "\n\n".join(part for part in (words, piped) if part)


def _first_model(client: Client) -> str:
    models = client.get("/v1/models")["data"]
    if not models:
        raise OperatorError("this server serves no model: see `pileus status`")
    return str(models[0]["id"])


def _talk(conversation: Conversation, *, show_stats: bool) -> None:
    import readline  # noqa: F401  # gives input() line editing and history

    output.line(f"{conversation.model}. {_HELP}")
    while True:
        try:
            text = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            output.line()
            return
        if text in ("/quit", "/exit"):
            return
        if text.startswith("/"):
            _command(conversation, text)
        elif text:
            try:
                _say(conversation, text, show_stats=show_stats)
            except KeyboardInterrupt:  # ends the answer, not the conversation
                output.line()
            except OperatorError as error:
                output.note(error.message)


def _command(conversation: Conversation, text: str) -> None:
    name, _, argument = text.partition(" ")
    match name:
        case "/reset":
            conversation.turns.clear()
            output.line("Forgotten.")
        case "/system":
            conversation.system = argument.strip() or None
            output.line("Noted." if conversation.system else "No instruction.")
        case _:
            output.line(_HELP)


def _say(conversation: Conversation, text: str, *, show_stats: bool) -> None:
    """Ask, and write the answer as it comes."""
    answer = Answer()
    with closing(conversation.ask(text, answer)) as pieces:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    output.line()
    if show_stats:
        output.note(answer.stats())
