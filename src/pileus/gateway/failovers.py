"""What befalls requests when replicas fail, told replica by replica rather than request by request."""

import asyncio
from collections import Counter
from collections.abc import Callable


class Failovers:
    """Belongs to the event loop's thread. `on_resumed` hears how many requests of a replica went on elsewhere within
    one turn of the loop, `on_ejected` of each replica that is given nothing for a while; both also of which deployment.
    """

    def __init__(
        self,
        on_resumed: Callable[[str, str, int], None] = lambda *_: None,
        on_ejected: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self.ejected = on_ejected
        self._on_resumed = on_resumed
        self._counts: Counter[tuple[str, str]] = Counter()

    def resumed(self, deployment: str, replica: str) -> None:
        """A request that was on this replica goes on elsewhere."""
        if not self._counts:
            asyncio.get_running_loop().call_soon(self._tell)
        self._counts[deployment, replica] += 1

    def _tell(self) -> None:
        counts, self._counts = self._counts, Counter()
        for (deployment, replica), requests in counts.items():
            self._on_resumed(deployment, replica, requests)
