"""The block manager against a plain model of what it promises."""

import random

import pytest

from pileus.engines.native.blocks import BlockManager, OutOfBlocks, Table

SIZE = 4


def check(blocks: BlockManager, tables: dict[int, Table]) -> None:
    """Every block is free, evictable or held, and held exactly as often as tables name it."""
    held: dict[int, int] = {}
    for table in tables.values():
        for block in table.blocks:
            held[block] = held.get(block, 0) + 1
    assert [held.get(block, 0) for block in range(blocks.count)] == blocks._holders
    assert blocks.available == blocks.count - len(held)
    assert len(set(blocks._free) | set(blocks._evictable)) == len(blocks._free) + len(blocks._evictable)
    for name, block in blocks._by_name.items():
        assert blocks._names[block] == name
        assert not blocks._pending[block] or block in held


def test_a_hundred_thousand_random_operations_leak_nothing_and_share_nothing_without_right() -> None:
    """Contents are modelled as the (salt, prefix) that was last written into a block: whoever may read a block as
    computed must find exactly its own prefix there."""
    rng = random.Random(20240607)
    blocks = BlockManager(24, SIZE)
    tables: dict[int, Table] = {}
    tokens: dict[int, list[int]] = {}
    salts: dict[int, bytes] = {}
    computed: dict[int, int] = {}
    content: dict[int, tuple[bytes, tuple[int, ...]]] = {}
    opened = waited = forked = 0

    def expect(holder: int, upto: int) -> None:
        for index in range(upto // SIZE):
            stored = content[tables[holder].blocks[index]]
            assert stored == (salts[holder], tuple(tokens[holder][: (index + 1) * SIZE]))

    def write(holder: int, start: int, stop: int) -> None:
        for position in range(start, stop):
            block = tables[holder].blocks[position // SIZE]
            content[block] = (salts[holder], tuple(tokens[holder][: position + 1]))
        computed[holder] = stop
        blocks.computed(tables[holder], tokens[holder], stop)

    for number in range(100_000):
        action = rng.random()
        if action < 0.25 or not tables:
            salts[number] = rng.choice((b"a", b"b"))
            shared = rng.randrange(3) if rng.random() < 0.8 else None  # most begin like one of three others
            tokens[number] = [rng.randrange(2) if shared is None else shared for _ in range(rng.randrange(1, 18))]
            before = (blocks.available, list(blocks._holders))
            try:
                tables[number] = blocks.open(number, tokens[number], salts[number])
                computed[number] = 0
                opened += 1
            except OutOfBlocks:
                assert (blocks.available, blocks._holders) == before
        else:
            holder = rng.choice(list(tables))
            if action < 0.80:
                last = len(tokens[holder])
                if computed[holder] < last:
                    start = blocks.reusable(tables[holder], computed[holder])
                    computed[holder] = start
                    expect(holder, start)
                    room = blocks.writable(tables[holder], start, last)
                    waited += room == 0
                    if room:
                        assert blocks.extend(tables[holder], start) is None
                        write(holder, start, start + rng.randrange(1, room + 1))
                else:
                    tokens[holder].append(rng.randrange(2))
                    try:
                        copy = blocks.extend(tables[holder], last)
                    except OutOfBlocks:
                        tokens[holder].pop()
                    else:
                        if copy is not None:
                            content[copy[1]] = content[copy[0]]
                        write(holder, last, last + 1)
            elif action < 0.85 and computed[holder] == len(tokens[holder]):
                tables[number] = blocks.fork(tables[holder], number)
                tokens[number], salts[number] = list(tokens[holder]), salts[holder]
                computed[number] = computed[holder]
                forked += 1
            else:
                expect(holder, computed[holder])
                blocks.close(tables.pop(holder))
        if number % 50 == 0:
            check(blocks, tables)
    for holder in list(tables):
        blocks.close(tables.pop(holder))
    check(blocks, {})
    assert blocks.available == blocks.count
    assert min(opened, waited, forked) > 500


def test_a_second_request_waits_for_the_firsts_pending_blocks_and_then_reuses_them() -> None:
    blocks = BlockManager(16, SIZE)
    prompt = list(range(10))
    first, second = blocks.open(1, prompt, b""), blocks.open(2, prompt, b"")
    assert first.blocks[:2] == second.blocks[:2]
    assert blocks.writable(second, 0, 10) == 0
    assert blocks.writable(first, 0, 10) == 10
    blocks.computed(first, prompt, 10)
    assert blocks.reusable(second, 0) == 8
    assert blocks.writable(second, 8, 10) == 2


def test_a_waiter_takes_over_when_the_owner_leaves() -> None:
    blocks = BlockManager(16, SIZE)
    prompt = list(range(10))
    first, second = blocks.open(1, prompt, b""), blocks.open(2, prompt, b"")
    blocks.close(first)
    assert blocks.reusable(second, 0) == 0
    assert blocks.writable(second, 0, 10) == 10


def test_tenants_never_share() -> None:
    blocks = BlockManager(16, SIZE)
    prompt = list(range(9))
    mine = blocks.open(1, prompt, b"mine")
    blocks.computed(mine, prompt, 9)
    theirs = blocks.open(2, prompt, b"theirs")
    assert not set(mine.blocks) & set(theirs.blocks)


def test_the_block_of_the_last_token_is_computed_again() -> None:
    blocks = BlockManager(16, SIZE)
    prompt = list(range(8))
    first = blocks.open(1, prompt, b"")
    blocks.computed(first, prompt, 8)
    again = blocks.open(2, prompt, b"")
    assert blocks.reusable(again, 0) == 4


def test_the_first_writer_into_a_forked_block_gets_a_copy() -> None:
    blocks = BlockManager(16, SIZE)
    table = blocks.open(1, [1, 2], b"")
    other = blocks.fork(table, 2)
    copy = blocks.extend(table, 2)
    assert copy == (other.blocks[0], table.blocks[0])
    assert blocks.extend(other, 2) is None


def test_beginnings_of_prompts_stay_longest() -> None:
    blocks = BlockManager(4, SIZE)
    table = blocks.open(1, list(range(16)), b"")
    blocks.computed(table, list(range(16)), 16)
    head = table.blocks[0]
    blocks.close(table)
    blocks.open(2, [99] * 12, b"")
    assert blocks.available == 1
    assert head in blocks._evictable


def test_nothing_is_handed_out_twice_when_full() -> None:
    blocks = BlockManager(2, SIZE)
    blocks.open(1, list(range(8)), b"")
    with pytest.raises(OutOfBlocks):
        blocks.open(2, [5], b"")
