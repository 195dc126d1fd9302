"""Run a federation whose server holds its rows in files, and resume it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from short_run import StopAt, files, numbers, start

import fedmosaic
from fedmosaic.errors import ConfigError
from tiny_scenario import TINY


def test_a_run_with_rows_in_files_resumes_bit_for_bit(tmp_path: Path) -> None:
    clients = [
        {**client, "model": "miniature/llama-8x96", "name": name}
        for name, client in zip("abcde", [*TINY["clients"], TINY["clients"][0]], strict=True)
    ]
    changes = {
        "clients": clients,
        "participation": 0.6,
        "server": {"memory": "0.001MB", "dense_clients": 2},
        "relevance": {"every": 1, "top_k": 1},
        "train": {**TINY["train"], "steps": 1},
        "evaluation": {"every": 0, "last_items": 2},
    }
    path = tmp_path / "files.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    whole = start(path, tmp_path / "whole").folder
    last = [line for line in numbers(whole) if line["kind"] == "round"][-1]
    assert len(last["relevance"]["peers"][0]) == 1
    linked = list((whole / "checkpoints" / "round-0003" / "server").iterdir())
    assert any(found.stat().st_nlink == 2 for found in linked), "rows that did not change"
    assert not (whole / ".server").exists()

    first = next(
        line["clients"][0]
        for line in numbers(whole)
        if line.get("round") == 2 and line["kind"] == "round"
    )
    with pytest.raises(KeyboardInterrupt):
        start(path, tmp_path / "stopped", callbacks=[StopAt(2, first)])
    fedmosaic.resume(tmp_path / "stopped", progress=False)
    assert numbers(tmp_path / "stopped") == numbers(whole)
    assert files(tmp_path / "stopped") == files(whole)


@pytest.mark.parametrize("size", ["4", "GB", "0GB", "4 gb", "-1GB"])
def test_a_size_that_is_none_is_refused(size: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "server": {"memory": size}}))
    with pytest.raises(ConfigError, match=r"server.memory.* is no size.* e.g. 4GB"):
        start(path, tmp_path / "run")
