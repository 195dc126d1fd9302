"""Test docs/own-data.md: its commands and its Python run as they stand, and print what it shows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.cli import main
from test_docs import DOCS, blocks, commands

PAGE = DOCS / "own-data.md"


def test_the_page_leads_from_pictures_to_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    names: dict[str, Any] = {}
    printed = ""
    done = set()
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        elif block.language == "bash":
            capsys.readouterr()
            for command in commands(block):
                assert main(command) == 0, command
                done.add(command[0])
            printed = capsys.readouterr().out
        elif block.text.startswith("client  values"):
            assert block.text.strip() == printed.strip()
        elif block.text.startswith("client  model"):  # scores differ from processor to processor
            shown, found = (text.splitlines() for text in (block.text, printed))
            assert {" ".join(line.split()[:2]) for line in shown} <= {
                " ".join(line.split()[:2]) for line in found
            }
    assert done == {"data", "init", "run", "show", "export"}
    items = json.loads((tmp_path / "fruit" / "items.json").read_text())
    assert names["answer"].strip() == items[0]["answer"]
    assert [client.train + client.test for client in names["made"].clients] == [30] * 4
