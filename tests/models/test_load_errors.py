"""Test what is said where the hub, the machine or a package keeps a model from loading."""

from __future__ import annotations

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fedmosaic.errors import ModelError
from fedmosaic.models.load_errors import explained
from fedmosaic.models.names import Source

HUB_ERRORS: dict[str, tuple[type[Exception], str]] = {
    "gated": (GatedRepoError, r"is gated: accept its licence at .*/a/b and log in .*HF_TOKEN"),
    "private": (RepositoryNotFoundError, r"not on the Hugging Face Hub, or is private: check"),
    "revision": (RevisionNotFoundError, r"has no revision 'v9': see https"),
    "cable": (ConnectionError, r"the Hugging Face Hub cannot be reached: download it with `hf"),
    "memory": (torch.OutOfMemoryError, r"does not fit .*models\.quantise: 4bit, or models\.dev"),
    "package": (ImportError, r"needs a package that is not installed: reason"),
    "other": (RuntimeError, r"cannot be loaded: reason$"),
}


@pytest.mark.parametrize("kind", HUB_ERRORS)
def test_errors_of_the_hub_and_the_machine_have_a_way_out(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Transformers raises its own errors from these."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    error, message = HUB_ERRORS[kind]
    cause = error.__new__(error)
    cause.args = ("reason\nand more",)
    with (
        pytest.raises(ModelError, match=f"^model 'a/b@v9' .*{message}") as caught,
        explained("a/b@v9", Source("a/b", None, "v9")),
    ):
        if kind in ("package", "other"):
            raise cause
        raise OSError("Can't load it\nat all") from cause
    assert "\n" not in str(caught.value)
