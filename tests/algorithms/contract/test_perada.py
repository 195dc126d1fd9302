"""Check PerAda's distillation on the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_federation import CLIENTS, SCENARIO, RecordedFederation
from torch import Tensor
from two_adapters import all_label_logits, kl

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms import perada
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.message import Message
from fedmosaic.errors import ConfigError
from fedmosaic.models.backbone import Batch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


TWINS = [{**CLIENTS[0], "name": name} for name in ("a", "c")]


class Distillation:
    """Run PerAda's server on two clients' updates and record the losses of its distillation."""

    def __init__(self, path: Path, alike: bool = False, **options: float) -> None:
        self.federation = RecordedFederation("perada", path, TWINS, algorithms={"perada": options})
        self.client = self.federation.client("a")
        self.updates: dict[str, Message] = {}
        for seed, name in enumerate(("a", "c")):
            noise = torch.Generator().manual_seed(0 if alike else seed)
            start = read_state(self.client.model, "global").items()
            state = {
                key: value + 0.1 * torch.randn(value.shape, generator=noise) for key, value in start
            }
            self.updates[name] = Message(state)
        self.losses: list[float] = []

    def average(self) -> dict[str, Tensor]:
        kl_divergence = perada.kl_divergence
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                perada,
                "kl_divergence",
                lambda *a: self.losses.append(float(kl_divergence(*a))) or kl_divergence(*a),
            )
            self.federation.algorithm.aggregate(self.federation.server, self.updates)
        return dict(
            self.federation.algorithm.download(
                self.federation.server, self.federation.server.members[0]
            ).tensors
        )

    @torch.no_grad()
    def speak(self, state: Any, batch: Batch) -> Tensor:
        with self.client.turn():
            write_state(self.client.model, "global", state)
            activate(self.client.model, {"global": 1.0})
            return all_label_logits(self.client.model, self.client.backbone, batch)[0]


def test_perada_distils_the_mean_of_the_logits_into_the_mean_of_the_weights(tmp_path: Path) -> None:
    mean = Distillation(tmp_path / "mean", server_steps=0).average()
    server = Distillation(tmp_path / "student", server_steps=30, server_lr=3e-3)
    student = server.average()
    uploads = [update.tensors for update in server.updates.values()]
    assert all(
        torch.allclose(value, (uploads[0][key] + uploads[1][key]) / 2, atol=1e-6)
        for key, value in mean.items()
    )

    backbone, public = server.client.backbone, server.federation.runtime.public()
    batch = backbone.collate([backbone.encode(example) for example in public])
    ensemble = torch.stack([server.speak(state, batch) for state in uploads]).mean(0)
    before, after = (
        float(kl(ensemble, server.speak(state, batch), 1.0)) for state in (mean, student)
    )
    assert 0 < after < before / 2
    # The first step's loss is the mean's on its batch, two of the four examples.
    instruction = torch.randperm(
        len(public), generator=server.federation.server.generator("public batches of tiny/llama")
    ).tolist()
    batch = backbone.collate([backbone.encode(public[index]) for index in instruction[:2]])
    ensemble = torch.stack([server.speak(state, batch) for state in uploads]).mean(0)
    assert server.losses[0] == pytest.approx(
        float(kl(ensemble, server.speak(mean, batch), 1.0)), rel=1e-3
    )


def test_perada_has_nothing_to_distil_from_one_client(tmp_path: Path) -> None:
    federation = RecordedFederation("perada", tmp_path / "run", TWINS[:1], rounds=1).run()
    sent = federation.algorithm.download(federation.server, federation.server.members[0]).tensors
    assert all(
        torch.equal(value, federation.updates[0]["a"].tensors[key]) for key, value in sent.items()
    )


def test_equal_teachers_teach_nothing(tmp_path: Path) -> None:
    server = Distillation(tmp_path / "run", alike=True, server_steps=1)
    server.average()
    assert len(server.losses) == 1 and abs(server.losses[0]) < 1e-6


def test_perada_says_that_it_needs_public_examples(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.public"):
        RecordedFederation("perada", tmp_path / "run", data={**SCENARIO["data"], "public": "none"})
