"""Prompts that one replica is computing now, and who follows whom.

A prompt whose beginning is being computed for another one, its leader, follows that one to the same replica: the engine
makes it wait for the leader's blocks instead of computing them twice. When the leader leaves before its first token,
its followers are released: one of them computes the beginning, and what none of them needs is not expected of the
replica any more, so that nobody else comes there for it.
"""

from collections.abc import Hashable, Sequence

from pileus.scheduling.prefixes import shared_chunks, tokens_in


class _Prompt:
    __slots__ = ("found", "links", "tokens")

    def __init__(self, links: Sequence[int], found: int, tokens: int) -> None:
        self.links = links
        self.found = found  # chunks that the replica has, or computes for another one
        self.tokens = tokens  # that are computed for this one


class Prefills:
    """One replica's prompts whose first token has not come."""

    def __init__(self) -> None:
        self.tokens = 0  # of all these prompts that have to be computed
        self._prompts: dict[Hashable, _Prompt] = {}

    def begin(self, request: Hashable, links: Sequence[int], found: int, prompt_tokens: int) -> None:
        """A prompt came, of which the first `found` chunks need not be computed for it."""
        tokens = max(1, prompt_tokens - tokens_in(found))
        self._prompts[request] = _Prompt(links, found, tokens)
        self.tokens += tokens

    def end(self, request: Hashable) -> None:
        """Its first token came: all of it is computed, for others too."""
        ended = self._prompts.pop(request)
        self.tokens -= ended.tokens
        for other in self._prompts.values():
            place = other.found
            if place < min(len(other.links), len(ended.links)) and other.links[place] == ended.links[place]:
                other.found = shared_chunks(ended.links, other.links)
                self._add(other, tokens_in(place) - tokens_in(other.found))

    def leave(self, request: Hashable) -> Sequence[int]:
        """It went away before that. Returns the chunks that nobody computes now."""
        left = self._prompts.pop(request)
        self.tokens -= left.tokens
        shared, heir = 0, None
        for follower in self._prompts.values():
            if (chunks := shared_chunks(left.links, follower.links)) > shared:
                shared, heir = chunks, follower
        if heir is None or shared <= left.found:
            return left.links[left.found :]
        self._add(heir, tokens_in(shared) - tokens_in(left.found))
        heir.found = min(heir.found, left.found)
        return left.links[shared:]

    def _add(self, prompt: _Prompt, tokens: int) -> None:
        prompt.tokens += tokens
        self.tokens += tokens
