"""What is observed: inputs, outputs, gradients of probes against autograd of the same scalars, and which tokens are matched."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from planted import MODULES
from syllables import spoken, syllable_model, word_model
from torch import Tensor

from fedmosaic.adapters import block_ends
from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment import AlignmentSettings
from fedmosaic.alignment.closed_form.moments import PAIRS, Matched, add, new_moments
from fedmosaic.alignment.closed_form.observe import Observation, batches, fitted_count, observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.closed_form.probes import answer_words, choose_probe
from fedmosaic.alignment.hooks import linear_at
from fedmosaic.data import Example, Turn, public_examples
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.seeding import generator

EXAMPLES = [
    *public_examples("miniature/public", 5),
    Example("turns", (Turn("user", "which one?"), Turn("assistant", "red"), Turn("user", "ok?"), Turn("assistant", "no"))),
    Example("long", (Turn("user", "say it"), Turn("assistant", "the first shape is red"))),
]  # fmt: skip
WORDS = ["red", "no", "yes", "blue", "heart"]


def settings(**changes: Any) -> AlignmentSettings:
    return AlignmentSettings(**{"rank": 4, "blocks": 2, "probes": 3, "seed": 5, **changes})


@pytest.fixture(scope="module", params=["llama-8x96", "qwen2-10x112"])
def model(request: pytest.FixtureRequest) -> Backbone:
    return Backbone.load(f"miniature/{request.param}")


def whole(seen: Sequence[Observation], key: str, kind: str) -> dict[str, Tensor]:
    """By example id."""
    found: dict[str, Tensor] = {}
    for one in seen:
        parts = one.sites[key][kind].split([len(table) for table in one.origins])
        found |= dict(zip(one.names, parts, strict=True))
    return found


def by_autograd(
    model: Backbone, example: Example, sites: Any, scalar: Callable[[Tensor, Tensor], Tensor]
) -> Any:
    """Gradients at zero shifts of the outputs of all sites, of ``scalar``(logits [T, v], labels [T]): one example, unpadded."""
    batch = model.collate([model.encode(example)])
    shifts = {
        site.key: torch.zeros(
            1, batch.input_ids.shape[1], linear_at(model, site).out_features, requires_grad=True
        )
        for site in sites
    }
    hooks = [
        linear_at(model, site).register_forward_hook(lambda _, __, y, key=site.key: y + shifts[key])
        for site in sites
    ]
    logits = model.model(
        inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask
    ).logits[0]
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(scalar(logits, batch.labels[0]), list(shifts.values()))
    return {key: gradient[0] for key, gradient in zip(shifts, gradients, strict=True)}


@pytest.mark.parametrize("kind", ["words", "likelihood"])
def test_gradients_are_those_of_the_probe_alone(model: Backbone, kind: str) -> None:
    chosen = settings(batch_size=3)
    sites = sites_of(block_ends(model.num_layers, 2), MODULES)
    seen = list(observe(model, sites, EXAMPLES, chosen, WORDS if kind == "words" else ()))

    def words(example: Example, probe: int) -> Callable[[Tensor, Tensor], Tensor]:
        weights = torch.randn(3, len(WORDS), generator=generator(5, "probe", example.id))[probe]
        weights = weights - weights.sum() / len(WORDS)

        def scalar(logits: Tensor, labels: Tensor) -> Tensor:
            spoken = (labels >= 0).nonzero().flatten().tolist()
            first = max(at for at in spoken if at - 1 not in spoken)  # of the last answer
            return sum(
                c * logits[first - 1, model.answer_ids(word)[0]]
                for c, word in zip(weights, WORDS, strict=True)
            )

        return scalar

    def likelihood(example: Example, probe: int) -> Callable[[Tensor, Tensor], Tensor]:
        draw = generator(5, "probe", example.id)
        size, rate, phase = (
            torch.randn(3, 8, 1, generator=draw)[probe].flatten().tolist(),
            torch.rand(3, 8, 1, generator=draw)[probe].flatten().tolist(),
            torch.rand(3, 8, 1, generator=draw)[probe].flatten().tolist(),
        )
        table = model.token_origins(example).tolist()

        def scalar(logits: Tensor, labels: Tensor) -> Tensor:
            total = torch.zeros(())
            for at, (kind, turn, _, end) in enumerate(table):
                if kind == TokenKind.ANSWER and labels[at] >= 0:
                    place = end + 1000 * turn
                    weight = 0.5 * sum(
                        s * math.sin(2 * math.pi / 24 * r * place + 2 * math.pi * p)
                        for s, r, p in zip(size, rate, phase, strict=True)
                    )
                    total = total + weight * logits[at - 1].log_softmax(-1)[labels[at]]
            return total

        return scalar

    made = words if kind == "words" else likelihood
    for example in EXAMPLES:
        for probe in range(3):
            expected = by_autograd(model, example, sites, made(example, probe))
            for site in sites:
                found = whole(seen, site.key, "g")[example.id][:, probe]
                size = float(expected[site.key].abs().max())
                assert size > 0
                torch.testing.assert_close(found, expected[site.key], atol=1e-4 * size, rtol=1e-3)


def test_large_vocabularies_go_through_in_parts(
    model: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = sites_of(block_ends(model.num_layers, 2), ["o_proj"])
    whole_batch = list(observe(model, sites, EXAMPLES, settings(), WORDS))
    monkeypatch.setattr("fedmosaic.alignment.closed_form.observe.LOGITS_LIMIT", 1)
    sizes: list[int] = []
    collate = Backbone.collate
    monkeypatch.setattr(
        Backbone, "collate", lambda self, items: (sizes.append(len(items)), collate(self, items))[1]
    )
    for one, two in zip(
        whole_batch, observe(model, sites, EXAMPLES, settings(), WORDS), strict=True
    ):
        assert one.names == two.names and list(map(len, one.origins)) == list(map(len, two.origins))
        for key, kinds in one.sites.items():
            for kind, values in kinds.items():
                torch.testing.assert_close(values, two.sites[key][kind], atol=1e-4, rtol=1e-3)
    assert sizes == [1] * len(EXAMPLES)


def test_inputs_and_outputs_are_what_runs_through_the_layer(model: Backbone) -> None:
    sites = sites_of(block_ends(model.num_layers, 2), MODULES)
    seen = list(observe(model, sites, EXAMPLES, settings(batch_size=4), gradients=False))
    assert all("g" not in kinds for one in seen for kinds in one.sites.values())
    for example in EXAMPLES:
        batch = model.collate([model.encode(example)])
        states = model.model(
            inputs_embeds=model.embed(batch),
            attention_mask=batch.attention_mask,
            output_hidden_states=True,
        ).hidden_states
        for site in sites:
            x, y = (whole(seen, site.key, kind)[example.id] for kind in ("x", "y"))
            assert (
                len(x) == len(model.encode(example).input_ids) == len(model.token_origins(example))
            )
            torch.testing.assert_close(linear_at(model, site)(x), y, atol=1e-4, rtol=1e-4)
            if site.module == "q_proj":
                layer = model.language_layers[site.layer]
                assert torch.allclose(x, layer.input_layernorm(states[site.layer][0]), atol=1e-4)


def test_gradients_that_are_not_finite_are_named() -> None:
    model = word_model()
    model.lm_head.weight.data[3] = float("nan")
    with pytest.raises(
        ModelError, match=r"words: the output gradients at block\.0\.q_proj are not finite"
    ):
        list(observe(model, sites_of((1, 3), MODULES), spoken(3), settings()))


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"no linear module 'q_pro'\. Did you mean 'q_proj'"):
        list(observe(word_model(), sites_of((1,), ["q_pro"]), spoken(3), settings()))


# --- which examples -----------------------------------------------------------------------------------------------------
def test_what_is_held_out_does_not_depend_on_order_or_batches() -> None:
    names = [f"e{k}" for k in range(50)]

    def held(order: list[str], size: int) -> set[str]:
        chosen = settings(batch_size=size, held_out=0.3)
        found = [[order[k] for k in part] for part in batches(order, chosen)]
        joined = [name for part in found for name in part]
        assert sorted(joined) == sorted(order) and max(map(len, found)) <= size
        assert fitted_count(50, chosen) == 35
        cuts = [sum(map(len, found[: k + 1])) for k in range(len(found))]
        assert 35 in cuts  # no batch holds both
        return set(joined[35:])

    assert held(names, 1) == held(names[::-1], 7) == held(names, 64)
    assert (
        len({frozenset(part) for part in (set(names[:15]), set(names[-15:]), held(names, 4))}) == 3
    )
    assert list(batches(["only"], settings())) == [[0]]


# --- which tokens -------------------------------------------------------------------------------------------------------
def both(
    examples: Sequence[Example], **changes: Any
) -> tuple[Pivot, list[Observation], list[Observation]]:
    words = word_model()
    syllables = syllable_model(words)
    chosen = settings(**changes)
    pivot = Pivot.of(words, examples, chosen)
    own = list(observe(syllables, pivot.sites, examples, chosen, pivot.words))
    return pivot, own, [pivot.show(one) for one in pivot.observe(examples)]


@pytest.mark.parametrize("answer_only", [False, True])
def test_rows_are_means_of_values_and_sums_of_gradients(answer_only: bool) -> None:
    pivot, own, shown = both(spoken(6), batch_size=4)
    for one, two in zip(own, shown, strict=True):
        matched = Matched(one, two, answer_only)
        for pair, (mine, theirs) in PAIRS.items():
            key = "block.0.o_proj"  # not the last layer, where only the predicting token has a gradient
            expected: tuple[list[Tensor], list[Tensor]] = ([], [])
            for number, matching in enumerate(one.matchings(two)):
                sides = zip(
                    (one, two),
                    (mine, theirs),
                    (matching.first, matching.second),
                    expected,
                    strict=True,
                )
                for seen, kind, side, rows in sides:
                    start = sum(len(table) for table in seen.origins[:number])
                    values = seen.sites[key][kind][start : start + len(side)]
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
    for one, two in zip(own, shown, strict=True):
        add(sums, Matched(one, two, answer_only))
    counts = {pair: sums["block.0.q_proj"][pair].count for pair in PAIRS}
    assert counts["gradient"] == 3 * counts["input"] == 3 * counts["output"]
    assert not answer_only or counts["input"] == 18


def test_what_a_pivot_shows(model: Backbone) -> None:
    for method, width in (("gradients", 4), ("outputs", None)):
        pivot = Pivot.of(
            model, EXAMPLES, settings(method=method, pivot_init="random", probe="likelihood")
        )
        seen = next(pivot.observe(EXAMPLES))
        shown = pivot.show(seen)
        for site in pivot.sites:
            a, b = (pivot.subspaces[f"{site.key}.{which}"].float() for which in "AB")
            raw, told = seen.sites[site.key], shown.sites[site.key]
            torch.testing.assert_close(told["z"], raw["x"] @ a.t())
            torch.testing.assert_close(
                told["u"], torch.einsum("tkd,dr->tkr", raw["g"], b), atol=1e-4, rtol=1e-3
            )
            torch.testing.assert_close(told["y"][:, :4], raw["y"] @ b, atol=1e-4, rtol=1e-3)
            assert told["y"].shape[1] == (width or raw["y"].shape[1])
            if width is None:  # the same outputs in other coordinates
                torch.testing.assert_close(
                    told["y"] @ told["y"].t(), raw["y"] @ raw["y"].t(), atol=1e-3, rtol=1e-3
                )


def test_the_pivots_principal_directions() -> None:
    model, examples = word_model(), spoken(20)
    pivot = Pivot.of(model, examples, settings(rank=6))
    seen = list(pivot.observe(examples))
    for site in pivot.sites:
        x = torch.cat([one.sites[site.key]["x"] for one in seen]).double()
        g = torch.cat([one.sites[site.key]["g"].flatten(0, 1) for one in seen]).double()
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


# --- answer words -------------------------------------------------------------------------------------------------------
def said(*answers: str) -> list[Example]:
    return [
        Example(str(k), (Turn("user", "q"), Turn("assistant", answer)))
        for k, answer in enumerate(answers)
    ]


def test_answer_words_are_those_the_pivot_tells_apart() -> None:
    model = Backbone.load("miniature/llama-8x96")
    examples = said("red", "red", "blue sky", "xylo", "xenon", "yes", "no", "xenon", "yes")
    # Words that the tokenizer does not know begin with one token, a space: the most frequent one stands for it.
    assert answer_words(examples, model) == ["red", "xenon", "yes", "blue", "no"]
    with pytest.raises(
        DataError, match=r"begin with 2 words that miniature/llama-8x96 tells apart"
    ):
        answer_words(said("red", "xylo", "xenon", "red"), model)


def test_a_model_that_cannot_tell_the_words_apart_is_named() -> None:
    model = Backbone.load("miniature/llama-8x96")
    sites = sites_of((3, 7), MODULES)
    with pytest.raises(
        DataError,
        match=r"miniature/llama-8x96 begins the pivot's 5 answer words with 2 different tokens",
    ):
        list(observe(model, sites, said("red"), settings(), ["red", "xylo", "xenon", "xen", "xy"]))


def test_the_probe_fits_the_answers() -> None:
    short, long = (
        said("red", "the red one"),
        said("a long answer of words", "yes", "it is a long one"),
    )
    assert choose_probe(short, "auto") == "words" and choose_probe(long, "auto") == "likelihood"
    assert (
        choose_probe(short, "likelihood") == "likelihood" and choose_probe(long, "words") == "words"
    )
