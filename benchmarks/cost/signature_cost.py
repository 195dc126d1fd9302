"""Measure what RELA's signature costs beyond the forward pass.

  python -m benchmarks.cost.signature_cost [--repeats 10]      one thread, on the CPU

The closed form is measured with all rows (*full*) and with 40 % of the rows (*partial*). A forward
pass with a loss runs the model, the head at the label-predicting positions, and a softmax. Head
and softmax are therefore subtracted from the time of the closed form: "full" and "partial" are
what it adds to the pass. As one may not count the softmax as part of the pass, the ratio of both
is also given with the softmax on both sides.

Full and partial alternate (full, partial, partial, full). Times are those of the process, not of
the clock, and the least over the repeats, which other work on the machine disturbs least. For
comparison: autograd's backward pass to the same weight. Writes results/signature_cost.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.relevance.closed_form import ClosedFormSignature
from fedmosaic.relevance.last_layer import ForwardPass

T = TypeVar("T")
LLAMA, QWEN = (LlamaForCausalLM, LlamaConfig), (Qwen2ForCausalLM, Qwen2Config)
PARTIAL = 0.4


@dataclass(frozen=True)
class Case:
    """Describe a model and a batch.

    Attributes:
        name: name of the row.
        family: class of the model, and of its configuration.
        d: width.
        d_ff: width of the MLP.
        vocabulary: number of tokens.
        layers: number of layers.
        samples: examples in the batch.
        tokens: tokens of an example.
        labelled: tokens of an example that have a label.
    """

    name: str
    family: tuple[Any, Any]
    d: int
    d_ff: int
    vocabulary: int
    layers: int
    samples: int
    tokens: int
    labelled: int


CASES = [
    Case("miniature llama", LLAMA, 96, 256, 512, 8, 8, 64, 4),
    Case("miniature qwen2", QWEN, 128, 352, 1024, 8, 8, 64, 8),
    Case("medium, long answers", LLAMA, 512, 1408, 8192, 8, 4, 192, 191),
    Case("medium, short answers", LLAMA, 512, 1408, 8192, 8, 4, 192, 24),
    Case("as Qwen2.5-0.5B, fewer words", QWEN, 896, 4864, 65536, 1, 4, 192, 48),
    Case("as Llama-3.2-1B, fewer words", LLAMA, 2048, 8192, 32000, 1, 4, 192, 64),
]


class TimedSignatureModel(ClosedFormSignature):
    """Measure the head apart from the closed form, which calls it block by block.

    Attributes:
        head: seconds spent in the head since the last reset.
    """

    head = 0.0

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute logits and add the time."""
        spent, result = process_seconds(partial(super().logits, hidden))
        self.head += spent
        return result

    def seconds_without_head(self, recorded: ForwardPass) -> float:
        """Return the seconds of the closed form without the head."""
        self.head = 0.0
        spent, _ = process_seconds(partial(self.closed_form, recorded))
        return spent - self.head


def process_seconds(call: Callable[[], T]) -> tuple[float, T]:
    """Return the processor seconds of a call, and its result."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def build(case: Case) -> Backbone:
    """Build the model of a case with random weights."""
    torch.manual_seed(0)
    model_class, config_class = case.family
    config = config_class(
        vocab_size=case.vocabulary,
        hidden_size=case.d,
        intermediate_size=case.d_ff,
        num_hidden_layers=case.layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = model_class(config).eval().requires_grad_(False)
    return Backbone("benchmark", model, SimpleNamespace(eos_token_id=2, pad_token_id=0))


def build_batch(case: Case) -> Batch:
    """Build the batch of a case with random tokens."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, case.vocabulary, (case.samples, case.tokens), generator=draw)
    labels = torch.full_like(ids, -100)
    labels[:, -case.labelled :] = ids[:, -case.labelled :]
    return Batch(ids, torch.ones_like(ids), labels)


