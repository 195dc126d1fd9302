"""Make the tiny models loadable by name in the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny_federation import tiny_backbone

from fedmosaic.models.backbone import Backbone


@pytest.fixture(autouse=True, scope="module")
def tiny_models() -> Iterator[None]:
    """Load ``tiny/llama`` and ``tiny/qwen2`` by name; they are made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "load", lambda name, options=None: tiny_backbone(name))
        yield
