"""One typed configuration: what a scenario file holds is what the command line sets and what a run folder records."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    """Base of all sections: unknown keys are errors, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSpec(Settings):
    """A task by its name; ``kind`` and ``metric`` only where the data does not tell (DRAKE's open-ended tasks)."""

    name: str
    kind: Literal["choice", "open"] | None = None
    metric: Literal["accuracy", "f1", "rouge_l"] | None = None


class ClientSpec(Settings):
    """One client: its model, its private tasks, the group it is reported in, and its adapters' rank (None: ``adapter.r``)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    model: str
    r: int | None = Field(default=None, ge=1)
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    group: str = ""

    @field_validator("tasks", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return (
            [{"name": item} if isinstance(item, str) else item for item in value]
            if isinstance(value, list)
            else value
        )


class DataSettings(Settings):
    """Where task names lead, and how many examples of each are used.

    Attributes:
        root: folder of the datasets, for layouts ``<Dataset>/{train,test}/dataset-<k>.json``.
        train, test: at most so many examples a task (None: all, or the benchmark's own default).
        seed: draws the benchmark's examples (procedural data) or the sub-sample.
        validation: seed of a validation split: a fifth of each task's training examples is held out and measured on in the
            place of the test examples, which are not used. None: measure on the test examples.
        public: a public set, seen by everybody: scales and aligns the shared subspaces, and distillation works on it. ``none``
            where there is none.
        public_size: number of its examples that are used.
    """

    root: Path | None = None
    train: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    seed: int = 0
    validation: int | None = None
    public: str = "none"
    public_size: int = Field(default=64, ge=1)


class ModelSettings(Settings):
    """How base models are loaded (see :class:`fedmosaic.models.source.ModelOptions`)."""

    device: str = "auto"
    dtype: str = "auto"
    quantise: Literal["none", "8bit", "4bit"] = "none"
    trust_remote_code: bool = False
    gradient_checkpointing: bool = False


class AdapterSettings(Settings):
    """Shape of the adapters (paper: r 128, α 256, dropout 0.05, N_B 4).

    Attributes:
        r, alpha, dropout: of LoRA and of Co-LoRA alike; scaling s = α/r. A client may have a rank of its own
            (``clients.<i>.r``); s is the same for all clients, so that B A means the same at every rank.
        num_blocks: N_B, the number of blocks; their last layers carry Co-LoRA. 0: ordinary LoRA on every layer.
        gate: ``scalar`` (one β a layer, the paper), ``input`` (β depends on the input) or ``none``.
        gate_init: β at the start; 0 mixes half and half.
        shared_init: frozen A, B are ``random`` orthonormal or the singular vectors of the base weight (``svd``).
        shared_scale: ``unit`` (A x has unit RMS, B a share ``b_scale`` of RMS(W x), measured on the public set) or ``raw``.
        target_modules: module names; None for the seven projections of each decoder layer.
        shared_r, shared_modules: rank and module names of Co-LoRA on block ends where they are others than ``r`` and
            ``target_modules``; what is not shared there carries ordinary LoRA.
    """

    r: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    num_blocks: int = Field(default=4, ge=0)
    gate: Literal["scalar", "input", "none"] = "scalar"
    gate_init: float = 0.0
    shared_init: Literal["random", "svd"] = "random"
    shared_scale: Literal["unit", "raw"] = "unit"
    b_scale: float = Field(default=1.0, gt=0)
    target_modules: tuple[str, ...] | None = None
    shared_r: int | None = Field(default=None, ge=1)
    shared_modules: tuple[str, ...] | None = None


class RefineSettings(Settings):
    """A and B made for many random pseudo-tasks about the public data (:mod:`fedmosaic.alignment.refinement`).

    Attributes:
        questions: made-up questions. size: public examples each is asked about. Time grows with both, memory with neither.
        kept: questions of which everything is held in memory, to set strengths by and for descent: about 6 (tokens) (width) bytes
            a site, example and model.
        steps: of gradient descent on pseudo-tasks, after the closed form; 0 leaves it out.
        batch, tasks: questions a step, and tasks on each. support: examples that a task is learned from, at most.
        lr: step of A and B, relative to their RMS. own: weight of a model's own tasks beside those that come from another model.
        ridge: between these the penalty is drawn with which P is learned; a large one stands for early stopping.
        join: a folder with alignments that were refined together with the same pivot on the same data: those stand as they are,
            and a model that is not among them is fitted to the pivot's.
    """

    questions: int = Field(default=900, ge=1)
    size: int = Field(default=16, ge=4)
    kept: int = Field(default=64, ge=1)
    steps: int = Field(default=0, ge=0)
    batch: int = Field(default=3, ge=1)
    tasks: int = Field(default=8, ge=1)
    support: int = Field(default=48, ge=8)
    lr: float = Field(default=1e-2, gt=0)
    own: float = Field(default=0.5, ge=0)
    ridge: tuple[float, float] = (0.3, 5.0)
    join: str | None = None


class AlignmentSettings(Settings):
    """How the frozen A and B of different models are made to mean the same, on public data (section 3 of the method).

    Attributes:
        method: what B is fitted to: the layers' output ``gradients`` (what P learns from), their ``outputs`` (the paper: CCA), the
            paper's ``release`` (for comparison); ``none`` leaves every model its own pair.
        fit: A and B on gradients by ``ridge`` regression or orthogonal ``procrustes``; ``descent``: A by the paper's gradient descent
            (for comparison; as slow as the public data is long), B on gradients by ridge.
        ridge: added to the covariances, as a share of their mean diagonal.
        pivot: the model that the others are aligned to, ``smallest`` of the federation by number of parameters.
        pivot_init: the pivot's own pair: ``random`` orthonormal, singular vectors of the weight (``svd``), or ``principal``
            directions of its inputs and output gradients.
        layers: block ends by the paper's rule of relative ``depth``; as ``even`` as can be, which is the same where the blocks
            divide the layers; or those most like the pivot's by ``cka``.
        tokens: ``all`` matched tokens count, or only those of the ``answer``.
        probe: output gradients of random directions on answer ``words``, of the answers' ``likelihood``, or ``auto`` by the data.
        probes: number of random directions for each example. held_out: share of the examples that only the report sees.
        rank, blocks, modules: the sites, N_B blocks with A, B of that rank on each module; a run takes its adapter's.
        batch_size, seed: of the passes over the public data; of everything random.
        size: number of public examples; None: those that the federation has (``data.public_size``).
        refine: functional refinement in place of the closed forms; None leaves it out.
    """

    method: Literal["gradients", "outputs", "release", "none"] = "gradients"
    fit: Literal["ridge", "procrustes", "descent"] = "ridge"
    ridge: float = Field(default=1e-3, ge=0)
    pivot: str = "smallest"
    pivot_init: Literal["random", "svd", "principal"] = "principal"
    layers: Literal["depth", "even", "cka"] = "depth"
    tokens: Literal["all", "answer"] = "all"
    probe: Literal["auto", "words", "likelihood"] = "auto"
    probes: int = Field(default=4, ge=1)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    rank: int = Field(default=16, ge=1)
    blocks: int = Field(default=4, ge=0)
    modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    batch_size: int = Field(default=16, ge=1)
    seed: int = 0
    size: int | None = Field(default=None, ge=1)
    refine: RefineSettings | None = None


class TrainSettings(Settings):
    """Local training (paper, DRAKE: 100 steps a round for local training alone, batch 4, AdamW without decay).

    Attributes:
        steps: local optimiser steps a round; an algorithm may have its own number (``algorithms.<name>.steps``).
        lr: learning rate of LoRA weights. lr_shared: of P and Q. lr_gate: of the gate's β (None: as ``lr``).
        moment_shared: Adam's second moment of P and Q for each ``entry`` as usual, or one for each whole ``tensor``: with refined A and B
            that is what makes P carry over from model to model.
        schedule: ``constant`` or ``cosine`` (over all rounds of the run, continuing from round to round).
        clip: gradient norm limit; 0 for none.
    """

    steps: int = Field(default=100, ge=1)
    batch_size: int = Field(default=4, ge=1)
    lr: float = Field(default=2e-5, gt=0)
    lr_shared: float = Field(default=5e-5, gt=0)
    lr_gate: float | None = Field(default=None, gt=0)
    moment_shared: Literal["entry", "tensor"] = "entry"
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, ge=0)


class BudgetSettings(Settings):
    """What every algorithm may spend alike; ``budget: flops`` is short for ``budget: {kind: flops}``.

    Attributes:
        kind: ``steps``: ``train.steps`` local steps a round, or the algorithm's own number (``algorithms.<name>.steps``).
            ``flops``: as many local steps a round as cost no more operations than ``train.steps`` steps of local training
            (sft), over all clients, as counted in a rehearsal before the run; an own number of steps does not count then.
            ``bytes``: fewer rounds, so that no client sends and receives more than ``megabytes`` in the whole run.
            No budget limits the oracle ``pooled``.
        megabytes: of 10⁶ bytes, both ways together; for ``bytes`` only.
    """

    kind: Literal["steps", "flops", "bytes"] = "steps"
    megabytes: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _limit(self) -> BudgetSettings:
        if (self.kind == "bytes") != (self.megabytes is not None):
            raise ValueError("megabytes belongs to kind: bytes, and that needs it")
        return self


class MemorySettings(Settings):
    """The online memory: at most ``size`` samples (None: no limit); draws ∝ exp(−count/temperature), counts × decay a draw."""

    size: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.125, gt=0)
    decay: float = Field(default=0.99, gt=0, le=1)


class RelevanceSettings(Settings):
    """RELA (paper: m 10, α 0.5, τ 0.5, ratio 0.4, noise 1e-4).

    Attributes:
        kind: ``rela`` or a control: ``uniform``, ``permuted`` (RELA's weights handed to the wrong peers), ``random``
            (``sources`` random peers alike, drawn anew each round), ``oracle`` (as many parts as tasks of common families).
        model: the signature model; ``smallest`` of the federation by number of parameters, or a model name.
        every: m, a signature every m-th batch. ema: α. keep: share of coordinates that leave the client.
        noise, noise_std, clip: sanitisation; ``clip`` None leaves the norm alone.
        tau: softmax temperature. top_k: only the k most similar peers (None: all).
        relative_tau: temperature in standard deviations of the similarities between different clients, in place of ``tau``
            (None: ``tau``); see :func:`fedmosaic.relevance.weights.spread`.
    """

    kind: Literal["rela", "uniform", "permuted", "random", "oracle"] = "rela"
    sources: int = Field(default=2, ge=1)
    model: str = "smallest"
    every: int = Field(default=10, ge=1)
    ema: float = Field(default=0.5, gt=0, le=1)
    keep: float = Field(default=0.4, gt=0, le=1)
    noise: Literal["gaussian", "laplace", "none"] = "gaussian"
    noise_std: float = Field(default=1e-4, ge=0)
    clip: float | None = Field(default=None, gt=0)
    tau: float = Field(default=0.5, gt=0)
    relative_tau: float | None = Field(default=None, gt=0)
    top_k: int | None = Field(default=None, ge=1)


class EvaluationSettings(Settings):
    """What is measured, when and how; the choice is part of every report.

    Attributes:
        every: rounds between evaluations; the last round is always evaluated. 0: only the last round.
        method: multiple-choice by ``likelihood`` of the options or by ``generation`` and an answer reader.
        length: an option's log-likelihood is the ``sum`` over its tokens or their ``mean`` (kinder to long options).
        items, last_items: test items a task during the run and after its last round (None: all).
        others: also measure each client on the other clients' tasks.
        others_items: the most test items of a task that is not the client's own (None: as many as of its own). Others is a mean over
            many tasks, Self over few: it is as sure with fewer items a task.
        before: also measure after the download and before local training.
        views: which of the client's models; ``mixed`` is what it would use. Algorithms with branches also have ``local``.
    """

    every: int = Field(default=5, ge=0)
    method: Literal["likelihood", "generation"] = "likelihood"
    length: Literal["sum", "mean"] = "sum"
    items: int | None = Field(default=None, ge=1)
    last_items: int | None = Field(default=None, ge=1)
    others: bool = True
    others_items: int | None = Field(default=None, ge=1)
    before: bool = False
    views: tuple[str, ...] = ("mixed",)
    batch_size: int = Field(default=64, ge=1)
    max_new_tokens: int = Field(default=16, ge=1)


class Scenario(Settings):
    """Everything a run needs except its seed, algorithm and folder."""

    title: str = ""
    stream: Literal["static", "dynamic"] = "static"
    rounds: int = Field(default=20, ge=1)
    participation: float = Field(default=1.0, gt=0, le=1)
    clients: tuple[ClientSpec, ...] = Field(min_length=1)
    unseen: tuple[TaskSpec, ...] = ()
    data: DataSettings = DataSettings()
    models: ModelSettings = ModelSettings()
    adapter: AdapterSettings = AdapterSettings()
    alignment: AlignmentSettings = AlignmentSettings(method="none")
    train: TrainSettings = TrainSettings()
    budget: BudgetSettings = BudgetSettings()
    memory: MemorySettings = MemorySettings()
    relevance: RelevanceSettings = RelevanceSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    algorithms: dict[str, dict[str, Any]] = {}

    _unseen_names = field_validator("unseen", mode="before")(ClientSpec._names.__func__)  # type: ignore[attr-defined]

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _client_names(self) -> Scenario:
        names = [client.name for client in self.clients]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"clients: two clients are named {twice[0]!r}; every client needs a name of its own"
            )
        return self

    @property
    def models_used(self) -> list[str]:
        """The model names of the clients, each once, in order of first use."""
        return list(dict.fromkeys(client.model for client in self.clients))

    def rank_of(self, name: str) -> int:
        """The rank of a client's adapters: its own, or ``adapter.r``."""
        return next(client.r for client in self.clients if client.name == name) or self.adapter.r

    def at_rank(self, rank: int) -> Scenario:
        """The scenario with ``adapter.r`` set to ``rank`` and ``adapter.alpha`` in proportion, so that s = α/r stays."""
        adapter, alpha = self.adapter, self.adapter.alpha * rank / self.adapter.r
        clients = tuple(
            client.model_copy(update={"r": self.rank_of(client.name)}) for client in self.clients
        )
        changed = adapter.model_copy(update={"r": rank, "alpha": alpha})
        return self.model_copy(update={"adapter": changed, "clients": clients})
