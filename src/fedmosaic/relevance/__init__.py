"""Whom to learn from: gradient signatures, what is done to them before they leave, and the weights they lead to."""

from fedmosaic.relevance.sanitise import Sanitiser, gaussian_delta, gaussian_epsilon
from fedmosaic.relevance.signature import SignatureModel, ema
from fedmosaic.relevance.weights import (
    mix,
    overlap_weights,
    permuted,
    random_sources,
    relevance_weights,
    restrict,
    same,
    similarity,
    spread,
    uniform,
)

__all__ = [
    "Sanitiser",
    "SignatureModel",
    "ema",
    "gaussian_delta",
    "gaussian_epsilon",
    "mix",
    "overlap_weights",
    "permuted",
    "random_sources",
    "relevance_weights",
    "restrict",
    "same",
    "similarity",
    "spread",
    "uniform",
]
