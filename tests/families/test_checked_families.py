"""Test that ``model check`` finds tiny checkpoints of every family right, and refuses some.

The default suite takes a sample; ``FEDMOSAIC_ALL_FAMILIES=1`` takes every family.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.families import LANGUAGE, TORCHVISION, VISION
from tests.families.sample import sample
from tests.model_check.command import check

REFUSED = {
    "mllama": "takes no image features that were computed beforehand",
    "idefics2": "does not tell where it writes the tokens of an image",
    "t5": "an encoder-decoder model",
    "bart": "an encoder-decoder model",
    **dict.fromkeys(TORCHVISION, "needs torchvision"),
}
TAKEN = [
    *sample(
        [name for name in VISION if name not in REFUSED],
        *("llava_llama", "qwen2_vl", "smolvlm", "gemma3", "paligemma"),
    ),
    *sample(LANGUAGE, "llama", "gpt2", "mixtral", "falcon", "mamba"),
]
Folder = Callable[[str], Path]


@pytest.mark.parametrize("name", TAKEN)
def test_a_family_is_right(
    folder_of: Folder, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = check(capsys, folder_of(name))
    assert found["problems"] == [] and status == 0
    assert found["ids_equal"] is True and found["loss_difference"] < 1e-5
    assert (found["image_tokens"] > 0) == (name in VISION)
    assert found["adapted"]["layers"] in (3, 4) and 0.03 < found["adapted"]["share"] < 0.95
    assert len(found["shared_sites"]) >= 3
    assert found["signature"] in ("closed form", "autograd")
    assert found["step"] is True and found["export"] is True


@pytest.mark.parametrize("name", sample(list(REFUSED), "mllama", "idefics2", "t5", "lfm2_vl"))
def test_a_family_is_refused(
    folder_of: Folder, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = check(capsys, folder_of(name))
    assert status == 1 and len(found["problems"]) == 1
    assert REFUSED[name] in found["problems"][0]
    assert found["image_tokens"] is None
    if name != "idefics2":  # it can be trained on text
        nothing = {key: value for key, value in found.items() if key != "problems"}
        assert all(value in (None, False) for value in nothing.values())
