"""Check alignment on planted truth: two models that compute one function in other coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from planted import (
    MODULES,
    Twin,
    adapted,
    correlation,
    fold_norms,
    make_twin,
    random_state,
    true_pair,
)
from small_alignments import align_small
from syllables import sentences, syllable_model, word_logits, word_model
from torch import Tensor

from fedmosaic.adapters import block_ends
from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment import Alignment
from fedmosaic.alignment.hooks import forward
from fedmosaic.data import Example, public_examples
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone

BLOCKS, RANK, SEEDS = 2, 8, range(4)
PUBLIC = list(public_examples("miniature/public", 76))
EXAMPLES, UNSEEN = PUBLIC[:64], PUBLIC[64:]


@pytest.fixture(scope="module")
def pivot() -> Backbone:
    backbone = Backbone.load("miniature/llama-8x96")
    fold_norms(backbone.model, backbone.model.model.language_model)
    return backbone


@pytest.fixture(scope="module")
def twin(pivot: Backbone) -> Twin:
    return make_twin(pivot, identities=(3, 6))


def aligned(
    pivot: Backbone, other: Backbone, examples: list[Example], **settings: Any
) -> list[Alignment]:
    place = {"r": RANK, "num_blocks": BLOCKS}
    return align_small([pivot, other], pivot, examples, **place, **settings)


def logits(backbone: Backbone, model: Any = None) -> Tensor:
    """Return the logits that predict the answers of the unseen examples."""
    batch = backbone.collate([backbone.encode(example) for example in UNSEEN])
    with torch.no_grad():
        found = forward(backbone, batch, model)[:, :-1]
    return found[batch.labels[:, -found.shape[1] :] >= 0]


def effect(
    backbone: Backbone, shared: Mapping[str, Tensor] | None, seed: int, modules: tuple[str, ...]
) -> Tensor:
    """Return the change of the logits by P and Q drawn from a seed."""
    state = random_state(sites_of(range(BLOCKS), modules), RANK, 0.3, seed)
    return logits(backbone, adapted(backbone, BLOCKS, shared, state)) - logits(backbone)


def agreement(
    pivot: Backbone, other: Backbone, pair: list[Any], modules: tuple[str, ...] = MODULES
) -> list[float]:
    """Return the correlation of the effects in both models, for several P and Q."""
    return [
        correlation(
            *(
                effect(model, shared, seed, modules)
                for model, shared in zip((pivot, other), pair, strict=True)
            )
        )
        for seed in SEEDS
    ]


def test_twins_are_one_function(pivot: Backbone, twin: Twin) -> None:
    assert (block_ends(8, BLOCKS), block_ends(twin.backbone.num_layers, BLOCKS)) == ((3, 7), (4, 9))
    original = Backbone.load("miniature/llama-8x96")
    for backbone in (pivot, twin.backbone):
        torch.testing.assert_close(logits(backbone), logits(original), atol=1e-4, rtol=0)
    assert logits(pivot).std() > 1


def test_the_twins_subspaces_are_found(pivot: Backbone, twin: Twin) -> None:
    """All seven modules with default settings: every A, and B up to the shrinking of the ridge."""
    own, found = aligned(pivot, twin.backbone, EXAMPLES)
    for site in sites_of((4, 9), MODULES):
        a, b = true_pair(twin, site, own.tensors[f"{site.key}.A"], own.tensors[f"{site.key}.B"])
        torch.testing.assert_close(found.tensors[f"{site.key}.A"].double(), a, atol=2e-3, rtol=0)
        torch.testing.assert_close(found.tensors[f"{site.key}.B"].double(), b, atol=5e-2, rtol=0)
    assert min(agreement(pivot, twin.backbone, [own.tensors, found.tensors])) >= 0.999
    for line in found.report["sites"]:
        assert line["residual_after"] < 1e-4 and line["gradient_correlation_after"] > 0.99
        assert line["residual_before"] > 0.9 and abs(line["gradient_correlation_before"]) < 0.4


def test_without_alignment_the_same_knowledge_means_something_else(
    pivot: Backbone, twin: Twin
) -> None:
    (own,) = align_small([pivot], pivot, EXAMPLES, r=RANK, num_blocks=BLOCKS)
    found = agreement(pivot, twin.backbone, [own.tensors, None])
    assert abs(sum(found) / len(found)) < 0.3 and max(map(abs, found)) < 0.5


@pytest.mark.parametrize("init", ["random", "svd"])
def test_b_from_outputs_is_exact_where_outputs_determine_it(
    pivot: Backbone, twin: Twin, init: str
) -> None:
    """Outputs of gate and up are wider than their inputs and determine B only in their range."""
    modules = MODULES if init == "svd" else ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
    settings = {"method": "outputs", "pivot_init": init, "modules": modules, "ridge": 1e-5}
    own, found = aligned(pivot, twin.backbone, EXAMPLES, **settings)
    for site in sites_of((4, 9), modules):
        _, b = true_pair(twin, site, own.tensors[f"{site.key}.A"], own.tensors[f"{site.key}.B"])
        torch.testing.assert_close(found.tensors[f"{site.key}.B"].double(), b, atol=1e-3, rtol=0)
    assert min(agreement(pivot, twin.backbone, [own.tensors, found.tensors], modules)) >= 0.99


def test_procrustes_finds_the_twin_nearly(pivot: Backbone, twin: Twin) -> None:
    """It would be exact if the pivot's directions were principal for the fitted examples alone."""
    own, found = aligned(pivot, twin.backbone, EXAMPLES, fit="procrustes")
    assert min(agreement(pivot, twin.backbone, [own.tensors, found.tensors])) >= 0.95


def test_layers_by_cka_find_the_planted_depth(pivot: Backbone) -> None:
    """By relative depth, layer 4 would be paired with a copy of the pivot's layer 1."""
    shifted = make_twin(pivot, identities=(2, 3, 4)).backbone
    with pytest.raises(
        DataError,
        match=r"aligning twin at block\.0\.q_proj: the model's output gradients are all zero",
    ):
        aligned(pivot, shifted, EXAMPLES)
    own, found = aligned(pivot, shifted, EXAMPLES, block_rule="cka")
    assert (own.layers, found.layers) == ((3, 7), (6, 10))
    assert max(line["residual_after"] for line in found.report["sites"]) < 1e-4
    assert found.report["cka"]["blocks"][0]["lost"] > 0.01


def test_tokenizers_that_cut_the_same_text_differently() -> None:
    words = word_model()
    fold_norms(words.model, words.model.model)
    syllables = syllable_model(make_twin(words, identities=(2,)).backbone)
    own, found = aligned(words, syllables, sentences(200))
    unseen = sentences(16, seed=1)
    modules = sites_of(range(BLOCKS), MODULES)

    def change(backbone: Backbone, shared: Mapping[str, Tensor] | None, seed: int) -> Tensor:
        model = adapted(backbone, BLOCKS, shared, random_state(modules, RANK, 0.3, seed))
        return torch.cat(
            [word_logits(backbone, one, model) - word_logits(backbone, one) for one in unseen]
        )

    for seed in SEEDS:
        there = change(words, own.tensors, seed)
        assert correlation(there, change(syllables, found.tensors, seed)) >= 0.9
        assert abs(correlation(there, change(syllables, None, seed))) < 0.4
