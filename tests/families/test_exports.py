"""Test exported LoRAs of every family in a process that cannot import fedmosaic.

The default suite takes a sample; ``make test-families`` takes every family.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from fedmosaic.adapters import adapter_parameters, export_to_folder
from fedmosaic.adapters.targets import targets
from fedmosaic.algorithms.common.colora import build_colora
from fedmosaic.config import AdapterSettings
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.kinds import takes_images
from fedmosaic.models.options import ModelOptions
from tests.families import LANGUAGE, VISION
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES
from tests.families.plain import pixels
from tests.families.sample import sample

REFUSED = {"mllama", "idefics2"}
NAMES = sample(
    [name for name in (*VISION, *LANGUAGE) if name not in REFUSED],
    *("smolvlm", "qwen2_vl", "gemma3", "gemma", "phi3", "gpt2", "deepseek_v3", "jamba"),
)
LAYOUTS = {"peft": True, "vllm": False}  # with Q's bias and without
# Recurrent layers amplify rounding, and Gemma 4 has logits of up to 30: these run in float64.
DOUBLE = {"jamba", "granitemoehybrid", "gemma4", "gemma4_text"}
# Linear attention computes in float32 whatever the dtype: weights that differ by one rounding give
# logits that differ by as much.
LOOSE = {"qwen3_5": 1e-4, "qwen3_next": 1e-3}

LOADING = """
    import sys, json, torch
    sys.modules["fedmosaic"] = None  # an import of it fails
    import peft, transformers

    for name, kind, dtype, folder in json.loads(sys.argv[1]):
        saved = torch.load(f"{name}.pt", weights_only=True)
        for layout in ("peft", "vllm"):
            model = getattr(transformers, kind).from_pretrained(folder, dtype=dtype)
            model.set_experts_implementation("eager")
            model = peft.PeftModel.from_pretrained(model, f"{name}-{layout}").eval()
            adapted = sum(path.endswith(".lora_A") for path, _ in model.named_modules())
            with torch.no_grad():
                logits = model(**saved["inputs"], use_cache=False).logits
            error = float((logits - saved[layout]).abs().max())
            print(json.dumps([name, layout, adapted, error]))
"""


def adapted(base: Backbone, q: bool) -> Any:
    """Return the model as a client trains it, with adapters of random weights."""
    settings = AdapterSettings(r=4, alpha=8, num_blocks=1, q=q)
    model = build_colora(base, [], None, {}, settings, 0)
    draw = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name in ("local", "global"):
            for parameter in adapter_parameters(model, name).values():
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


@pytest.fixture(scope="module")
def loaded(
    folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[int, float]]:
    """Export each family and load it in another process.

    Returns:
        by family and layout: number of adapted modules there, and the largest error of a logit.
    """
    root, known = tmp_path_factory.mktemp("exports"), []
    for name in NAMES:
        folder, dtype = folder_of(name), "float64" if name in DOUBLE else "float32"
        base = Backbone.load(str(folder), ModelOptions(dtype=dtype))
        base.model.set_experts_implementation("eager")  # the other ones take no float64
        example = EXAMPLES["one image" if name in VISION else "two turns"]
        batch = base.collate([base.encode(example)])
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        inputs |= {
            key: _cast(value, base.dtype)
            for key, value in pixels(base, example, batch.inputs).items()
        }
        saved: dict[str, Any] = {"inputs": inputs}
        with torch.no_grad():
            before = base.model(**batch.inputs, use_cache=False).logits
            for layout, q in LAYOUTS.items():
                model = adapted(base, q)
                saved[layout] = model(**batch.inputs, use_cache=False).logits
                assert not torch.allclose(before, saved[layout], atol=1e-2)
                export_to_folder(model, root / f"{name}-{layout}", layout=layout)
        torch.save(saved, root / f"{name}.pt")
        seeing = takes_images(AutoConfig.from_pretrained(folder))
        kind = "AutoModelForImageTextToText" if seeing else "AutoModelForCausalLM"
        known.append((name, kind, dtype, str(folder)))
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(LOADING), json.dumps(known)]
    done = subprocess.run(command, check=True, cwd=root, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {(name, layout): (modules, error) for name, layout, modules, error in lines}


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if value.is_floating_point() else value


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_logits_in_plain_peft(
    load: Load, loaded: dict[tuple[str, str], tuple[int, float]], name: str, layout: str
) -> None:
    modules, error = loaded[name, layout]
    assert modules == sum(len(layer) for layer in targets(load(name)))
    assert error < LOOSE.get(name, 1e-5)
