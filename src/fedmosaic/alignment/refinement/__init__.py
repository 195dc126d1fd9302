"""Functional refinement: A and B trained so that one P does the same job in every model."""

from fedmosaic.alignment.refinement.traces import Looked, Questions, refine_group, refine_joiner

__all__ = ["Looked", "Questions", "refine_group", "refine_joiner"]
