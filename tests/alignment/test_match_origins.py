"""Check the rules of matching on tables of token origins: grids, class tokens and cuts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedmosaic.alignment.correspondence.positions import _cuts, match_origins, pool
from fedmosaic.errors import DataError
from fedmosaic.models.token_origins import TokenKind


def rows(*items: tuple[int, ...]) -> Tensor:
    return torch.tensor([[*item, *[0] * (4 - len(item))] for item in items])


def image(places: int, index: int = 0) -> list[tuple[int, ...]]:
    return [(TokenKind.IMAGE, index, place, places) for place in range(places)]


WORD = (TokenKind.TEXT, 0, 0, 4)


def sides(first: int, second: int) -> tuple[list[int], list[int]]:
    matching = match_origins(
        rows(*image(first), WORD), rows((TokenKind.TEMPLATE,), *image(second), WORD)
    )
    return matching.first[:-1].tolist(), matching.second[1:-1].tolist()


def test_the_coarser_grid_wins() -> None:
    assert sides(9, 4) == ([0, 1, 1, 2, 3, 3, 2, 3, 3], [0, 1, 2, 3])
    first, second = sides(16, 4)
    assert first == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3] and second == [0, 1, 2, 3]
    assert sides(4, 16) == (second, first)
    assert len(set(sides(576, 729)[0])) == 576


def test_class_tokens_correspond() -> None:
    assert sides(10, 9) == ([-1, *range(9)], list(range(9)))
    assert sides(10, 5)[1] == [0, 1, 2, 3, 4]
    assert sides(10, 5)[0] == [0, 1, 2, 2, 3, 4, 4, 3, 4, 4]


def test_places_that_are_no_grid_lie_on_a_line() -> None:
    assert sides(6, 3) == ([0, 0, 1, 1, 2, 2], [0, 1, 2])
    assert sides(6, 4) == ([0, 1, 1, 2, 3, 3], [0, 1, 2, 3])
    assert sides(6, 6) == ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])


def test_images_correspond_in_their_order() -> None:
    one = rows(*image(9, 0), *image(9, 1), WORD)
    two = rows(*image(4, 0), *image(4, 1), (TokenKind.TEMPLATE,), WORD)
    matching = match_origins(one, two)
    assert matching.count == 9
    assert matching.first[:9].max() == 3 and matching.first[9:18].min() == 4


def test_only_what_both_cut_is_a_boundary() -> None:
    # abc|de|f  against  ab|cde|f, with white space alone before the f and at the end
    one = rows((0, 0, 0, 3), (0, 0, 3, 5), (0, 0, 5, 5), (0, 0, 5, 6), (0, 0, 6, 6))
    two = rows((0, 0, 0, 2), (0, 0, 2, 5), (0, 0, 5, 6))
    matching = match_origins(one, two)
    assert matching.first.tolist() == [0, 0, 1, 1, 1] and matching.second.tolist() == [0, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=8))
def test_cuts_are_the_ends_that_lie_inside_no_span(drawn: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in drawn]
    ends = {place for span in spans for place in span}
    inside = {place for place in ends for start, end in spans if start < place < end}
    assert _cuts(spans) == sorted(ends - inside)


def test_a_span_of_any_length_takes_no_time() -> None:
    assert _cuts([(0, 1 << 60)]) == [0, 1 << 60]


def test_text_that_one_side_lacks_has_no_counterpart() -> None:
    matching = match_origins(rows((0, 0, 0, 2), (0, 0, 2, 4)), rows((0, 0, 0, 2), (0, 2, 0, 3)))
    assert matching.first.tolist() == [0, -1] and matching.second.tolist() == [0, -1]


def test_no_text_in_common_is_an_error() -> None:
    with pytest.raises(DataError, match="share no text"):
        match_origins(rows((0, 0, 0, 2), (3, 1)), rows((0, 2, 0, 2), (3, 1)))


def test_pooling_is_the_mean_of_each_group() -> None:
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    groups = torch.tensor([1, -1, 0, 1, 1, -1])
    pooled = pool(values, groups, 2)
    assert torch.allclose(pooled, torch.stack((values[2], values[[0, 3, 4]].mean(0))))
    assert pool(values.bfloat16(), groups, 2).dtype == torch.float32
    assert pool(values.double(), groups, 2).dtype == torch.float64
