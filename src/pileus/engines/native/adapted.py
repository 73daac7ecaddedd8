"""The graph with adapters: beside each projection, two small products over the step's tiles.

    y = x W + (x[rows] A) B, put back in place

once for low tiles, whose `A` and `B` are those of a window as they lie, and once for tall ones, for which they are
picked out of it.

`A` and `B` of a window of slots are inputs of the graph, in memory that is ours: to load an adapter is to write there,
and nothing is compiled again. Only a projection that no adapter changed so far needs a new graph. Projections of the
same input share one `A`, side by side.

Shapes: G tiles of C rows (see `tiles`), S slots, K rank, T tokens.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.engines.native.projections import Place, find_projections, sizes
from pileus.engines.native.tiles import BASE, Tiles, Window, tile, window_of

F32 = NDArray[np.float32]

_LEAST_RANK = 8
_SHARING = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


class LowRank(Protocol):
    """The change to one projection, a (in, rank) and b (rank, out), scaled."""

    @property
    def a(self) -> F32: ...

    @property
    def b(self) -> F32: ...


class Bank:
    """The matrices of every slot, for the projections at `places`. Memory is taken as slots are written."""

    def __init__(self, slots: int, rank: int, places: Mapping[Place, tuple[int, int]], kind: ov.Type) -> None:
        self.slots = slots
        self.rank = rank
        self.places = dict(places)
        self._kind = kind
        self._arrays: dict[str, NDArray[Any]] = {}
        self._halves: dict[Place, tuple[NDArray[Any], NDArray[Any]]] = {}  # of each place, within the arrays
        for group in groups_of(places):
            width, _ = places[group[0]]
            shared = self._add(f"a.{_name(group[0])}", (slots, width, len(group) * rank))
            for index, place in enumerate(group):
                b = self._add(f"b.{_name(place)}", (slots, rank, places[place][1]))
                self._halves[place] = shared[:, :, index * rank : (index + 1) * rank], b

    def _add(self, name: str, shape: tuple[int, int, int]) -> NDArray[Any]:
        array = self._arrays[name] = np.zeros(shape, _ARRAYS[self._kind])
        return array

    def window(self, window: Window) -> dict[str, ov.Tensor]:
        """The matrices of these slots, without a copy, by the names of the graph's inputs."""
        begin, end = window
        return {
            name: ov.Tensor(array[begin:end], ov.Shape([end - begin, *array.shape[1:]]), self._kind)
            for name, array in self._arrays.items()
        }

    def write(self, slot: int, changes: Mapping[Place, LowRank]) -> None:
        """Put an adapter into a slot that nobody reads, in the place of what was there."""
        for array in self._arrays.values():
            array[slot] = 0
        for place, change in changes.items():
            rank = change.a.shape[1]
            a, b = self._halves[place]
            a[slot, :, :rank] = _as(change.a, self._kind)
            b[slot, :rank] = _as(change.b, self._kind)

    def swap(self, one: int, other: int) -> None:
        """Let two slots change places, while nobody writes."""
        for array in self._arrays.values():
            array[[one, other]] = array[[other, one]]

    def grown(self, rank: int, places: Mapping[Place, tuple[int, int]]) -> "Bank":
        """One with room for more, and all that is in this one."""
        bank = Bank(self.slots, max(rank, self.rank), {**self.places, **places}, self._kind)
        for place, halves in self._halves.items():
            for mine, its in zip(halves, bank._halves[place], strict=True):
                its[:, : mine.shape[1], : mine.shape[2]] = mine
        return bank


class AdaptedGraph:
    """One compiled model with room for adapters, over the KV memory of the plain one."""

    def __init__(self, compiled: Any, caches: Mapping[str, ov.Tensor], places: frozenset[Place]) -> None:
        self.places = places
        self.request = compiled.create_infer_request()
        for name, tensor in caches.items():
            self.request.set_tensor(name, tensor)
        self._bank: Bank | None = None
        self._window: Window = (0, 0)

    def bind(self, bank: Bank) -> None:
        """Read the slots from there."""
        if bank is not self._bank:
            self._bank, self._window = bank, (0, 0)

    def swap(self, one: int, other: int) -> None:
        """Let two slots change places. Between two runs, while nothing is loaded."""
        assert self._bank is not None
        self._bank.swap(one, other)

    def set_rows(self, slots: Sequence[int]) -> None:
        """Which slot each row of the next run has, or `BASE`; at least one has one."""
        assert self._bank is not None
        window = window_of({slot for slot in slots if slot != BASE}, self._window)
        if window != self._window:
            self._window = window
            for name, tensor in self._bank.window(window).items():
                self.request.set_tensor(name, tensor)
        self._set_tiles(tile(slots, window))

    def _set_tiles(self, tiles: Tiles) -> None:
        for name, values in zip(Tiles._fields, tiles, strict=True):
            self.request.set_tensor(name, ov.Tensor(values))


