"""Write the scenario files of the research release from their facts: models and tasks by client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DRAKE_TASKS = [
    "Fashion200K-0 MagicBrush-0 VISION-0 FashionIQ-0",
    "VSR-0 VISION-1 Fashion200K-2 NLVR2-0",
    "SEED-Bench-2-2 Fashion200K-1 NLVR2-1 CIRR-0",
    "VizWiz-0 IRFL-2 Bongard-HOI-1 MIT-States-0",
    "IRFL-1 Bongard-OpenWorld-1 COMICS_Dialogue-0 IRFL-0",
    "Bongard-HOI-2 Bongard-OpenWorld-0 IRFL-3 Bongard-HOI-0",
    "WCVQA-0 iconqa-2 Co-Instruct-DB-2 SEED-Bench-2-1",
    "TQA-0 WCVQA-3 iconqa-1 Co-Instruct-DB-1",
    "Co-Instruct-DB-0 dvqa-0 WCVQA-1 iconqa-3",
    "iconqa-0 Co-Instruct-DB-3 SEED-Bench-2-0 WCVQA-2",
]
HFLB_TASKS = [
    *(" ".join(f"GQA-{ten}{one}" for one in range(4)) for ten in (1, 2, 3)),
    *(
        " ".join(f"{name}-{subset}" for subset in range(4))
        for name in ("Abstract", "SNLI-VE", "COCOQA", "NLVR2_feddat", "VizWiz-Original", "AQUA")
    ),
]
AYA_TASKS = [" ".join(f"Fed-aya_topic-{10 * ten + one}" for one in range(4)) for ten in range(8)]
SCOPE_TASKS = [
    " ".join(f"FS_LLM_Instruct-{first + one}" for one in range(4)) for first in (0, 10, 14, 20, 24)
]
LARGE_TASKS = [
    *(f"FedDPA-1{ten}{one} FedDPA-2{ten}{one}" for ten in range(8) for one in (1, 2)),
    *(
        f"Fed-aya_topic-1{ten}{one} Fed-aya_topic-1{ten}{one + 1}"
        for ten in range(8)
        for one in (0, 2)
    ),
    *(f"FedchatbotIT-{number} FedchatbotIT-{number + 20}" for number in range(20)),
]
OPEN = {"iconqa-2": "F1", "iconqa-3": "F1"}
"""The open-ended tasks of DRAKE with their metric."""

# One letter a client.
_LLAVA = {
    "0": "thkim0305/qwen2.5_0.5B_vl",
    "1": "thkim0305/qwen2.5_1.5B_vl",
    "3": "thkim0305/qwen2.5_3B_vl",
    "a": "thkim0305/llama3.2_1B_vl",
    "c": "thkim0305/llama3.2_3B_vl",
    "h": "thkim0305/llama3.1_8B_vl",
}
_TEXT = {
    "a": "meta-llama/Llama-3.2-1B",
    "c": "meta-llama/Llama-3.2-3B",
    "h": "meta-llama/Llama-3.1-8B",
}
MODELS = {
    "DRAKE_hetero_llava_llama_1B_3B": "aaccccccaa",
    "DRAKE_hetero_llava_llama_1B_3B_8B": "aacccchcah",
    "DRAKE_hetero_llava_llama_1B_3B_qwen_1_5B": "1a1c1cccac",
    "DRAKE_hetero_llava_llama_3B_qwen_1_5B": "111c1ccccc",
    "DRAKE_hetero_llava_llama_3B_qwen_1_5B_3B": "111313c3cc",
    "DRAKE_hetero_llava_qwen_0_5B_1_5B_3B": "1033311303",
    "DRAKE_homo_llava_llama_1B": "a" * 10,
    "DRAKE_homo_llava_llama_3B": "c" * 10,
    "DRAKE_homo_llava_llama_8B": "h" * 10,
    "DRAKE_homo_llava_qwen_0_5B": "0" * 10,
    "DRAKE_homo_llava_qwen_1_5B": "1" * 10,
    "DRAKE_homo_llava_qwen_3B": "3" * 10,
    "HFLB_hetero_llava_llama_1B_3B": "aacccaccc",
    "HFLB_homo_llava_llama_1B": "a" * 9,
    "HFLB_homo_llava_llama_3B": "c" * 9,
    "Fed-Scope_hetero_llama_3B_8B": "hccch",
    "Fed-aya_hetero_llama_1B_3B": "ccacacaa",
    "Fed-LLM_hetero_llama_1B_3B": "ac" * 26,
}
"""Name of a file -> one letter a client, for its model."""
_TASKS = {
    "DRAKE": DRAKE_TASKS,
    "HFLB": HFLB_TASKS,
    "Fed-Scope": SCOPE_TASKS,
    "Fed-aya": AYA_TASKS,
    "Fed-LLM": LARGE_TASKS,
}


def client(number: int, model: str, tasks: str, metric: str | None = None) -> dict[str, Any]:
    """Return an entry of a file; ``metric``: all its tasks are open-ended and have this one."""
    datasets = []
    for name in tasks.split():
        dataset, _, subset = name.rpartition("-")
        found = metric or OPEN.get(name)
        entry = {"dataset": dataset, "subset_id": int(subset)}
        entry["type"] = "open-ended" if found else "multi-choice"
        datasets.append(entry | ({"metric": found} if found else {}))
    return {"client_id": number, "datasets": datasets, "model_id": model}


def entries(name: str) -> list[dict[str, Any]]:
    """Return the content of a file of the release."""
    benchmark = name.partition("_")[0]
    models, metric = (_TEXT, "RougeL") if benchmark.startswith("Fed-") else (_LLAVA, None)
    pairs = zip(MODELS[name], _TASKS[benchmark], strict=True)
    return [client(n, models[letter], tasks, metric) for n, (letter, tasks) in enumerate(pairs)]


def write(name: str, folder: Path) -> Path:
    """Write a file of the release, and return its path."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(entries(name), indent=4))
    return path
