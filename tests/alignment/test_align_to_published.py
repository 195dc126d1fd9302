"""Check that aligning to a published pivot gives the result of aligning on one machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_alignments import align_small, clear_cache, max_difference, small
from syllables import sentences

from fedmosaic.alignment import align_to_published, publish
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.deployment.published import (
    PublishedPivot,
    pack_published,
    unpack_published,
)
from fedmosaic.alignment.store import find_alignment
from fedmosaic.data import Example, public_examples
from fedmosaic.errors import ConfigError, DataError, UpdateError
from fedmosaic.models.backbone import Backbone

EXAMPLES = sentences(40)


def publish_small(pivot: Backbone, examples: list[Example], **changes: Any) -> PublishedPivot:
    chosen = small(**changes)
    return publish(pivot, examples, chosen.alignment, chosen.placement)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "outputs"},
        {"method": "release"},
        {"fit": "procrustes", "block_rule": "even"},
        {"tokens": "answer", "batch_size": 3},
        {"probe": "likelihood", "probes": 2},
    ],
)
def test_it_is_the_same_as_on_one_machine(
    words: Backbone, syllables: Backbone, changes: dict[str, Any]
) -> None:
    (here,) = align_small([syllables], words, EXAMPLES, **changes)
    clear_cache()
    payload = pack_published(publish_small(words, EXAMPLES, **changes))
    steps: list[tuple[str, int, int]] = []
    there = align_to_published(
        syllables, unpack_published(payload), EXAMPLES, progress=lambda *step: steps.append(step)
    )
    assert max_difference(here, there) == 0 and there.identity == here.identity
    assert (there.layers, there.scaled) == (here.layers, False)
    assert there.report == {name: part for name, part in here.report.items() if name != "cka"}
    assert steps[-1] == ("collecting moments", 40, 40)
    stored = find_alignment(there.identity)
    assert stored is not None and max_difference(stored, there) == 0


def test_it_is_the_same_with_images() -> None:
    llama, qwen = (Backbone.load(f"miniature/{name}") for name in ("llama-8x96", "qwen2-10x112"))
    examples, chosen = list(public_examples("miniature/public", 12)), small()
    (here,) = align_small([qwen], llama, examples)
    clear_cache()
    published = unpack_published(pack_published(publish_small(llama, examples)))
    there = align_to_published(qwen, published, examples, chosen.alignment, chosen.placement)
    assert max_difference(here, there) == 0


@pytest.fixture(scope="module")
def published(words: Backbone) -> PublishedPivot:
    return publish_small(words, EXAMPLES)


def test_what_is_published_is_as_narrow_as_the_rank(
    published: PublishedPivot, words: Backbone
) -> None:
    assert set(map(tuple, (widths.items() for widths in published.schema.values()))) == {
        (("z", 4), ("y", 4), ("u", 16))
    }
    assert list(published.example_ids) == [example.id for example in EXAMPLES]
    chosen = small()
    pivot = Pivot.of(words, EXAMPLES, chosen.alignment, chosen.placement)
    for index in (0, 7, 39):  # rows lie in the order of the examples, whatever the batches
        (single,) = pivot.observe([EXAMPLES[index]])
        z = published.sites["block.1.down_proj"]["z"][published.rows(index)]
        torch.testing.assert_close(
            z, pivot.project(single).sites["block.1.down_proj"]["z"], atol=1e-4, rtol=1e-4
        )
        assert torch.equal(published.origins[index], words.token_origins(EXAMPLES[index]))


def test_other_data_or_settings_are_named(published: PublishedPivot, syllables: Backbone) -> None:
    with pytest.raises(DataError, match="use the same public data"):
        align_to_published(syllables, published, EXAMPLES[::-1])
    with pytest.raises(DataError, match="published 40 public examples, but there are 39"):
        align_to_published(syllables, published, EXAMPLES[1:])
    other = small(r=8, seed=1)
    with pytest.raises(
        ConfigError,
        match="words published with other alignment settings: seed is 0, here 1; r is 4, here 8",
    ):
        align_to_published(syllables, published, EXAMPLES, other.alignment, other.placement)


def described(published: PublishedPivot, part: str, **changes: Any) -> dict[str, Any]:
    """Change the settings or the placement in the description."""
    return {"about": {**published.about, part: {**published.about[part], **changes}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: {"about": {}},
            "wrong or missing fields: layers, pivot, placement, settings, weights, words",
        ),
        (lambda p: described(p, "settings", probes=-1), "wrong or missing fields: settings"),
        (lambda p: described(p, "placement", r="x"), "wrong or missing fields: placement"),
        (
            lambda p: {"about": {**p.about, "words": "red"}},
            "wrong or missing fields: words",
        ),
        (lambda p: {"about": {**p.about, "layers": [3]}}, "1 layers for 2 blocks"),
        (lambda p: described(p, "placement", r=5), "at 'block.0.q_proj', which does not fit"),
        (lambda p: described(p, "settings", probes=3), "at 'block.0.q_proj', which does not fit"),
        (
            lambda p: {"sites": {k: v for k, v in p.sites.items() if k != "block.1.up_proj"}},
            r"published \{\} at 'block.1.up_proj'",
        ),
        (
            lambda p: {"sites": {**p.sites, "block.2.up_proj": p.sites["block.1.up_proj"]}},
            "at 'block.2.up_proj'",
        ),
        (
            lambda p: {"sites": {k: {"z": v["z"], "u": v["u"]} for k, v in p.sites.items()}},
            "does not fit its settings",
        ),
    ],
)
def test_inconsistent_numbers_are_refused(
    published: PublishedPivot, syllables: Backbone, change: Any, message: str
) -> None:
    with pytest.raises(UpdateError, match=message):
        align_to_published(syllables, replace(published, **change(published)), EXAMPLES)


def test_layers_by_cka_need_the_pivot_itself(words: Backbone) -> None:
    with pytest.raises(ConfigError, match="block_rule=depth"):
        publish_small(words, EXAMPLES, block_rule="cka")
