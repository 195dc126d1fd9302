"""Draw every algorithm of the evidence, Self and Others with intervals: docs/evidence.svg.

  python -m benchmarks.accuracy.evidence_picture

Reads results/evidence.json. The parts are one below the other: static, and homogeneous where it is
published. The band reaches from local training to training on all data: the headroom. A hollow mark
is the same run with routing. The same result gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.accuracy.evidence_claims import routed
from benchmarks.accuracy.evidence_content import MAIN, labels_of
from benchmarks.accuracy.evidence_parts import HOMOGENEOUS, STATIC
from benchmarks.accuracy.evidence_rows import ADDITIVE, LOCAL, POOLED
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import ROOT, read_result
from fedmosaic.experiments.statistics import Interval, interval
from fedmosaic.reporting.html.axes import WIDE, draw_point, make_axes, mark_options
from fedmosaic.reporting.html.drawing import plain, svg
from fedmosaic.reporting.html.figures import draw_ranking
from fedmosaic.reporting.html.palette import BACKGROUND, LINE, SOFT, PlotStyle, plot_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = ROOT / "docs" / "evidence.svg"
TITLES = {
    STATIC: {"Self": "Three architectures: own tasks, %", "Others": "others' tasks, %"},
    HOMOGENEOUS: {"Self": "One architecture: own tasks, %", "Others": "others' tasks, %"},
}
ROW_HEIGHT = 0.21  # inches

Estimates = Mapping[str, Mapping[str, Interval]]


def draw(parts: Mapping[str, Any]) -> str:
    """Return the picture as the text of an SVG file, without FedMosaic's variants.

    A result without headroom has its first part drawn alone.
    """
    if not parts[STATIC].get("headroom"):
        rows = parts[STATIC]["rows"]
        labels = labels_of(rows, "algorithm")
        estimates = estimates_of(rows, labels)
        figure = draw_ranking(estimates, "accuracy", LOCAL, plot_styles(labels), WIDE)
    else:
        shown = [part for part in TITLES if part in parts]
        most = max(len(_labels(parts[part]["rows"])) for part in shown)
        height = len(shown) * (0.75 + ROW_HEIGHT * most)
        figure, panels = make_axes(WIDE, height, 2 * len(shown), grid=len(shown) > 1)
        every = [label for part in shown for label in _labels(parts[part]["rows"])]
        styles = plot_styles(list(dict.fromkeys(every)))
        for number, part in enumerate(shown):
            _draw_part(part, parts[part]["rows"], panels[2 * number : 2 * number + 2], styles)
    figure.set_facecolor("white")  # the page may be dark
    return svg(figure)


def estimates_of(rows: Mapping[str, Any], labels: Sequence[str]) -> Estimates:
    """Return mean and interval of Self and Others of some rows."""
    return {
        label: {column: interval(rows[label][column]["values"]) for column in MAIN}
        for label in labels
    }


def _labels(rows: Mapping[str, Any]) -> list[str]:
    """Return the rows of the picture, the best on own tasks first."""
    found = [*labels_of(rows, "algorithm"), *labels_of(rows, "experts")]
    found += [ADDITIVE] * (ADDITIVE in rows)
    return sorted(found, key=lambda label: -rows[label]["Self"]["mean"])


def _draw_part(
    part: str, rows: Mapping[str, Any], panels: Sequence[Axes], styles: Mapping[str, PlotStyle]
) -> None:
    """Draw a part into two panels, each row in its style."""
    labels = _labels(rows)
    estimates = estimates_of(rows, list(rows))
    for axes, column in zip(panels, MAIN, strict=True):
        local = estimates[LOCAL][column].mean
        if POOLED in rows and (most := estimates[POOLED][column].mean) > local:
            axes.axvspan(local, most, color=LINE, alpha=0.5, zorder=0)
        axes.axvline(local, color=SOFT, linewidth=0.8, zorder=2)
        for place, label in enumerate(labels):
            at = Interval(float(place), None, 1)
            if other := estimates.get(routed(label)):
                _draw_hollow(axes, styles[label], other[column].mean, place)
            draw_point(axes, styles[label], estimates[label][column], at)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_yticks(range(len(labels)), [plain(label) for label in labels])
        axes.tick_params(labelleft=column == MAIN[0])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(TITLES[part][column])


def _draw_hollow(axes: Axes, style: PlotStyle, x: float, y: float) -> None:
    hollow = {"markerfacecolor": BACKGROUND, "markeredgecolor": style.colour}
    axes.plot([x], [y], **{**mark_options(style), **hollow, "markeredgewidth": 1.1}, zorder=4)


def main() -> None:
    """Read the result and draw it."""
    benchmark_parser(__doc__).parse_args()
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(read_result("evidence")))
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
