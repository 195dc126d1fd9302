"""Check that the wire format is lossless and refuses everything else with the reason."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from fedmosaic import packing
from fedmosaic.algorithms.message import Message
from fedmosaic.errors import UpdateError
from fedmosaic.federation.wire import check, pack, schema_of, unpack

MESSAGE = Message(
    {"block.0.q_proj.P": torch.arange(4.0).view(2, 2), "x": torch.ones(3)},
    {"loss": 0.5, "name": "ä", "n": 3},
)


def test_roundtrip_is_exact() -> None:
    back = unpack(pack(MESSAGE))
    assert back.scalars == MESSAGE.scalars
    assert set(back.tensors) == set(MESSAGE.tensors)
    assert all(torch.equal(back.tensors[name], value) for name, value in MESSAGE.tensors.items())
    assert unpack(pack(Message())).tensors == {}
    assert len({pack(MESSAGE) for _ in range(20)}) == 1


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64]
)
def test_types_survive(dtype: torch.dtype) -> None:
    assert unpack(pack(Message({"x": torch.ones(2, dtype=dtype)}))).tensors["x"].dtype == dtype


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    kinds = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8]
    kinds += [torch.int16, torch.int32, torch.int64, torch.bool]
    draw = {f"{i}ä": (9 * torch.randn(i, 3)).to(kind) for i, kind in enumerate(kinds)}
    tensors = {**draw, "turned": torch.randn(3, 5).T, "one": torch.ones(()), "none": torch.ones(0)}
    whole = packing.pack(tensors, MESSAGE.scalars)
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    assert save(load(whole), metadata=header["__metadata__"]) == whole
    packing.write(tmp_path / "file", tensors, MESSAGE.scalars)
    assert (tmp_path / "file").read_bytes() == whole
    for share in (False, True):
        back, _ = packing.unpack(packing.pack(tensors, {}), share=share)
        assert all(torch.equal(back[name], value) for name, value in tensors.items())
        assert not back["turned"].is_set_to(back["one"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape":[7]', b'"shape":[6]'),
        (b'"shape":[7]', b'"shape":[-7]'),
        (b'"dtype":"F32"', b'"dtype":"F64"'),
        (b'"data_offsets":[0,28]', b'"data_offsets":[4,28]'),
        (b'"data_offsets":[0,28]', b'"data_offsets":[0,29]'),
        (b'{"__metadata__"', b'["__metadata__"'),
    ],
)
def test_a_header_that_lies_is_refused(old: bytes, new: bytes) -> None:
    whole = pack(MESSAGE)
    assert whole.count(old) == 1
    with pytest.raises(UpdateError, match="damaged"):
        unpack(whole.replace(old, new.ljust(len(old))))


@given(st.binary(max_size=64))
def test_noise_is_refused(payload: bytes) -> None:
    with pytest.raises(UpdateError):
        unpack(payload)


def test_pickles_and_truncations_are_refused() -> None:
    whole = pack(MESSAGE)
    for payload in (pickle.dumps({"x": 1}), whole[:-1], whole[: len(whole) // 2], b""):
        with pytest.raises(UpdateError):
            unpack(payload)
    with pytest.raises(UpdateError, match="at most 10"):
        unpack(whole, limit=10)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"x": torch.ones(3)}, "lacks 'block.0.q_proj.P'"),
        ({**MESSAGE.tensors, "y": torch.ones(1)}, "unexpected tensor 'y'"),
        ({**MESSAGE.tensors, "x": torch.ones(4)}, r"'x' has shape \[4\], expected \[3\]"),
        ({**MESSAGE.tensors, "x": torch.ones(3, dtype=torch.int64)}, "expected floating point"),
        ({**MESSAGE.tensors, "x": torch.tensor([1.0, float("nan"), 1.0])}, "'x' holds NaN or Inf"),
        ({**MESSAGE.tensors, "x": torch.tensor([1.0, float("inf"), 1.0])}, "'x' holds NaN or Inf"),
    ],
)
def test_bad_updates_are_refused(tensors: dict[str, torch.Tensor], reason: str) -> None:
    check(MESSAGE, schema_of(MESSAGE))
    with pytest.raises(UpdateError, match=reason):
        check(Message(tensors), schema_of(MESSAGE))


def test_whole_numbers_travel_where_they_are_declared() -> None:
    message = Message(
        {"tokens": torch.tensor([[3, 7]], dtype=torch.int32), "weights": torch.ones(2)}
    )
    schema = schema_of(unpack(pack(message)))
    assert {name: expected.kind for name, expected in schema.items()} == {
        "tokens": "integer",
        "weights": "float",
    }
    check(message, schema)
    check(Message({**message.tensors, "tokens": message.tensors["tokens"].long()}), schema)
    for tensors, reason in (
        ({"tokens": torch.ones(1, 2)}, "'tokens' is torch.float32, expected an integer"),
        (
            {"weights": torch.ones(2, dtype=torch.int64)},
            "'weights' is torch.int64, expected floating point",
        ),
        (
            {"tokens": torch.ones(1, 2, dtype=torch.bool)},
            "'tokens' is torch.bool; only integers",
        ),
    ):
        with pytest.raises(UpdateError, match=reason):
            check(Message({**message.tensors, **tensors}), schema)
    with pytest.raises(UpdateError, match="only integers and floating-point"):
        schema_of(Message({"mask": torch.ones(1, dtype=torch.bool)}))
