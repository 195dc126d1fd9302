"""Check that rotation keeps what one model can do and removes what two models share."""

from __future__ import annotations

import torch

from fedmosaic.alignment.rotation import rotated

GENERATOR = torch.Generator().manual_seed(0)
PAIR = {
    "block.0.o_proj.A": torch.randn(6, 20, generator=GENERATOR),
    "block.0.o_proj.B": torch.randn(14, 6, generator=GENERATOR),
}


def test_subspaces_and_strength_stay() -> None:
    a, b = rotated(PAIR, 1, "one").values()
    before_a, before_b = PAIR.values()
    assert a.shape == before_a.shape and a.dtype == before_a.dtype
    torch.testing.assert_close(a.T @ a, before_a.T @ before_a)
    torch.testing.assert_close(b @ b.T, before_b @ before_b.T)
    # Whatever a P does, another P does after the rotation.
    p = torch.randn(6, 6, generator=GENERATOR)
    back_a, back_b = a @ torch.linalg.pinv(before_a), torch.linalg.pinv(before_b) @ b
    torch.testing.assert_close(
        b @ (back_b.T @ p @ back_a.T) @ a, before_b @ p @ before_a, atol=1e-4, rtol=1e-4
    )


def test_what_two_models_share_goes() -> None:
    p = torch.randn(6, 6, generator=GENERATOR)
    one, other = (
        [pair[key] for key in PAIR] for pair in (rotated(PAIR, 1, "one"), rotated(PAIR, 1, "other"))
    )
    effects = [(b @ p @ a).flatten() for a, b in (one, other, PAIR.values())]
    assert torch.cosine_similarity(effects[0], effects[1], dim=0).abs() < 0.5
    assert torch.cosine_similarity(effects[0], effects[2], dim=0).abs() < 0.5
    repeated = rotated(PAIR, 1, "one")
    assert all(repeated[key].equal(value) for key, value in rotated(PAIR, 1, "one").items())


def test_rotations_are_uniform() -> None:
    # The mean of many uniform orthogonal matrices is zero; without the signs its diagonal is not.
    eye = {"block.0.o_proj.A": torch.eye(4)}
    mean = torch.stack([rotated(eye, seed)["block.0.o_proj.A"] for seed in range(2000)]).mean(0)
    assert mean.abs().max() < 0.06
