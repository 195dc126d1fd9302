"""Test products with frozen weights in oneDNN's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmosaic.models import packed
from fedmosaic.models.packed import FrozenProduct, pays


@pytest.fixture
def suitable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack on every processor: oneDNN has a product for each."""
    if not (packed.HAS_OPS and torch.backends.mkldnn.is_available()):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(packed, "_suitable_processor", lambda: True)


@pytest.mark.parametrize("shape", [(7, 352), (2, 30, 352), (0, 352)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_packed_product_is_the_plain_one(
    suitable: None, shape: tuple[int, ...], with_bias: bool
) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(128, 352), torch.randn(shape)
    bias = torch.randn(128) if with_bias else None
    product = FrozenProduct(weight, bias)
    assert product.packed
    expected = torch.nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    found = product(x)
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, rtol=0, atol=3e-4)


def test_inputs_and_weights_may_be_transposed_views(suitable: None) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(352, 128).t(), torch.randn(352, 9).t()
    assert torch.allclose(FrozenProduct(weight)(x), x @ weight.t(), atol=3e-4)


def test_what_does_not_pay_stays_with_torch(
    suitable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(8, 4)
    assert pays(weight)
    assert not pays(weight.bfloat16()) and not pays(weight.double())
    monkeypatch.setattr(packed, "HAS_OPS", False)
    assert not pays(weight)
    x = torch.randn(3, 4)
    assert torch.equal(FrozenProduct(weight)(x), torch.nn.functional.linear(x, weight))


def test_reduced_precision_is_left_to_torch(suitable: None) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert not pays(torch.randn(8, 4))
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("text", "found"),
    [("vendor_id\t: AuthenticAMD\n", True), ("vendor_id\t: GenuineIntel\n", False), ("", False)],
)
def test_the_vendor_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, found: bool
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(text)
    monkeypatch.setattr(packed, "CPU_INFO", info)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert packed._suitable_processor.__wrapped__() is found
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert packed._suitable_processor.__wrapped__() is False
