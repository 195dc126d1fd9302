"""Test exported LoRAs of several model families in a process that cannot import fedmosaic."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters import CoLoraConfig, build_pair, export_to_folder
from fedmosaic.models.kinds import takes_images
from fedmosaic.models.structure import find_structure
from tests.families import build

FAMILIES = ("gemma", "phi3", "gpt2", "smolvlm", "qwen2_vl")
"""Tied embeddings, fused projections, Conv1D layers, and two with images."""

LOADING = """
    import sys, json, torch
    sys.modules["fedmosaic"] = None  # an import of it fails
    import peft, transformers

    for family, kind in json.loads(sys.argv[1]).items():
        saved = torch.load(f"{family}.pt", weights_only=True)
        for layout in ("peft", "vllm"):
            model = getattr(transformers, kind).from_pretrained(family, dtype="float32")
            model = peft.PeftModel.from_pretrained(model, f"{family}-{layout}").eval()
            with torch.no_grad():
                error = float((model(input_ids=saved["ids"]).logits - saved[layout]).abs().max())
            assert error < 1e-5, (family, layout, error)
            print(family, layout, error)
"""


def adapted(model: nn.Module, filled, q: bool) -> PeftModel:
    """Put a filled pair on all linear layers of the decoder."""
    structure = find_structure(model)
    linear = [p for p, m in structure.layers.named_modules() if isinstance(m, nn.Linear | Conv1D)]
    leaves = "|".join({path.rpartition(".")[2] for path in linear})
    pattern = rf"{re.escape(structure.layers_path)}\.\d+\..*\.({leaves})"
    config = CoLoraConfig(r=4, lora_alpha=8.0, num_blocks=1, target_modules=pattern, q=q)
    return filled(build_pair(model, config))


@pytest.fixture
def exported(filled, tmp_path: Path) -> dict[str, str]:
    """Write bases, exports of both layouts and their logits; return the class that loads each."""
    kinds = {}
    ids = torch.randint(5, 40, (2, 12), generator=torch.Generator().manual_seed(1))
    for family in FAMILIES:
        folder = build(family, tmp_path / family)
        seeing = takes_images(AutoConfig.from_pretrained(folder))
        kind = AutoModelForImageTextToText if seeing else AutoModelForCausalLM
        kinds[family] = kind.__name__
        saved: dict[str, object] = {"ids": ids}
        for layout, q in (("peft", True), ("vllm", False)):
            base = kind.from_pretrained(folder, dtype="float32").eval()
            before = base(input_ids=ids).logits
            model = adapted(base, filled, q)
            logits = model.eval()(input_ids=ids).logits.detach()
            assert not torch.allclose(before, logits, atol=1e-2)
            saved[layout] = logits
            export_to_folder(model, tmp_path / f"{family}-{layout}", layout=layout)
        torch.save(saved, tmp_path / f"{family}.pt")
    return kinds


def test_logits_in_plain_peft(exported: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(LOADING)]
    done = subprocess.run(
        [*command, json.dumps(exported)], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert len(done.stdout.strip().splitlines()) == 2 * len(FAMILIES)
