"""Test what a run states of the privacy of prototypes, and when clients publish new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmosaic.algorithms import Message, make_algorithm
from fedmosaic.algorithms.common.publish import published
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import parse
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.privacy_statement import privacy_statement, prototypes_sent
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.wire import pack, unpack
from fedmosaic.relevance.privacy import can_account
from fedmosaic.reporting.privacy import privacy_lines, rounded_up
from tiny_scenario import TINY

NEEDS_ACCOUNTANT = pytest.mark.skipif(not can_account(), reason="dp-accounting is not installed")
BOTH, ALONE = "fedmosaic-experts", "experts"


def settings_of(
    algorithm: str, noise: float | None = None, relevance: Mapping[str, Any] | None = None
) -> RunSettings:
    clients = [{"name": name, "model": "m", "tasks": ["t"]} for name in "abc"]
    routing = {} if noise is None else {"noise_std": noise}
    content = {"clients": clients, "relevance": relevance or {}, "routing": routing}
    scenario = parse(Scenario, content, "test")
    return RunSettings(name="test", algorithm=algorithm, scenario=scenario)


@NEEDS_ACCOUNTANT
@pytest.mark.parametrize("signatures,prototypes", [(1, 1), (5, 2), (20, 1), (0, 4)])
def test_signatures_and_prototypes_are_composed(signatures: int, prototypes: int) -> None:
    """The accountant for any sequence of mechanisms composes step by step, on a grid."""
    import dp_accounting

    accountant = dp_accounting.pld.PLDAccountant(dp_accounting.NeighboringRelation.REPLACE_ONE)
    if signatures:
        accountant.compose(dp_accounting.GaussianDpEvent(12.0), signatures)
    accountant.compose(dp_accounting.GaussianDpEvent(5.0), prototypes)
    settings = settings_of(BOTH, 5.0, {"clip": 0.5, "noise_std": 12.0})
    found = privacy_statement(settings, {"a": signatures}, {"a": prototypes, "b": 0})
    assert found is not None
    assert found["worst"] == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-6)
    assert found["covers"] == ["signatures", "prototypes"][signatures == 0 :]
    (text, bare, _) = privacy_lines(found)
    assert f"ε at most {rounded_up(found['worst'])}" in text and "prototypes" not in bare
    if signatures:
        sent = f"which sent {signatures} signatures and {prototypes} prototypes)"
        assert text.startswith("signatures and prototypes: ") and sent in text
    else:
        assert text.startswith("prototypes: ") and f"which sent {prototypes})" in text


@NEEDS_ACCOUNTANT
def test_a_kind_without_a_guarantee_is_named_and_not_covered() -> None:
    weak = settings_of(BOTH, None, {"clip": 1.0, "noise_std": 20.0})
    found = privacy_statement(weak, {"a": 3}, {"a": 3})
    assert found is not None and found["covers"] == ["signatures"] and "prototypes" not in found
    assert found["worst"] == privacy_statement(weak, {"a": 3})["worst"]  # type: ignore[index]
    assert found["does_not_cover"][-1] == "prototypes"
    text = privacy_lines(found)[1]
    assert text.startswith("prototypes: no privacy is claimed: routing.noise_std = 0.0001 is too")

    bare = settings_of(BOTH, 20.0)  # signatures without a clip
    found = privacy_statement(bare, {"a": 3}, {"a": 1})
    assert found is not None and found["covers"] == ["prototypes"]
    assert "signatures: no privacy is claimed" in privacy_lines(found)[1]

    none = settings_of(BOTH, 20.0, {"clip": 1.0, "noise_std": 8.0})
    many = privacy_statement(none, {"a": 40}, {"a": 0})
    most = privacy_statement(settings_of(ALONE, 0.5), {}, {"a": 4})
    assert many is not None and "worst" in many
    assert most is not None and "4 prototypes of a client" in most["none"]


@NEEDS_ACCOUNTANT
def test_what_is_too_much_together_is_not_claimed() -> None:
    """Each of the two has an ε of its own below the limit."""
    settings = settings_of(BOTH, 6.0, {"clip": 1.0, "noise_std": 6.0})
    assert "worst" in (privacy_statement(settings, {"a": 80}, {}) or {})
    assert "worst" in (privacy_statement(settings, {}, {"a": 80}) or {})
    both = privacy_statement(settings, {"a": 80}, {"a": 80})
    assert both is not None and "together" in both["none"]


def test_nothing_is_stated_where_nobody_asked() -> None:
    assert privacy_statement(settings_of(BOTH), {"a": 3}, {"a": 3}) is None
    assert privacy_statement(settings_of(ALONE), {}, {"a": 3}) is None
    assert privacy_statement(settings_of(ALONE, 0.0), {}, {"a": 3}) is None
    assert privacy_statement(settings_of("fedavg", 20.0), {}, {"a": 3}) is None
    assert privacy_statement(settings_of(ALONE, 20.0), {}, {"a": 0}) is None


@NEEDS_ACCOUNTANT
def test_a_server_of_sites_counts_the_most_that_can_have_left() -> None:
    scenario = {**TINY, "rounds": 4, "evaluation": {"every": 2}}
    algorithm = make_algorithm(ALONE, Scenario.model_validate(scenario), 0)
    lines: list[dict[str, Any]] = []
    for number in range(4):
        lines += [
            {"kind": "client", "client": "a", "bytes": {"up": 9}, "new_prototypes": number == 2},
            {"kind": "round", "round": number, "clients": ["a", "b"]},
        ]
    assert prototypes_sent(lines, algorithm) == {"a": 1}
    # Evaluations are in rounds 2 and 4: new prototypes can leave in rounds 1 and 3.
    assert prototypes_sent(lines, algorithm, deployed=True) == {"a": 2, "b": 2}
    stated = privacy_statement(settings_of(ALONE, 20.0), {}, {"a": 2}, exact=False)
    assert "which sent at most 2)" in privacy_lines(stated)[0]


class Turns:
    """Stand for a client whose prompts arrive as the test says."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self.features = torch.zeros(0, 3)
        self.drawn = 0

    def prompt_features(self) -> Tensor:
        return self.features

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def prototype_noise(self, values: Tensor) -> Tensor:
        self.drawn += 1
        return torch.full_like(values, float(self.drawn))


