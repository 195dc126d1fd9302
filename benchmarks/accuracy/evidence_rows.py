"""List the rows of the evidence: what is run, with which settings, in which order.

A row is an algorithm with its settings. An algorithm that is new needs one line in :data:`ROWS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.accuracy.evidence_parts import (
    DYNAMIC,
    HOMOGENEOUS,
    LANGUAGE,
    MINIATURES,
    STATIC,
    UNMATCHED,
)
from fedmosaic.algorithms import TABLE, algorithm_class
from fedmosaic.experiments.variants import Variant

COLORA = (
    "adapter.num_blocks=8",
    "adapter.block_rule=even",
    "adapter.shared_modules=[o_proj]",
    "adapter.shared_r=64",
    "train.moment_shared=tensor",
    "train.lr_shared=1e-2",
)
REFINED = ("alignment={method: gradients, refine: {}, size: 1500}",)
CLOSED_FORM = ("alignment={method: gradients, refine: null, size: 512}",)
NOT_ALIGNED = ("alignment={method: none}",)
# Views of a client's model that are measured in each run, where the algorithm has them.
VIEWS = ("mixed", "global")
ROUTED = "routed"  # mixed for inputs like the client's own, else global
ROUTED_BASE = "routed-base"  # mixed for inputs like the client's own, else the base model
BASE = "base"  # the base model without adapters
ZERO_SHOT = "zero-shot"  # label of the view base
LOCAL = "sft"
POOLED, POOLED_GROUP = "pooled", "pooled-group"
FEDMOSAIC = Variant("fedmosaic", "fedmosaic", COLORA + REFINED)
# Rows of FedMosaic with one thing changed, and what is changed.
SAME_ARCHITECTURE = "same architecture"  # P, Q are shared within an architecture alone
UNIFORM = "uniform"  # equal weights instead of RELA's
PERMUTED = "permuted"  # RELA's weights, given to permuted peers
ORACLE = "oracle"  # weights that know which clients have families of tasks in common
RELATIVE_TEMPERATURE = "relative temperature"  # tau in standard deviations of the similarities
UNALIGNED = "unaligned"  # random A, B
ROTATED = "rotated"  # the refined A, B of each architecture, rotated at random
CLOSED = "closed form"  # A, B by the closed form of alignment
ADDITIVE = "additive"  # other architectures' P, Q are added to the mix of the own architecture
INTERPOLATION = "interpolation"  # a fifth of what is received enters the own adapter
NO_COMMUNICATION = "no communication"  # the same adapters, nothing is exchanged
ADDITIVE_TEMPERATURE = f"{ADDITIVE}, {RELATIVE_TEMPERATURE}"
ADDITIVE_ROTATED = f"{ADDITIVE}, {ROTATED}"  # shows what alignment contributes to additive sharing
AS_PUBLISHED = "as published"
ON_LORA = "on LoRA"  # ordinary LoRA in place of Co-LoRA, for clients of one architecture


def view_label(label: str, view: str) -> str:
    """Return the label of a further view of a row, such as ``experts, random``."""
    return f"{label}, {view.removeprefix('experts-')}"


@dataclass(frozen=True)
class EvidenceRow:
    """Describe a row.

    Attributes:
        variant: its label, algorithm, and settings on the miniature benchmark.
        parts: the parts of the miniature benchmark that have it.
        rate_of: label of the row whose learning rate it takes; empty: it chooses its own.
        kind: ``algorithm``, ``changed`` (FedMosaic with one thing changed), ``experts`` or
            ``oracle``.
        view: the view that its figures are of.
        controls: further views, each of which is shown as a row.
    """

    variant: Variant
    parts: tuple[str, ...] = MINIATURES
    rate_of: str = ""
    kind: str = "algorithm"
    view: str = "mixed"
    controls: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return the label of the variant."""
        return self.variant.label

    def shown_as(self, view: str) -> str:
        """Return the label of a view in tables."""
        if view == BASE:
            return ZERO_SHOT
        return self.label if view == self.view else view_label(self.label, view)

    @property
    def routes(self) -> bool:
        """Return whether routing is measured, as of some of FedMosaic's variants alone."""
        return self.kind != "changed" or self.label in (ADDITIVE, ON_LORA)

    @property
    def shown(self) -> tuple[str, ...]:
        """Return the views that are shown as rows of tables."""
        if not self.routes:
            return (self.view,)
        base = (BASE,) if self.label == LOCAL else ()
        return tuple(dict.fromkeys((self.view, ROUTED, *base, *self.controls)))

    def views(self) -> tuple[str, ...]:
        """Return the views that its runs measure, as far as the algorithm has them."""
        wanted = [*VIEWS, *self.shown] if self.routes else self.shown
        known = algorithm_class(self.variant.algorithm).all_views()
        return tuple(view for view in dict.fromkeys(wanted) if view in known)


