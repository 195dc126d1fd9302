"""Check that published numbers survive packing, serve to match tokens, and are validated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedmosaic.alignment.correspondence.positions import match, pool
from fedmosaic.alignment.deployment.published import (
    PublishedPivot,
    pack_published,
    unpack_published,
)
from fedmosaic.data import Example, Turn, public_examples
from fedmosaic.data.example import fingerprint
from fedmosaic.errors import DataError, UpdateError
from fedmosaic.models.backbone import Backbone
from fedmosaic.packing import pack, unpack


@pytest.fixture(scope="module")
def models() -> list[Backbone]:
    return [Backbone.load(f"miniature/{name}") for name in ("llama-8x96", "qwen2-10x112")]


EXAMPLES = list(public_examples("miniature/public", 4))


@pytest.fixture(scope="module")
def published(models: list[Backbone]) -> PublishedPivot:
    origins = [models[1].token_origins(example) for example in EXAMPLES]
    tokens = sum(map(len, origins))
    draw = torch.Generator().manual_seed(0)
    sites = {
        f"block.{block}.o_proj": {
            "z": torch.randn(tokens, 3, generator=draw),
            "u": torch.randn(tokens, 2, generator=draw),
        }
        for block in range(2)
    }
    ids = [example.id for example in EXAMPLES]
    return PublishedPivot(
        sites, origins, ids, fingerprint(EXAMPLES), {"pivot": models[1].name, "rank": 3}
    )


def test_it_arrives_as_it_was_sent(published: PublishedPivot) -> None:
    payload = pack_published(published)
    back = unpack_published(payload, {f"block.{k}.o_proj": {"z": 3, "u": 2} for k in range(2)})
    assert back.schema == published.schema and back.about == published.about
    assert back.example_ids == published.example_ids and back.public == published.public
    for site, kinds in published.sites.items():
        for kind, value in kinds.items():
            assert torch.equal(back.sites[site][kind], value)
    assert all(torch.equal(a, b) for a, b in zip(back.origins, published.origins, strict=True))
    assert pack_published(back) == payload
    half = {
        site: {kind: value.bfloat16() for kind, value in kinds.items()}
        for site, kinds in published.sites.items()
    }
    assert (
        unpack_published(pack_published(replace(published, sites=half)))
        .sites["block.0.o_proj"]["z"]
        .dtype
        == torch.bfloat16
    )


def test_it_serves_as_well_as_the_pivot_itself(
    models: list[Backbone], published: PublishedPivot
) -> None:
    back = unpack_published(pack_published(published))
    back.check_examples(EXAMPLES)
    for index, example in enumerate(EXAMPLES):
        here = back.match(index, models[0].token_origins(example))
        there = match(models[0], models[1], example)
        assert torch.equal(here.first, there.first) and torch.equal(here.second, there.second)
        values = back.sites["block.1.o_proj"]["z"][back.rows(index)]
        assert len(values) == len(models[1].encode(example).input_ids)
        assert pool(values, here.second, here.count).shape == (here.count, 3)


def test_other_examples_are_noticed(published: PublishedPivot) -> None:
    changed = Example(EXAMPLES[0].id, (Turn("user", "something else"), Turn("assistant", "red")))
    for examples, message in (
        (EXAMPLES[:3], "published 4 public examples, but there are 3"),
        (EXAMPLES[::-1], "use the same public data"),
        ([changed, *EXAMPLES[1:]], "other content here"),
    ):
        with pytest.raises(DataError, match=message):
            published.check_examples(examples)


def changed(published: PublishedPivot, row: int, column: int, value: int) -> list[torch.Tensor]:
    tables = [table.clone() for table in published.origins]
    tables[0][row, column] = value
    return tables


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"sites": {}}, "have no site"),
        (
            lambda p: {"sites": {"block.0.o_proj": {"z": p.sites["block.0.o_proj"]["z"][1:]}}},
            r"expected floats \[\d+, width",
        ),
        (
            lambda p: {"sites": {"block.0.o_proj": {"z": p.sites["block.0.o_proj"]["z"].long()}}},
            "expected floats",
        ),
        (
            lambda p: {"sites": {"block.0.o_proj": {"z": p.sites["block.0.o_proj"]["z"] / 0}}},
            "NaN or Inf",
        ),
        (lambda p: {"sites": {"../x": {"z": p.sites["block.0.o_proj"]["z"]}}}, "not a valid name"),
        (lambda p: {"example_ids": p.example_ids[:3]}, "3 example ids for 4"),
        (lambda p: {"example_ids": [p.example_ids[0]] * 4}, "an id of its own"),
        (lambda p: {"origins": changed(p, 0, 0, 9)}, "invalid table of token origins"),
        (lambda p: {"origins": changed(p, 0, 1, -1)}, "invalid table of token origins"),
        (lambda p: {"origins": changed(p, -2, 2, 99)}, "end before they begin"),
        (
            lambda p: {"origins": [table[:, :3] for table in p.origins]},
            "invalid table of token origins",
        ),
    ],
)
def test_nonsense_is_neither_sent_nor_taken(
    published: PublishedPivot, change: Any, message: str
) -> None:
    with pytest.raises(UpdateError, match=message):
        pack_published(replace(published, **change(published)))


def test_tampered_bytes_are_refused(published: PublishedPivot) -> None:
    payload = pack_published(published)
    for damaged in (payload[:-1], payload[:100], b"", b"\x80\x04K\x01."):
        with pytest.raises(UpdateError, match="damaged"):
            unpack_published(damaged)
    with pytest.raises(UpdateError, match="at most 1,000"):
        unpack_published(payload, limit=1000)
    tensors, scalars = unpack(payload)
    total = sum(scalars["tokens"])
    for tokens in ([1, 2, 3, 4], [], [-1, 1, 1, total - 1], [0, 1, 1, total - 2], "many"):
        with pytest.raises(UpdateError, match="damaged"):
            unpack_published(pack(tensors, {**scalars, "tokens": tokens}))
    poisoned = {**tensors, "block.0.o_proj/z": tensors["block.0.o_proj/z"] * float("inf")}
    with pytest.raises(UpdateError, match="NaN or Inf"):
        unpack_published(pack(poisoned, scalars))


@pytest.mark.parametrize(
    "expected",
    [
        {"block.0.o_proj": {"z": 3, "u": 2}},
        {f"block.{k}.o_proj": {"z": 3} for k in range(2)},
        {f"block.{k}.o_proj": {"z": 4, "u": 2} for k in range(2)},
        {f"block.{k}.o_proj": {"z": 3, "u": 2} for k in range(3)},
    ],
)
def test_only_what_was_agreed_on_is_taken(
    published: PublishedPivot, expected: dict[str, dict[str, int]]
) -> None:
    with pytest.raises(UpdateError, match="expected"):
        unpack_published(pack_published(published), expected)
