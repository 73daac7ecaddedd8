"""In which order lines run: those that begin alike one after another, so that the prefix cache holds what they share.

A line's key is a short hash of each whole block of its text, from the beginning. Sorted by their keys, lines that share
a beginning of any number of blocks stand together, whatever order they came in. Two texts whose hashes meet by chance
stand together too; that costs a prefill and nothing else.
"""

from collections.abc import Sequence
from typing import Final
from zlib import crc32

BLOCK_CHARACTERS: Final = 128  # about a KV block
MOST_BLOCKS: Final = 64  # what begins alike for so long is alike enough


def prefix_key(text: str) -> bytes:
    """Four bytes for each whole block, from the beginning."""
    ends = range(BLOCK_CHARACTERS, min(len(text), BLOCK_CHARACTERS * MOST_BLOCKS) + 1, BLOCK_CHARACTERS)
    return b"".join([crc32(text[end - BLOCK_CHARACTERS : end].encode()).to_bytes(4, "big") for end in ends])


def running_order(groups: Sequence[int], keys: Sequence[bytes]) -> list[int]:
    """Places of lines, group by group; within a group by prefix, and otherwise as they came."""
    return sorted(range(len(keys)), key=lambda place: (groups[place], keys[place], place))
