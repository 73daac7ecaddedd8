"""One choice of an answer: the engine's ids come in as they are emitted, deltas of text go out when asked for."""

from pileus.core.ports import Tokenizer
from pileus.core.records import Emission, FinishReason, TokenLogprobs
from pileus.gateway.records import Delta, TokenText
from pileus.gateway.text import TextStream, token_text


class ChoiceStream:
    """Keeps all that was emitted, so that the choice can be resumed elsewhere, and knows what was handed on."""

    __slots__ = (
        "_logprobs",
        "_reported",
        "_stops",
        "_text",
        "_tokenizer",
        "_told",
        "_want_logprobs",
        "delivered",
        "emitted",
        "finish",
        "heard_at",
        "index",
    )

    def __init__(self, index: int, tokenizer: Tokenizer, stop: tuple[str, ...], *, logprobs: bool) -> None:
        self.index = index
        self.emitted: list[int] = []  # by the engine
        self.delivered = 0  # of these, part of the answer: a stop string cuts the rest off
        self.finish: FinishReason | None = None  # set by the generation
        self.heard_at: float | None = None  # when it last emitted; set by the generation too
        self._tokenizer = tokenizer
        self._stops = bool(stop)
        self._text = TextStream(tokenizer.detokenizer(), stop)
        self._want_logprobs = logprobs
        self._logprobs: list[TokenLogprobs] = []
        self._told = 0  # of the emitted, handed on
        self._reported = False  # the finish was handed on

    @property
    def stopped(self) -> bool:
        """Whether a stop string has appeared in what was collected."""
        return self._text.stopped

    def take(self, emission: Emission) -> None:
        self.emitted += emission.tokens
        if emission.logprobs is not None:
            self._logprobs += emission.logprobs

    def collect(self) -> Delta | None:
        """What has come since the last call; None where there is nothing to show."""
        if self._reported or (self._told == len(self.emitted) and self.finish is None):
            return None
        first = self._told
        text = self._read()
        finish = FinishReason.STOP if self.stopped else self.finish
        if finish is not None:
            text += self._text.flush()
            self._reported = True
        logprobs = self._token_texts(first) if self._want_logprobs else None
        if not text and not logprobs and finish is None:
            return None
        return Delta(self.index, text, self._told - first, logprobs, finish)

    def _read(self) -> str:
        """The new tokens' text, up to a stop string."""
        if not self._stops:
            text = self._text.push_all(self.emitted[self._told :])
            self._told = self.delivered = len(self.emitted)
            return text
        text = ""
        while self._told < len(self.emitted) and not self.stopped:
            text += self._text.push(self.emitted[self._told])
            self._told += 1
        self.delivered = self._told
        return text

    def _token_texts(self, first: int) -> tuple[TokenText, ...]:
        told = slice(first, self._told)
        return tuple(
            token_text(self._tokenizer, token, logprobs)
            for token, logprobs in zip(self.emitted[told], self._logprobs[told], strict=True)
        )
