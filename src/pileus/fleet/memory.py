"""Whether replicas fit into memory, by an estimate made before they are placed: weights and KV cache."""

from msgspec import Struct


class Footprint(Struct, frozen=True):
    """Of one replica, in bytes; 0 is unknown, and not counted."""

    weights: int = 0
    kv: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv


def shortage(name: str, replicas: int, footprint: Footprint, available: int) -> str:
    """The arithmetic, in one line, where so many more replicas do not fit; empty where they do."""
    needed = replicas * footprint.total
    if needed <= available:
        return ""
    each = f"{_size(footprint.weights)} of weights + {_size(footprint.kv)} of KV cache"
    sum_ = f"{each} = {_size(needed)}" if replicas == 1 else f"{replicas} x ({each}) = {_size(needed)}"
    return f"{name} does not fit: {sum_}, and {_size(available)} of memory are available"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
