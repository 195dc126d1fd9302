"""Check that the tables and the heat map show the report of an alignment."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from rich.console import Console

from fedmosaic.alignment.correspondence.layers import compare_rules
from fedmosaic.alignment.identity import Identity
from fedmosaic.alignment.store import Alignment
from fedmosaic.reporting.alignment import print_alignments
from fedmosaic.reporting.heat_map import write_heat_map

MATRIX = torch.tensor(
    [[0.9, 0.2, 0.1], [0.3, 0.8, 0.2], [0.4, 0.35, 0.3], [0.1, 0.2, 0.7]], dtype=torch.float64
)


def site(block: int, module: str, value: float, **more: Any) -> dict[str, Any]:
    measures = {
        f"{name}_after": value
        for name in ("residual", "output_correlation", "gradient_correlation")
    }
    layers = {"layer": 2 * block + 1, "pivot_layer": block + 1}
    return {"block": block, "module": module, **layers, "residual_before": 1.5, **measures, **more}


CKA = {
    "matrix": MATRIX.tolist(),
    "tokens": 12345,
    "captured": 1.0,
    "blocks": compare_rules(MATRIX, 2),
}
SITES = [
    site(0, "o_proj", 0.25, gradient_correlation_before=0.0625),
    site(0, "down_proj", 0.75),
    site(1, "o_proj", 0.5, gradient_correlation_before=0.1875),
]
ALIGNMENT = Alignment(
    {},
    Identity("a/model", "b/pivot", "m", "p", "d", {}),
    (1, 3),
    report={"sites": SITES, "cka": CKA},
)


def printed(alignment: Alignment) -> list[str]:
    console = Console(file=io.StringIO())
    print_alignments([alignment], console)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_every_site_before_and_after() -> None:
    lines = printed(ALIGNMENT)
    assert "a/model → b/pivot" in lines
    assert "0 o_proj 1 ↔ 1 1.50 → 0.25 – → 0.25 0.06 → 0.25" in lines
    assert "0 down_proj 1 ↔ 1 1.50 → 0.75 – → 0.75 – → 0.75" in lines
    assert "1 o_proj 3 ↔ 2 1.50 → 0.50 – → 0.50 0.19 → 0.50" in lines
    assert "mean 1.50 → 0.50 – → 0.50 0.12 → 0.50" in lines


def test_what_the_rule_of_depth_loses() -> None:
    assert (
        CKA["blocks"][0]["best_layer"] == 0
    )  # layer 0 resembles the pivot's layer 0 most; by depth it would be layer 1
    lines = printed(ALIGNMENT)
    assert "0 1 ↔ 0 0.300 0 ↔ 0 0.900 +0.600" in lines
    assert "1 3 ↔ 2 0.700 3 ↔ 2 0.700 +0.000" in lines
    assert "CKA over 12,345 tokens of the public set" in lines
    reduced = replace(ALIGNMENT, report={"sites": SITES, "cka": {**CKA, "captured": 0.9312}})
    assert any(line.endswith("hold 93.1 % of the variance or more") for line in printed(reduced))


def test_a_report_without_cka_is_shown_too() -> None:
    lines = printed(replace(ALIGNMENT, report={"sites": SITES}))
    assert not any("CKA" in line for line in lines) and any(
        line.startswith("mean") for line in lines
    )


def picture(path: Path, alignment: Alignment) -> np.ndarray:
    write_heat_map(alignment, path)
    with PIL.Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def accents(pixels: np.ndarray) -> np.ndarray:
    """Return the rows with the colour of the best matching inside the axes, above the legend."""
    rows, _ = np.nonzero((pixels == (255, 90, 54)).all(-1))
    return rows[rows < 0.9 * len(pixels)]


def test_the_heat_map_marks_both_choices(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", ALIGNMENT)
    assert min(pixels.shape[:2]) > 400
    moved = [{**block, "best_layer": 3 - block["best_layer"]} for block in CKA["blocks"]]
    other = picture(
        tmp_path / "b.png", replace(ALIGNMENT, report={"cka": {**CKA, "blocks": moved[:1]}})
    )
    assert accents(pixels).min() == accents(other).min()  # layer 3 is in both, the uppermost row
    assert accents(other).max() < accents(pixels).max()  # layer 0 only in the first
    hotter = {**CKA, "matrix": (1 - MATRIX).tolist()}
    assert not np.array_equal(
        pixels, picture(tmp_path / "c.png", replace(ALIGNMENT, report={"cka": hotter}))
    )
