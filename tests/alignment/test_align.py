"""Whole alignments: orthonormal whatever the settings, the same for any order and batch size, alone or with others, near or far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from planted import MODULES, fold_norms, make_twin
from syllables import spoken, syllable_model, word_model

from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment import Alignment, AlignmentSettings, align, align_to_published, publish
from fedmosaic.alignment.closed_form.fit import Fitting
from fedmosaic.alignment.closed_form.moments import Matched
from fedmosaic.alignment.closed_form.observe import batches, observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.deployment.published import Published, pack_published, unpack_published
from fedmosaic.alignment.store import cache_folder, find_alignment
from fedmosaic.data import Example, Turn, public_examples
from fedmosaic.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FedMosaicError,
    ModelError,
    UpdateError,
)
from fedmosaic.models.backbone import Backbone

EXAMPLES = spoken(40)


@pytest.fixture(scope="module")
def words() -> Backbone:
    backbone = word_model()
    fold_norms(backbone.model, backbone.model.model)
    return backbone


@pytest.fixture(scope="module")
def syllables(words: Backbone) -> Backbone:
    return syllable_model(make_twin(words, identities=(2,)).backbone)


def settings(**changes: Any) -> AlignmentSettings:
    return AlignmentSettings(**{"rank": 4, "blocks": 2, **changes})


def furthest(one: Alignment, two: Alignment) -> float:
    assert one.tensors.keys() == two.tensors.keys()
    return max(float((one.tensors[key] - two.tensors[key]).abs().max()) for key in one.tensors)


def forget() -> None:
    for path in cache_folder().glob("*"):
        path.unlink()


@pytest.mark.parametrize("init", ["principal", "random", "svd"])
def test_rows_of_a_and_columns_of_b_are_orthonormal(
    words: Backbone, syllables: Backbone, init: str
) -> None:
    """Of the pivot and, for every method and fit, of the model: in the float32 that they are kept in."""
    known = Pivot.of(words, EXAMPLES, settings(method="outputs", pivot_init=init))
    ends = [1, 4], [1, 3]
    fittings = {
        (method, fit): Fitting(syllables, *ends, settings(method=method, fit=fit), len(EXAMPLES))
        for method, fit in product(
            ("gradients", "outputs", "release"), ("ridge", "procrustes", "descent")
        )
    }
    passes = observe(syllables, sites_of(ends[0], MODULES), EXAMPLES, known.settings, known.words)
    for own, seen in zip(passes, known.observe(EXAMPLES), strict=True):
        for fitting in fittings.values():
            fitting.update(own, known.show(seen))
    results = {key: fitting.result(known.words)[0] for key, fitting in fittings.items()}
    results["pivot", ""] = {key: value.float() for key, value in known.subspaces.items()}
    for (method, _), tensors in results.items():
        assert len(tensors) == 2 * 2 * len(MODULES)
        for key, value in tensors.items():
            wide = value.double() if key.endswith(".A") else value.double().t()
            error = (wide @ wide.t() - torch.eye(4, dtype=torch.float64)).abs().max()
            assert (error > 1e-3) if method == "release" and key.endswith(".B") else (error < 1e-6)


@pytest.mark.parametrize("method", ["gradients", "outputs"])
def test_order_and_batch_size_do_not_matter(method: str) -> None:
    """Up to the noise of float32 forward passes: padding and batch size change the last bits of every activation.

    Largest differences that were seen: 3e-6, and 4e-5 where whitening enlarges what outputs hardly do.
    """
    near = 2e-5 if method == "gradients" else 3e-4
    models = [Backbone.load(f"miniature/{name}") for name in ("qwen2-10x112", "llama-8x96")]
    examples = list(public_examples("miniature/public", 20))
    shuffled = [
        examples[k] for k in torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    ]
    (base,) = align(models[:1], models[1], examples, settings(method=method, batch_size=64))
    for other in (
        align(models[:1], models[1], examples, settings(method=method, batch_size=1)),
        align(models[:1], models[1], shuffled, settings(method=method, batch_size=64)),
        align(models[:1], models[1], examples[::-1], settings(method=method, batch_size=7)),
    ):
        assert furthest(base, other[0]) < near
        for line, same in zip(base.report["sites"], other[0].report["sites"], strict=True):
            assert line == pytest.approx(same, abs=near)


def test_who_else_is_there_does_not_matter(words: Backbone, syllables: Backbone) -> None:
    third = make_twin(words, seed=3).backbone
    together = align([third, words, syllables], words, EXAMPLES, settings())
    forget()
    (alone,) = align([syllables], words, EXAMPLES, settings())
    assert furthest(alone, together[2]) == 0 and alone.report == together[2].report
    own = Pivot.of(words, EXAMPLES, settings()).subspaces
    assert all(torch.equal(together[1].tensors[key], value.float()) for key, value in own.items())
    assert own.keys() == together[1].tensors.keys()


def test_a_model_that_joins_later_finds_the_others_in_the_cache(
    words: Backbone, syllables: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = align([syllables], words, EXAMPLES, settings())
    steps: list[tuple[str, int, int]] = []
    again = align(
        [syllables, make_twin(words).backbone],
        words,
        EXAMPLES,
        settings(),
        lambda *step: steps.append(step),
    )
    assert (
        furthest(first, again[0]) == 0
        and steps[0] == ("comparing layers", 1, 1)
        and steps[-1][1:] == (40, 40)
    )
    monkeypatch.setattr("fedmosaic.alignment.align_models._align", None)
    assert furthest(align([syllables], words, EXAMPLES, settings())[0], first) == 0


def test_the_report_is_of_examples_held_out(words: Backbone, syllables: Backbone) -> None:
    chosen = settings(held_out=0.3)
    (found,) = align([syllables], words, EXAMPLES, chosen)
    parts = list(batches([example.id for example in EXAMPLES], chosen))
    held = [EXAMPLES[index] for part in parts for index in part][28:]
    known = Pivot.of(words, EXAMPLES, chosen)
    site, partner = found.report["sites"][8], known.sites[8]
    assert (site["block"], site["module"], site["layer"], site["pivot_layer"]) == (
        1,
        "k_proj",
        4,
        3,
    )
    x, z = [], []
    for example in held:
        (own,) = observe(syllables, [replace(partner, layer=4)], [example], chosen, known.words)
        (seen,) = known.observe([example])
        for rows, side in zip(
            (x, z), Matched(own, known.show(seen)).rows(partner.key, "input"), strict=True
        ):
            rows.append(side.double())
    mapped, target = torch.cat(x) @ found.tensors[f"{partner.key}.A"].double().t(), torch.cat(z)
    cosine = (mapped * target).sum() / mapped.norm() / target.norm()
    assert site["residual_after"] == pytest.approx(float(1 - cosine**2), abs=1e-5)
    assert set(site) == {"block", "module", "layer", "pivot_layer"} | {
        f"{name}_{when}"
        for name in (
            "residual", "output_correlation", "output_canonical", "gradient_correlation", "gradient_canonical"
        )
        for when in ("before", "after")
    }  # fmt: skip
    assert found.report["layers"] == [1, 4] and found.report["words"] > 4
    assert found.report["cka"]["blocks"][1]["pivot_layer"] == 3


# --- at home ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "changes",
    [{}, {"method": "outputs"}, {"method": "release"}, {"fit": "descent"}, {"tokens": "answer", "batch_size": 3},
     {"probe": "likelihood", "probes": 2}],
)  # fmt: skip
def test_at_home_it_is_the_same(
    words: Backbone, syllables: Backbone, changes: dict[str, Any]
) -> None:
    (here,) = align([syllables], words, EXAMPLES, settings(**changes))
    forget()
    payload = pack_published(publish(words, EXAMPLES, settings(**changes)))
    steps: list[tuple[str, int, int]] = []
    there = align_to_published(
        syllables, unpack_published(payload), EXAMPLES, progress=lambda *step: steps.append(step)
    )
    assert furthest(here, there) == 0 and there.identity == here.identity
    assert there.report == {name: part for name, part in here.report.items() if name != "cka"}
    assert steps[-1] == ("collecting moments", 40, 40)
    stored = find_alignment(there.identity)
    assert stored is not None and furthest(stored, there) == 0


def test_pictures_at_home() -> None:
    llama, qwen = (Backbone.load(f"miniature/{name}") for name in ("llama-8x96", "qwen2-10x112"))
    examples = list(public_examples("miniature/public", 12))
    (here,) = align([qwen], llama, examples, settings())
    forget()
    payload = pack_published(publish(llama, examples, settings()))
    assert (
        furthest(here, align_to_published(qwen, unpack_published(payload), examples, settings()))
        == 0
    )


@pytest.fixture(scope="module")
def published(words: Backbone) -> Published:
    return publish(words, EXAMPLES, settings())


def test_what_is_published_is_as_narrow_as_the_rank(published: Published, words: Backbone) -> None:
    assert set(map(tuple, (kinds.items() for kinds in published.schema.values()))) == {
        (("z", 4), ("y", 4), ("u", 16))
    }
    assert list(published.example_ids) == [example.id for example in EXAMPLES]
    known = Pivot.of(words, EXAMPLES, settings())
    for index in (0, 7, 39):  # rows lie in the order of the examples, whatever the batches
        (alone,) = known.observe([EXAMPLES[index]])
        z = published.sites["block.1.down_proj"]["z"][published.rows(index)]
        torch.testing.assert_close(
            z, known.show(alone).sites["block.1.down_proj"]["z"], atol=1e-4, rtol=1e-4
        )
        assert torch.equal(published.origins[index], words.token_origins(EXAMPLES[index]))


def test_other_data_or_settings_at_home(published: Published, syllables: Backbone) -> None:
    with pytest.raises(DataError, match="use the same public data"):
        align_to_published(syllables, published, EXAMPLES[::-1])
    with pytest.raises(DataError, match="published 40 public examples, but there are 39"):
        align_to_published(syllables, published, EXAMPLES[1:])
    with pytest.raises(
        ConfigError,
        match="words published with other alignment settings: rank is 4, here 8; seed is 0, here 1",
    ):
        align_to_published(syllables, published, EXAMPLES, settings(rank=8, seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"about": {}}, "wrong or missing layers, pivot, settings, weights, words"),
        (lambda p: {"about": {**p.about, "settings": {"rank": -1}}}, "wrong or missing settings"),
        (lambda p: {"about": {**p.about, "words": "red"}}, "wrong or missing words"),
        (lambda p: {"about": {**p.about, "layers": [3]}}, "1 layers for 2 blocks"),
        (lambda p: {"about": {**p.about, "settings": {**p.about["settings"], "rank": 5}}}, "at 'block.0.q_proj' is"),
        (lambda p: {"about": {**p.about, "settings": {**p.about["settings"], "probes": 3}}}, "at 'block.0.q_proj' is"),
        (lambda p: {"sites": {key: kinds for key, kinds in p.sites.items() if key != "block.1.up_proj"}}, r"up_proj' is \{\}"),
        (lambda p: {"sites": {**p.sites, "block.2.up_proj": p.sites["block.1.up_proj"]}}, "at 'block.2.up_proj'"),
        (lambda p: {"sites": {key: {"z": kinds["z"], "u": kinds["u"]} for key, kinds in p.sites.items()}}, "not what its settings"),
    ],
)  # fmt: skip
def test_what_does_not_fit_itself_is_refused(
    published: Published, syllables: Backbone, change: Any, message: str
) -> None:
    with pytest.raises(UpdateError, match=message):
        align_to_published(syllables, replace(published, **change(published)), EXAMPLES)


def test_layers_by_cka_need_the_pivot_itself(words: Backbone) -> None:
    with pytest.raises(ConfigError, match="layers=depth"):
        publish(words, EXAMPLES, settings(layers="cka"))


# --- mistakes -----------------------------------------------------------------------------------------------------------
def conversations(*texts: str) -> list[Example]:
    return [Example(text, (Turn("user", text), Turn("assistant", text))) for text in texts]


class Deaf(Backbone):
    """Its encodings are of other texts than the examples'."""

    def token_origins(self, example: Example) -> torch.Tensor:
        table = super().token_origins(example)
        table[:, 1] += 5
        return table


