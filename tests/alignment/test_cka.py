"""Check streamed CKA against its definition, on planted layers and on real models."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmosaic.alignment.correspondence.cka import StreamedCka, principal_bases
from fedmosaic.alignment.correspondence.layer_cka import layer_cka, layer_outputs
from fedmosaic.alignment.correspondence.layers import cka_monotone_matching
from fedmosaic.data import public_examples
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.token_origins import TokenKind


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(x: Tensor, y: Tensor) -> float:
    """Compute CKA from the Gram matrices [n, n], as HSIC does."""
    x, y = x - x.mean(0), y - y.mean(0)
    one, two = x @ x.t(), y @ y.t()
    return float((one * two).sum() / (one.norm() * two.norm()))


def streamed(
    first: list[Tensor], second: list[Tensor], sizes: tuple[int, ...], bases: Any = None
) -> StreamedCka:
    shape = (len(first), len(second)), (first[0].shape[1], second[0].shape[1])
    cka = StreamedCka(*shape, bases)
    for one, two in zip(
        zip(*(x.split(sizes) for x in first), strict=True),
        zip(*(y.split(sizes) for y in second), strict=True),
        strict=True,
    ):
        cka.update(one, two)
    return cka


def spectrum(n: int, width: int, seed: int) -> Tensor:
    """Draw features with a few strong directions and a large mean, as hidden states have."""
    scale = torch.arange(1, width + 1, dtype=torch.float64) ** -0.7
    return draw(n, width, seed=seed) * scale + 3 * draw(width, seed=seed + 1)


def test_streaming_is_the_definition_for_any_split() -> None:
    first = [spectrum(60, 8, seed) for seed in (1, 2)]
    second = [first[1] @ draw(8, 5, seed=7), spectrum(60, 5, 9), spectrum(60, 5, 11)]
    expected = torch.tensor(
        [[by_definition(x, y) for y in second] for x in first], dtype=torch.float64
    )
    for sizes in ((60,), (1,) * 60, (17, 43)):
        found = streamed(first, second, sizes).matrix()
        assert torch.allclose(found, expected, atol=1e-12, rtol=0)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    shuffled = streamed([x[order] for x in first], [y[order] for y in second], (17, 43)).matrix()
    assert torch.allclose(shuffled, expected, atol=1e-12, rtol=0)


def test_planted_layers_are_found() -> None:
    """Layers are rotations of the other model's layers, at other depths, scaled and shifted."""
    shallow = [spectrum(400, 16, 10 * k) for k in range(3)]
    rotation = torch.linalg.qr(draw(24, 24, seed=5))[0][:16]
    planted = {1: 0, 4: 1, 5: 2}
    deep = [
        (k + 1) * shallow[planted[k]] @ rotation + k
        if k in planted
        else spectrum(400, 24, 1000 + 10 * k)
        for k in range(6)
    ]
    cka = streamed(deep, shallow, (100, 300)).matrix()
    for layer, answer in planted.items():
        assert cka[layer, answer] == pytest.approx(1.0, abs=1e-12)
    assert [layer for layer, _ in cka_monotone_matching(cka, [0, 1, 2])] == list(planted)
    others = torch.ones_like(cka, dtype=torch.bool)
    others[list(planted), list(planted.values())] = False
    assert cka[others].max() < 0.5


def test_principal_directions_hold_what_counts() -> None:
    base = spectrum(3000, 96, 1)
    first = [base + level * spectrum(3000, 96, 5) for level in (0.0, 0.5, 1.0, 2.0)]
    second = [
        base @ draw(96, 80, seed=8) / 10 + level * spectrum(3000, 80, 9) for level in (0.1, 1.0)
    ]
    exact = streamed(first, second, (3000,))
    bases = tuple(principal_bases([layer[:1000] for layer in side], 32) for side in (first, second))
    reduced = streamed(first, second, (3000,), bases)
    assert reduced.cross.shape == (4 * 32, 2 * 32) and exact.captured() == pytest.approx(1.0)
    assert 0.8 < reduced.captured() < 0.99
    assert (reduced.matrix() - exact.matrix()).abs().max() < 0.005


