"""Examples as token ids, exactly as the service would have had them: prompts by the chat template that serves, answers
as they would have been generated, with their end of turn. Only answers are learnt."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from pileus.core.ports import Tokenizer
from pileus.core.records import Message
from pileus.training.finetune.examples import Conversation, Preference


class Encoded(Struct, frozen=True):
    """Token ids, and for each whether it is learnt."""

    ids: list[int]
    learnt: list[bool]
    cut: int = 0  # tokens that were beyond the longest length

    @property
    def answers(self) -> int:
        return sum(self.learnt)


class Encoder:
    """For one model. No example gets longer than `max_length` tokens: its end is cut off."""

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length

    def conversation(self, example: Conversation) -> list[Encoded]:
        """One piece with all the answers in it; or a piece for each answer, where the template writes earlier answers
        in another way than they are generated. Raises `InvalidRequest` where the template refuses the messages."""
        turns = [place for place, learnt in enumerate(example.learnt) if learnt]
        spans = [
            (self._prompt(example.messages[:turn]), self._answer(example.messages[turn].content)) for turn in turns
        ]
        prompt, answer = spans[-1]
        whole = prompt + answer
        if all(_begins(prompt, earlier + said) for earlier, said in spans[:-1]):
            learnt = [False] * len(whole)
            for earlier, said in spans:
                learnt[len(earlier) : len(earlier) + len(said)] = [True] * len(said)
            return [self._cut(whole, learnt)]
        return [self._piece(earlier, said) for earlier, said in spans]

    def preference(self, example: Preference) -> tuple[Encoded, Encoded]:
        """The better and the worse."""
        prompt = self._prompt(example.prompt)
        better, worse = (self._piece(prompt, self._answer(text)) for text in (example.preferred, example.rejected))
        return better, worse

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        return self._tokenizer.encode_chat(messages)

    def _answer(self, text: str) -> list[int]:
        """A text may begin with a token that only begins texts; an answer does not."""
        ids = self._tokenizer.encode(text)
        empty = self._tokenizer.encode("")
        return [*(ids[len(empty) :] if empty and _begins(ids, empty) else ids), self._tokenizer.stop_ids[0]]

    def _piece(self, prompt: list[int], answer: list[int]) -> Encoded:
        return self._cut(prompt + answer, [False] * len(prompt) + [True] * len(answer))

    def _cut(self, ids: list[int], learnt: list[bool]) -> Encoded:
        return Encoded(ids[: self._max_length], learnt[: self._max_length], max(len(ids) - self._max_length, 0))


def _begins(ids: Sequence[int], with_these: Sequence[int]) -> bool:
    return list(ids[: len(with_these)]) == list(with_these)


def pieces(encoder: Encoder, example: Conversation | Preference) -> Iterator[Encoded]:
    """All that is computed for an example."""
    if isinstance(example, Conversation):
        yield from encoder.conversation(example)
    else:
        yield from encoder.preference(example)
