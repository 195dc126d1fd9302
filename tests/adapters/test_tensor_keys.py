"""Tensor keys read and write the names that adapters and messages use."""

from __future__ import annotations

import pytest

from fedmosaic.adapters.keys import TensorKey, in_scope


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("block.0.q_proj.P", TensorKey("block", 0, "q_proj", "P")),
        ("layer.12.down_proj.A", TensorKey("layer", 12, "down_proj", "A")),
        ("gate.3.o_proj", TensorKey("gate", 3, "o_proj")),
    ],
)
def test_a_key_is_read_and_written(text: str, key: TensorKey) -> None:
    assert TensorKey.parse(text) == key and str(key) == text


@pytest.mark.parametrize(
    "text", ["signature", "", "layer.0.q_proj", "gate.3.o_proj.A", "layer.x.q_proj.A", "head.0.a.B"]
)
def test_other_names_are_no_keys(text: str) -> None:
    with pytest.raises(ValueError, match="no tensor key"):
        TensorKey.parse(text)


def test_a_scope_is_selected_in_order() -> None:
    tensors = {"layer.1.o_proj.A": 1, "signature": 2, "block.0.o_proj.P": 3, "gate.1.o_proj": 4}
    assert in_scope(tensors, "block") == {"block.0.o_proj.P": 3}
    assert list(in_scope(tensors, "block", "layer")) == ["layer.1.o_proj.A", "block.0.o_proj.P"]
