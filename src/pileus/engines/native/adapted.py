"""The graph with adapters: beside each projection, two small products over the step's tiles.

    y = x W + (x[rows] A[slots]) B[slots], put back in place

`A` and `B` of every slot are inputs of the graph, in memory that is ours: to load an adapter is to write there, and
nothing is compiled again. Only a projection that no adapter changed so far needs a new graph.

Shapes: G tiles of C rows (see `tiles`), S slots, K rank, T tokens.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray

from pileus.engines.native.projections import Place, find_projections, sizes
from pileus.engines.native.tiles import Tiles

F32 = NDArray[np.float32]

_LEAST_RANK = 8


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
        self.tensors: dict[str, ov.Tensor] = {}
        for place, (width, out) in places.items():
            self._add(f"a.{_name(place)}", (slots, width, rank))
            self._add(f"b.{_name(place)}", (slots, rank, out))

    def _add(self, name: str, shape: tuple[int, int, int]) -> None:
        array = self._arrays[name] = np.zeros(shape, _ARRAYS[self._kind])
        self.tensors[name] = ov.Tensor(array, ov.Shape(list(shape)), self._kind)

    def write(self, slot: int, changes: Mapping[Place, LowRank]) -> None:
        """Put an adapter into a slot that nobody reads, in the place of what was there."""
        for place in self.places:
            for half in "ab":
                self._arrays[f"{half}.{_name(place)}"][slot] = 0
        for place, change in changes.items():
            rank = change.a.shape[1]
            self._arrays[f"a.{_name(place)}"][slot, :, :rank] = _as(change.a, self._kind)
            self._arrays[f"b.{_name(place)}"][slot, :rank] = _as(change.b, self._kind)

    def grown(self, rank: int, places: Mapping[Place, tuple[int, int]]) -> "Bank":
        """One with room for more, and all that is in this one."""
        bank = Bank(self.slots, max(rank, self.rank), {**self.places, **places}, self._kind)
        for name, array in self._arrays.items():
            _, height, width = array.shape
            bank._arrays[name][:, :height, :width] = array
        return bank


class AdaptedGraph:
    """One compiled model with room for adapters, over the KV memory of the plain one."""

    def __init__(self, compiled: Any, caches: Mapping[str, ov.Tensor], places: frozenset[Place]) -> None:
        self.places = places
        self.request = compiled.create_infer_request()
        for name, tensor in caches.items():
            self.request.set_tensor(name, tensor)
        self._bank: Bank | None = None

    def bind(self, bank: Bank) -> None:
        """Read the slots from there."""
        if bank is not self._bank:
            self._bank = bank
            for name, tensor in bank.tensors.items():
                self.request.set_tensor(name, tensor)

    def set_tiles(self, tiles: Tiles) -> None:
        self.request.set_tensor("tile_rows", ov.Tensor(tiles.rows))
        self.request.set_tensor("tile_slots", ov.Tensor(tiles.slots))
        self.request.set_tensor("tile_places", ov.Tensor(tiles.places))
        self.request.set_tensor("adapted", ov.Tensor(tiles.adapted))


def rank_of_bank(rank: int) -> int:
    """Ranks are rounded up, so that few differ."""
    return max(_LEAST_RANK, 1 << (rank - 1).bit_length())


def add_adapters(model: ov.Model, places: Iterable[Place], kind: ov.Type) -> ov.Model:
    """The prepared model with the products of these projections; each must be one of `find_projections`."""
    found = find_projections(model)
    tiling = (
        _input("tile_rows", [-1, -1], ov.Type.i32),
        _input("tile_slots", [-1], ov.Type.i32),
        _input("tile_places", [-1], ov.Type.i32),
        _input("adapted", [-1, 1, 1], ov.Type.f32),
    )
    inputs: list[Any] = list(tiling)
    tiled: dict[str, Any] = {}  # by the name of the node whose rows they are: projections share their input
    for place in sorted(places):
        product = found[place]
        width, out = sizes(product)
        a = _input(f"a.{_name(place)}", [-1, width, -1], kind)
        b = _input(f"b.{_name(place)}", [-1, -1, out], kind)
        inputs += [a, b]
        source = product.input_value(0)
        key = f"{source.get_node().get_friendly_name()}:{source.get_index()}"
        if key not in tiled:
            tiled[key] = ops.gather(_reshaped(source, [-1, width]), tiling[0], _AXIS)
        _add_change(product, tiled[key], a, b, tiling)
    return ov.Model(model.get_results(), [*model.get_parameters(), *inputs], model.get_friendly_name())


# --- inside ---------------------------------------------------------------------------------------------------------

_AXIS = ops.constant(np.int64(0))
_ARRAYS: Mapping[ov.Type, type[np.generic]] = {
    ov.Type.f32: np.float32,
    ov.Type.f16: np.float16,
    ov.Type.bf16: np.uint16,  # NumPy has none
}


def _add_change(product: Any, rows: Any, a: Any, b: Any, tiling: tuple[Any, ...]) -> None:
    _, slots, places, adapted = tiling
    readers = [target for output in product.outputs() for target in output.get_target_inputs()]
    low = ops.matmul(rows, _slots_of(a, slots), False, False)
    change = ops.matmul(low, _slots_of(b, slots), False, False)  # [G, C, out]
    _, out = sizes(product)
    in_place = ops.gather(_reshaped(change.output(0), [-1, 1, out]), places, _AXIS)
    total = ops.add(product, ops.multiply(in_place, adapted))
    for reader in readers:
        reader.replace_source_output(total.output(0))


def _slots_of(matrices: Any, slots: Any) -> Any:
    gathered = ops.gather(matrices, slots, _AXIS)
    return gathered if gathered.get_element_type() == ov.Type.f32 else ops.convert(gathered, "f32")


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
