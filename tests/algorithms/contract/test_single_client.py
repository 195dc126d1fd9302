"""Check that an algorithm with a single client trains as local training does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from promises import SINGLE_CLIENT
from tiny_federation import CLIENTS, SCENARIO, RecordedFederation

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.mark.parametrize(("name", "adapter", "rounds", "options"), SINGLE_CLIENT)
def test_a_single_client_is_local_training(
    tmp_path: Path, name: str, adapter: str, rounds: int, options: dict[str, float]
) -> None:
    changes = {
        "rounds": rounds,
        "adapter": {**SCENARIO["adapter"], "dropout": 0.0},
        "algorithms": {name: options},
    }
    reference = (
        RecordedFederation("sft", tmp_path / "sft", CLIENTS[:1], **changes).run().client("a")
    )
    single = RecordedFederation(name, tmp_path / name, CLIENTS[:1], **changes).run().client("a")
    for key, value in reference._adapters.items():
        assert torch.equal(single._adapters[f"{adapter}/{key.removeprefix('local/')}"], value), key


@pytest.mark.parametrize("name", sorted({name for name, *_ in SINGLE_CLIENT}))
def test_a_single_client_gets_back_what_it_sent(tmp_path: Path, name: str) -> None:
    federation = RecordedFederation(name, tmp_path / "run", CLIENTS[:1]).run()
    sent, received = federation.updates[0]["a"].tensors, federation.downloads[1]["a"].tensors
    assert sent.keys() == received.keys()
    assert all(torch.equal(value, received[key]) for key, value in sent.items())
