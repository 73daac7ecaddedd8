"""What is changed in a run, as people write it: `2x@60`, `2@300+30`, `bob:0.5:batch`, `bob=2:100`."""

import re
from collections.abc import Sequence
from typing import Any

from pileus.core.records import Lane
from pileus.scheduling.fairness import Share
from pileus.simulation.run import Kill
from pileus.simulation.workload import AddedTenant, Surge

_NUMBER = r"(\d+(?:\.\d+)?)"
_SURGE = re.compile(rf"{_NUMBER}x?(?:@{_NUMBER})?")
_KILL = re.compile(rf"(\d+)@{_NUMBER}(?:\+{_NUMBER})?")
_TENANT = re.compile(rf"([^:=]+):{_NUMBER}(?::([a-z_]+))?")
_SHARE = re.compile(rf"([^:=]+)={_NUMBER}(?::{_NUMBER})?")


def surge(text: str) -> Surge:
    """`2x`, or `2x@60`: twice as many requests per second, from second 60 on. Raises `ValueError`."""
    factor, since = _groups(_SURGE, text, "2x or 2x@60")
    if float(factor) == 0:
        raise ValueError(f"{text!r} would let no request come any more")
    return Surge(float(factor), float(since or 0))


def kill(text: str) -> Kill:
    """`2@300`: two replicas die at second 300; `2@300+60`: and are back after 60. Raises `ValueError`."""
    replicas, at, back = _groups(_KILL, text, "2@300 or 2@300+60")
    return Kill(int(replicas), float(at)) if back is None else Kill(int(replicas), float(at), float(back))


def added_tenant(text: str) -> AddedTenant:
    """`bob:0.5` or `bob:0.5:batch`: a tenant with that many requests per second. Raises `ValueError`."""
    name, per_s, lane = _groups(_TENANT, text, "bob:0.5 or bob:0.5:batch")
    if float(per_s) == 0:
        raise ValueError(f"{text!r} would never ask for anything")
    if lane is not None and lane not in tuple(Lane):
        raise ValueError(f"{lane!r} is no lane; there are {', '.join(Lane)}")
    return AddedTenant(name, float(per_s), Lane(lane) if lane else Lane.ON_DEMAND)


def share(text: str) -> tuple[str, Share]:
    """`bob=2` or `bob=1:100`: a tenant's weight, and its guaranteed rate of tokens. Raises `ValueError`."""
    name, weight, tokens_per_s = _groups(_SHARE, text, "bob=2 or bob=1:100")
    if float(weight) == 0:
        raise ValueError(f"{text!r} is no weight: it must be more than 0")
    return name, Share(float(weight), float(tokens_per_s or 0))


def _groups(pattern: re.Pattern[str], text: str, example: str) -> Sequence[Any]:
    """Those that were not written are None."""
    matched = pattern.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} should be like {example}")
    return matched.groups()
