"""Define a federation that runs in seconds: four clients, three architectures."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "title": "three architectures, four clients",
    "rounds": 3,
    "clients": [
        {
            "name": "a",
            "model": "miniature/llama-8x96",
            "group": "one",
            "tasks": ["miniature/stages-0"],
        },
        {
            "name": "b",
            "model": "miniature/qwen2-10x112",
            "group": "one",
            "tasks": ["miniature/stages-2"],
        },
        {
            "name": "c",
            "model": "miniature/llama-12x128",
            "group": "two",
            "tasks": ["miniature/idiom-3"],
        },
        {
            "name": "d",
            "model": "miniature/llama-8x96",
            "group": "two",
            "tasks": ["miniature/idiom-1"],
        },
    ],
    "data": {"train": 8, "test": 6, "public": "miniature/public", "public_size": 8},
    # Two of the seven projections, one of them not square: all of them would take twice the time.
    "adapter": {
        "r": 4,
        "alpha": 8,
        "num_blocks": 2,
        "dropout": 0.1,
        "target_modules": ["q_proj", "down_proj"],
    },
    "train": {"steps": 3, "batch_size": 2, "lr": 2e-3, "lr_shared": 1e-2},
    "relevance": {"every": 2},
    "evaluation": {"every": 1},
}
