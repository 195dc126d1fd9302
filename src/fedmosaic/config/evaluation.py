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
    """How a multiple-choice question is answered.

    ``likelihood``: the option with the highest log-likelihood. ``generation``: generated text,
    from which an answer is extracted.
    """

    length: Literal["sum", "mean"] = "sum"
    """An option's log-likelihood: ``sum`` or ``mean`` over its tokens.

    ``mean`` favours long options.
    """

    items: int | None = Field(default=None, ge=1)
    """Test items a task during the run. None: all."""

    last_items: int | None = Field(default=None, ge=1)
    """Test items a task after the last round. None: all."""

    others: bool = True
    """Also evaluate each client on the other clients' tasks."""

    others_items: int | None = Field(default=None, ge=1)
    """Most test items of a task of other clients. None: as many as of the client's own.

    The mean over others' tasks covers many tasks, that over own tasks few. It is as precise with
    fewer items a task.
    """

    before: bool = False
    """Also evaluate after the download and before local training."""

    views: tuple[str, ...] = ("mixed",)
    """Which of a client's models are evaluated.

    ``mixed``: the model that the client would use. Algorithms with a local and a global adapter
    also have ``local``.
    """

    batch_size: int = Field(default=64, ge=1)
    """Sequences in a batch of evaluation."""

    max_new_tokens: int = Field(default=16, ge=1)
    """Most tokens that are generated for an answer."""
