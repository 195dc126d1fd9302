"""Measure how relevant clients are to one another: signatures, their privacy, and weights."""

from fedmosaic.relevance.controls import (
    overlap_weights,
    permuted_weights,
    random_weights,
    uniform_weights,
)
from fedmosaic.relevance.peer_search import Peers, nearest_peers
from fedmosaic.relevance.privacy import PrivacyMechanism, gaussian_epsilon, signature_epsilon
from fedmosaic.relevance.signature import SignatureKind, ema, signature_kind, signature_model
from fedmosaic.relevance.signature_model import SignatureModel
from fedmosaic.relevance.weights import (
    mix,
    relevance_weights,
    restrict,
    same_label,
    similarity,
    similarity_std,
)

__all__ = [
    "Peers",
    "PrivacyMechanism",
    "SignatureKind",
    "SignatureModel",
    "ema",
    "gaussian_epsilon",
    "mix",
    "nearest_peers",
    "overlap_weights",
    "permuted_weights",
    "random_weights",
    "relevance_weights",
    "restrict",
    "same_label",
    "signature_epsilon",
    "signature_kind",
    "signature_model",
    "similarity",
    "similarity_std",
    "uniform_weights",
]
