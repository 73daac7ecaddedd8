"""What a routing decision costs: the router by itself, among many replicas, in this process."""

import random
from time import thread_time

from benchmarks.figures import Figures, percentile
from pileus.scheduling.prefixes import chain
from pileus.scheduling.routing import Load, Need, Router

REPLICAS = 1000
DECISIONS = 4000
_SLOTS, _KV_BLOCKS, _BLOCK = 64, 4096, 32
_SYSTEM_PROMPTS, _CONVERSATIONS = 20, 500
_COMPUTING = 100  # requests that have not said their first token


def cost(prompt_tokens: int, number: int) -> Figures:
    """Processor time per decision, with all that belongs to it: the choice, the note of it, the replica's new load, and
    the first token. Half of a prompt is one of a few system prompts, the rest one of some hundred conversations."""
    chance = random.Random(number)
    router = Router()
    for replica in range(REPLICAS):
        router.add(str(replica), _SLOTS, _KV_BLOCKS, _BLOCK, 0.0)
    needs = [_need(prompt_tokens, chance) for _ in range(DECISIONS)]
    took_us = []
    for place, need in enumerate(needs):
        draw, load = chance.random(), Load(chance.randint(1, _SLOTS), chance.randint(1000, _KV_BLOCKS))
        begun_s = thread_time()
        replica = router.choose(need, 100.0, draw)
        assert replica is not None
        router.placed(place, replica, need)
        router.update(replica, load)
        router.prefilled(place - _COMPUTING)
        took_us.append(1e6 * (thread_time() - begun_s))
    return {
        "decision_mean_us": sum(took_us) / len(took_us),
        "decision_p50_us": percentile(took_us, 50),
        "decision_p99_us": percentile(took_us, 99),
    }


def _need(prompt_tokens: int, chance: random.Random) -> Need:
    system, conversation = chance.randrange(_SYSTEM_PROMPTS), chance.randrange(_CONVERSATIONS)
    prompt = [system] * (prompt_tokens // 2) + [1000 + conversation] * (prompt_tokens - prompt_tokens // 2)
    return Need(1, prompt_tokens // _BLOCK + 4, prompt_tokens, chain(prompt, b"salt"))
