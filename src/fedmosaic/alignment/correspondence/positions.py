"""Which token of one model answers to which of another, when both read the same example.

Both encodings are told in terms of the example (:mod:`fedmosaic.models.token_origins`), so that neither side needs the other's
tokenizer, template or image processor: :func:`match_origins` compares two tables of numbers, and one of them may have
come over the wire.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.token_origins import TokenKind

_Span = tuple[int, int]


@dataclass(frozen=True)
class Matching:
    """Groups of tokens of two models that answer to one another, numbered in reading order of the first.

    Attributes:
        first, second: int64 [n1] and [n2], the group of each token of ``encode(example)``, or -1 for a token without a
            counterpart. Every group has a token on both sides.
        kind: int64 [count], the :class:`~fedmosaic.models.token_origins.TokenKind` of each group.
    """

    first: Tensor
    second: Tensor
    kind: Tensor

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.kind)

    @property
    def answer(self) -> Tensor:
        """Bool [count]: the group lies in an assistant's turn or predicts its first token."""
        return torch.isin(
            self.kind, torch.tensor([TokenKind.ANSWER, TokenKind.PREDICT, TokenKind.END])
        )

    def select(self, chosen: Tensor) -> Matching:
        """Only the groups where ``chosen`` (bool [count]) is true, numbered anew; the tokens of others become -1."""
        number = torch.where(chosen, chosen.cumsum(0) - 1, -1)
        padded = torch.cat(
            (number, torch.tensor([-1]))
        )  # index -1, a token without a group, stays -1
        return Matching(padded[self.first], padded[self.second], self.kind[chosen])


def match(a: Backbone, b: Backbone, example: Example) -> Matching:
    """Match the tokens of ``a.encode(example)`` with those of ``b.encode(example)``; see :func:`match_origins`.

    Raises:
        DataError: the two encodings share no text. ModelError: as :meth:`Backbone.token_origins`.
    """
    first = a.token_origins(example)
    second = first if a is b else b.token_origins(example)
    return match_origins(first, second, example.id)


def match_origins(first: Tensor, second: Tensor, name: str = "?") -> Matching:
    """Match tokens by where they come from.

    - Equal tables (one tokenizer and template): token t answers to token t, template tokens included.
    - Text: a turn is cut wherever both tokenizations have a cut; the tokens between two such cuts are one group. Tokens of
      white space alone belong to the text that follows them (at the end of a turn, to what precedes).
    - Images: place by place. With different grids a cell of the finer one belongs to the cell of the coarser one that its
      centre lies in. A class token (a square number and one) answers to a class token; counts that are no grid are
      compared as if they were places on a line.
    - The token that predicts the first token of an assistant's answer, and the one that ends it, each answer to the
      other model's. Other template tokens have no counterpart.

    Args:
        first, second: int64 [n, 4], as :meth:`Backbone.token_origins` gives them.
        name: the example's id, for messages.

    Raises:
        DataError: no text in common: different examples, or templates that rewrite what they are given.
    """
    if torch.equal(first, second):
        every = torch.arange(len(first))
        return Matching(every, every, first[:, 0].clone())
    rows = (first.tolist(), second.tolist())
    cuts = _common_cuts(*rows)
    grids = _common_grids(*rows)
    keys = [[_key(row, cuts, grids) for row in table] for table in rows]
    shared = set(keys[0]) & set(keys[1]) - {None}
    numbers: dict[Hashable, int] = {}
    kinds: list[int] = []
    for key, row in zip(keys[0], rows[0], strict=True):
        if key in shared and key not in numbers:
            numbers[key] = len(numbers)
            kinds.append(row[0])
    if not {TokenKind.TEXT, TokenKind.ANSWER}.intersection(kinds):
        raise DataError(
            f"example {name!r}: the two models' encodings share no text; are they of the same example?"
        )
    groups = [
        torch.tensor([numbers.get(key, -1) for key in side], dtype=torch.int64) for side in keys
    ]
    return Matching(groups[0], groups[1], torch.tensor(kinds, dtype=torch.int64))


