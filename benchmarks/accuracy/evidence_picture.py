"""Draw every algorithm of the evidence, Self and Others with intervals: docs/evidence.svg.

  python -m benchmarks.accuracy.evidence_picture

Reads results/evidence.json. The same result gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.evidence_content import labels_of
from benchmarks.accuracy.evidence_rows import LOCAL
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import ROOT, read_result
from fedmosaic.experiments.statistics import interval
from fedmosaic.reporting.html.axes import WIDE
from fedmosaic.reporting.html.drawing import svg
from fedmosaic.reporting.html.figures import COLUMNS, draw_ranking
from fedmosaic.reporting.html.palette import plot_styles

PICTURE = ROOT / "docs" / "evidence.svg"


def draw(rows: Mapping[str, Any]) -> str:
    """Return the algorithms of a part as the text of an SVG file, without FedMosaic's variants."""
    labels = labels_of(rows, "algorithm")
    estimates = {
        label: {column: interval(rows[label][column]["values"]) for column in COLUMNS}
        for label in labels
    }
    figure = draw_ranking(estimates, "accuracy", LOCAL, plot_styles(labels), WIDE)
    figure.set_facecolor("white")  # the page may be dark
    return svg(figure)


def main() -> None:
    """Read the result and draw its static part."""
    benchmark_parser(__doc__).parse_args()
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(read_result("evidence")["static"]["rows"]))
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
