"""What a batch must know of an endpoint: how a line's body is checked, answered, and refused. Wire forms live above."""

from typing import Protocol

from msgspec import Struct

from pileus.core.records import Principal
from pileus.gateway.records import Usage


class Asked(Struct, frozen=True):
    """What a body asks for."""

    deployment: str
    text: str  # its prompt as text, from the beginning; for the order of running


class Answered(Struct, frozen=True):
    """What the HTTP route would have given."""

    body: bytes  # a JSON object
    usage: Usage


class Endpoint(Protocol):
    """A path of the API, for requests that come as a batch's lines."""

    def check(self, body: bytes, tenant: str) -> Asked:
        """Raises `CallerError` for a body that the path does not take, or a model that is not there for the tenant."""
        ...

    async def answer(self, body: bytes, principal: Principal, request_id: str, deadline_s: float) -> Answered:
        """In the batch lane. Raises what the pipeline raises."""
        ...

    def refusal(self, error: Exception) -> tuple[int, bytes]:
        """The HTTP status and the JSON body that the path answers with for an error."""
        ...
