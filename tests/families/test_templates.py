"""Test that a chat template counts wherever a publisher's folder has it.

The default suite takes a sample; ``make test-families`` takes every family.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmosaic.models.backbone import Backbone
from tests.families import FAMILIES, LANGUAGE, VISION, build
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES
from tests.families.sample import sample

REFUSED = ("mllama",)
WITH_TEMPLATE = [
    name for name in (*VISION, *LANGUAGE) if FAMILIES[name].template and name not in REFUSED
]
SEEING = [name for name in WITH_TEMPLATE if name in VISION]
PLACES = {
    "chat_template.json": sample(SEEING, "llava_llama", "qwen2_vl", "gemma3"),
    "tokenizer_config.json": sample(WITH_TEMPLATE, "llava_llama", "llama", "gemma2"),
}


@pytest.mark.parametrize(
    ("file", "name"), [(file, name) for file, names in PLACES.items() for name in names]
)
def test_a_template_in_an_older_place(load: Load, tmp_path: Path, file: str, name: str) -> None:
    """Processors once wrote ``chat_template.json``, tokenizers a key of their configuration."""
    expected, folder = load(name), build(name, tmp_path / name)
    newer, older = folder / "chat_template.jinja", folder / file
    known = json.loads(older.read_text()) if older.exists() else {}
    older.write_text(json.dumps({**known, "chat_template": newer.read_text()}))
    newer.unlink()
    moved = Backbone.load(str(folder))
    assert moved.chat.has_template
    for case in ("text", "two turns"):
        assert moved.encode(EXAMPLES[case]) == expected.encode(EXAMPLES[case])