MATCHED = (STATIC, DYNAMIC, HOMOGENEOUS)
# In the other parts one FedMKT step costs more than all of a client's local training.
BASELINE_PARTS = {"fedmkt": (STATIC, UNMATCHED)}
BASELINES = (
    LOCAL,
    "fedavg",
    "ditto",
    "fedsim",
    "feddat",
    "feddpa",
    "perada",
    "fedmkt",
    "takfl",
    "fedprox",
    "scaffold",
    "fedper",
    "feddistill",
    "hetlora",
    "flexlora",
    "flora",
    "fedsa-lora",
    "ffa-lora",
)
LARGER_RANK = "fedavg, larger rank"  # at least the bytes that experts take
EXPERTS, FEDMOSAIC_EXPERTS = "experts", "fedmosaic-experts"
WITHIN = f"{FEDMOSAIC_EXPERTS}, same architecture"  # no experts of other architectures
TRAINED = f"{FEDMOSAIC_EXPERTS}, trained P, Q"  # these give P, Q as trained, not learned for others
# Views of algorithms with experts that lack the thing in question.
EXPERT_CONTROLS = (
    *("own", ROUTED, ROUTED_BASE),
    *("experts-random", "experts-permuted", "experts-client"),
)
# Algorithms of other papers that came later.
FURTHER = tuple(
    name
    for name in TABLE
    if name not in {*BASELINES, FEDMOSAIC.label, POOLED, EXPERTS, FEDMOSAIC_EXPERTS}
)


def _changed(
    label: str,
    algorithm: str,
    settings: Sequence[str] = (*COLORA, *REFINED),
    parts: tuple[str, ...] = MATCHED,
) -> EvidenceRow:
    """Return a row of FedMosaic with one thing changed, at the learning rate of FedMosaic."""
    variant = Variant(label, algorithm, tuple(settings))
    return EvidenceRow(variant, parts, rate_of=FEDMOSAIC.label, kind="changed")


def _experts(
    label: str,
    algorithm: str,
    rate_of: str,
    settings: tuple[str, ...] = (),
    parts: tuple[str, ...] = MINIATURES,
) -> EvidenceRow:
    """Return a row with experts, at the learning rate of the same training without."""
    known = algorithm_class(algorithm).all_views()
    controls = tuple(view for view in EXPERT_CONTROLS if view in known)
    variant = Variant(label, algorithm, settings)
    return EvidenceRow(variant, parts, rate_of, kind="experts", controls=controls)


