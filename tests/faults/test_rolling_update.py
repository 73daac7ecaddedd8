"""A rolling update under open streams: none fails, and none shows it."""

import asyncio
from pathlib import Path

import pytest

from changing_fleet import Streams, deployment, running, states, text_of, until

STREAMS = 50
TOKENS = 400


@pytest.mark.parametrize(("replicas", "drain_s"), [(2, 20.0), (1, 0.2)], ids=["finish", "resume"])
async def test_none_of_fifty_streams_fails_in_a_rolling_restart(tmp_path: Path, replicas: int, drain_s: float) -> None:
    """They finish where they are while the grace lasts, and then go on elsewhere from what they have said."""
    slow = deployment(replicas=replicas, options={"step_s": 0.005}, grace_s=drain_s)
    async with running(tmp_path, slow, grace_s=drain_s + 5) as fleet:
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == replicas)
        streams = Streams(fleet)
        undisturbed = await text_of(streams.open(TOKENS))
        open_streams = [asyncio.create_task(text_of(streams.open(TOKENS))) for _ in range(STREAMS)]
        await asyncio.sleep(0)
        await fleet.restart("fake")
        assert len(states(fleet)) == replicas
        texts = await asyncio.gather(*open_streams)
    assert streams.endings == ["length"] * (STREAMS + 1)
    assert set(texts) == {undisturbed}
