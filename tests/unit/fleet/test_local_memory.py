"""How much memory this machine can still give, by its own account."""

from pathlib import Path

import pytest

from pileus.fleet.backends import local


def test_a_control_groups_limit_counts_where_it_is_nearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_CGROUP", tmp_path)
    free = local.available_bytes()
    assert 0 < free < 1 << 60
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\n")
    assert local.available_bytes() == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert local.available_bytes() > 1 << 20
