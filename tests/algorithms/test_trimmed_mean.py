"""Test the trimmed mean against float64, and in the algorithms that average."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_federation import federation

from fedmosaic.algorithms import Message
from fedmosaic.algorithms.common.trimmed import trimmed_mean


@given(
    number=st.integers(1, 12),
    values=st.integers(0, 40),
    share=st.floats(0, 0.49),
    in_memory=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=100, deadline=None)
def test_it_is_that_of_float64(
    number: int, values: int, share: float, in_memory: int, seed: int
) -> None:
    rows = torch.randn(number, values, generator=torch.Generator().manual_seed(seed)) ** 5
    dropped = int(share * number)
    found = trimmed_mean(lambda part: rows[part], number, values, dropped, in_memory)
    ordered = np.sort(rows.numpy().astype(np.float64), axis=0)[dropped : number - dropped]
    assert found.dtype == torch.float32 and found.shape == (values,)
    np.testing.assert_array_equal(found.numpy(), ordered.mean(axis=0).astype(np.float32))


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox", "scaffold"])
def test_an_attacker_moves_the_mean_no_further_than_honest_clients_are_apart(
    algorithm: str,
) -> None:
    made, server = federation(algorithm, ["m"] * 5, defences={"trim": 0.2})
    values = {f"c{i}": float(i) for i in range(4)} | {"c4": -1e9}
    updates = {
        name: Message(
            {"layer.0.q.B": torch.full((2,), value), "control.layer.0.q.B": torch.zeros(2)}
        )
        for name, value in values.items()
    }
    if algorithm != "scaffold":
        updates = {name: Message(m.select("layer")) for name, m in updates.items()}
    made.aggregate(server, updates)
    mean = made.download(server, server.members[0]).tensors["layer.0.q.B"]
    assert mean.tolist() == [1.0, 1.0]  # of 0, 1 and 2: -1e9 and 3 are left out
    assert server.report["trimmed"] == {"m": 1}


def test_without_trim_the_mean_is_what_it_was() -> None:
    made, server = federation("fedavg", ["m"] * 3)
    updates = {f"c{i}": Message({"layer.0.q.B": torch.full((2,), float(i))}) for i in range(3)}
    made.aggregate(server, updates)
    weights = torch.tensor([10.0, 11.0, 12.0])
    weights = weights / weights.sum()
    expected = weights @ torch.stack([m.tensors["layer.0.q.B"] for m in updates.values()])
    found = made.download(server, server.members[0]).tensors["layer.0.q.B"]
    assert found.equal(expected) and "trimmed" not in server.report