def rank_of_bank(rank: int) -> int:
    """Ranks are rounded up, so that few differ."""
    return max(_LEAST_RANK, 1 << (rank - 1).bit_length())


def groups_of(places: Iterable[Place]) -> list[list[Place]]:
    """Those that take the same input, which share one matrix A."""
    there = set(places)
    layers = sorted({layer for layer, _ in there})
    groups = [[(layer, t) for t in targets if (layer, t) in there] for layer in layers for targets in _SHARING]
    return [group for group in groups if group]


def add_adapters(model: ov.Model, places: Iterable[Place], kind: ov.Type) -> ov.Model:
    """The prepared model with the products of these projections; each must be one of `find_projections`."""
    found = find_projections(model)
    tiling = {name: _input(name, shape, kind) for name, (shape, kind) in _TILING.items()}
    inputs = list(tiling.values())
    for group in groups_of(places):
        products = [found[place] for place in group]
        source = products[0].input_value(0)
        if any(product.input_value(0) != source for product in products):
            raise ModelRefused(f"{model.get_friendly_name()} takes no adapters: {group} have different inputs")
        width, _ = sizes(products[0])
        a = _input(f"a.{_name(group[0])}", [-1, width, -1], kind)
        bs = [
            _input(f"b.{_name(place)}", [-1, -1, sizes(product)[1]], kind)
            for place, product in zip(group, products, strict=True)
        ]
        inputs += [a, *bs]
        rows = _reshaped(source, [-1, width])
        low = _changes(ops.gather(rows, tiling["low_rows"], _AXIS), _as_f32(a), [_as_f32(b) for b in bs])
        a, *bs = (ops.gather(matrices, tiling["tall_slots"], _AXIS) for matrices in (a, *bs))
        tall = _changes(ops.gather(rows, tiling["tall_rows"], _AXIS), _as_f32(a), [_as_f32(b) for b in bs])
        for product, changes in zip(products, zip(low, tall, strict=True), strict=True):
            _add_change(product, ops.concat([*changes], 0), tiling["places"], tiling["adapted"])
    return ov.Model(model.get_results(), [*model.get_parameters(), *inputs], model.get_friendly_name())


# --- inside ---------------------------------------------------------------------------------------------------------

_AXIS = ops.constant(np.int64(0))
_TILING = {  # inputs, as in `Tiles`
    "low_rows": ([-1, -1], ov.Type.i32),
    "tall_rows": ([-1, -1], ov.Type.i32),
    "tall_slots": ([-1], ov.Type.i32),
    "places": ([-1], ov.Type.i32),
    "adapted": ([-1, 1, 1], ov.Type.f32),
}
_ARRAYS: Mapping[ov.Type, type[np.generic]] = {
    ov.Type.f32: np.float32,
    ov.Type.f16: np.float16,
    ov.Type.bf16: np.uint16,  # NumPy has none
}


def _changes(rows: Any, a: Any, bs: list[Any]) -> list[Any]:
    """Those of projections that share `a`, each [G * C, 1, out]; `rows` [G, C, in]."""
    low = ops.matmul(rows, a, False, False)
    parts = ops.split(low, ops.constant(np.int64(2)), len(bs)).outputs() if len(bs) > 1 else low.outputs()
    changes = [ops.matmul(part, b, False, False).output(0) for part, b in zip(parts, bs, strict=True)]
    return [_reshaped(change, [-1, 1, change.get_partial_shape()[2].get_length()]) for change in changes]


def _add_change(product: Any, change: Any, places: Any, adapted: Any) -> None:
    readers = [target for output in product.outputs() for target in output.get_target_inputs()]
    total = ops.add(product, ops.multiply(ops.gather(change, places, _AXIS), adapted))
    for reader in readers:
        reader.replace_source_output(total.output(0))


def _as_f32(matrices: Any) -> Any:
    return matrices if matrices.get_element_type() == ov.Type.f32 else ops.convert(matrices, "f32")


def _reshaped(output: Any, shape: list[int]) -> Any:
    return ops.reshape(output, ops.constant(np.array(shape, np.int64)), False)


def _input(name: str, shape: list[int], kind: ov.Type) -> Any:
    node = ops.parameter(ov.PartialShape(shape), kind)
    node.set_friendly_name(name)
    node.output(0).set_names({name})
    return node


def _name(place: Place) -> str:
    layer, target = place
    return f"{layer}.{target}"


def _as(values: F32, kind: ov.Type) -> NDArray[Any]:
    if kind != ov.Type.bf16:
        return values.astype(_ARRAYS[kind])
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to the nearest, ties to even
