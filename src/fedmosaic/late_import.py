"""Import packages quickly, or not before something of them is used.

PEFT imports bitsandbytes, if it is installed, although only quantised models need it. Its import
compiles kernels and takes longer than that of PyTorch.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stand for a package until an attribute of it, or a submodule, is asked for."""

    def __getattr__(self, name: str) -> Any:
        spec = object.__getattribute__(self, "__spec__")
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__path__ = spec.submodule_search_locations
        try:
            spec.loader.exec_module(self)
        except BaseException:
            sys.modules.pop(spec.name, None)  # as after any import that fails
            raise
        return getattr(self, name)


def import_when_used(package: str) -> None:
    """Let ``import package`` do nothing until the package is used; nothing if it is not installed.

    Args:
        package: name of a top-level package.
    """
    if package in sys.modules or (spec := find_spec(package)) is None:
        return
    module = module_from_spec(spec)
    del module.__path__  # so that the import of a submodule asks for it, and imports the package
    module.__class__ = _Later
    sys.modules[package] = module


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import inside the block without searching for garbage, which takes a fifth of the time.

    The code and classes of PyTorch and Transformers are a million objects, none of which is
    garbage.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
