"""Where each line stands in the input, for whom it is, and when its turn is: small, and kept in a file."""

from array import array
from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.msgpack import Decoder, encode

from pileus.batch.order import running_order


class _Stored(Struct, frozen=True):
    """The file's form; numbers as this machine has them, for the file never leaves it."""

    deployments: list[str]
    groups: bytes
    offsets: bytes
    lengths: bytes
    turns: bytes


_decoder = Decoder(_Stored)


class Plan:
    """Lines by their places, from 0 in the order of the input."""

    def __init__(self, deployments: Sequence[str]) -> None:
        self.deployments = list(deployments)
        self._groups = array("I")  # the place of its deployment among `deployments`
        self._offsets = array("Q")
        self._lengths = array("I")
        self._turns = array("I")  # places, in the order of running

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, deployment: str, offset: int, length: int) -> None:
        """The next line of the input."""
        if deployment not in self.deployments:
            self.deployments.append(deployment)
        self._groups.append(self.deployments.index(deployment))
        self._offsets.append(offset)
        self._lengths.append(length)

    def sort(self, keys: Sequence[bytes]) -> None:
        """Fix the order of running, by the lines' prefix keys."""
        self._turns = array("I", running_order(self._groups, keys))

    def extent(self, place: int) -> tuple[int, int]:
        """Offset and length of a line in the input."""
        return self._offsets[place], self._lengths[place]

    def turns(self) -> Iterator[tuple[str, int]]:
        """Deployment and place of each line, in the order of running."""
        for place in self._turns:
            yield self.deployments[self._groups[place]], place

    def dump(self) -> bytes:
        arrays = (self._groups, self._offsets, self._lengths, self._turns)
        return encode(_Stored(self.deployments, *(each.tobytes() for each in arrays)))

    @classmethod
    def load(cls, body: bytes) -> "Plan":
        stored = _decoder.decode(body)
        plan = cls(stored.deployments)
        plan._groups.frombytes(stored.groups)
        plan._offsets.frombytes(stored.offsets)
        plan._lengths.frombytes(stored.lengths)
        plan._turns.frombytes(stored.turns)
        return plan
