"""Test clipping, noise and the accountant, whose bound is compared with the exact value."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.errors import ConfigError
from fedmosaic.relevance.privacy import PrivacyMechanism, clip, gaussian_delta, gaussian_epsilon
from fedmosaic.seeding import generator


def test_clip_shortens_and_never_lengthens() -> None:
    long, short = torch.tensor([3.0, 4.0]), torch.tensor([0.03, 0.04])
    assert torch.allclose(clip(long, 1.0), torch.tensor([0.6, 0.8]))
    assert torch.equal(clip(short, 1.0), short)
    assert torch.equal(clip(torch.zeros(2), 1.0), torch.zeros(2))


@pytest.mark.parametrize("noise,kurtosis", [("gaussian", 3.0), ("laplace", 6.0)])
def test_noise_has_the_stated_distribution(noise: str, kurtosis: float) -> None:
    signature = torch.full((400_000,), 2.0)
    result = PrivacyMechanism(noise, std=0.1)(signature, generator("noise", 1)) - 2.0
    assert abs(result.mean()) < 1e-3
    assert result.std().item() == pytest.approx(0.1, rel=0.01)
    assert ((result / result.std()) ** 4).mean().item() == pytest.approx(kurtosis, rel=0.05)
    assert torch.equal(signature, torch.full((400_000,), 2.0)), "the input is left alone"


def test_noise_is_in_units_of_the_clip() -> None:
    result = PrivacyMechanism("gaussian", std=3.0, clip=0.5)(
        torch.zeros(100_000), generator("noise", 2)
    )
    assert result.std().item() == pytest.approx(1.5, rel=0.02)


def test_noise_is_reproducible_and_none_is_a_copy() -> None:
    signature = torch.randn(50, generator=generator("x"))
    first, second, other = (
        PrivacyMechanism()(signature, generator("n", seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    plain = PrivacyMechanism("none")(signature, generator("n", 1))
    assert torch.equal(plain, signature) and plain is not signature


@pytest.mark.parametrize(
    "arguments", [{"noise": "uniform"}, {"std": -1.0}, {"std": math.nan}, {"clip": 0.0}]
)
def test_bad_settings_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PrivacyMechanism(**arguments)  # type: ignore[arg-type]


def test_exact_delta_known_values() -> None:
    # At epsilon 0 it is the total variation distance of two unit normals m apart: 2 Phi(m/2) - 1.
    assert gaussian_delta(0.0, sigma=1.0, sensitivity=1.0) == pytest.approx(0.3829249, abs=1e-7)
    # Numerical integral of max(0, p - e^eps q) for normals 1 apart at eps 1.
    x = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    p, q = (torch.exp(-((x - at) ** 2) / 2) / math.sqrt(2 * math.pi) for at in (1.0, 0.0))
    integral = torch.trapezoid((p - math.e * q).clamp_min(0), x).item()
    assert gaussian_delta(1.0, sigma=1.0, sensitivity=1.0) == pytest.approx(integral, rel=1e-6)
    # T releases are as one with sqrt(T) times the sensitivity.
    assert gaussian_delta(1.0, 8.0, releases=16, sensitivity=1.0) == pytest.approx(
        gaussian_delta(1.0, 2.0, sensitivity=1.0)
    )


@given(
    sigma=st.floats(0.3, 50.0),
    releases=st.integers(1, 500),
    delta=st.floats(1e-9, 1e-2),
    sensitivity=st.sampled_from([1.0, 2.0]),
)
@settings(max_examples=200, deadline=None)
def test_bound_is_valid_and_not_vacuous(
    sigma: float, releases: int, delta: float, sensitivity: float
) -> None:
    epsilon = gaussian_epsilon(sigma, releases, delta, sensitivity)
    assert gaussian_delta(epsilon, sigma, releases, sensitivity) <= delta
    # The exact epsilon by bisection: the bound may be at most 1.5 times as large, plus 0.3.
    low, high = 0.0, epsilon
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if gaussian_delta(middle, sigma, releases, sensitivity) > delta
            else (low, middle)
        )
    assert epsilon <= 1.5 * high + 0.3


def test_bound_on_one_release_by_hand() -> None:
    rho = 2.0**2 / (2 * 4.0**2)
    assert gaussian_epsilon(4.0, 1, 1e-5) == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e5)))
    assert gaussian_epsilon(4.0, 20, 1e-5) == pytest.approx(
        20 * rho + 2 * math.sqrt(20 * rho * math.log(1e5))
    )


def test_epsilon_is_infinite_without_a_guarantee() -> None:
    assert math.isinf(PrivacyMechanism("gaussian", std=1e-4).epsilon(1))
    assert math.isinf(PrivacyMechanism("laplace", std=1.0, clip=1.0).epsilon(1))
    assert math.isinf(PrivacyMechanism("gaussian", std=0.0, clip=1.0).epsilon(1))
    assert PrivacyMechanism("gaussian", std=4.0, clip=1.0).epsilon(3, 1e-6) == gaussian_epsilon(
        4.0, 3, 1e-6
    )
    assert gaussian_epsilon(1.0, 0) == 0.0
    with pytest.raises(ConfigError):
        gaussian_epsilon(1.0, 1, delta=0.0)
