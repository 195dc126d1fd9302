"""Check whole alignments: orthonormal, independent of order, batch size and other models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from planted import MODULES, make_twin
from small_alignments import align_small, clear_cache, max_difference, small
from syllables import sentences

from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment.closed_form.fit import Fitting
from fedmosaic.alignment.closed_form.moments import MatchedBatch
from fedmosaic.alignment.closed_form.observe import batches, observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.store import cache_folder
from fedmosaic.data import Example, public_examples
from fedmosaic.errors import CheckpointError, DataError, FedMosaicError, ModelError
from fedmosaic.models.backbone import Backbone

EXAMPLES = sentences(40)


@pytest.mark.parametrize("init", ["principal", "random", "svd"])
def test_rows_of_a_and_columns_of_b_are_orthonormal(
    words: Backbone, syllables: Backbone, init: str
) -> None:
    """Check the pivot and, for every method and fit, the model, in the stored float32."""
    chosen = small(method="outputs", pivot_init=init)
    pivot = Pivot.of(words, EXAMPLES, chosen.alignment, chosen.placement)
    ends = [1, 4], [1, 3]
    fittings = {}
    for method, fit in product(("gradients", "outputs", "release"), ("ridge", "procrustes")):
        how = small(method=method, fit=fit)
        fittings[method, fit] = Fitting(
            syllables, *ends, how.alignment, how.placement, len(EXAMPLES)
        )
    passes = observe(syllables, sites_of(ends[0], MODULES), EXAMPLES, pivot.settings, pivot.words)
    for own, observation in zip(passes, pivot.observe(EXAMPLES), strict=True):
        for fitting in fittings.values():
            fitting.update(own, pivot.project(observation))
    results = {key: fitting.result(pivot.words)[0] for key, fitting in fittings.items()}
    results["pivot", ""] = {key: value.float() for key, value in pivot.subspaces.items()}
    for (method, _), tensors in results.items():
        assert len(tensors) == 2 * 2 * len(MODULES)
        for key, value in tensors.items():
            wide = value.double() if key.endswith(".A") else value.double().t()
            error = (wide @ wide.t() - torch.eye(4, dtype=torch.float64)).abs().max()
            assert (error > 1e-3) if method == "release" and key.endswith(".B") else (error < 1e-6)


@pytest.mark.parametrize("method", ["gradients", "outputs"])
def test_order_and_batch_size_do_not_matter(method: str) -> None:
    """Allow the noise of float32 forward passes: padding and batch size change the last bits.

    Largest differences so far: 3e-6, and 4e-5 where whitening enlarges weak directions of outputs.
    """
    near = 2e-5 if method == "gradients" else 3e-4
    models = [Backbone.load(f"miniature/{name}") for name in ("qwen2-10x112", "llama-8x96")]
    examples = list(public_examples("miniature/public", 20))
    shuffled = [
        examples[k] for k in torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    ]
    (base,) = align_small(models[:1], models[1], examples, method=method, batch_size=64)
    for other in (
        align_small(models[:1], models[1], examples, method=method, batch_size=1),
        align_small(models[:1], models[1], shuffled, method=method, batch_size=64),
        align_small(models[:1], models[1], examples[::-1], method=method, batch_size=7),
    ):
        assert max_difference(base, other[0]) < near
        for line, same in zip(base.report["sites"], other[0].report["sites"], strict=True):
            assert line == pytest.approx(same, abs=near)


def test_other_models_do_not_matter(words: Backbone, syllables: Backbone) -> None:
    third = make_twin(words, seed=3).backbone
    together = align_small([third, words, syllables], words, EXAMPLES)
    clear_cache()
    (single,) = align_small([syllables], words, EXAMPLES)
    assert max_difference(single, together[2]) == 0 and single.report == together[2].report
    chosen = small()
    own = Pivot.of(words, EXAMPLES, chosen.alignment, chosen.placement).subspaces
    assert all(torch.equal(together[1].tensors[key], value.float()) for key, value in own.items())
    assert own.keys() == together[1].tensors.keys()


def test_earlier_alignments_are_taken_from_the_cache(
    words: Backbone, syllables: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = align_small([syllables], words, EXAMPLES)
    steps: list[tuple[str, int, int]] = []
    second = align_small(
        [syllables, make_twin(words).backbone], words, EXAMPLES, lambda *step: steps.append(step)
    )
    assert max_difference(first, second[0]) == 0
    assert steps[0] == ("comparing layers", 1, 1) and steps[-1][1:] == (40, 40)
    monkeypatch.setattr("fedmosaic.alignment.align_models._closed_form", None)
    assert max_difference(align_small([syllables], words, EXAMPLES)[0], first) == 0


def test_the_report_uses_held_out_examples(words: Backbone, syllables: Backbone) -> None:
    chosen = small(held_out=0.3)
    settings = chosen.alignment
    (found,) = align_small([syllables], words, EXAMPLES, held_out=0.3)
    parts = list(batches([example.id for example in EXAMPLES], settings))
    held = [EXAMPLES[index] for part in parts for index in part][28:]
    pivot = Pivot.of(words, EXAMPLES, settings, chosen.placement)
    site, partner = found.report["sites"][8], pivot.sites[8]
    place = site["block"], site["module"], site["layer"], site["pivot_layer"]
    assert place == (1, "k_proj", 4, 3)
    x, z = [], []
    for example in held:
        (own,) = observe(syllables, [partner._replace(layer=4)], [example], settings, pivot.words)
        (observation,) = pivot.observe([example])
        matched = MatchedBatch(own, pivot.project(observation))
        for rows, side in zip((x, z), matched.rows(partner.key, "input"), strict=True):
            rows.append(side.double())
    mapped, target = torch.cat(x) @ found.tensors[f"{partner.key}.A"].double().t(), torch.cat(z)
    cosine = (mapped * target).sum() / mapped.norm() / target.norm()
    assert site["residual_after"] == pytest.approx(float(1 - cosine**2), abs=1e-5)
    assert set(site) == {"block", "module", "layer", "pivot_layer"} | {
        f"{name}_{when}"
        for name in (
            "residual", "output_correlation", "output_canonical", "gradient_correlation",
            "gradient_canonical",
        )
        for when in ("before", "after")
    }  # fmt: skip
    assert found.layers == (1, 4) and not found.scaled and found.report["words"] > 4
    assert found.report["cka"]["blocks"][1]["pivot_layer"] == 3


# --- mistakes -----------------------------------------------------------------------------------
class OtherTexts(Backbone):
    """Describe its tokens as parts of other turns than the example has."""

    def token_origins(self, example: Example) -> torch.Tensor:
        table = super().token_origins(example)
        table[:, 1] += 5
        return table


@pytest.mark.parametrize(
    ("examples", "changes", "error", "message"),
    [
        ([], {}, DataError, "alignment needs public examples"),
        (
            sentences(2),
            {"r": 40, "pivot_init": "random", "probe": "likelihood", "modules": ("q_proj",)},
            DataError,
            "too few for rank 40",
        ),
        (sentences(30), {"r": 60}, DataError, r"the rank 60 is above the width \d+"),
        (
            sentences(30),
            {"num_blocks": 5},
            ModelError,
            r"4 layers cannot be cut into 5 blocks",
        ),
        (
            sentences(30),
            {"num_blocks": 5, "block_rule": "cka"},
            ModelError,
            "4 layers cannot be cut into 5 blocks",
        ),
        (
            sentences(30),
            {"modules": ("k_pro",)},
            ModelError,
            "no linear module 'k_pro'. Did you mean 'k_proj'",
        ),
        (sentences(3), {}, DataError, "begin with 3 words"),
    ],
)
def test_mistakes_are_named(
    words: Backbone,
    syllables: Backbone,
    examples: Sequence[Example],
    changes: Any,
    error: type[FedMosaicError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        align_small([syllables], words, examples, **changes)


def test_no_text_in_common(words: Backbone, syllables: Backbone) -> None:
    other = OtherTexts("other texts", syllables.model, syllables.tokenizer)
    with pytest.raises(DataError, match="share no text"):
        align_small([other], words, EXAMPLES)


def test_a_damaged_or_renamed_file_in_the_cache_is_not_taken(
    words: Backbone, syllables: Backbone
) -> None:
    align_small([syllables], words, EXAMPLES)
    (path,) = cache_folder().glob("*.safetensors")
    align_small([syllables], words, EXAMPLES, seed=1)
    (other,) = (each for each in cache_folder().glob("*.safetensors") if each != path)
    path.write_bytes(other.read_bytes())
    with pytest.raises(
        CheckpointError, match=r"out of date, changed since: the setting 'seed' \(1 -> 0\)"
    ):
        align_small([syllables], words, EXAMPLES)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        align_small([syllables], words, EXAMPLES)
