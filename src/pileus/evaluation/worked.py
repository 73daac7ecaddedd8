"""Scaled dot-product attention on a small example, step by step, with every number: softmax(Q K' / sqrt(d)) V, where a
token does not look at what comes after it. In plain arithmetic, so that it can be followed with a pencil. Reference:
Vaswani et al., Attention Is All You Need (2017), section 3.2.1.
"""

from math import exp, inf, sqrt
from typing import Final

from msgspec import Struct

Rows = tuple[tuple[float, ...], ...]

QUERIES: Final[Rows] = ((1.0, 0.0), (0.0, 2.0), (1.0, 1.0))
KEYS: Final[Rows] = ((1.0, 1.0), (0.0, 1.0), (2.0, 0.0))
VALUES: Final[Rows] = ((1.0, 0.0), (0.0, 1.0), (2.0, 2.0))


class Worked(Struct, frozen=True, kw_only=True):
    """Every step; rows are tokens that look, columns those that are looked at."""

    queries: Rows
    keys: Rows
    values: Rows
    products: Rows  # of each query with each key
    scaled: Rows  # over the root of the size; minus infinity for what comes later
    raised: Rows  # e to the power of each
    sums: tuple[float, ...]  # of these, row by row
    weights: Rows  # each row sums to 1
    outputs: Rows  # the values, mixed by the weights


class Step(Struct, frozen=True):
    """One of the steps; None is what a token does not look at."""

    name: str
    rows: tuple[tuple[float | None, ...], ...]


_TITLES: Final = {
    "queries": "Queries Q: what each token looks for",
    "keys": "Keys K: what each token offers",
    "values": "Values V: what each token gives",
    "products": "1. Products Q K': how well each query fits each key",
    "scaled": "2. Divided by the root of the size (of 2: 1.4142); what comes later is out",
    "raised": "3. e to the power of each",
    "sums": "4. The sum of each row",
    "weights": "5. Divided by it: the weights; each row sums to 1",
    "outputs": "6. The values, mixed by the weights: the result",
}


def work(queries: Rows = QUERIES, keys: Rows = KEYS, values: Rows = VALUES) -> Worked:
    """By hand, but for the speed."""
    size, tokens = len(queries[0]), range(len(keys))
    products = tuple(tuple(sum(q * k for q, k in zip(query, key, strict=True)) for key in keys) for query in queries)
    scaled = tuple(
        tuple(value / sqrt(size) if column <= row else -inf for column, value in enumerate(line))
        for row, line in enumerate(products)
    )
    raised = tuple(tuple(exp(value) for value in line) for line in scaled)
    sums = tuple(sum(line) for line in raised)
    weights = tuple(tuple(value / total for value in line) for line, total in zip(raised, sums, strict=True))
    outputs = tuple(
        tuple(sum(line[token] * values[token][column] for token in tokens) for column in range(len(values[0])))
        for line in weights
    )
    return Worked(
        queries=queries,
        keys=keys,
        values=values,
        products=products,
        scaled=scaled,
        raised=raised,
        sums=sums,
        weights=weights,
        outputs=outputs,
    )


def steps(worked: Worked) -> tuple[Step, ...]:
    """One after another, as they are shown."""
    return (
        Step("queries", worked.queries),
        Step("keys", worked.keys),
        Step("values", worked.values),
        Step("products", worked.products),
        Step("scaled", tuple(tuple(None if x == -inf else x for x in row) for row in worked.scaled)),
        Step("raised", worked.raised),
        Step("sums", tuple((total,) for total in worked.sums)),
        Step("weights", worked.weights),
        Step("outputs", worked.outputs),
    )


def as_text(worked: Worked) -> str:
    """For people to follow."""
    return "\n\n".join("\n".join([_TITLES[step.name], *map(_line, step.rows)]) for step in steps(worked))


def _line(row: tuple[float | None, ...]) -> str:
    return "  " + "  ".join("       -" if value is None else f"{value:8.4f}" for value in row)
