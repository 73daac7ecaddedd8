"""What the fake engine says: a pure function of (prompt, seed, choice, position) and the adapter.

The tokens are a ring. Prompt, seed and choice decide the place on it where an answer begins, and each next token is the
ring's next one. So an answer goes on exactly from prompt + emitted tokens, and a token costs next to nothing.
"""

import random
from array import array
from zlib import crc32

from pileus.core.records import EngineRequest, TokenLogprobs
from pileus.testing.options import FakeOptions

_SHUFFLE = 8  # any constant: each process must get the same ring


class Answers:
    """The ring of a set of options."""

    def __init__(self, options: FakeOptions) -> None:
        self._text = options.text is not None
        if options.text is not None:
            self.ring = tuple(options.text.encode()) or (32,)
        else:
            shuffled = list(options.tokens)
            random.Random(_SHUFFLE).shuffle(shuffled)  # noqa: S311  # not a secret
            self.ring = tuple(shuffled)
        self.size = len(self.ring)
        self.single = tuple((token,) for token in self.ring)  # what an emission carries, made beforehand
        self.tokens = frozenset(self.ring)
        self._vocab_size = options.vocab_size
        self.length = self.size if self._text else options.answer_tokens  # after which it stops by itself

    def beginning(self, request: EngineRequest, choice: int) -> int:
        """The place of the answer's first token; places count on past the ring's end."""
        adapter = crc32(request.adapter.encode())  # 0 for none
        if self._text:
            return adapter % self.size
        words = array("Q", (*request.prompt, request.params.seed & (1 << 64) - 1, choice))
        return crc32(words.tobytes(), adapter) % self.size

    def logprobs(self, place: int, count: int) -> TokenLogprobs:
        """The said token is the most likely one; `count` tokens are told, each less likely than the one before."""
        token = self.ring[place % self.size]
        first = -0.05 - (place % 7) / 10
        top = tuple(((token + i * 7919) % self._vocab_size if i else token, first - 0.5 * i) for i in range(count))
        return TokenLogprobs(first, top)
