"""Wrong keys, counted by where they come from.

A key has too much chance in it to be guessed; the bound is there so that trying costs the one who tries, shows in the
figures as what it is, and cannot be mistaken for a broken client for long. It holds for wrong keys only: a right one
works from the same address, or whoever shares it with an attacker (behind a proxy, all of them) would be locked out.
"""

from ipaddress import IPv6Address, ip_address

from msgspec import Struct

LIMIT = 20  # wrong keys
WINDOW_S = 60.0
MAX_NETWORKS = 4096  # remembered; beyond it the one whose window began first is forgotten

_HOME_BITS = 64  # of an IPv6 address: what is behind them is one household's to choose


class _Window(Struct):
    ends_at: float
    count: int = 0


class Guesses:
    """How many wrong keys each network has sent in its present window. Time is any clock that does not run back."""

    def __init__(self, limit: int = LIMIT, window_s: float = WINDOW_S, max_networks: int = MAX_NETWORKS) -> None:
        self._limit = limit
        self._window_s = window_s
        self._max_networks = max_networks
        self._windows: dict[str, _Window] = {}  # in the order in which they began

    def wrong(self, address: str, now: float) -> float | None:
        """Note a wrong key from there. The seconds until its network's window ends, if this one was too many."""
        network = network_of(address)
        window = self._windows.get(network)
        if window is None or now >= window.ends_at:
            window = self._begin(network, now)
        window.count += 1
        return window.ends_at - now if window.count > self._limit else None

    def __len__(self) -> int:
        return len(self._windows)

    def _begin(self, network: str, now: float) -> _Window:
        self._windows.pop(network, None)
        if len(self._windows) >= self._max_networks:
            del self._windows[next(iter(self._windows))]
        window = self._windows[network] = _Window(now + self._window_s)
        return window


def network_of(address: str) -> str:
    """Whose choice an address is: an IPv4 address is its own network, an IPv6 address belongs to a /64."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address  # a socket without addresses
    if not isinstance(ip, IPv6Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Address(int(ip) >> (128 - _HOME_BITS) << (128 - _HOME_BITS)))
