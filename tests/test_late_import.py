"""Test how packages are imported quickly."""

from __future__ import annotations

import gc

import pytest

from fedmosaic.late_import import quick_imports


@pytest.fixture(params=[True, False])
def collecting(request: pytest.FixtureRequest) -> bool:
    """Switch the search for garbage on or off for a test, and on after it."""
    if not request.param:
        gc.disable()
    request.addfinalizer(gc.enable)
    return bool(request.param)


def test_garbage_is_not_searched_while_importing_and_is_as_before_after_it(
    collecting: bool,
) -> None:
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled() == collecting
    with pytest.raises(ImportError), quick_imports():
        raise ImportError
    assert gc.isenabled() == collecting
