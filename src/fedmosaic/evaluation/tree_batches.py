"""Run a model on trees of tokens: positions, mask and images of a batch, and logits at some places.

A sequence that begins as another one shares its tokens (:mod:`fedmosaic.evaluation.token_tree`). An
image is shared by sequences that are equal up to their last image.
"""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from fedmosaic.evaluation.batches import BatchStore
from fedmosaic.evaluation.token_tree import Numbers, RowPlan, TreeRow, plan_rows
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.batch import Batch, images_of
from fedmosaic.models.encoding import IGNORE, Encoded
from fedmosaic.models.product_forward import multiplies_own_weight


@dataclass(frozen=True)
class TreeBatch:
    """Hold rows of trees.

    Attributes:
        batch: The rows; its mask is [rows, 1, N, N].
        places: For each sequence the places of its tokens, counted through the rows.
    """

    batch: Batch
    places: dict[int, Numbers]


class TreeBatches:
    """Batch sequences as rows of trees; iteration yields each :class:`TreeBatch`.

    Args:
        backbone: The architecture of the models.
        items: The sequences; their labels are not used.
        tokens: About the most tokens in a batch.
        memory: Bytes of batches that are kept; the others are made again each time.

    Attributes:
        size: Tokens of all batches with padding.
    """

    def __init__(
        self, backbone: Backbone, items: Sequence[Encoded], tokens: int, memory: int = 0
    ) -> None:
        self.backbone = backbone
        self.items = items
        # In a row of half the hidden size, attention takes a tenth of the time.
        width = max(1, min(tokens, backbone.hidden_size // 2))
        heads: dict[Any, int] = {}
        keys = [_key(item, backbone.image_token_id, heads) for item in items]
        self._rows: list[list[RowPlan]] = []
        for row in sorted(plan_rows(keys, width), key=len):
            if not self._rows or (len(self._rows[-1]) + 1) * len(row) > tokens:
                self._rows.append([])
            self._rows[-1].append(row)
        self.size = sum(len(rows) * len(rows[-1]) for rows in self._rows)
        self._store = BatchStore(memory)

    def __iter__(self) -> Iterator[TreeBatch]:
        for number, rows in enumerate(self._rows):
            yield self._store.find(number, partial(self._batch, rows))

    def _batch(self, plans: Sequence[RowPlan]) -> TreeBatch:
        rows = [plan.make() for plan in plans]
        batch = self.backbone.collate([self._joined(row) for row in rows])
        count, width = batch.input_ids.shape
        seen = np.zeros((count, 1, width, width), np.bool_)
        seen[..., range(width), range(width)] = True  # a row of zeros has no softmax
        places: dict[int, Numbers] = {}
        for number, row in enumerate(rows):
            start = width - len(row)
            seen[number, 0, start:, start:] = row.seen
            for index, path in row.paths.items():
                places[index] = path + number * width + start
        others = batch.others | {"position_ids": self._positions(rows, width)}
        mask = self._mask(torch.from_numpy(seen))
        return TreeBatch(replace(batch, attention_mask=mask, others=others), places)

    def _joined(self, row: TreeRow) -> Encoded:
        """Return a row as one sequence, with the images that its sequences bring."""
        items = [self.items[index] for index in row.paths]
        names = {name for item in items for name in item.by_token}
        tokens = row.tokens.tolist()
        ids = array("i", [self.items[index].input_ids[place] for index, place in tokens])
        by_token = {
            name: array("i", [self._type(name, index, place) for index, place in tokens])
            for name in names
        }
        brought = {
            index: None
            for (index, _), token in zip(tokens, ids, strict=True)
            if token == self.backbone.image_token_id
        }
        bringing = [self.items[index] for index in brought]
        units = tuple(unit for item in bringing for unit in item.units)
        return Encoded(ids, array("i", [IGNORE]) * len(ids), units, by_token, images_of(bringing))

    def _type(self, name: str, index: int, place: int) -> int:
        values = self.items[index].by_token.get(name)
        return values[place] if values is not None else 0

    def _mask(self, seen: Tensor) -> Tensor:
        """Return the mask as the model's attention takes it: bool, or values that are added."""
        if self.backbone.text_config._attn_implementation == "sdpa":
            return seen.to(self.backbone.device)
        dtype = self.backbone.dtype
        added = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
        return added.to(self.backbone.device)

    def _positions(self, rows: Sequence[TreeRow], width: int) -> Tensor:
        """Return the position of each token in its sequence, [rows, width] or [3, rows, width]."""
        found: Numbers = np.zeros((3, len(rows), width), np.int64)
        several = False
        for number, row in enumerate(rows):
            start = width - len(row)
            found[:, number, start:] = row.tokens[:, 1]
            for index in row.paths:
                item = self.items[index]
                if item.by_image and hasattr(_inner(self.backbone), "get_rope_index"):
                    several = True
                    own = row.tokens[:, 0] == index
                    places = row.tokens[own, 1]
                    found[:, number, start:][:, own] = self._grid_positions(item)[:, places]
        return torch.from_numpy(found if several else found[0]).to(self.backbone.device)

    def _grid_positions(self, item: Encoded) -> Numbers:
        """Return the positions of a sequence with images in three dimensions, [3, tokens]."""
        compute = _inner(self.backbone).get_rope_index
        batch = self.backbone.collate([replace(item, units=())]).inputs
        batch = batch | {
            name: value.to(self.backbone.device) for name, value in item.by_image.items()
        }
        given = inspect.signature(compute).parameters.keys() & batch.keys()
        found = compute(**{name: batch[name] for name in given})[0]
        return found[:, 0].cpu().numpy()  # type: ignore[no-any-return]


def _inner(backbone: Backbone) -> Any:
    return getattr(backbone.model, "model", backbone.model)


def _key(item: Encoded, image_token: int | None, heads: dict[Any, int]) -> Numbers:
    """Return the tokens of a sequence as numbers that are equal where a token may be shared.

    Args:
        item: The sequence.
        image_token: Token at the place of an image.
        heads: Numbers of the beginnings up to the last image that were met, and their images.
    """
    key = np.array(item.input_ids, np.int64)
    places: Any = np.flatnonzero(key == image_token) if item.units else ()
    if len(places):
        images = tuple(tuple(image.key for image in unit) for unit in item.units)
        head = (item.input_ids[: places[-1] + 1].tobytes(), images)
        key[places[0]] = -1 - heads.setdefault(head, len(heads))
    return key


@contextmanager
def logits_at(head: Any, places: Tensor, tokens: Tensor | None) -> Iterator[None]:
    """Let a head compute logits of some tokens at some places alone, as [1, places, tokens].

    A head of 262,144 words takes a fifth of the time of a small model, and as long to be packed.
    Logits of chosen tokens are computed in float32 where the model has less precision: rounded to
    bfloat16, logits of 16 to 32 are multiples of 1/8, and options tie.

    Args:
        head: The output head.
        places: int64, counted through the rows of the batch.
        tokens: int64; None: all. A head that is no plain linear layer computes all, too.
    """
    replaced = vars(head).get("forward")
    picked = [head.register_forward_pre_hook(lambda _, args: args[0].flatten(0, -2)[places][None])]
    plain = multiplies_own_weight(head)
    if plain and tokens is not None:
        exact = torch.promote_types(head.weight.dtype, torch.float32)
        weight = head.weight[tokens].to(exact)
        bias = None if head.bias is None else head.bias[tokens].to(exact)
        head.forward = lambda hidden: linear(hidden.to(exact), weight, bias)
    elif tokens is not None:
        picked.append(head.register_forward_hook(lambda _, __, logits: logits[..., tokens]))
    try:
        yield
    finally:
        for hook in picked:
            hook.remove()
        if plain and tokens is not None:
            del head.forward
            if replaced is not None:
                head.forward = replaced
