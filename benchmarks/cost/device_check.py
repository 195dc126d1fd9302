"""Check that models on a GPU give the losses and gradients of the CPU in float32.

  python -m benchmarks.cost.device_check               on CUDA; less than ten minutes
  python -m benchmarks.cost.device_check --dry-run     the same on the CPU; writes no result

Families: Llama, Qwen2-VL and Gemma 3 with images, 512 wide, 8 layers, random weights, FedMosaic's
local and global adapter. Image features come from fedmosaic's cache. Each run computes the loss of
a batch and the gradient of its adapters.

  float32         on the device
  bfloat16        weights and activations
  float16         weights and activations
  4bit            bfloat16, language model in 4 bits
  checkpointing   float32 with recomputed activations
  eager           float32 with eager attention, and nothing compiled

The reference is the model on the CPU in float32. For 4bit it holds the unpacked weights, so that
the difference is that of rounding, not of quantisation. Writes results/device_check.json; the exit
status is 1 if a difference exceeds its tolerance.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.common.tables import table_head, table_row
from benchmarks.cost.check_families import FAMILIES, CheckedFamily
from fedmosaic.adapters import CoLoraConfig, adapter_parameters, build_pair
from fedmosaic.models.checkpointing import recompute_activations
from fedmosaic.models.options import ModelOptions
from fedmosaic.models.quantised import quantisation, settle

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Run:
    """Describe how a model is run, and how far it may be from the reference.

    Attributes:
        name: name of the row.
        dtype: of weights and activations.
        loss: largest difference of the loss.
        gradient: largest relative difference of the adapters' gradient.
        quantise: ``none`` or ``4bit``.
        recompute: recompute activations in the backward pass.
        eager: eager attention, and nothing compiled.
    """

    name: str
    dtype: torch.dtype
    loss: float
    gradient: float
    quantise: str = "none"
    recompute: bool = False
    eager: bool = False


RUNS = (
    Run("float32", torch.float32, 1e-4, 1e-3),
    Run("bfloat16", torch.bfloat16, 0.02, 0.1),
    Run("float16", torch.float16, 0.005, 0.02),
    Run("4bit", torch.bfloat16, 0.02, 0.1, quantise="4bit"),
    Run("checkpointing", torch.float32, 1e-4, 1e-3, recompute=True),
    Run("eager", torch.float32, 1e-4, 1e-3, eager=True),
)


def load(family: CheckedFamily, folder: str, run: Run, device: torch.device) -> Any:
    """Load the frozen base model of a folder as a run wants it."""
    config = transformers.AutoConfig.from_pretrained(folder)
    options = ModelOptions(quantise=run.quantise)
    model = family.loader.from_pretrained(
        folder,
        dtype=run.dtype,
        device_map={"": device},
        attn_implementation="eager" if run.eager else "sdpa",
        **quantisation(family.name, options, config, family.loader, run.dtype),
    )
    settle(model)
    return model.eval().requires_grad_(False)


def adapt(base: Any) -> Any:
    """Put FedMosaic's adapters with the same weights on any copy of a base model."""
    model: Any = build_pair(base, CoLoraConfig(r=16, num_blocks=4))
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in sorted(trained(model).items()):
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.copy_(0.02 * noise)
    return model.train()


def trained(model: Any) -> dict[str, Tensor]:
    """Return the trained parameters of both adapters."""
    return {
        f"{name}/{key}": parameter
        for name in ("local", "global")
        for key, parameter in adapter_parameters(model, name).items()
        if parameter.requires_grad
    }


def measure(family: CheckedFamily, base: Any, run: Run) -> tuple[float, Tensor]:
    """Return the loss of the family's batch and the gradient of the adapters, flat in float32."""
    device = base.get_input_embeddings().weight.device
    inputs, labels = family.batch(base, device)
    model = adapt(base)
    if run.recompute:
        recompute_activations(family.name, model.get_base_model())
    torch.compiler.set_stance("force_eager" if run.eager else "default")
    logits = model(**inputs, use_cache=False).logits
    loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
    loss.backward()
    gradients = [parameter.grad for _, parameter in sorted(trained(model).items())]
    flat = [g.detach().float().cpu().flatten() for g in gradients if g is not None]
    return float(loss.detach()), torch.cat(flat)


def unpack(packed: Any, plain: Any) -> Any:
    """Copy the weights of a four-bit model, unpacked, into the same model in float32."""
    from bitsandbytes.functional import dequantize_4bit

    for one, other in zip(packed.modules(), plain.modules(), strict=True):
        if type(one).__name__ == "Linear4bit":
            other.weight.copy_(dequantize_4bit(one.weight.data, one.weight.quant_state).cpu())
    return plain


def check_family(family: CheckedFamily, device: torch.device) -> list[dict[str, Any]]:
    """Return one row for each run of a family."""
    reference = Run("reference", torch.float32, 0, 0)
    rows = []
    with TemporaryDirectory() as folder:
        torch.manual_seed(0)
        family.build().save_pretrained(folder)
        plain = measure(family, load(family, folder, reference, CPU), reference)
        for run in RUNS:
            started = time.perf_counter()
            base = load(family, folder, run, device)
            expected = plain
            if run.quantise != "none":
                other = unpack(base, load(family, folder, reference, CPU))
                expected = measure(family, other, reference)
            rows.append(
                {"family": family.name, **compare(run, expected, measure(family, base, run))}
            )
            rows[-1]["seconds"] = round(time.perf_counter() - started, 1)
            print_row(rows[-1])
    return rows


def compare(
    run: Run, expected: tuple[float, Tensor], found: tuple[float, Tensor]
) -> dict[str, Any]:
    """Return the differences of a run to its reference, and whether they are small enough."""
    loss = abs(found[0] - expected[0])
    gradient = float((found[1] - expected[1]).norm() / expected[1].norm())
    return {
        "run": run.name,
        "loss": round(found[0], 5),
        "loss_difference": float(f"{loss:.2e}"),
        "loss_tolerance": run.loss,
        "gradient_difference": float(f"{gradient:.2e}"),
        "gradient_tolerance": run.gradient,
        "ok": loss <= run.loss and gradient <= run.gradient,
    }


COLUMNS = ("family", "run", "loss", "loss_difference", "gradient_difference", "ok")


def print_row(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    print(table_row([str(row[column]) for column in COLUMNS]), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check all families, print the table and write the result; return 1 if a check fails."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU; write no result")
    parser.add_argument(
        "--family", choices=sorted(FAMILIES), help="check this family only; write no result"
    )
    options = parser.parse_args(arguments)
    if not options.dry_run and not torch.cuda.is_available():
        parser.error("no usable CUDA device: use --dry-run for the same checks on the CPU")
    device = CPU if options.dry_run else torch.device("cuda")
    torch.backends.cudnn.allow_tf32 = False  # which rounds the patches of towers to 10 bits
    transformers.utils.logging.disable_progress_bar()
    print("\n".join(table_head(COLUMNS[0], COLUMNS[1:])))
    names = [options.family] if options.family else sorted(FAMILIES)
    rows = [row for name in names for row in check_family(FAMILIES[name], device)]
    if not options.dry_run and not options.family:
        content = {
            "command": "python -m benchmarks.cost.device_check",
            "device": torch.cuda.get_device_name(),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
            "rows": rows,
        }
        write_result("device_check", content, indent=2)
    met = all(row["ok"] for row in rows)
    print("all within tolerance" if met else "OUT OF TOLERANCE")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
