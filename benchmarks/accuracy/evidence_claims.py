"""State the claims that the evidence judges: those of the paper, and those about extensions.

A claim whose rows are not there is not judged.
"""

from __future__ import annotations

from benchmarks.accuracy.evidence_rows import (
    ADDITIVE,
    ADDITIVE_ROTATED,
    ADDITIVE_TEMPERATURE,
    BASELINES,
    EXPERTS,
    FEDMOSAIC,
    FEDMOSAIC_EXPERTS,
    FURTHER,
    INTERPOLATION,
    LARGER_RANK,
    LOCAL,
    NO_COMMUNICATION,
    ORACLE,
    PERMUTED,
    RELATIVE_TEMPERATURE,
    ROTATED,
    ROUTED,
    ROUTED_BASE,
    ROWS,
    SAME_ARCHITECTURE,
    TRAINED,
    UNALIGNED,
    UNIFORM,
    WITHIN,
    view_label,
)
from benchmarks.common.claims import Claim

OURS = FEDMOSAIC.label
OTHER_BASELINES = tuple(name for name in (*BASELINES, *FURTHER) if name != LOCAL)
PAPER = (
    Claim("FedMosaic outperforms local training", OURS, (LOCAL,)),
    Claim(
        "FedMosaic outperforms the same adapters without communication", OURS, (NO_COMMUNICATION,)
    ),
    Claim("FedMosaic outperforms every baseline", OURS, OTHER_BASELINES),
    Claim("RELA's weights outperform uniform weights", OURS, (UNIFORM,)),
    Claim("Control: an oracle's weights outperform uniform weights", ORACLE, (UNIFORM,)),
    Claim("RELA's weights outperform the same weights on permuted peers", OURS, (PERMUTED,)),
    Claim(
        "Extension: weights with a relative temperature outperform uniform weights",
        RELATIVE_TEMPERATURE,
        (UNIFORM,),
    ),
    Claim("Weights with a relative temperature outperform RELA's", RELATIVE_TEMPERATURE, (OURS,)),
    Claim("Aligned A, B outperform random A, B", OURS, (UNALIGNED,)),
    Claim("Aligned A, B outperform the same A, B rotated at random", OURS, (ROTATED,)),
    Claim(
        "Sharing across architectures outperforms sharing within an architecture",
        OURS,
        (SAME_ARCHITECTURE,),
    ),
    Claim(
        "Extension: additive sharing across architectures outperforms sharing within an "
        "architecture",
        ADDITIVE,
        (SAME_ARCHITECTURE,),
    ),
    Claim(
        "Additive sharing outperforms additive sharing with A, B rotated at random",
        ADDITIVE,
        (ADDITIVE_ROTATED,),
    ),
    Claim("Additive sharing outperforms local training", ADDITIVE, (LOCAL,)),
    Claim("Additive sharing outperforms every baseline", ADDITIVE, OTHER_BASELINES),
    Claim(
        "Additive sharing with a relative temperature outperforms additive sharing",
        ADDITIVE_TEMPERATURE,
        (ADDITIVE,),
    ),
    Claim(
        "Extension: interpolation (a fifth of what is received enters the own adapter) "
        "outperforms FedMosaic",
        INTERPOLATION,
        (OURS,),
    ),
    Claim("Interpolation outperforms local training", INTERPOLATION, (LOCAL,)),
    Claim("Interpolation outperforms every baseline", INTERPOLATION, OTHER_BASELINES),
)


def routed(label: str) -> str:
    """Return the label of a row with routing."""
    return view_label(label, ROUTED)


# Of algorithms with experts routing alone is a control.
ROUTABLE = tuple(row.label for row in ROWS if ROUTED in row.views() and ROUTED not in row.controls)
ROUTED_BASELINES = tuple(routed(label) for label in OTHER_BASELINES if label in ROUTABLE)
ROUTER_ALONE = view_label(LOCAL, ROUTED_BASE)  # own adapter or base model: nothing is received
EVERY = "outperforms every baseline"


def _against_all(text: str, label: str) -> list[Claim]:
    """Return the claims about a row against local training and the baselines, routed or not."""
    return [
        Claim(f"{text} outperforms local training", label, (LOCAL,)),
        Claim(f"{text} {EVERY}", label, OTHER_BASELINES),
        Claim(f"{text} {EVERY} with the same routing", label, ROUTED_BASELINES),
        Claim(f"{text} outperforms the router alone", label, (ROUTER_ALONE,)),
    ]


ROUTING = (
    Claim("Control: the router alone outperforms local training", ROUTER_ALONE, (LOCAL,)),
    *_against_all("FedMosaic with routing", routed(OURS)),
    *_against_all("Additive sharing with routing", routed(ADDITIVE)),
)
WITH_AND_WITHOUT = tuple(
    Claim(f"{label}: with routing outperforms without", routed(label), (label,))
    for label in ROUTABLE
)
# Views of algorithms with experts that lack the thing in question.
CONTROLS = {
    "own": "the same training, its own model alone",
    ROUTED: "routing between its own model and what it received",
    "experts-random": "random experts",
    "experts-permuted": "prototypes of permuted clients",
    "experts-client": "the nearest client in place of the nearest prototype",
    ROUTED_BASE: "the router without adapters of others",
}


def _experts(text: str, label: str) -> list[Claim]:
    """Return the claims about an algorithm with experts."""
    controls = next(row.controls for row in ROWS if row.label == label)
    rivals = {
        "FedMosaic with routing": routed(OURS),
        "additive sharing": ADDITIVE,
        "additive sharing with routing": routed(ADDITIVE),
        "FedAvg of a larger rank": LARGER_RANK,
        **{CONTROLS[view]: view_label(label, view) for view in controls},
    }
    return [
        *_against_all(text, label),
        *(Claim(f"{text} outperforms {words}", label, (row,)) for words, row in rivals.items()),
    ]


EXPERT_CLAIMS = (
    *_experts("FedMosaic with experts", FEDMOSAIC_EXPERTS),
    Claim("FedMosaic with experts outperforms FedMosaic", FEDMOSAIC_EXPERTS, (OURS,)),
    Claim(
        "FedMosaic with experts outperforms local training with experts",
        FEDMOSAIC_EXPERTS,
        (EXPERTS,),
    ),
    Claim(
        "Experts of other architectures outperform those of the own alone",
        FEDMOSAIC_EXPERTS,
        (WITHIN,),
    ),
    Claim(
        "P, Q that are learned for other architectures outperform those as trained",
        FEDMOSAIC_EXPERTS,
        (TRAINED,),
    ),
)
# By what they are about. The page of results shows the main ones.
MAIN_CLAIMS = {
    "The paper and its extensions": PAPER,
    "Routing": ROUTING,
    "Experts": EXPERT_CLAIMS,
}
CLAIMS = {
    **MAIN_CLAIMS,
    "Routing, algorithm by algorithm": WITH_AND_WITHOUT,
    "Local training with experts": tuple(_experts("Local training with experts", EXPERTS)),
}
