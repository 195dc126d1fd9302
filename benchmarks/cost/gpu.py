"""Compare training and evaluation of FedMosaic's adapters with PEFT's LoRA on a card.

  python -m benchmarks.cost.gpu                        on CUDA; less than ten minutes
  python -m benchmarks.cost.gpu --device cpu --tiny    tiny models on the CPU; writes no result

Models: random weights in the shapes of Llama-3.2-1B and 3B and of Qwen2-VL-2B, bfloat16; adapters
of rank 64 on all seven projections, in float32.

  fedmosaic   local and global adapter, Co-LoRA on 4 block ends, LoRA on the other layers
  colora      the same with Co-LoRA on every layer
  lora        one LoRA by this package

A training step takes 4 x 512 tokens (Qwen2-VL: 4 images of 224 x 224 pixels with 256 tokens each):
forward pass, backward pass, clipping, fused AdamW. An evaluation is a forward pass on the same
batch, with logits of the last column. On Qwen2-VL, features of images come from fedmosaic's cache;
PEFT's LoRA gets pixels. Steps alternate (PEFT, ours, ours, PEFT, …), and the result is the median
of the ratios of neighbours with its quartiles. Memory is the peak of a step above what is held
between steps, in MiB.

On CUDA, a training of a miniature model with images must also pass without the program waiting for
the card in any step (``torch.cuda.set_sync_debug_mode("error")``). Writes results/gpu_CARD.json.
The exit status is 1 if a step waits.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers
from torch import nn

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.common.tables import table_head, table_row
from benchmarks.cost.gpu_models import KINDS, SHAPES, TINY, Adapted, Shape
from benchmarks.cost.step_time import quartiles
from benchmarks.cost.waiting import what_waits

RANK, EXAMPLES, TOKENS, TOKENS_WITH_IMAGE = 64, 4, 512, 256
FEWEST_PAIRS = 3

Timed = Callable[[], None]


def training(adapted: Adapted, kind: str, tokens: int) -> Timed:
    """Return a training step with an adapter."""
    model, give = adapted.with_adapter(kind), adapted.inputs(EXAMPLES, tokens)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step() -> None:
        inputs = give(kind != "peft")
        labels = inputs["input_ids"]
        model(**inputs, labels=labels, use_cache=False).loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def evaluation(adapted: Adapted, kind: str, tokens: int) -> Timed:
    """Return an evaluation of a batch with an adapter."""
    model, give = adapted.with_adapter(kind).eval(), adapted.inputs(EXAMPLES, tokens)

    @torch.no_grad()
    def step() -> None:
        model(**give(kind != "peft"), logits_to_keep=1, use_cache=False)

    return step


def seconds(step: Timed, device: torch.device) -> float:
    """Return the time of a step, with all its work on the device."""
    settle(device)
    started = time.perf_counter()
    step()
    settle(device)
    return time.perf_counter() - started


def settle(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(theirs: Timed, ours: Timed, device: torch.device, budget: float) -> dict[str, Any]:
    """Alternate steps for a while and return the ratios of neighbours, ours to theirs."""
    for _ in range(2):
        theirs()
        ours()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + budget
    while len(times[0]) < FEWEST_PAIRS or time.perf_counter() < end:
        order = ((0, theirs), (1, ours))
        for which, step in order if len(times[0]) % 2 else order[::-1]:
            times[which].append(seconds(step, device))
    ratios = [b / a for a, b in zip(*times, strict=True)]
    return {
        "ratio": quartiles(ratios),
        "seconds": {"peft": quartiles(times[0]), "ours": quartiles(times[1])},
        "pairs": len(ratios),
    }


def peak(step: Timed, device: torch.device) -> float | None:
    """Return by how much a step raises the memory in use, in MiB; None where nothing tells."""
    if device.type != "cuda":
        return None
    step()
    settle(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    settle(device)
    return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 1)


def measure(shape: Shape, device: torch.device, budget: float, tokens: int) -> list[dict[str, Any]]:
    """Return one row for each adapter on a model.

    Args:
        shape: the model.
        device: where it runs.
        budget: seconds of each row.
        tokens: tokens of an example beside its image's.
    """
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    adapted = Adapted(shape, device, dtype, RANK)
    rows = []
    for kind in KINDS:
        row: dict[str, Any] = {"model": shape.name, "adapter": kind}
        for name, make in (("training", training), ("evaluation", evaluation)):
            theirs, ours = make(adapted, "peft", tokens), make(adapted, kind, tokens)
            row[name] = compare(theirs, ours, device, budget / 2)
            row[name]["peak_mib"] = {"peft": peak(theirs, device), "ours": peak(ours, device)}
        rows.append(row)
        print(table_row([shape.name, kind, *(_cell(row[part]) for part in PARTS)]), flush=True)
    return rows


PARTS = ("training", "evaluation")


def _cell(found: dict[str, Any]) -> str:
    ratio = found["ratio"]
    return f"{ratio['median']:.2f} ({ratio['quartile_1']:.2f} to {ratio['quartile_3']:.2f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the result; return 1 if a step waits for the card."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--tiny", action="store_true", help="tiny models; writes no result")
    parser.add_argument(
        "--budget", type=float, default=420, help="seconds of timed steps (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("no usable CUDA device: --device cpu --tiny tries the program on the CPU")
    if options.device == "cpu" and not options.tiny:
        parser.error("the models are too large for a CPU: add --tiny")
    device = torch.device(options.device)
    waits = what_waits(device) if device.type == "cuda" else None
    shapes = TINY if options.tiny else SHAPES
    print("\n".join(table_head("model", ["adapter", *PARTS])))
    rows = []
    for shape in shapes:
        tokens = 16 if options.tiny else TOKENS_WITH_IMAGE if shape.vision else TOKENS
        share = options.budget / len(shapes) / len(KINDS)
        rows += measure(shape, device, share, tokens)
    if device.type == "cuda" and not options.tiny:
        card = torch.cuda.get_device_name(device)
        content = {
            "command": f"python -m benchmarks.cost.gpu --budget {options.budget:g}",
            "card": card,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "peft": peft.__version__,
            },
            "waits": waits,
            "rows": rows,
        }
        write_result(f"gpu_{re.sub('[^a-z0-9]+', '-', card.lower())}", content, indent=2)
    if device.type == "cuda":
        print(f"a training step waits for the card: {waits}" if waits else "no step waits")
    return 1 if waits else 0


if __name__ == "__main__":
    raise SystemExit(main())