@pytest.mark.parametrize(
    ("examples", "changes", "error", "message"),
    [
        ([], {}, DataError, "alignment needs public examples"),
        (spoken(2), {"rank": 40, "pivot_init": "random", "probe": "likelihood", "modules": ("q_proj",)}, DataError, "too few for rank 40"),
        (spoken(30), {"rank": 60}, DataError, r"the rank 60 is above the width \d+"),
        (spoken(30), {"blocks": 5}, ModelError, r"4 layers cannot be cut into 5 blocks"),
        (spoken(30), {"blocks": 5, "layers": "cka"}, ModelError, "4 layers cannot be cut into 5 blocks"),
        (spoken(30), {"modules": ("k_pro",)}, ModelError, "no linear module 'k_pro'. Did you mean 'k_proj'"),
        (spoken(3), {"rank": 4}, DataError, "begin with 3 words"),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    words: Backbone,
    syllables: Backbone,
    examples: Sequence[Example],
    changes: Any,
    error: type[FedMosaicError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        align([syllables], words, examples, settings(**changes))


def test_no_text_in_common(words: Backbone, syllables: Backbone) -> None:
    deaf = Deaf("deaf", syllables.model, syllables.tokenizer)
    with pytest.raises(DataError, match="share no text"):
        align([deaf], words, EXAMPLES, settings())


def test_a_damaged_or_renamed_file_in_the_cache_is_not_taken(
    words: Backbone, syllables: Backbone
) -> None:
    align([syllables], words, EXAMPLES, settings())
    (path,) = cache_folder().glob("*.safetensors")
    align([syllables], words, EXAMPLES, settings(seed=1))
    (other,) = (each for each in cache_folder().glob("*.safetensors") if each != path)
    path.write_bytes(other.read_bytes())
    with pytest.raises(
        CheckpointError, match=r"out of date, changed since: the setting 'seed' \(1 -> 0\)"
    ):
        align([syllables], words, EXAMPLES, settings())
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        align([syllables], words, EXAMPLES, settings())
