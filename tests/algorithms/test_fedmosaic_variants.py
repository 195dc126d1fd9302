"""Check FedMosaic's variants: each differs from FedMosaic in what it says, and in nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from staged_clients import stage, start, state_of
from stub_federation import ARCHITECTURES, federation, updates_of

from fedmosaic.adapters import adapter_parameters, read_state
from fedmosaic.adapters.keys import Scope, in_scope
from fedmosaic.algorithms import Message
from fedmosaic.federation.run_folder import RunFolder


# --- which P and Q are mixed ----------------------------------------------------------------------
def test_within_an_architecture_p_never_comes_from_another() -> None:
    algorithm, server = federation("fedmosaic-same-architecture", ARCHITECTURES)
    updates = updates_of(ARCHITECTURES)
    algorithm.aggregate(server, updates)
    sent = [algorithm.download(server, member).tensors for member in server.members]
    for one, peer in (("c0", "c2"), ("c2", "c0"), ("c1", "c3"), ("c3", "c1"), ("c4", "c4")):
        for key, value in sent[int(one[1])].items():  # one peer each, or none
            assert torch.equal(value, updates[peer].tensors[key]), (one, key)
    plain, other = federation("fedmosaic", ARCHITECTURES)
    plain.aggregate(other, updates)
    whole = plain.download(other, other.members[0]).tensors
    assert not torch.equal(whole["block.0.q_proj.P"], sent[0]["block.0.q_proj.P"])


def test_p_of_other_architectures_is_added_to_the_own_ones_mix() -> None:
    updates = updates_of(ARCHITECTURES)
    sent = {}
    for weight in (0.0, 2.0):
        options = {"fedmosaic-additive": {"cross_architecture_weight": weight}}
        algorithm, server = federation("fedmosaic-additive", ARCHITECTURES, algorithms=options)
        algorithm.aggregate(server, updates)
        sent[weight] = [algorithm.download(server, member).tensors for member in server.members]
    weights = torch.tensor(server.report["relevance"]["weights"])
    for name, own in (("c0", "c2"), ("c1", "c3"), ("c4", "c4")):
        place = int(name[1])
        others = [k for k, model in enumerate(ARCHITECTURES) if model != ARCHITECTURES[place]]
        share = weights[place, others] / weights[place, others].sum()
        for key, value in sent[2.0][place].items():
            expected = updates[own].tensors[key].clone()
            assert torch.equal(sent[0.0][place][key], expected), (name, key)
            if key.startswith("block"):
                expected += 2 * sum(
                    w * updates[f"c{k}"].tensors[key] for w, k in zip(share, others, strict=True)
                )
            torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(("refine", "weight"), [(None, 0.0), ({}, 2.0)])
def test_experts_add_p_of_other_architectures_where_alignment_is_refined(
    refine: dict[str, int] | None, weight: float
) -> None:
    alignment = {"method": "gradients", "refine": refine}
    algorithm, _ = federation("fedmosaic-experts", ARCHITECTURES, alignment=alignment)
    assert algorithm.cross_architecture_weight == weight
    noted = "no P and Q of other architectures, since only refined" in " ".join(algorithm.notes())
    assert noted == (refine is None)
    additive, _ = federation("fedmosaic-additive", ARCHITECTURES, alignment=alignment)
    assert additive.cross_architecture_weight == 2.0
    assert ("count 2 times and mean little" in " ".join(additive.notes())) == (refine is None)
    alike, _ = federation("fedmosaic-additive", ["llama"] * 3, alignment=alignment)
    assert alike.notes() == []


# --- what leaves the client -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "private"), [("fedmosaic-private", "block"), ("fedmosaic-partial", "layer")]
)
def test_a_private_part_never_leaves_and_is_the_clients_own_global(
    tiny: Path, name: str, private: Scope
) -> None:
    client = stage(tiny, name)["a"]
    algorithm = client.runtime.algorithm
    noise = torch.Generator().manual_seed(1)
    with client.turn():
        for adapter in ("local", "global"):
            for parameter in adapter_parameters(client.model, adapter, gates=False).values():
                parameter.data.copy_(torch.randn(parameter.shape, generator=noise))
        sent = algorithm.upload(client.context).tensors
        own = read_state(client.model, "local")
        assert set(sent) == {*own, "signature"} - set(in_scope(own, private))
        zeros = {key: torch.zeros_like(v) for key, v in sent.items() if key != "signature"}
        algorithm.receive(client.context, Message(zeros))
        for key, value in read_state(client.model, "global").items():
            assert torch.equal(value, zeros.get(key, own[key]))
        local = read_state(client.model, "local")
        assert all(torch.equal(value, own[key]) for key, value in local.items())


@pytest.mark.parametrize(
    ("name", "scope"), [("fedmosaic-private", "layer"), ("fedmosaic-partial", "block")]
)
def test_the_server_mixes_what_is_shared_as_fedmosaic_does(name: str, scope: Scope) -> None:
    algorithm, server = federation(name, ARCHITECTURES)
    plain, other = federation("fedmosaic", ARCHITECTURES)
    updates = updates_of(ARCHITECTURES)
    plain.aggregate(other, updates)
    less = {
        client: Message(
            {**in_scope(update.tensors, scope), "signature": update.tensors["signature"]}
        )
        for client, update in updates.items()
    }
    algorithm.aggregate(server, less)
    for member in server.members:
        sent = algorithm.download(server, member).tensors
        whole = in_scope(plain.download(other, member).tensors, scope)
        assert sent.keys() == whole.keys()
        assert all(torch.equal(value, whole[key]) for key, value in sent.items())


def test_interpolation_moves_p_alone_where_only_p_has_a_share(tiny: Path) -> None:
    options = "{interpolation: 0, interpolation_shared: 1}"
    client = stage(
        tiny, "fedmosaic-interpolation", f"algorithms.fedmosaic-interpolation={options}"
    )["a"]
    with client.turn():
        before = read_state(client.model, "local")
        download = {key: torch.full_like(value, 0.25) for key, value in before.items()}
        client.runtime.algorithm.receive(client.context, Message(download))
        for key, value in read_state(client.model, "local").items():
            assert torch.equal(
                value, (download if key in in_scope(before, "block") else before)[key]
            )


# --- controls and other designs -------------------------------------------------------------------
def test_without_communication_it_is_a_federation_of_one(tiny: Path, tmp_path: Path) -> None:
    one = "clients=[{name: a, model: miniature/llama-8x96, tasks: [miniature/stages-0]}]"
    names = ("fedmosaic", "fedmosaic-no-communication")
    federated, silent = (start(tiny, tmp_path / name, name, one) for name in names)
    left, right = state_of(federated, "a", 2), state_of(silent, "a", 2)
    assert all(torch.equal(value, left[key]) for key, value in right.items())
    assert any(
        value.any() for key, value in right.items() if key.startswith("adapter/global/block.")
    )
    assert any(key.endswith("/signature") for key in left)
    assert not any(key.endswith("/signature") for key in right)
    assert silent.summary["bytes"]["up"] < 1000 < federated.summary["bytes"]["up"]


def test_homogeneous_is_ordinary_lora_on_every_layer(tiny: Path, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run", "fedmosaic-lora", "alignment.method=gradients")
    a, d = state_of(run, "a", 1), state_of(run, "d", 2)
    received = {key: value for key, value in d.items() if key.startswith("adapter/global/")}
    layers = {key.split("/")[2].split(".")[1] for key in received}
    assert layers == {str(layer) for layer in range(8)}
    assert all("/layer." in key for key in received)
    # a and d share an architecture and receive each other's; b is alone and receives its own.
    assert all(
        torch.equal(value, a[key.replace("/global/", "/local/")]) for key, value in received.items()
    )
    before, b = state_of(run, "b", 1), state_of(run, "b", 2)
    own = {key: value for key, value in b.items() if key.startswith("adapter/global/")}
    assert own and all(
        torch.equal(value, before[key.replace("/global/", "/local/")]) for key, value in own.items()
    )


def test_without_a_gate_both_branches_add_and_only_the_local_one_trains(
    tiny: Path, tmp_path: Path
) -> None:
    run = start(tiny, tmp_path / "run", "fedmosaic-no-gate", rounds=3)
    two, three = state_of(run, "a", 2), state_of(run, "a", 3)
    assert not any("/gate." in key for key in three)
    assert any(
        not torch.equal(three[key], two[key]) for key in three if key.startswith("adapter/local/")
    )
    lines = [line for line in RunFolder(run.folder).lines() if line["kind"] == "round"]
    weights = lines[1]["relevance"]["weights"]
    key = "block.0.q_proj.P"
    expected = sum(
        w * state_of(run, c, 2)[f"adapter/local/{key}"]
        for w, c in zip(weights[0], "abcd", strict=True)
    )
    torch.testing.assert_close(three[f"adapter/global/{key}"], expected, rtol=1e-4, atol=1e-7)
    client = stage(tiny, "fedmosaic-no-gate")["a"]
    layer = client.model.base_model.model.model.language_model.layers[3].self_attn.q_proj
    assert layer.coefficients(["local", "global"]) == {"local": 1.0, "global": 1.0}
