"""Import PEFT's test modules as one package from the folder that ``__main__.py`` downloaded."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType

PACKAGE = "peft_own_tests"


def peft_test_module(name: str) -> ModuleType:
    """Return one module of PEFT's tests, e.g. ``test_custom_models``."""
    if PACKAGE not in sys.modules:
        if "PEFT_TESTS" not in os.environ:
            raise RuntimeError("Start these tests with: python -m tests.peft_suite")
        spec = importlib.machinery.ModuleSpec(PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [os.environ["PEFT_TESTS"]]
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{PACKAGE}.{name}")
