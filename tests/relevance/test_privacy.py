"""Test clipping, noise and the ε of signatures, against two other accountants."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.errors import ConfigError
from fedmosaic.relevance import privacy
from fedmosaic.relevance.privacy import (
    PrivacyMechanism,
    clip,
    secret_noise,
    seeded_noise,
    signature_epsilon,
)
from fedmosaic.seeding import generator

SECRET = bytes(range(32))


def exact_delta(epsilon: float, sigma: float, releases: int) -> float:
    """Return the exact δ of signatures in a ball of radius 1 (Balle and Wang 2018, theorem 8)."""

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    m = 2 * math.sqrt(releases) / sigma
    return phi(m / 2 - epsilon / m) - math.exp(epsilon) * phi(-m / 2 - epsilon / m)


def test_clip_shortens_and_never_lengthens() -> None:
    long, short = torch.tensor([3.0, 4.0]), torch.tensor([0.03, 0.04])
    assert torch.allclose(clip(long, 1.0), torch.tensor([0.6, 0.8]))
    assert torch.equal(clip(short, 1.0), short)
    assert torch.equal(clip(torch.zeros(2), 1.0), torch.zeros(2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_signature_that_is_not_finite_carries_noise_too(bad: float) -> None:
    sent = PrivacyMechanism(std=1.0, clip=1.0)(
        torch.tensor([bad, 1.0]), seeded_noise(generator("n"))
    )
    assert torch.equal(sent, torch.randn(2, generator=generator("n")))


@pytest.mark.parametrize(
    "draw", [seeded_noise(generator("noise", 1)), secret_noise(SECRET, "c", 1)]
)
def test_noise_is_normal_with_the_stated_deviation(draw: privacy.Draw) -> None:
    signature = torch.full((400_000,), 2.0)
    result = PrivacyMechanism("gaussian", std=0.1)(signature, draw) - 2.0
    assert abs(result.mean()) < 1e-3
    assert result.std().item() == pytest.approx(0.1, rel=0.01)
    assert ((result / result.std()) ** 4).mean().item() == pytest.approx(3.0, rel=0.05)
    assert torch.equal(signature, torch.full((400_000,), 2.0)), "the input is left alone"


def test_noise_is_in_units_of_the_clip() -> None:
    mechanism = PrivacyMechanism("gaussian", std=3.0, clip=0.5)
    result = mechanism(torch.zeros(100_000), seeded_noise(generator("noise", 2)))
    assert result.std().item() == pytest.approx(1.5, rel=0.02)


def test_seeded_noise_is_reproducible_and_none_is_a_copy() -> None:
    signature = torch.randn(50, generator=generator("x"))
    first, second, other = (
        PrivacyMechanism()(signature, seeded_noise(generator("n", seed))) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    plain = PrivacyMechanism("none")(signature, seeded_noise(generator("n", 1)))
    assert torch.equal(plain, signature) and plain is not signature


def test_secret_noise_differs_by_secret_purpose_and_content() -> None:
    """One noise for two contents would let a server subtract it."""
    content, other = torch.zeros(8), torch.ones(8)
    noise = secret_noise(SECRET, "a", 1)(content)
    assert torch.equal(noise, secret_noise(SECRET, "a", 1)(content.clone()))
    for draw in (
        secret_noise(bytes(32), "a", 1)(content),
        secret_noise(SECRET, "b", 1)(content),
        secret_noise(SECRET, "a", 2)(content),
        secret_noise(SECRET, "a", 1)(other),
    ):
        assert not torch.isclose(noise, draw).any()
    with pytest.raises(ConfigError, match="31 bytes; it needs at least 32"):
        secret_noise(bytes(31))


@pytest.mark.parametrize(
    "arguments",
    [{"noise": "uniform"}, {"noise": "laplace"}, {"std": -1.0}, {"std": math.nan}, {"clip": 0.0}],
)
def test_bad_settings_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PrivacyMechanism(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments,guarantees",
    [
        ({}, False),  # the paper's noise
        ({"std": 100.0}, False),
        ({"clip": 1.0, "std": 0.0}, False),
        ({"clip": 1.0, "noise": "none"}, False),
        ({"clip": 1.0, "std": 4.0}, True),
    ],
)
def test_only_clip_and_noise_together_guarantee(
    arguments: dict[str, object], guarantees: bool
) -> None:
    assert PrivacyMechanism(**arguments).guarantees is guarantees  # type: ignore[arg-type]


def test_without_the_accountant_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "can_account", lambda: False)
    with pytest.raises(ConfigError, match=r"dp-accounting: pip install 'fedmosaic\[privacy\]'"):
        signature_epsilon(1.0, 1, 1e-5)


# --- ε -----------------------------------------------------------------------------------------
@pytest.fixture
def accountant() -> None:
    pytest.importorskip("dp_accounting")


@pytest.mark.usefixtures("accountant")
@given(sigma=st.floats(0.5, 50.0), releases=st.integers(1, 500), delta=st.floats(1e-9, 1e-3))
@settings(max_examples=100, deadline=None)
def test_epsilon_is_the_exact_one(sigma: float, releases: int, delta: float) -> None:
    epsilon = signature_epsilon(sigma, releases, delta)
    if epsilon > 500:  # e^ε is too large for the formula
        return
    found = exact_delta(epsilon, sigma, releases)
    assert found == pytest.approx(delta, rel=1e-4) or (epsilon == 0.0 and found <= delta)


@pytest.mark.usefixtures("accountant")
def test_epsilon_falls_with_noise_and_delta_and_grows_with_releases() -> None:
    by_noise = [signature_epsilon(sigma, 10, 1e-5) for sigma in (2.0, 4.0, 8.0, 100.0)]
    by_number = [signature_epsilon(8.0, number, 1e-5) for number in (0, 1, 2, 50)]
    by_delta = [signature_epsilon(8.0, 10, delta) for delta in (1e-9, 1e-7, 1e-5, 1e-3)]
    assert by_noise == sorted(by_noise, reverse=True) and len(set(by_noise)) == 4
    assert by_number == sorted(by_number) and len(set(by_number)) == 4 and by_number[0] == 0.0
    assert by_delta == sorted(by_delta, reverse=True) and len(set(by_delta)) == 4
    # Sixteen releases are one with a quarter of the noise.
    assert signature_epsilon(8.0, 16, 1e-5) == pytest.approx(signature_epsilon(2.0, 1, 1e-5))


@pytest.mark.usefixtures("accountant")
@pytest.mark.parametrize("sigma,releases,delta", [(0.0, 1, 1e-5), (1.0, -1, 1e-5), (1.0, 1, 0.0)])
def test_epsilon_refuses_what_has_none(sigma: float, releases: int, delta: float) -> None:
    with pytest.raises(ConfigError, match="sigma must be > 0"):
        signature_epsilon(sigma, releases, delta)