def test_prototypes_of_the_same_prompts_are_sent_with_the_same_noise() -> None:
    client: Any = Turns()
    assert not published(client, 2, 0.5, new=True).any() and not client.state
    client.features = torch.eye(3)[:2]
    assert not published(client, 2, 0.5, new=False).any(), "no evaluation needs them yet"
    first = published(client, 2, 0.5, new=True)
    assert torch.allclose(first, torch.eye(3)[:2] + 0.5 * 2**0.5)
    client.features = torch.eye(3)[:2].clone()
    assert torch.equal(published(client, 2, 0.5, new=True), first) and client.drawn == 1
    client.features = torch.eye(3)
    assert torch.equal(published(client, 2, 0.5, new=False), first) and client.drawn == 1
    second = published(client, 2, 0.5, new=True)
    assert not torch.equal(second, first) and client.drawn == 2
    client.features = torch.eye(3).flip(0)  # as many prompts, but other ones
    published(client, 2, 0.5, new=True)
    assert client.drawn == 3


@pytest.mark.parametrize("secret", [b"", b"s" * 32])
def test_a_client_publishes_before_an_evaluation_and_says_so(secret: bytes) -> None:
    content = {
        **TINY,
        "rounds": 5,
        "clients": [{**TINY["clients"][0], "tasks": ["miniature/stages-0"]}],
        "relevance": {"model": "miniature/llama-8x96"},
        "train": {"steps": 1, "batch_size": 2},
        "evaluation": {"every": 3},
    }
    settings = RunSettings(name="test", algorithm=ALONE, scenario=Scenario.model_validate(content))
    runtime = Runtime(settings)
    runtime.secret = secret
    client = LocalClient(runtime, settings.scenario.clients[0])
    sent, new = [], []
    for number in range(5):
        result = client.work(Instructions(number), pack(Message()))
        assert result.update is not None and result.secret_noise is bool(secret)
        assert ("new_prototypes" in result.figures()) is result.new_prototypes
        sent.append(unpack(result.update).tensors["prototypes"])
        new.append(result.new_prototypes)
    assert new == [False, True, False, True, False]  # evaluations are in rounds 3 and 5
    assert not sent[0].any() and torch.equal(sent[2], sent[1]) and torch.equal(sent[4], sent[3])
    assert not torch.equal(sent[3], sent[1])
