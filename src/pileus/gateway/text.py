"""Text to ids on the way down, ids to text on the way up."""

import asyncio
from collections.abc import Sequence

from pileus.core.ports import Detokenizer, Tokenizer
from pileus.core.records import GenerationRequest, TokenLogprobs
from pileus.gateway.records import TokenText

# Tokenising this many characters takes about as long as handing them to a thread and back.
_INLINE_CHARACTERS = 4_000


async def prompt_ids(tokenizer: Tokenizer, request: GenerationRequest) -> list[int]:
    """The ids that the model shall continue. Long texts are tokenised in a thread, so that others' streams go on."""
    if isinstance(request.prompt, tuple):
        return list(request.prompt)
    if request.prompt is not None:
        if len(request.prompt) <= _INLINE_CHARACTERS:
            return tokenizer.encode(request.prompt)
        return await asyncio.to_thread(tokenizer.encode, request.prompt)
    if sum(len(message.content) for message in request.messages) <= _INLINE_CHARACTERS:
        return tokenizer.encode_chat(request.messages)
    return await asyncio.to_thread(tokenizer.encode_chat, request.messages)


def token_text(tokenizer: Tokenizer, token: int, logprobs: TokenLogprobs) -> TokenText:
    """One token and its alternatives, as people read them."""
    text, raw = tokenizer.token_text(token)
    top = tuple((*tokenizer.token_text(other), logprob) for other, logprob in logprobs.top)
    return TokenText(text, raw, logprobs.logprob, top)


class TextStream:
    """One choice's text as it grows. What may be the beginning of a stop string is held back until that is decided."""

    __slots__ = ("_detokenizer", "_held", "_longest", "_stops", "stopped")

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stops = tuple(stops)
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Text that may be shown now. Once a stop string appeared, `stopped` is true and no more text comes."""
        text = self._detokenizer.push((token,))
        return self._release(text) if self._stops else text

    def push_all(self, tokens: Sequence[int]) -> str:
        """Several tokens at once, for choices without stop strings."""
        return self._detokenizer.push(tokens)

    def flush(self) -> str:
        """What is left at the end."""
        text = self._release(self._detokenizer.flush())
        if self.stopped:
            return text
        text, self._held = text + self._held, ""
        return text

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = self._undecided()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def _undecided(self) -> int:
        """Length of the longest tail that begins a stop string."""
        for length in range(min(self._longest - 1, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
