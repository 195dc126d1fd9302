"""Define how prompts are compared, to give each input to one of a client's models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedmosaic.config.base import Settings


class RoutingSettings(Settings):
    """Set how an input is compared with the prompts that a client has trained on.

    It counts for the views ``routed`` and ``routed-base`` of ``evaluation.views``, and for
    algorithms with experts. Prompts are compared by hidden states of ``relevance.model``. Not in
    FedMosaic's paper.
    """

    features: Literal["both", "mean", "last"] = "both"
    """Hidden states of the shared model that stand for a prompt.

    ``mean``: their mean over the prompt's tokens. ``last``: that of its last token. ``both``: one
    after the other.
    """

    depth: float = Field(default=0.5, gt=0, le=1)
    """Share of the shared model's layers after which hidden states are taken.

    Later layers are not computed. 1: after all layers and the final norm.
    """

    quantile: float = Field(default=0.99, gt=0, le=1)
    """Share of a client's own prompts that would count as familiar if they were new.

    An input is familiar if its nearest own prompt is no farther than this quantile of the distances
    of the own prompts to their nearest other ones.
    """

    prompts: int = Field(default=2000, ge=2)
    """Most own prompts that an input is compared with, evenly drawn from all in order of arrival.

    Memory and time grow with it: a comparison takes its product with the number of features.
    """

    noise_std: float = Field(default=1e-4, ge=0)
    """Standard deviation of the noise on published prototypes, in units of √k for k prototypes.

    √k is the most that the norm of all of them together can be, because features have norm 1. Only
    much noise gives a privacy guarantee (at δ = ``relevance.delta``), and much noise makes
    prototypes useless. A value above the default asks for the guarantee to be stated.
    """
