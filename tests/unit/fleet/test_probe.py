"""What a replica shows before it is called ready."""

import time
from pathlib import Path

import pytest

from pileus.core.errors import Unavailable
from pileus.core.records import EngineStats
from pileus.fleet.probe import prove
from replicas import hosted


async def test_the_figures_of_a_proven_replica_count_its_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hosted(tmp_path) as host:
        figures = host.engine.stats

        def late_figures() -> EngineStats:
            time.sleep(0.1)  # the answer is there long before
            return figures()

        monkeypatch.setattr(host.engine, "stats", late_figures)
        link = await host.link()
        await prove(link)
        assert (link.stats.prompt_tokens, link.stats.generated_tokens, link.stats.running) == (1, 1, 0)


async def test_a_replica_that_cannot_generate_is_not_proven(tmp_path: Path) -> None:
    with hosted(tmp_path, {"faults": [{"kind": "refuse", "prompt_token": 1}]}) as host:
        link = await host.link()
        with pytest.raises(Unavailable, match="cannot answer"):
            await prove(link)