@torch.no_grad()
def softmax_seconds(model: ClosedFormSignature, recorded: ForwardPass) -> float:
    """Return the seconds of the softmax over the logits."""
    logits = model.logits(recorded.hidden)
    return process_seconds(partial(torch.softmax, logits, -1))[0]


def autograd_seconds(shared: Backbone, batch: Batch) -> tuple[float, Tensor]:
    """Return the seconds of autograd's backward pass alone, and the gradient."""
    layer: Any = shared.language_layers[-1]
    weight: Tensor = layer.mlp.down_proj.weight.requires_grad_(True)
    logits = shared.model(**batch.inputs).logits
    mask = batch.labels[:, 1:] != -100
    loss = nn.functional.cross_entropy(logits[:, :-1][mask], batch.labels[:, 1:][mask])
    spent, (grad,) = process_seconds(lambda: torch.autograd.grad(loss, weight))
    weight.requires_grad_(False)
    return spent, grad


def measure(case: Case, repeats: int) -> dict[str, Any]:
    """Measure a case and compare the closed form with autograd's gradient."""
    shared, batch = build(case), build_batch(case)
    models = {
        "full": TimedSignatureModel(shared, keep=1.0),
        "partial": TimedSignatureModel(shared, keep=PARTIAL),
    }
    recorded = models["full"].forward(batch)

    @torch.no_grad()
    def forward() -> Tensor:
        return models["full"].logits(models["full"].forward(batch).hidden)

    times: dict[str, list[float]] = {
        "forward": [],
        "autograd": [],
        "softmax": [],
        "full": [],
        "partial": [],
    }
    grad = torch.empty(0)
    for _ in range(max(3, repeats // 3)):
        times["forward"].append(process_seconds(forward)[0])
        spent, grad = autograd_seconds(shared, batch)
        times["autograd"].append(spent)
    for model in models.values():
        model.seconds_without_head(recorded)
    for _ in range(repeats):
        softmax = softmax_seconds(models["full"], recorded)
        times["softmax"].append(softmax)
        for key in ("full", "partial", "partial", "full"):
            times[key].append(models[key].seconds_without_head(recorded) - softmax)
    least = {key: min(values) for key, values in times.items()}
    with_softmax = {key: least["softmax"] + least[key] for key in models}
    return {
        "case": case.name,
        "sizes": {
            "d": case.d,
            "d_ff": case.d_ff,
            "vocabulary": case.vocabulary,
            "layers": case.layers,
            "tokens": case.samples * case.tokens,
            "labelled": len(recorded.targets),
        },
        "milliseconds": {key: round(1e3 * value, 3) for key, value in least.items()},
        "partial_over_full": round(least["partial"] / least["full"], 3),
        "partial_over_full_softmax_in_both": round(
            with_softmax["partial"] / with_softmax["full"], 3
        ),
        "relative_error": {
            key: relative_error(model, batch, grad) for key, model in models.items()
        },
    }


def relative_error(model: ClosedFormSignature, batch: Batch, grad: Tensor) -> float:
    """Return the relative error of a signature, given autograd's gradient."""
    expected = grad[model.rows]
    found = model.gradient(batch).view_as(expected)
    return float((found - expected).norm() / expected.norm())


def main() -> None:
    """Measure all cases, print them and write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="default: %(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for case in CASES:
        row = measure(case, arguments.repeats)
        results.append(row)
        spent = "  ".join(f"{key} {value:8.3f} ms" for key, value in row["milliseconds"].items())
        print(
            f"{row['case']:28s} {spent}  partial/full {row['partial_over_full']:.3f} "
            f"({row['partial_over_full_softmax_in_both']:.3f} with softmax)  "
            f"error {row['relative_error']['full']:.1e}"
        )
    setting = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "device": "cpu",
    }
    content = {"setting": setting, "repeats": arguments.repeats, "results": results}
    write_result("signature_cost", content, indent=2)


if __name__ == "__main__":
    main()
