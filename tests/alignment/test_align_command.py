"""Check ``fedmosaic align``: arguments reach the solver, its result is written and shown.

The solver itself is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmosaic import alignment
from fedmosaic.alignment import REFINED, AlignmentSettings, Placement
from fedmosaic.alignment.correspondence.layers import compare_rules
from fedmosaic.alignment.identity import Identity, identity_settings
from fedmosaic.alignment.standalone import StandaloneSettings
from fedmosaic.alignment.store import Alignment, load_alignment
from fedmosaic.cli import main
from fedmosaic.config import RefineSettings
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.reporting.alignment import print_alignments

LLAMA, QWEN = "miniature/llama-8x96", "miniature/qwen2-10x112"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    def align(
        models: Sequence[Backbone],
        pivot: Backbone,
        examples: Sequence[Example],
        settings: AlignmentSettings,
        placement: Placement,
        progress: Callable[[str, int, int], None],
    ) -> list[Alignment]:
        made.append(([model.name for model in models], pivot.name, examples, settings, placement))
        progress("fitting", 1, 2)
        matrix = torch.eye(4, dtype=torch.float64)
        cka = {
            "matrix": matrix.tolist(),
            "tokens": 9,
            "captured": 1.0,
            "blocks": compare_rules(matrix, 2),
        }
        tensors = {"block.0.o_proj.A": torch.eye(2), "block.0.o_proj.B": torch.eye(2)}
        counted = identity_settings(settings, placement)
        return [
            Alignment(
                tensors,
                Identity.of(model, pivot, examples, counted),
                (3,),
                report={"cka": cka, "sites": []},
            )
            for model in models
        ]

    monkeypatch.setattr(alignment, "align", align)
    return made


def run(*arguments: str) -> int:
    return main(["align", *arguments])


def test_files_and_tables(
    calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = [
        "--size",
        "5",
        "--seed",
        "3",
        "--method",
        "outputs",
        "--refine",
        "--set",
        "r=8",
        "--set",
        "probes=2",
    ]
    assert run(LLAMA, QWEN, "--pivot", QWEN, "--out", str(out), *options) == 0
    ((models, pivot, examples, settings, placement),) = calls
    assert (models, pivot, len(examples)) == ([LLAMA, QWEN], QWEN, 5)
    expected = AlignmentSettings(method="outputs", refine=RefineSettings(), seed=3, probes=2)
    assert settings == expected
    assert placement == Placement(r=8, num_blocks=8, modules=("o_proj",), block_rule="even")
    assert examples[0].id.startswith("public/3/")
    written = sorted(path.suffix for path in out.iterdir())
    assert written == [".png", ".png", ".safetensors", ".safetensors"]
    stored = [load_alignment(path) for path in out.glob("*.safetensors")]
    assert {one.identity.model for one in stored} == {LLAMA, QWEN}
    shown = capsys.readouterr().out
    assert f"{LLAMA} → {QWEN}" in shown and "CKA lost by depth" in shown
    assert "wrote 2 alignments" in shown


def test_settings_and_placement_in_one() -> None:
    plain, refined = StandaloneSettings(), StandaloneSettings.model_validate(REFINED)
    assert plain.alignment == AlignmentSettings()
    assert (plain.placement.r, plain.placement.num_blocks, len(plain.placement.modules)) == (
        16,
        4,
        7,
    )
    assert refined.alignment == AlignmentSettings(refine=RefineSettings())
    assert refined.placement == Placement(64, 8, ("o_proj",), "even")


@pytest.mark.parametrize(
    ("public", "prefix"), [("synthetic", "synthetic/0/"), ("synthetic/text", "synthetic/text/0/")]
)
def test_synthetic_public_data(calls: list[Any], tmp_path: Path, public: str, prefix: str) -> None:
    assert run(LLAMA, "-p", QWEN, "--public", public, "-n", "3", "--out", str(tmp_path), "-q") == 0
    assert calls[0][2][0].id.startswith(prefix)


def test_synthetic_is_text_where_a_model_takes_no_images(
    calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Backbone.load

    def load(name: str, options: Any = None) -> Backbone:
        backbone = real(name, options)
        if name == LLAMA:
            backbone.images = None
        return backbone

    monkeypatch.setattr(Backbone, "load", load)
    options = ["--public", "synthetic", "-n", "3", "--out", str(tmp_path), "-q"]
    assert run(LLAMA, "-p", QWEN, *options) == 0
    assert calls[0][2][0].id.startswith("synthetic/text/")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["miniature/llama-8x69"], "Did you mean 'miniature/llama-8x96'"),
        ([LLAMA, "--set", "num_block=3"], "Did you mean 'num_blocks'"),
        ([LLAMA, "--set", "r=0"], "r"),
        ([LLAMA, "--set", "r"], "key=value"),
        ([LLAMA, "--public", "missing.json"], "missing.json does not exist"),
        ([LLAMA, "--size", "0"], "at least one"),
    ],
)
def test_mistakes_are_one_line(
    calls: list[Any],
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*arguments, "--pivot", QWEN, "--out", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and not calls


def test_a_refinement_is_shown_by_the_source_of_p(capsys: pytest.CaptureFixture[str]) -> None:
    identity = Identity(LLAMA, QWEN, "1", "2", "3", {"refine": {}})
    found = {"own": [0.5, 0.61], "from": {QWEN: [0.34, 0.52]}, "condition": 8.97}
    report = {"sites": [], "refinement": found}
    print_alignments([Alignment({}, identity, (), scaled=True, report=report)])
    shown = capsys.readouterr().out
    assert "34.0 % → 52.0 %" in shown and "50.0 % → 61.0 %" in shown and "9.0 or less" in shown
