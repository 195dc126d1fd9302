"""Check the pivot's projections and subspaces, matched rows, and the choice of probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from planted import MODULES
from small_alignments import small
from syllables import sentences, syllable_model, word_model
from torch import Tensor

from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment.closed_form.moments import PAIRS, MatchedBatch, add_batch, new_moments
from fedmosaic.alignment.closed_form.observe import Observation, observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.closed_form.probes import answer_words, choose_probe
from fedmosaic.data import Example, Turn, public_examples
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.token_origins import TokenKind

EXAMPLES = list(public_examples("miniature/public", 7))


def pivot_of(model: Backbone, examples: Sequence[Example], **changes: Any) -> Pivot:
    chosen = small(**{"probes": 3, "seed": 5, **changes})
    return Pivot.of(model, examples, chosen.alignment, chosen.placement)


# --- which tokens -------------------------------------------------------------------------------
def both(
    examples: Sequence[Example], **changes: Any
) -> tuple[Pivot, list[Observation], list[Observation]]:
    """Observe a model and project the pivot's observations of the same examples."""
    words = word_model()
    syllables = syllable_model(words)
    pivot = pivot_of(words, examples, **changes)
    own = list(observe(syllables, pivot.sites, examples, pivot.settings, pivot.words))
    return pivot, own, [pivot.project(one) for one in pivot.observe(examples)]


@pytest.mark.parametrize("answer_only", [False, True])
def test_rows_are_means_of_values_and_sums_of_gradients(answer_only: bool) -> None:
    pivot, own, projected = both(sentences(6), batch_size=4)
    for one, two in zip(own, projected, strict=True):
        matched = MatchedBatch(one, two, answer_only)
        for pair, (own_quantity, pivot_quantity) in PAIRS.items():
            # Not the last layer, where only the predicting token has a gradient.
            key = "block.0.o_proj"
            expected: tuple[list[Tensor], list[Tensor]] = ([], [])
            for number, matching in enumerate(one.matchings(two)):
                sides = zip(
                    (one, two),
                    (own_quantity, pivot_quantity),
                    (matching.first, matching.second),
                    expected,
                    strict=True,
                )
                for seen, quantity, side, rows in sides:
                    start = sum(len(table) for table in seen.origins[:number])
                    values = seen.sites[key][quantity][start : start + len(side)]
                    for group in range(matching.count):
                        if answer_only and matching.kind[group] not in (
                            TokenKind.ANSWER,
                            TokenKind.PREDICT,
                            TokenKind.END,
                        ):
                            continue
                        members = values[side == group]
                        rows.append(members.sum(0) if pair == "gradient" else members.mean(0))
            for found, rows in zip(matched.rows(key, pair), expected, strict=True):
                reference = torch.stack(rows).reshape(-1, found.shape[1])
                torch.testing.assert_close(found, reference, atol=1e-6, rtol=1e-5)
        assert matched.counts == [3] * len(one.origins) if answer_only else min(matched.counts) > 6
    sums = new_moments(pivot.sites)
    for one, two in zip(own, projected, strict=True):
        add_batch(sums, MatchedBatch(one, two, answer_only))
    counts = {pair: sums["block.0.q_proj"][pair].count for pair in PAIRS}
    assert counts["gradient"] == 3 * counts["input"] == 3 * counts["output"]
    assert not answer_only or counts["input"] == 18


@pytest.mark.parametrize("name", ["llama-8x96", "qwen2-10x112"])
def test_what_a_pivot_projects(name: str) -> None:
    model = Backbone.load(f"miniature/{name}")
    for method, width in (("gradients", 4), ("outputs", None)):
        pivot = pivot_of(model, EXAMPLES, method=method, pivot_init="random", probe="likelihood")
        observation = next(pivot.observe(EXAMPLES))
        projected = pivot.project(observation)
        for site in pivot.sites:
            a, b = (pivot.subspaces[f"{site.key}.{which}"].float() for which in "AB")
            raw, found = observation.sites[site.key], projected.sites[site.key]
            torch.testing.assert_close(found["z"], raw["x"] @ a.t())
            torch.testing.assert_close(
                found["u"], torch.einsum("tkd,dr->tkr", raw["g"], b), atol=1e-4, rtol=1e-3
            )
            torch.testing.assert_close(found["y"][:, :4], raw["y"] @ b, atol=1e-4, rtol=1e-3)
            assert found["y"].shape[1] == (width or raw["y"].shape[1])
            if width is None:  # the same outputs in other coordinates
                torch.testing.assert_close(
                    found["y"] @ found["y"].t(), raw["y"] @ raw["y"].t(), atol=1e-3, rtol=1e-3
                )


def test_the_pivots_principal_directions() -> None:
    model, examples = word_model(), sentences(20)
    pivot = pivot_of(model, examples, r=6)
    observations = list(pivot.observe(examples))
    for site in pivot.sites:
        x = torch.cat([one.sites[site.key]["x"] for one in observations]).double()
        g = torch.cat([one.sites[site.key]["g"].flatten(0, 1) for one in observations]).double()
        for rows, found in (
            (x, pivot.subspaces[f"{site.key}.A"]),
            (g, pivot.subspaces[f"{site.key}.B"].t()),
        ):
            torch.testing.assert_close(
                found @ found.t(), torch.eye(6, dtype=torch.float64), atol=1e-9, rtol=0
            )
            directions = torch.linalg.svd(rows, full_matrices=False).Vh[:6]
            torch.testing.assert_close(
                (found * directions).sum(1).abs(), torch.ones(6, dtype=torch.float64)
            )
            assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all()


# --- answer words -------------------------------------------------------------------------------
def answered(*answers: str) -> list[Example]:
    return [
        Example(str(k), (Turn("user", "q"), Turn("assistant", answer)))
        for k, answer in enumerate(answers)
    ]


def test_answer_words_have_different_first_tokens_in_the_pivot() -> None:
    model = Backbone.load("miniature/llama-8x96")
    examples = answered("red", "red", "blue sky", "xylo", "xenon", "yes", "no", "xenon", "yes")
    # Unknown words begin with one token, a space: the most frequent of them stands for it.
    assert answer_words(examples, model) == ["red", "xenon", "yes", "blue", "no"]
    with pytest.raises(
        DataError, match=r"begin with 2 words that miniature/llama-8x96 begins with different"
    ):
        answer_words(answered("red", "xylo", "xenon", "red"), model)


def test_a_model_with_equal_first_tokens_is_named() -> None:
    model = Backbone.load("miniature/llama-8x96")
    sites = sites_of((3, 7), MODULES)
    with pytest.raises(
        DataError,
        match=r"miniature/llama-8x96 begins the pivot's 5 answer words with 2 different tokens",
    ):
        list(
            observe(
                model,
                sites,
                answered("red"),
                small().alignment,
                ["red", "xylo", "xenon", "xen", "xy"],
            )
        )


def test_the_probe_fits_the_answers() -> None:
    short, long = (
        answered("red", "the red one"),
        answered("a long answer of words", "yes", "it is a long one"),
    )
    assert choose_probe(short, "auto") == "words" and choose_probe(long, "auto") == "likelihood"
    assert (
        choose_probe(short, "likelihood") == "likelihood" and choose_probe(long, "words") == "words"
    )
