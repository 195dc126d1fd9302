"""Collect what goes wrong with a model, so that the rest of it and the other models are checked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmosaic.errors import FedMosaicError
from fedmosaic.model_check.report import CheckedModel


@contextmanager
def collected(result: CheckedModel, part: str) -> Iterator[None]:
    """Turn an error inside into a problem of the model.

    Code that comes with a model, and families that nobody has tried, fail in ways of their own.

    Args:
        result: what was found of the model so far.
        part: what is being done with it, for errors that are not the library's.
    """
    try:
        yield
    except FedMosaicError as error:
        result.add_problem(str(error))
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        result.add_problem(
            f"model {result.name!r}: {part} fails ({reason}). Its family has not been tried here, "
            "or its code or files are at fault: use another model"
        )


@contextmanager
def noted(result: CheckedModel) -> Iterator[None]:
    """Turn the library's own warnings inside into notes; those of other libraries are shown."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", category=UserWarning, module=r"fedmosaic\.")
        yield
    package = Path(__file__).parents[1]
    for one in caught:
        if one.category is UserWarning and package in Path(one.filename).parents:
            result.add_note(str(one.message))
        else:
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)