def pool(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Mean of ``values`` [n, d] over each group, [count, d], in float32 at least; tokens of group -1 are left out."""
    kept = groups >= 0
    wide = values[kept].to(torch.promote_types(values.dtype, torch.float32))
    index = groups[kept].to(values.device)
    sums = wide.new_zeros(count, wide.shape[1]).index_add_(0, index, wide)
    return sums / torch.bincount(index, minlength=count).clamp_min(1).to(wide.dtype)[:, None]


def stack(groups: Sequence[Tensor], counts: Sequence[int], width: int) -> Tensor:
    """Groups of several examples for a batch padded on the left: int64 [n, width], numbered on from example to example.

    ``pool(states.flatten(0, 1), stack(…).flatten(), sum(counts))`` is then the pools of all examples, one after the other.
    """
    table = torch.full((len(groups), width), -1)
    offset = 0
    for row, group, count in zip(table, groups, counts, strict=True):
        row[width - len(group) :] = torch.where(group >= 0, group + offset, -1)
        offset += count
    return table


def _key(row: list[int], cuts: dict[int, list[int]], grids: dict[int, tuple[int, int]]) -> Hashable:
    """What a token shares with its counterparts: equal keys are one group. None for a token without any."""
    kind, where, start, end = row
    if kind in (TokenKind.TEXT, TokenKind.ANSWER):
        turn = cuts.get(where, [])
        segment = bisect_right(turn, start)
        if start == end:  # white space at the end of the turn
            segment = min(segment, len(turn) - 1)
        return ("text", where, segment) if 0 < segment < len(turn) else None
    if kind == TokenKind.IMAGE:
        return ("image", where, _cell(start, end, *grids[where])) if where in grids else None
    return (kind, where) if kind in (TokenKind.PREDICT, TokenKind.END) else None


def _common_cuts(*tables: list[list[int]]) -> dict[int, list[int]]:
    """For each turn in both tables, the places where both cut its text, in order."""
    sides: list[dict[int, list[int]]] = []
    for table in tables:
        spans: dict[int, list[_Span]] = {}
        for kind, turn, start, end in table:
            if kind in (TokenKind.TEXT, TokenKind.ANSWER):
                spans.setdefault(turn, []).append((start, end))
        sides.append({turn: _cuts(found) for turn, found in spans.items()})
    return {
        turn: sorted({*cuts} & {*sides[1][turn]})
        for turn, cuts in sides[0].items()
        if turn in sides[1]
    }


def _cuts(spans: list[_Span]) -> list[int]:
    """Starts and ends of spans that lie inside no span; by merging those that overlap."""
    cuts: set[int] = set()
    reach = -1
    for start, end in sorted(spans):
        if start >= reach:
            cuts |= {start, reach}
        reach = max(reach, end)
    return sorted(cuts - {-1} | {reach})


def _common_grids(*tables: list[list[int]]) -> dict[int, tuple[int, int]]:
    """For each image in both tables, the smaller number of places and the smaller side (0 if one is no grid)."""
    sides = [{row[1]: row[3] for row in table if row[0] == TokenKind.IMAGE} for table in tables]
    both = {
        image: (places, sides[1][image]) for image, places in sides[0].items() if image in sides[1]
    }
    return {
        image: (min(counts), min(_grid(count)[1] for count in counts))
        for image, counts in both.items()
    }


def _cell(place: int, places: int, coarse: int, side: int) -> Hashable:
    """The cell of a grid of ``side`` (or of ``coarse`` places on a line) in which a place has its centre."""
    if not side:
        return _nearest(place, places, coarse)
    class_token, own = _grid(places)
    if place < class_token:
        return "class"
    row, column = divmod(place - class_token, own)
    return _nearest(row, own, side), _nearest(column, own, side)


def _nearest(place: int, places: int, coarse: int) -> int:
    return (2 * place + 1) * coarse // (2 * places)


def _grid(places: int) -> tuple[int, int]:
    """Class tokens (0 or 1) before a square grid, and its side; side 0 for a number of places that is none."""
    for class_token in (0, 1):
        side = isqrt(max(places - class_token, 0))
        if side and side * side == places - class_token:
            return class_token, side
    return 0, 0
