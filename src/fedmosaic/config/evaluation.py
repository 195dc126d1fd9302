"""Define what is measured during a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedmosaic.config.base import Settings


class EvaluationSettings(Settings):
    """Set what is measured, when and how. Every report states these choices."""

    every: int = Field(default=5, ge=0)
    """Rounds between evaluations. The last round is always evaluated; 0: only the last."""

    method: Literal["likelihood", "generation"] = "likelihood"
    """Way to answer a multiple-choice question.

    ``likelihood``: the option with the highest log-likelihood. ``generation``: generated text,
    from which an answer is extracted.
    """

    reader: Literal["default", "release"] = "default"
    """Rule that extracts the choice from a generated text, for ``method: generation``.

    ``default``: the option that the text chooses; none where it is in doubt. ``release``: the rule
    of the research code that published DRAKE and HFLB, for comparison with its figures: the first
    option in the list that occurs anywhere in the text, even inside a word.
    """

    length: Literal["sum", "mean"] = "sum"
    """An option's log-likelihood: ``sum`` or ``mean`` over its tokens.

    ``mean`` favours long options.
    """

    items: int | None = Field(default=None, ge=1)
    """Test items per task during the run; an item is one question. None: all."""

    last_items: int | None = Field(default=None, ge=1)
    """Test items per task after the last round. None: all."""

    clients: Literal["all", "participants"] = "all"
    """Clients that are evaluated.

    ``participants``: those that take part in the round, so that a round costs the same in a large
    population; figures of a client are then those of its last evaluated round.
    """

    others: bool = True
    """Also evaluate each client on the other clients' tasks."""

    others_items: int | None = Field(default=None, ge=1)
    """Most test items per task of other clients. None: as many as of the client's own.

    Others averages over many tasks, so fewer items each suffice.
    """

    before: bool = False
    """Also evaluate after the download and before local training."""

    views: tuple[str, ...] = ("mixed",)
    """Views that are evaluated: the models that one client can be evaluated as.

    ``mixed``: the model that the client would use. ``local``: with its local adapter alone.
    ``global``: with the global adapter alone, that is with what it received. ``base``: the base
    model without adapters. ``routed``: an input that resembles the client's own training prompts
    is answered by ``mixed``, any other by ``global``. ``routed-base``: any other by ``base``.
    ``routing`` sets what resembles. Every algorithm has ``mixed``, ``base`` and ``routed-base``. A
    view that an algorithm does not have is skipped. The first that it has gives the main figures.
    """

    fast: bool = True
    """Evaluate the faster way.

    Adapters are merged into copies of the weights, and the items of all tasks share batches that
    are bounded by their tokens. The beginning that prompts and options have in common is computed
    once, where that saves much and the model can. On a CPU the decoder layers of Llama and Qwen2
    are computed in few operations; those of other families are run as they are. Log-likelihoods
    differ in their last digits, by no more than rounding in float32 does.

    Merged weights take at most 2 GiB during an evaluation; layers beyond that stay as they are. On
    AMD processors with AVX-512, frozen weights in oneDNN's layout take at most 1 GiB between
    evaluations.

    ``false``: the plain way, one task after another with the layers as they are trained.
    """

    batch_size: int | None = Field(default=None, ge=1)
    """Most sequences in a batch of evaluation.

    None: 64; with ``fast``, batches of prompts whose options are one token each are bounded by
    their tokens alone (1,024 on a CPU, 16,384 on another device).
    """

    max_new_tokens: int = Field(default=16, ge=1)
    """Most tokens that are generated for an answer."""
