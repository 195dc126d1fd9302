"""Test that a chat template counts wherever a publisher's folder has it.

The default suite takes a sample; ``make test-families`` takes every family.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmosaic.model_check import CheckSettings, check_models
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
# Adds texts, which fails for a list of parts.
TEXT_TEMPLATE = (
    "{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
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


# Images are refused for Idefics2, see tests/families/test_refused.py.
SHOWN = [name for name in SEEING if name != "idefics2"]


@pytest.mark.parametrize("name", sample(SHOWN, "qwen2_vl", "internvl"))
@pytest.mark.parametrize("template", [None, "plain"])
def test_images_without_a_template_that_takes_them(
    tmp_path: Path, name: str, template: str | None
) -> None:
    """The positions of Qwen-VL depend on a token before the image, which templates write."""
    folder = build(name, tmp_path / name)
    path = folder / "chat_template.jinja"
    path.unlink()
    if template is not None:
        path.write_text(TEXT_TEMPLATE)
    (found,) = check_models([str(folder)], CheckSettings())
    assert found.problems == [] and found.step and found.export
    assert found.ids_equal and found.loss_difference < 1e-5 and found.image_tokens > 0
