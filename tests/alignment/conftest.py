"""Share the word model and its twin with another tokenizer."""

from __future__ import annotations

import pytest
from planted import fold_norms, make_twin
from syllables import syllable_model, word_model

from fedmosaic.models.backbone import Backbone


@pytest.fixture(scope="module")
def words() -> Backbone:
    backbone = word_model()
    fold_norms(backbone.model, backbone.model.model)
    return backbone


@pytest.fixture(scope="module")
def syllables(words: Backbone) -> Backbone:
    return syllable_model(make_twin(words, identities=(2,)).backbone)
