"""The picture of the README: every algorithm of the evidence, Self and Others, with intervals.

python -m benchmarks.accuracy.evidence_picture        # reads results/evidence.json, writes docs/evidence.svg
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.evidence import FEDMOSAIC, VARIANTS
from benchmarks.common.paths import RESULTS, ROOT
from fedmosaic.experiments.statistics import interval
from fedmosaic.reporting.html.axes import WIDE
from fedmosaic.reporting.html.drawing import svg
from fedmosaic.reporting.html.figures import AXES, draw_ranking
from fedmosaic.reporting.html.palette import plot_styles

PICTURE = ROOT / "docs" / "evidence.svg"


def draw(rows: Mapping[str, Any]) -> str:
    """The algorithms of a part of the evidence as an SVG file; FedMosaic's variants stand in tables."""
    own = {variant.label for variant in VARIANTS}
    labels = [label for label in rows if label not in own or label == FEDMOSAIC.label]
    estimates = {
        label: {column: interval(rows[label][column]["values"]) for column in AXES}
        for label in labels
    }
    figure = draw_ranking(estimates, "sft", plot_styles(labels), WIDE)
    figure.set_facecolor("white")  # it is looked at on dark pages, too
    return svg(figure)


def main() -> None:
    """Read the result file and draw it."""
    parts = json.loads((RESULTS / "evidence.json").read_text())
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(parts["static"]["rows"]))
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
