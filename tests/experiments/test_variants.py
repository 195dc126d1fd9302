"""Parse variants, seeds and choices of the command line."""

from __future__ import annotations

import pytest

from fedmosaic.errors import ConfigError
from fedmosaic.experiments.variants import Variant, parse_choices, parse_seeds, parse_variants


def test_variants_have_labels_options_and_settings() -> None:
    text = (
        "sft, fedprox:mu=0.2:relevance.top_k=2 ,"
        "views=fedmosaic:relevance.kind=uniform:adapter.target_modules=[q_proj,k_proj]"
    )
    assert parse_variants([text, "fedavg"]) == [
        Variant("sft", "sft"),
        Variant(
            "fedprox:mu=0.2:relevance.top_k=2",
            "fedprox",
            ("algorithms.fedprox.mu=0.2", "relevance.top_k=2"),
        ),
        Variant(
            "views",
            "fedmosaic",
            ("relevance.kind=uniform", "adapter.target_modules=[q_proj,k_proj]"),
        ),
        Variant("fedavg", "fedavg"),
    ]
    assert Variant.parse("fedprox:mu=0.2").folder == "fedprox-mu-0.2"
    assert (
        Variant("fedmosaic, permuted relevance", "fedmosaic").folder
        == "fedmosaic-permuted-relevance"
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["sft,fedmosiac"], "Did you mean 'fedmosaic'"),
        (["mine=fedmosiac:steps=1"], "Did you mean 'fedmosaic'"),
        (["fedmosaic:steps"], "fedmosaic:key=value"),
        (["=sft"], "is empty"),
        (["sft", "sft"], "have the same name"),
        (["a b=sft,a-b=fedavg"], "have the same name"),
        (["sweep=sft"], "cannot name a folder"),
        (["sft:data.seed=3"], "in another way than the others"),
        (["sft:evaluation.items=3"], "in another way than the others"),
        ([" , "], "nothing to compare"),
    ],
)
def test_mistakes_in_variants(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_variants(texts)


def test_seeds() -> None:
    assert parse_seeds("0-4") == [0, 1, 2, 3, 4]
    assert parse_seeds("7, 0-1,1") == [0, 1, 7]
    for wrong in ("", "a", "3-1", "1,,2", "-1"):
        with pytest.raises(ConfigError, match="write them as"):
            parse_seeds(wrong)


def test_choices() -> None:
    assert parse_choices(["train.lr=1e-3,2e-3", "adapter.target_modules=[q_proj,k_proj],null"]) == {
        "train.lr": ["1e-3", "2e-3"],
        "adapter.target_modules": ["[q_proj,k_proj]", "null"],
    }
    for wrong, message in (
        (["train.lr"], "write it once"),
        (["train.lr="], "write it once"),
        (["a=1", "a=2"], "write it once"),
        (["evaluation.items=1,2"], "cannot be chosen"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_choices(wrong)
