"""Test what a run states of its signatures' privacy, and that it claims nothing otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from short_run import start
from torch import Tensor

import fedmosaic
from fedmosaic.algorithms import Message
from fedmosaic.algorithms.fedmosaic import FedMosaic
from fedmosaic.cli import main
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import load_scenario, parse
from fedmosaic.federation import privacy_statement as module
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.privacy_statement import (
    noise_is_secret,
    privacy_statement,
    signatures_sent,
)
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.wire import pack, unpack
from fedmosaic.relevance.privacy import can_account
from fedmosaic.reporting.privacy import privacy_lines, rounded_up

NEEDS_ACCOUNTANT = pytest.mark.skipif(not can_account(), reason="dp-accounting is not installed")
PRIVATE = ("relevance.clip=1", "relevance.noise_std=8")


def settings_of(algorithm: str = "fedmosaic", **relevance: Any) -> RunSettings:
    clients = [{"name": name, "model": "m", "tasks": ["t"]} for name in "abc"]
    scenario = parse(Scenario, {"clients": clients, "relevance": relevance}, "test")
    return RunSettings(name="test", algorithm=algorithm, scenario=scenario)


def line(client: str, up: int = 9, **more: Any) -> dict[str, Any]:
    return {"kind": "client", "client": client, "bytes": {"up": up, "down": 0}, **more}


# clip, noise in units of the clip, signatures that left the client, δ
SETTINGS = [
    (clip, noise, number, delta)
    for clip, noise in ((0.01, 6.0), (0.5, 4.0), (1.0, 10.0), (1.0, 50.0), (30.0, 8.0))
    for number, delta in ((1, 1e-5), (2, 1e-6), (5, 1e-3), (20, 1e-5))
]


@NEEDS_ACCOUNTANT
@pytest.mark.parametrize("clip,noise,number,delta", SETTINGS)
def test_epsilon_is_the_accountants(clip: float, noise: float, number: int, delta: float) -> None:
    """Its accountant for any sequence of mechanisms composes step by step, on a grid."""
    import dp_accounting

    accountant = dp_accounting.pld.PLDAccountant(dp_accounting.NeighboringRelation.REPLACE_ONE)
    accountant.compose(dp_accounting.GaussianDpEvent(noise), number)
    expected = accountant.get_epsilon(delta)
    settings = settings_of(clip=clip, noise_std=noise, delta=delta)
    found = privacy_statement(settings, {"a": number, "b": 0, "c": 1})
    assert found is not None and expected < module.LARGEST
    assert found["epsilon"]["a"] == found["worst"] == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert found["epsilon"]["b"] == 0.0 and found["epsilon"]["c"] <= found["worst"]
    text = " ".join(privacy_lines(found))
    assert f"ε at most {rounded_up(expected)} at δ = {delta:g}" in text
    assert f"(client 'a', which sent {number})" in text or number == 1
    assert "not covered by it: P, Q, LoRA and measurements" in text
    # Renyi's accountant bounds the same from above.
    bound = dp_accounting.rdp.RdpAccountant()
    bound.compose(dp_accounting.GaussianDpEvent(noise / 2), number)
    assert found["worst"] <= bound.get_epsilon(delta)


@pytest.mark.parametrize(
    "relevance",
    [
        {},  # the paper's noise
        {"noise_std": 100.0},
        {"clip": 1.0, "noise_std": 0.0},
        {"clip": 1.0, "noise": "none", "noise_std": 8.0},
    ],
)
def test_nothing_is_claimed_without_clip_or_noise(relevance: dict[str, Any]) -> None:
    statement = privacy_statement(settings_of(**relevance), {"a": 3})
    assert statement is None and privacy_lines(statement) == []


def test_nothing_is_claimed_where_no_signature_is_sent() -> None:
    assert privacy_statement(settings_of("fedavg", clip=1.0, noise_std=8.0), {"a": 3}) is None
    assert privacy_statement(settings_of(clip=1.0, noise_std=8.0), {"a": 0}) is None


@NEEDS_ACCOUNTANT
def test_noise_that_is_too_weak_gives_a_sentence_and_no_figure() -> None:
    statement = privacy_statement(settings_of(clip=1.0), {"a": 3})
    assert statement is not None and set(statement) == {"none"}
    (text,) = privacy_lines(statement)
    assert text.startswith("no privacy is claimed: relevance.noise_std = 0.0001 is too little")


def test_without_the_accountant_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "can_account", lambda: False)
    (text,) = privacy_lines(privacy_statement(settings_of(clip=1.0, noise_std=8.0), {"a": 3}))
    assert "pip install 'fedmosaic[privacy]'" in text and "ε" not in text


@NEEDS_ACCOUNTANT
def test_noise_is_secret_only_if_all_of_it_is() -> None:
    secret, seeded, silent = line("a", secret_noise=True), line("b"), line("c", up=0)
    assert noise_is_secret([secret, silent]) and not noise_is_secret([secret, seeded])
    assert not noise_is_secret([silent])
    settings = settings_of(clip=1.0, noise_std=8.0)
    for is_secret in (True, False):
        lines = privacy_lines(privacy_statement(settings, {"a": 1}, secret=is_secret))
        assert any("run's seed" in text for text in lines) is not is_secret
    assert signatures_sent([secret, seeded, silent, secret]) == {"a": 2, "b": 1}
    asked = {"kind": "round", "clients": ["a", "c"]}
    assert signatures_sent([secret, silent, asked], deployed=True) == {"a": 1, "c": 1}


@NEEDS_ACCOUNTANT
def test_the_table_of_the_documentation_is_the_accountants() -> None:
    page = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.M)
    assert len(rows) == 4
    for noise, cells in rows:
        settings = settings_of(clip=1.0, noise_std=float(noise))
        for number, cell in zip((1, 10, 20, 100), cells.split(" | "), strict=True):
            stated = privacy_statement(settings, {"a": number})
            assert stated is not None
            assert cell == (rounded_up(stated["worst"]) if "worst" in stated else "none")


def test_an_epsilon_is_rounded_up() -> None:
    assert [rounded_up(value) for value in (0.0, 1.2301, 1.23, 2.0)] == [
        "0.00",
        "1.24",
        "1.23",
        "2.00",
    ]


@NEEDS_ACCOUNTANT
def test_a_run_counts_the_signatures_that_left(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of four clients take part in a round, and the update of one is refused throughout."""
    upload = FedMosaic.upload

    def broken(self: FedMosaic, client: Any) -> Message:
        message = upload(self, client)
        tensors = {name: value * float("nan") for name, value in message.tensors.items()}
        return Message(tensors) if client.name == "c" else message

    monkeypatch.setattr(FedMosaic, "upload", broken)
    overrides = [*PRIVATE, "cohort=2", "rounds=4", "evaluation.clients=participants"]
    run = start(tiny, tmp_path / "run", overrides=[*overrides, "evaluation.every=0"])
    lines = [json.loads(text) for text in (run.folder / "metrics.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if line["kind"] == "round"]
    took_part = {name: sum(name in line["clients"] for line in rounds) for name in "abcd"}
    assert sum(took_part.values()) == 8 and len(set(took_part.values())) > 1
    refused = sum("c" in line["refused"] for line in rounds)
    assert refused == took_part["c"] > 0, "the seed draws the client that is refused"

    stated = run.summary["privacy"]
    assert stated["signatures"] == {name: count for name, count in took_part.items() if count}
    settings = settings_of(clip=1.0, noise_std=8.0)
    assert stated == privacy_statement(settings, stated["signatures"])
    assert json.loads((run.folder / "summary.json").read_text())["privacy"] == stated
    expected = f"ε at most {rounded_up(stated['worst'])} at δ = 1e-05"
    main(["show", str(run.folder)])
    assert expected in " ".join(capsys.readouterr().out.split())
    page = fedmosaic.report([run.folder], out=tmp_path / "report.html").read_text()
    assert expected in page and "which sent" in page


def test_a_client_with_a_secret_sends_other_noise(tiny: Path) -> None:
    """Without clip the secret is not used, so that a run stays the same wherever it runs."""

    def signature(secret: bytes, *overrides: str) -> Tensor:
        scenario = load_scenario(
            str(tiny), [*overrides, "train.steps=1", "relevance.model=miniature/llama-8x96"]
        )
        runtime = Runtime(RunSettings(name="tiny", scenario=scenario))
        runtime.secret = secret
        client = LocalClient(runtime.with_settings(runtime.settings), scenario.clients[0])
        result = client.work(Instructions(0), pack(Message()))
        assert result.update is not None and result.secret_noise is bool(secret and overrides)
        return unpack(result.update).tensors["signature"]

    assert signature(bytes(32)).equal(signature(b""))
    assert not signature(bytes(32), *PRIVATE).isclose(signature(b"", *PRIVATE)).any()
