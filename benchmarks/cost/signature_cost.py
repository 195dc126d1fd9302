"""What RELA's signature costs beyond the forward pass, whole and with 40 % of the rows kept.

Run:  python -m benchmarks.cost.signature_cost [--repeats 10]      (one thread, on the CPU)

A forward pass with a loss runs the model, the head at the label-predicting positions and a softmax; head and softmax are
taken off the closed form's time. "whole" and "kept" are what it adds to the pass. Since some may not count the softmax as
part of the pass, the ratio is also given with it on both sides. Whole and kept alternate (whole, kept, kept, whole).
Times are of the process, not of the clock, and the least over the repeats, which other work on the machine disturbs
least. For comparison: autograd's backward to the same weight after the same pass. Writes results/signature_cost.json.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchmarks.common.paths import RESULTS
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.relevance.signature import ForwardPass, SignatureModel

# name, d, d_ff, vocabulary, layers, samples, tokens each, of which labelled
CASES = [
    ("miniature llama", LlamaForCausalLM, LlamaConfig, 96, 256, 512, 8, 8, 64, 4),
    ("miniature qwen2", Qwen2ForCausalLM, Qwen2Config, 128, 352, 1024, 8, 8, 64, 8),
    ("medium, long answers", LlamaForCausalLM, LlamaConfig, 512, 1408, 8192, 8, 4, 192, 191),
    ("medium, short answers", LlamaForCausalLM, LlamaConfig, 512, 1408, 8192, 8, 4, 192, 24),
    (
        "as Qwen2.5-0.5B, fewer words",
        Qwen2ForCausalLM,
        Qwen2Config,
        896,
        4864,
        65536,
        1,
        4,
        192,
        48,
    ),
    (
        "as Llama-3.2-1B, fewer words",
        LlamaForCausalLM,
        LlamaConfig,
        2048,
        8192,
        32000,
        1,
        4,
        192,
        64,
    ),
]


def build(
    model_class: Any, config_class: Any, d: int, d_ff: int, vocabulary: int, layers: int
) -> Backbone:
    torch.manual_seed(0)
    config = config_class(
        vocab_size=vocabulary, hidden_size=d, intermediate_size=d_ff, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = model_class(config).eval().requires_grad_(False)
    return Backbone("benchmark", model, SimpleNamespace(eos_token_id=2, pad_token_id=0))


def seconds(call: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


class Timed(SignatureModel):
    """Times the head apart, whose output the closed form asks for block by block."""

    head = 0.0

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        spent, result = seconds(partial(super().logits, hidden))
        self.head += spent
        return result  # type: ignore[no-any-return]


def beyond(model: Timed, seen: ForwardPass) -> float:
    """Seconds of the closed form without the head."""
    model.head = 0.0
    spent, _ = seconds(partial(model.closed_form, seen))
    return spent - model.head


@torch.no_grad()
def softmax_alone(model: SignatureModel, seen: ForwardPass) -> float:
    """Seconds of the softmax over the logits."""
    logits = model.logits(seen.hidden)
    return seconds(partial(torch.softmax, logits, -1))[0]


def by_autograd(shared: Backbone, batch: Batch) -> tuple[float, torch.Tensor]:
    """Seconds of the backward alone, and the gradient."""
    weight = shared.language_layers[-1].mlp.down_proj.weight.requires_grad_(True)
    logits = shared.model(
        inputs_embeds=shared.embed(batch), attention_mask=batch.attention_mask
    ).logits
    mask = batch.labels[:, 1:] != -100
    loss = nn.functional.cross_entropy(logits[:, :-1][mask], batch.labels[:, 1:][mask])
    spent, (grad,) = seconds(lambda: torch.autograd.grad(loss, weight))
    weight.requires_grad_(False)
    return spent, grad


def measure(case: tuple[Any, ...], repeats: int) -> dict[str, Any]:
    name, model_class, config_class, d, d_ff, vocabulary, layers, samples, tokens, labelled = case
    shared = build(model_class, config_class, d, d_ff, vocabulary, layers)
    ids = torch.randint(
        3, vocabulary, (samples, tokens), generator=torch.Generator().manual_seed(1)
    )
    labels = torch.full_like(ids, -100)
    labels[:, -labelled:] = ids[:, -labelled:]
    batch = Batch(ids, torch.ones_like(ids), labels, None)
    whole, kept = Timed(shared, keep=1.0), Timed(shared, keep=0.4)
    seen = whole.forward(batch)

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return whole.logits(whole.forward(batch).hidden)

    times: dict[str, list[float]] = {
        "forward": [],
        "autograd": [],
        "softmax": [],
        "whole": [],
        "kept": [],
    }
    grad = torch.empty(0)
    for _ in range(max(3, repeats // 3)):
        times["forward"].append(seconds(forward)[0])
        spent, grad = by_autograd(shared, batch)
        times["autograd"].append(spent)
    beyond(whole, seen), beyond(kept, seen)
    for _ in range(repeats):
        times["softmax"].append(softmax_alone(whole, seen))
        for key in ("whole", "kept", "kept", "whole"):
            times[key].append(
                beyond(whole if key == "whole" else kept, seen) - times["softmax"][-1]
            )
    least = {key: min(values) for key, values in times.items()}
    error = ((whole.gradient(batch).view(d, d_ff) - grad).norm() / grad.norm()).item()
    error_kept = (
        (kept.gradient(batch).view(-1, d_ff) - grad[kept.rows]).norm() / grad[kept.rows].norm()
    ).item()
    return {
        "case": name,
        "sizes": {"d": d, "d_ff": d_ff, "vocabulary": vocabulary, "layers": layers,
                  "tokens": samples * tokens, "labelled": len(seen.targets)},
        "milliseconds": {key: round(1e3 * value, 3) for key, value in least.items()},
        "kept_over_whole": round(least["kept"] / least["whole"], 3),
        "kept_over_whole_softmax_in_both": round(
            (least["softmax"] + least["kept"]) / (least["softmax"] + least["whole"]), 3
        ),
        "relative_error": {"whole": error, "kept": error_kept},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS / "signature_cost.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for case in CASES:
        results.append(measure(case, arguments.repeats))
        row = results[-1]
        spent = "  ".join(f"{key} {value:8.3f} ms" for key, value in row["milliseconds"].items())
        print(
            f"{row['case']:28s} {spent}  kept/whole {row['kept_over_whole']:.3f} "
            f"({row['kept_over_whole_softmax_in_both']:.3f} with softmax)  error {row['relative_error']['whole']:.1e}"
        )
    setting = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "device": "cpu",
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps({"setting": setting, "repeats": arguments.repeats, "results": results}, indent=2)
        + "\n"
    )


if __name__ == "__main__":
    main()
