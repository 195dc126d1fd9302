"""Check recorded inputs, outputs and probe gradients against autograd of the same scalars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from planted import MODULES
from small_alignments import small
from syllables import sentences, word_model
from torch import Tensor

from fedmosaic.adapters import block_ends
from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment import AlignmentSettings
from fedmosaic.alignment.closed_form.observe import Observation, batches, fitted_count, observe
from fedmosaic.alignment.hooks import linear_at
from fedmosaic.data import Example, Turn, public_examples
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.seeding import generator

EXAMPLES = [
    *public_examples("miniature/public", 5),
    Example(
        "turns",
        (
            Turn("user", "which one?"),
            Turn("assistant", "red"),
            Turn("user", "ok?"),
            Turn("assistant", "no"),
        ),
    ),
    Example("long", (Turn("user", "say it"), Turn("assistant", "the first shape is red"))),
]
WORDS = ["red", "no", "yes", "blue", "heart"]


def settings(**changes: Any) -> AlignmentSettings:
    return small(**{"probes": 3, "seed": 5, **changes}).alignment


@pytest.fixture(scope="module", params=["llama-8x96", "qwen2-10x112"])
def model(request: pytest.FixtureRequest) -> Backbone:
    return Backbone.load(f"miniature/{request.param}")


def by_example(observations: Sequence[Observation], key: str, quantity: str) -> dict[str, Tensor]:
    """Return a quantity of a site by example id."""
    found: dict[str, Tensor] = {}
    for one in observations:
        parts = one.sites[key][quantity].split([len(table) for table in one.origins])
        found |= dict(zip(one.example_ids, parts, strict=True))
    return found


def by_autograd(
    model: Backbone, example: Example, sites: Any, scalar: Callable[[Tensor, Tensor], Tensor]
) -> Any:
    """Differentiate ``scalar``(logits [T, v], labels [T]) by the outputs of all sites."""
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
    logits = model.model(**batch.inputs).logits[0]
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(scalar(logits, batch.labels[0]), list(shifts.values()))
    return {key: gradient[0] for key, gradient in zip(shifts, gradients, strict=True)}


@pytest.mark.parametrize("kind", ["words", "likelihood"])
def test_gradients_are_those_of_the_probe_alone(model: Backbone, kind: str) -> None:
    chosen = settings(batch_size=3)
    sites = sites_of(block_ends(model.num_layers, 2), MODULES)
    observations = list(observe(model, sites, EXAMPLES, chosen, WORDS if kind == "words" else ()))

    def words(example: Example, probe: int) -> Callable[[Tensor, Tensor], Tensor]:
        weights = torch.randn(3, len(WORDS), generator=generator(5, "probe", example.id))[probe]
        weights = weights - weights.sum() / len(WORDS)

        def scalar(logits: Tensor, labels: Tensor) -> Tensor:
            answer = (labels >= 0).nonzero().flatten().tolist()
            first = max(at for at in answer if at - 1 not in answer)  # of the last answer
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
                found = by_example(observations, site.key, "g")[example.id][:, probe]
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
        assert one.example_ids == two.example_ids and list(map(len, one.origins)) == list(
            map(len, two.origins)
        )
        for key, kinds in one.sites.items():
            for kind, values in kinds.items():
                torch.testing.assert_close(values, two.sites[key][kind], atol=1e-4, rtol=1e-3)
    assert sizes == [1] * len(EXAMPLES)


def test_inputs_and_outputs_are_those_of_the_layer(model: Backbone) -> None:
    sites = sites_of(block_ends(model.num_layers, 2), MODULES)
    observations = list(observe(model, sites, EXAMPLES, settings(batch_size=4), gradients=False))
    assert all("g" not in kinds for one in observations for kinds in one.sites.values())
    for example in EXAMPLES:
        batch = model.collate([model.encode(example)])
        states = model.model(
            **batch.inputs,
            output_hidden_states=True,
        ).hidden_states
        for site in sites:
            x, y = (by_example(observations, site.key, kind)[example.id] for kind in ("x", "y"))
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
        list(observe(model, sites_of((1, 3), MODULES), sentences(3), settings()))


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"no linear module 'q_pro'\. Did you mean 'q_proj'"):
        list(observe(word_model(), sites_of((1,), ["q_pro"]), sentences(3), settings()))


# --- which examples -----------------------------------------------------------------------------
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
