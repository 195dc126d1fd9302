"""Test what the server settles from what sites say of themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from sites import site_of

from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import override
from fedmosaic.distributed.facts import SiteFacts, site_facts
from fedmosaic.distributed.joining import settle
from fedmosaic.distributed.preparing import (
    describe_sites,
    introductions,
    prepare,
    read_prepared,
)
from fedmosaic.distributed.refusals import (
    require_deployable,
    require_for_server_half,
    served,
)
from fedmosaic.distributed.shared import shared_settings, site_runtime
from fedmosaic.errors import ConfigError, FedMosaicError, ModelError, SiteError
from fedmosaic.federation import signature_choice
from fedmosaic.federation.placement import describe
from fedmosaic.federation.pools import ModelPool
from fedmosaic.federation.run import resolve
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from tiny_scenario import TINY


def run_settings(*overrides: str, **options: Any) -> RunSettings:
    scenario = override(Scenario.model_validate(TINY), overrides, "tiny")
    return RunSettings(name="tiny", trackers=(), scenario=scenario, **options)


SIMULATED = run_settings()
POOL = ModelPool(SIMULATED.scenario.models)


@pytest.fixture(scope="module")
def facts() -> list[SiteFacts]:
    names = [client.name for client in SIMULATED.scenario.clients]
    return [site_facts(site_of(SIMULATED, name), POOL) for name in names]


def changed(one: SiteFacts, **changes: Any) -> SiteFacts:
    return SiteFacts.model_validate({**one.model_dump(), **changes})


def test_the_choices_are_those_of_a_simulation(facts: list[SiteFacts]) -> None:
    lines: list[str] = []
    settled = settle(served(SIMULATED, lines.append), facts, lines.append)
    expected = resolve(Runtime(SIMULATED))
    assert settled.scenario == expected.scenario.model_copy(
        update={"clients": settled.scenario.clients}
    )
    assert settled.signature == expected.signature and settled.settled
    for own, simulated in zip(settled.scenario.clients, expected.scenario.clients, strict=True):
        assert own == simulated
    assert lines == [
        "models and tasks in the scenario are not used: each site names its own",
        "signatures are computed by miniature/llama-8x96, the smallest model that can do so",
    ]


def test_sites_are_introduced_as_in_a_simulation(facts: list[SiteFacts]) -> None:
    settled = settle(served(SIMULATED), facts)
    shared = json.loads(json.dumps(shared_settings(settled)))
    prepared = {}
    for client in settled.scenario.clients:
        site = site_of(SIMULATED, client.name)
        runtime, spec = site_runtime(shared, site, POOL)
        answer = prepare(runtime, spec, site, shared).model_dump(mode="json")
        prepared[client.name] = read_prepared(json.loads(json.dumps(answer)), client.name)
    by_name = {one.name: one for one in facts}
    simulated = Runtime(resolve(Runtime(SIMULATED)), POOL)
    expected = InProcess(simulated).introduce()
    found = introductions(settled, by_name, prepared)
    assert list(found) == list(expected)
    for name, one in found.items():
        known = expected[name]
        assert (one.architecture, one.samples) == (known.architecture, known.samples)
        assert dict(one.schema) == dict(known.schema) and not one.families
    assert describe_sites(settled, by_name, prepared) == describe(simulated)
    del prepared["b"]
    assert list(introductions(settled, by_name, prepared)) == ["a", "c", "d"]
    prepared["c"] = prepared["c"].model_copy(update={"public": "0" * 32})
    with pytest.raises(SiteError, match="'a' and 'c' have different public examples"):
        introductions(settled, by_name, prepared)


def test_a_client_without_lora_is_the_only_one_of_its_architecture(facts: list[SiteFacts]) -> None:
    settled = settle(served(SIMULATED), facts)
    shared = shared_settings(settled)
    prepared, by_name = {}, {one.name: one for one in facts}
    for name in ("a", "d"):
        site = site_of(SIMULATED, name, share={"lora": name == "a"})
        runtime, spec = site_runtime(shared, site, POOL)
        prepared[name] = prepare(runtime, spec, site, shared)
        by_name[name] = changed(by_name[name], sends_lora=site.share.lora)
    found = introductions(settled, by_name, prepared)
    assert found["d"].architecture == "miniature/llama-8x96 of d"
    assert {name.split(".")[0] for name in found["d"].schema} == {"block", "signature"}
    assert {name.split(".")[0] for name in found["a"].schema} == {"block", "layer", "signature"}


def test_one_model_under_two_names_is_one_architecture(facts: list[SiteFacts]) -> None:
    a, b, c, d = facts
    moved, other = changed(d, architecture="copy"), changed(b, architecture="miniature/llama-8x96")
    settled = settle(served(SIMULATED), [a, other, c, moved])
    second = f"miniature/llama-8x96-{b.weights[:8]}"
    assert [client.model for client in settled.scenario.clients] == [
        "miniature/llama-8x96",
        second,
        "miniature/llama-12x128",
        "miniature/llama-8x96",
    ]
    assert settled.deployed is not None
    assert settled.deployed.architectures[second] == b.weights


def test_clients_that_come_later_change_nothing_that_is_settled(facts: list[SiteFacts]) -> None:
    a, b, c, d = facts
    first = settle(served(SIMULATED), [b, c])
    assert [client.model for client in first.scenario.clients] == [
        "",
        b.architecture,
        c.architecture,
        "",
    ]
    assert first.scenario.relevance.model == b.architecture
    lines: list[str] = []
    later = settle(first, [d, c, a, b], lines.append)
    assert later.scenario.relevance == first.scenario.relevance and not lines
    assert [client.model for client in later.scenario.clients[1:3]] == [
        b.architecture,
        c.architecture,
    ]
    assert settle(later, facts) == later
    assert shared_settings(later)["fingerprint"] == shared_settings(first)["fingerprint"]


def test_the_signature_model_must_serve_all_clients(facts: list[SiteFacts]) -> None:
    a, b, c, _ = facts
    lines: list[str] = []
    blind = changed(a, takes_images=False)
    settled = settle(served(SIMULATED), [blind, b, c], lines.append)
    assert settled.scenario.relevance.model == b.architecture and settled.signature is not None
    assert settled.signature.skipped == {
        a.architecture: "takes no images, and client 'a' trains on some"
    }
    none = {"signature": {"method": "no", "layer": "", "reason": "it has no MLP"}}
    with pytest.raises(ModelError, match=r"relevance.model: .*-8x96 can give no signature: it has"):
        settle(served(SIMULATED), [changed(a, **none)])
    named = run_settings("relevance.model=org/signer")
    settled = settle(served(named), facts, lines.append)
    assert settled.scenario.relevance.model == "org/signer"
    assert lines[-1] == "signatures are computed by org/signer, which every site must have"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "e"}, "client 'e' is not expected. .*a, b, c, d.* under clients"),
        ({"name": "b"}, "client 'b' is there twice"),
        ({"versions": {"fedmosaic": "9.9"}}, "client 'a' has fedmosaic 9.9, the server 0"),
        ({"versions": {}}, "client 'a' has fedmosaic unknown"),
        ({"r": 8}, "client 'a': its site has r = 8, the scenario 4; write one number in both"),
        ({"layers": ((0, 1),)}, "tiny: model miniature/llama-8x96: A model of 1 layers cannot"),
    ],
)
def test_sites_that_do_not_fit_are_refused(
    facts: list[SiteFacts], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(FedMosaicError, match=message):
        settle(served(SIMULATED), [changed(facts[0], **change), *facts[1:]])


def test_a_client_comes_back_with_its_own_model(facts: list[SiteFacts]) -> None:
    settled = settle(served(SIMULATED), facts)
    other = changed(facts[0], weights=facts[1].weights)
    with pytest.raises(SiteError, match=r"'a' comes back with another model .*llama-8x96"):
        settle(settled, [other, *facts[1:]])


def test_a_client_cannot_hide_all_that_an_algorithm_exchanges(facts: list[SiteFacts]) -> None:
    hidden = changed(facts[0], sends_lora=False)
    assert settle(served(SIMULATED), [hidden])
    with pytest.raises(SiteError, match=r"'a' sends no LoRA \(share.lora: false\), and fedavg"):
        settle(served(run_settings(algorithm="fedavg")), [hidden])


@pytest.mark.parametrize(
    ("overrides", "algorithm", "message"),
    [
        ((), "pooled", "tiny: algorithm: pooled reads the data of all clients"),
        ((), "fedmosaic-oracle", "tiny: algorithm: fedmosaic-oracle reads the data"),
        (("budget=flops",), "fedavg", "tiny: budget: flops needs a rehearsal"),
        (("adapter.block_rule=cka",), "fedmosaic", "tiny: adapter.block_rule: cka compares"),
        (("alignment.refine={join: x}",), "fedmosaic", "tiny: alignment.refine.join: .*no site"),
    ],
)
def test_what_cannot_work_across_machines_is_refused(
    overrides: Sequence[str], algorithm: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        require_deployable(run_settings(*overrides, algorithm=algorithm))


def test_algorithms_that_distil_need_models_and_data_at_the_server(
    facts: list[SiteFacts],
) -> None:
    settled = settle(served(run_settings(algorithm="takfl")), facts)

    def absent() -> object:
        raise ModelError("no such file")

    weights = {one.architecture: one.weights for one in facts}
    require_for_server_half(settled, weights.__getitem__, list)
    with pytest.raises(ConfigError, match=r"takfl computes .* has no public data: no such file"):
        require_for_server_half(settled, weights.__getitem__, absent)
    with pytest.raises(ConfigError, match=r"takfl .* has no model 'miniature/llama-8x96': no such"):
        require_for_server_half(settled, lambda name: str(absent()), list)
    with pytest.raises(ConfigError, match="whose model 'miniature/llama-8x96' has other weights"):
        require_for_server_half(settled, lambda name: "0" * 32, list)
    require_for_server_half(settle(served(SIMULATED), facts), lambda name: "", absent)


def test_another_model_than_at_joining_is_refused(facts: list[SiteFacts]) -> None:
    shared = shared_settings(settle(served(SIMULATED), [facts[0], facts[2]]))
    site = site_of(SIMULATED, "b")
    with pytest.raises(ConfigError, match="client b: model 'miniature/qwen2-10x112' has other"):
        site_runtime(shared, site, POOL)


def test_the_signature_model_must_be_the_federations(facts: list[SiteFacts]) -> None:
    settled = settle(served(SIMULATED), facts)
    shared = shared_settings(settled)
    copies = {"miniature/llama-8x96": "miniature/llama-8x96@1"}
    site = site_of(SIMULATED, "b", replace_models=copies)
    runtime, spec = site_runtime(shared, site, POOL)
    with pytest.raises(ModelError, match=r"relevance.model: .*8x96' has other weights here"):
        prepare(runtime, spec, site, shared)
    absent = site_of(SIMULATED, "b", replace_models={"miniature/llama-8x96": "/no/such/model"})
    runtime, spec = site_runtime(shared, absent, POOL)
    with pytest.raises(ModelError, match=r"which is not here .*name this site's copy"):
        prepare(runtime, spec, absent, shared)


@pytest.mark.parametrize("views", ["[mixed]", "[routed, mixed]"])
def test_the_signature_model_must_take_what_is_routed(
    facts: list[SiteFacts], monkeypatch: pytest.MonkeyPatch, views: str
) -> None:
    shared = shared_settings(settle(served(run_settings(f"evaluation.views={views}")), facts))
    site = site_of(SIMULATED, "b")
    runtime, spec = site_runtime(shared, site, POOL)
    real = signature_choice.refusal

    def refused(runtime: Runtime, model: str, task: Any, split: str) -> Any:
        too_long = ModelError("9,000 tokens") if split == "test" else None
        return too_long or real(runtime, model, task, split)

    monkeypatch.setattr(signature_choice, "refusal", refused)
    if views == "[mixed]":
        assert prepare(runtime, spec, site, shared).samples
        return
    with pytest.raises(ModelError, match=r"an input that is to be routed: 9,000 tokens"):
        prepare(runtime, spec, site, shared)


def test_the_server_cannot_choose_a_file_as_public_data(facts: list[SiteFacts]) -> None:
    simulated = run_settings("data.public=private/patients.jsonl")
    shared = shared_settings(settle(served(simulated), facts))
    with pytest.raises(ConfigError, match=r"'private/patients.jsonl': name this site's copy under"):
        site_runtime(shared, site_of(SIMULATED, "a"), POOL)
    site = site_of(SIMULATED, "a", data={"public": "open.jsonl"})
    assert site_runtime(shared, site, POOL)[0].scenario.data.public == "open.jsonl"
