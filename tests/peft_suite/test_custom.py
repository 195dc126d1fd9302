"""Run PEFT's ``test_custom_models.py`` with Co-LoRA in place of PEFT's methods.

The parametrised tests refer to the lists of cases, so replacing the contents of the lists before
collection replaces the cases. The models are small MLPs without a list of layers; ``block_layers``
says where Co-LoRA sits. ``conftest.py`` drops the tests that do not run on our config (tests of one
method of PEFT's, some of which need models from the Hub).
"""

from __future__ import annotations

from dataclasses import dataclass

from loading import peft_test_module

from fedmosaic.adapters import CoLoraConfig

theirs = peft_test_module("test_custom_models")


@dataclass
class EverywhereConfig(CoLoraConfig):
    """Put Co-LoRA on every adapted layer, for tests that set only ``target_modules``."""

    r: int = 2
    block_layers: list[int] | str | None = "all"


def _cases(label: str, **options: object) -> list[tuple[str, str, type, dict[str, object]]]:
    kind, small = CoLoraConfig, {"r": 2, "lora_alpha": 2.0, **options}
    return [
        (f"MLP 1 {label}", "MLP", kind, {"target_modules": "lin0", **small}),
        (f"MLP 2 {label}", "MLP", kind, {"target_modules": ["lin0"], **small}),
        (f"MLP 3 {label}", "MLP", kind, {"target_modules": ["lin1"], **small}),
        (f"MLP 4 {label}", "MLP", kind, {"target_modules": ["lin0", "lin1"], **small}),
        (
            f"MLP 5 {label}",
            "MLP",
            kind,
            {"target_modules": ["lin0"], "modules_to_save": ["lin1"], **small},
        ),
        (f"MLP 6 {label}", "MLP", kind, {"target_modules": ["lin0"], "lora_dropout": 0.1, **small}),
        (f"MLP 7 {label}", "MLP", kind, {"target_modules": ["lin0"], "lora_alpha": 7.0, **small}),
    ]


theirs.TEST_CASES[:] = [
    *_cases("Co-LoRA", block_layers="all"),
    *_cases("LoRA", block_layers=[]),
    *_cases("SVD", block_layers="all", shared_init="svd"),
    (
        "MLP LayerNorm Co-LoRA",
        "MLP_LayerNorm",
        CoLoraConfig,
        {"target_modules": ["lin0"], "r": 2, "block_layers": "all"},
    ),
    (
        "MLP2 Co-LoRA",
        "MLP2",
        CoLoraConfig,
        {"target_modules": ["lin0", "lin1"], "r": 2, "block_layers": "all"},
    ),
]


def _several(
    label: str, **options: object
) -> list[tuple[str, str, type, dict[str, object], dict[str, object]]]:
    common = {"r": 2, "init_weights": False, **options}
    first, second = {"target_modules": ["lin0"], **common}, {"target_modules": ["lin1"], **common}
    return [
        (f"{label} same", "colora", CoLoraConfig, first, first),
        (f"{label} different", "colora", CoLoraConfig, first, second),
    ]


theirs.MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES[:] = [
    *_several("Co-LoRA", block_layers="all"),
    *_several("LoRA", block_layers=[]),
    *_several("SVD", block_layers="all", shared_init="svd"),
]
theirs.ALL_PEFT_CONFIG_CLASSES[:] = [EverywhereConfig]

for _name in dir(theirs):
    if _name.startswith("Test"):
        globals()[_name] = getattr(theirs, _name)
