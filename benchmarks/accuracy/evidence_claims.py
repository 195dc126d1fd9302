"""State the claims that the evidence judges: those of the paper, and those about the extensions."""

from __future__ import annotations

from benchmarks.accuracy.evidence_rows import (
    ADDITIVE,
    ADDITIVE_ROTATED,
    ADDITIVE_TEMPERATURE,
    BASELINES,
    FEDMOSAIC,
    INTERPOLATION,
    LOCAL,
    NO_COMMUNICATION,
    ORACLE,
    PERMUTED,
    RELATIVE_TEMPERATURE,
    ROTATED,
    SAME_ARCHITECTURE,
    UNALIGNED,
    UNIFORM,
)
from benchmarks.common.claims import Claim

OURS = FEDMOSAIC.label
OTHER_BASELINES = tuple(name for name in BASELINES if name != LOCAL)
CLAIMS = (
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