@pytest.mark.parametrize("tokens", [20, 200])
def test_bases_are_the_leading_singular_vectors(tokens: int) -> None:
    sample = spectrum(tokens, 40, 3)
    (basis,) = principal_bases([sample], 6)
    expected = torch.linalg.svd(sample - sample.mean(0))[2][:6].t()
    assert torch.allclose(basis.t() @ basis, torch.eye(6, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(
        (basis * expected).sum(0).abs(), torch.ones(6, dtype=torch.float64), atol=1e-9
    )
    with pytest.raises(DataError, match="too few to find 20"):
        principal_bases([sample[:20]], 20)


def test_memory_does_not_grow_with_the_samples() -> None:
    cka = StreamedCka((2, 3), (4, 5))
    sizes = []
    for seed in range(3):
        cka.update([draw(50, 4, seed=seed)] * 2, [draw(50, 5, seed=seed)] * 3)
        tensors = [
            cka.cross,
            *(
                value
                for side in cka.sides
                for value in vars(side).values()
                if torch.is_tensor(value)
            ),
        ]
        sizes.append(sum(tensor.untyped_storage().nbytes() for tensor in tensors))
    assert len(set(sizes)) == 1


def test_a_layer_that_never_varies_resembles_nothing() -> None:
    cka = streamed([torch.ones(9, 3, dtype=torch.float64), draw(9, 3)], [draw(9, 3)], (9,)).matrix()
    assert cka[0, 0] == 0 and cka[1, 0] == pytest.approx(1.0)


def test_too_few_tokens_are_an_error() -> None:
    with pytest.raises(DataError, match="two tokens"):
        StreamedCka((1, 1), (3, 3)).matrix()


@pytest.fixture(scope="module")
def models() -> list[Backbone]:
    return [Backbone.load(f"miniature/{name}") for name in ("llama-8x96", "qwen2-10x112")]


def test_two_real_models_in_batches_of_any_size(models: list[Backbone]) -> None:
    examples = public_examples("miniature/public", 10)
    done: list[int] = []
    one = layer_cka(*models, examples, batch_size=1).matrix()
    many = layer_cka(*models, examples, batch_size=8, progress=done.append).matrix()
    reversed_order = layer_cka(*models, examples[::-1], batch_size=3).matrix()
    assert one.shape == (8, 10) and done == [8, 10]
    assert torch.allclose(one, many, atol=1e-5) and torch.allclose(one, reversed_order, atol=1e-5)
    assert one.min() > 0.05 and one.max() < 1.0


def test_models_too_wide_are_compared_in_their_principal_directions(
    models: list[Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmosaic.alignment.correspondence.layer_cka.SAMPLE_TOKENS", 200)
    examples = public_examples("miniature/public", 16)
    exact = layer_cka(*models, examples).matrix()
    reduced = layer_cka(*models, examples, limit=80 * 40 * 40)
    reversed_order = layer_cka(*models, examples[::-1], limit=80 * 40 * 40, batch_size=5)
    assert reduced.cross.numel() == 80 * 40 * 40
    assert (reduced.matrix() - exact).abs().max() < 0.03
    assert torch.allclose(reduced.matrix(), reversed_order.matrix(), atol=1e-5)
    with pytest.raises(ModelError, match="limit"):
        layer_cka(*models, examples, limit=79)


def test_a_model_resembles_itself_layer_by_layer(models: list[Backbone]) -> None:
    examples = public_examples("miniature/public", 6)
    streamed = layer_cka(models[0], copy.copy(models[0]), examples)
    cka = streamed.matrix()
    template = sum(
        int((models[0].token_origins(example)[:, 0] == TokenKind.TEMPLATE).sum())
        for example in examples
    )
    assert (
        streamed.tokens
        == sum(len(models[0].encode(example).input_ids) for example in examples) - template
    )
    assert template > 0
    assert torch.allclose(cka.diagonal(), torch.ones(8, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(cka, cka.t(), atol=1e-9)


def test_layer_outputs_are_the_hidden_states(models: list[Backbone]) -> None:
    model = models[1]
    batch = model.collate(
        [model.encode(example) for example in public_examples("miniature/public", 3)]
    )
    outputs = layer_outputs(model, batch)
    with torch.no_grad():
        theirs = model.model(
            **batch.inputs,
            output_hidden_states=True,
        ).hidden_states
    assert len(outputs) == model.num_layers
    for ours, expected in zip(outputs[:-1], theirs[1:-1], strict=True):
        assert torch.equal(ours, expected)
    assert torch.allclose(model.final_norm(outputs[-1]), theirs[-1])
