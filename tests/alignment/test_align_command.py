"""``fedmosaic align``: models and data reach the solver, what it finds is written and shown. The solver itself is replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmosaic import alignment
from fedmosaic.alignment.correspondence.depth import compare_rules
from fedmosaic.alignment.store import Alignment, Identity, load_alignment
from fedmosaic.cli import main
from fedmosaic.config import Settings
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.reporting.alignment import print_alignments

LLAMA, QWEN = "miniature/llama-8x96", "miniature/qwen2-10x112"


class SomeSettings(Settings):
    method: str = "best"
    refine: dict[str, int] | None = None
    layers: str = "depth"
    modules: tuple[str, ...] = ()
    blocks: int = 4
    rank: int = 4
    seed: int = 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    def align(
        models: Sequence[Backbone],
        pivot: Backbone,
        examples: Sequence[Example],
        settings: SomeSettings,
        progress: Callable[[str, int, int], None],
    ) -> list[Alignment]:
        made.append(([model.name for model in models], pivot.name, examples, settings))
        progress("fitting", 1, 2)
        matrix = torch.eye(4, dtype=torch.float64)
        cka = {
            "matrix": matrix.tolist(),
            "tokens": 9,
            "captured": 1.0,
            "blocks": compare_rules(matrix, 2),
        }
        tensors = {"block.0.o_proj.A": torch.eye(2), "block.0.o_proj.B": torch.eye(2)}
        identities = [
            Identity.of(model, pivot, examples, settings.model_dump()) for model in models
        ]
        return [Alignment(tensors, identity, {"cka": cka, "sites": []}) for identity in identities]

    monkeypatch.setattr(alignment, "align", align, raising=False)
    monkeypatch.setattr(alignment, "AlignmentSettings", SomeSettings, raising=False)
    return made


def test_files_and_tables(
    calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--size", "5", "--seed", "3", "--method", "quick", "--refine", "--set", "rank=8"]
    assert (
        main(["align", LLAMA, QWEN, "--pivot", QWEN, "--out", str(tmp_path / "out"), *options]) == 0
    )
    ((models, pivot, examples, settings),) = calls
    assert (models, pivot, len(examples)) == ([LLAMA, QWEN], QWEN, 5)
    assert settings == SomeSettings(
        method="quick", refine={}, layers="even", modules=("o_proj",), blocks=8, rank=8, seed=3
    )
    assert examples[0].id.startswith("public/3/")
    written = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert written == [".png", ".png", ".safetensors", ".safetensors"]
    stored = [load_alignment(path) for path in (tmp_path / "out").glob("*.safetensors")]
    assert {one.identity.model for one in stored} == {LLAMA, QWEN}
    shown = capsys.readouterr().out
    assert (
        f"{LLAMA} → {QWEN}" in shown and "lost by depth" in shown and "wrote 2 alignments" in shown
    )


@pytest.mark.parametrize(
    ("public", "begins"), [("synthetic", "synthetic/0/"), ("synthetic/text", "synthetic/text/0/")]
)
def test_public_data_from_nothing(
    calls: list[Any], tmp_path: Path, public: str, begins: str
) -> None:
    assert (
        main(
            [
                "align",
                LLAMA,
                "-p",
                QWEN,
                "--public",
                public,
                "-n",
                "3",
                "--out",
                str(tmp_path),
                "-q",
            ]
        )
        == 0
    )
    assert calls[0][2][0].id.startswith(begins)


def test_synthetic_is_text_where_a_model_takes_no_pictures(
    calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Backbone.load

    def load(name: str, options: Any = None) -> Backbone:
        backbone = real(name, options)
        if name == LLAMA:
            backbone.tower = None
        return backbone

    monkeypatch.setattr(Backbone, "load", load)
    assert (
        main(
            [
                "align",
                LLAMA,
                "-p",
                QWEN,
                "--public",
                "synthetic",
                "-n",
                "3",
                "--out",
                str(tmp_path),
                "-q",
            ]
        )
        == 0
    )
    assert calls[0][2][0].id.startswith("synthetic/text/")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["miniature/llama-8x69"], "Did you mean 'miniature/llama-8x96'"),
        ([LLAMA, "--set", "rnk=3"], "Did you mean 'rank'"),
        ([LLAMA, "--set", "rank"], "key=value"),
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
    assert main(["align", *arguments, "--pivot", QWEN, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and not calls


def test_a_refinement_is_told_by_whose_p_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    identity = Identity(LLAMA, QWEN, "1", "2", "3", {"refine": {}})
    found = {"own": [0.5, 0.61], "from": {QWEN: [0.34, 0.52]}, "condition": 8.97}
    print_alignments([Alignment({}, identity, {"sites": [], "refinement": found})])
    shown = capsys.readouterr().out
    assert "34.0 % → 52.0 %" in shown and "50.0 % → 61.0 %" in shown and "9.0 or less" in shown
