"""Provide the library as a few functions: what the ``fedmosaic`` command does, from Python."""

from __future__ import annotations

from fedmosaic.api.adaptation import adapt
from fedmosaic.api.alignment import align
from fedmosaic.api.comparisons import compare, report
from fedmosaic.api.data import show_data
from fedmosaic.api.models import check_models
from fedmosaic.api.runs import export, resume, run, show

__all__ = [
    "adapt",
    "align",
    "check_models",
    "compare",
    "export",
    "report",
    "resume",
    "run",
    "show",
    "show_data",
]