# In the order of tables. Where all clients have one architecture, there are no P, Q of others, and
# A, B need no alignment.
ROWS = (
    *(
        EvidenceRow(
            Variant(name, name),
            BASELINE_PARTS.get(name, MINIATURES),
            controls=(ROUTED_BASE,) if name == LOCAL else (),
        )
        for name in (*BASELINES, *FURTHER)
    ),
    EvidenceRow(Variant(LARGER_RANK, "fedavg", ("adapter.r=32", "adapter.alpha=64"))),
    _experts(EXPERTS, EXPERTS, LOCAL),
    _experts(FEDMOSAIC_EXPERTS, FEDMOSAIC_EXPERTS, FEDMOSAIC.label, COLORA + REFINED),
    *(
        _experts(
            label,
            FEDMOSAIC_EXPERTS,
            FEDMOSAIC.label,
            (*COLORA, *REFINED, f"algorithms.{FEDMOSAIC_EXPERTS}.across={across}"),
            (STATIC, DYNAMIC),
        )
        for label, across in ((WITHIN, "none"), (TRAINED, "trained"))
    ),
    EvidenceRow(Variant(POOLED, POOLED), kind="oracle"),
    EvidenceRow(Variant(POOLED_GROUP, POOLED_GROUP), kind="oracle"),
    EvidenceRow(FEDMOSAIC, controls=(ROUTED_BASE,)),
    EvidenceRow(Variant(ON_LORA, "fedmosaic-lora"), (HOMOGENEOUS,), kind="changed"),
    _changed(SAME_ARCHITECTURE, "fedmosaic-same-architecture", parts=(STATIC, DYNAMIC)),
    _changed(UNIFORM, "fedmosaic-uniform"),
    _changed(PERMUTED, "fedmosaic-permuted"),
    _changed(ORACLE, "fedmosaic-oracle"),
    _changed(RELATIVE_TEMPERATURE, "fedmosaic-relative-temperature"),
    _changed(UNALIGNED, "fedmosaic-unaligned", COLORA + NOT_ALIGNED, (STATIC, DYNAMIC)),
    _changed(ROTATED, "fedmosaic-rotated", parts=(STATIC,)),
    _changed(CLOSED, "fedmosaic", COLORA + CLOSED_FORM, (STATIC,)),
    _changed(ADDITIVE, "fedmosaic-additive", parts=(STATIC, DYNAMIC, UNMATCHED)),
    _changed(INTERPOLATION, "fedmosaic-interpolation", parts=(STATIC, HOMOGENEOUS)),
    _changed(NO_COMMUNICATION, "fedmosaic-no-communication"),
    _changed(
        ADDITIVE_TEMPERATURE,
        "fedmosaic-additive",
        (*COLORA, *REFINED, "relevance.relative_tau=0.5"),
        (STATIC,),
    ),
    _changed(ADDITIVE_ROTATED, "fedmosaic-additive-rotated", parts=(STATIC,)),
    _changed(AS_PUBLISHED, "fedmosaic", ("alignment={method: gradients, size: 512}",), (STATIC,)),
)
# Rows of the part with language models, whose scenario itself says what adapters are like.
LANGUAGE_ROWS = (
    LOCAL,
    "fedavg",
    EXPERTS,
    FEDMOSAIC_EXPERTS,
    POOLED,
    FEDMOSAIC.label,
    SAME_ARCHITECTURE,
    ADDITIVE,
    INTERPOLATION,
)
# These are run before the others.
FIRST = (
    LOCAL,
    FEDMOSAIC.label,
    ADDITIVE,
    POOLED,
    FEDMOSAIC_EXPERTS,
    WITHIN,
    EXPERTS,
    "fedavg",
    "fedsim",
    "ditto",
    LARGER_RANK,
    POOLED_GROUP,
    ON_LORA,
    "hetlora",
    "fedsa-lora",
)


def rows_of_part(part: str) -> list[EvidenceRow]:
    """Return the rows of a part in the order of tables."""
    if part == LANGUAGE:
        rows = [row for row in ROWS if row.label in LANGUAGE_ROWS]
        return [replace(row, variant=replace(row.variant, settings=())) for row in rows]
    return [row for row in ROWS if part in row.parts]


def in_running_order(rows: Sequence[EvidenceRow]) -> list[EvidenceRow]:
    """Return rows in the order in which they are run."""
    place = {label: number for number, label in enumerate(FIRST)}
    return sorted(rows, key=lambda row: place.get(row.label, len(FIRST)))
