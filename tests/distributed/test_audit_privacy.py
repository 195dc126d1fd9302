"""Test what a site's own log says of the privacy of its signatures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fedmosaic.algorithms import Message
from fedmosaic.cli import main
from fedmosaic.config import RunSettings, ShareSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.distributed.audit import LOG, privacy_of, read_audit
from fedmosaic.distributed.messages import SiteResponse
from fedmosaic.distributed.outgoing import Outgoing
from fedmosaic.distributed.shared import shared_settings
from fedmosaic.federation.privacy_statement import privacy_statement
from fedmosaic.federation.wire import pack, schema_of
from fedmosaic.relevance.privacy import can_account


def site_folder(folder: Path, *overrides: str) -> RunSettings:
    """Write the log of a site that sent three signatures, one of them twice, in two runs."""
    scenario = load_scenario("miniature/quickstart", overrides)
    settings = RunSettings(name="test", scenario=scenario)
    outgoing = Outgoing(folder / LOG, ShareSettings())
    for session, number in (("first", 0), ("first", 1), ("first", 1), ("second", 0)):
        message = Message({"signature": torch.full((3,), float(number))})
        header = {"name": "a", "round": number, "key": "k", "update": True, "result": None}
        reply = SiteResponse("turn", session, header, pack(message))
        outgoing.release(reply, schema_of(message))
    for session in ("first", "second"):
        path = folder / "sessions" / session / "shared.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"shared": shared_settings(settings)}))
    return settings


@pytest.mark.skipif(not can_account(), reason="dp-accounting is not installed")
def test_a_site_states_what_its_signatures_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = site_folder(tmp_path, "relevance.clip=1", "relevance.noise_std=8")
    found = privacy_of(tmp_path, read_audit(tmp_path))
    for session, number in (("first", 2), ("second", 1)):
        stated = privacy_statement(settings, {"this client": number}, secret=True)
        assert found[session] == stated and stated is not None and stated["worst"] > 0
    main(["audit", str(tmp_path)])
    shown = " ".join(capsys.readouterr().out.split())
    assert "run first: signatures: differential privacy" in shown and "run's seed" not in shown
    assert "not covered by it: P, Q, LoRA and measurements" in shown


@pytest.mark.skipif(not can_account(), reason="dp-accounting is not installed")
def test_a_site_states_what_its_prototypes_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zeros in round 1, published in round 2, the same in round 3, others in round 4."""
    scenario = load_scenario("miniature/quickstart", ["routing.noise_std=20"])
    settings = RunSettings(name="test", algorithm="fedmosaic-experts", scenario=scenario)
    outgoing = Outgoing(tmp_path / LOG, ShareSettings())
    for number, value in enumerate((0.0, 1.0, 1.0, 2.0)):
        message = Message(
            {
                "prototypes": torch.full((2, 3), value),
                "moved/block.0.q_proj.P": torch.ones(2, 2),
            }
        )
        header = {"name": "a", "round": number, "key": "k", "update": True, "result": None}
        reply = SiteResponse("turn", "first", header, pack(message))
        outgoing.release(reply, schema_of(message))
    path = tmp_path / "sessions" / "first" / "shared.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"shared": shared_settings(settings)}))
    found = privacy_of(tmp_path, read_audit(tmp_path))["first"]
    assert found["covers"] == ["prototypes"] and found["prototypes"] == {"this client": 2}
    main(["audit", str(tmp_path)])
    shown = " ".join(capsys.readouterr().out.split())
    assert "run first: prototypes: differential privacy" in shown and "run's seed" not in shown
    assert "1 prototypes (" in shown and "1 colora for other models (" in shown


def test_a_site_claims_nothing_without_a_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site_folder(tmp_path)
    assert privacy_of(tmp_path, read_audit(tmp_path)) == {}
    main(["audit", str(tmp_path)])
    assert "ε" not in capsys.readouterr().out
