"""Say which algorithm is best, by how much, and how certain that is.

A label is significantly above another when the 95 % t-interval of their difference, paired by
seed, lies above zero. The label with the highest mean is best if it is significantly above *every*
other one. It is chosen by the same seeds that it is judged on, and the intervals are not widened
for the number of labels: with many labels and few seeds, take a narrow win as a hint. Oracles do
not compete.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fedmosaic.experiments.statistics import Interval, interval
from fedmosaic.reporting.html.sections import Section
from fedmosaic.reporting.html.wording import TASKS, count, is_above, listed, points


@dataclass(frozen=True)
class Verdict:
    """Hold the result of a comparison in one column.

    Attributes:
        column: ``"Self"`` or ``"Others"``.
        best: the label with the highest mean.
        mean: its mean score in percent.
        second: the label with the second highest mean; None without another label.
        margin: best − second, paired by seed; None if they share no seed.
        rivals: labels that ``best`` is not significantly above, in the order of their means.
        beaten: labels that ``best`` is significantly above.
        over_local: best − local training; None where that is the best or missing.
    """

    column: str
    best: str
    mean: Interval
    second: str | None
    margin: Interval | None
    rivals: Sequence[str]
    beaten: Sequence[str]
    over_local: Interval | None

    @property
    def tasks(self) -> str:
        """The tasks that the column is about, in words."""
        return TASKS[self.column]

    @property
    def is_win(self) -> bool:
        """Whether ``best`` is significantly above every other label."""
        return self.second is not None and not self.rivals

    @property
    def lacks_interval(self) -> bool:
        """Whether the margin has no interval because there is only one seed."""
        return self.second is not None and (self.margin is None or self.margin.half is None)

    @property
    def certainty(self) -> str:
        """The certainty of the result, in a sentence."""
        if self.lacks_interval:
            return "Inconclusive: one seed gives no interval."
        total = len(self.rivals) + len(self.beaten)
        score = f"significantly above {len(self.beaten)} of {total} (95 %)"
        if self.is_win:
            return f"Supported: {score}."
        rest = f": {listed(self.beaten)}" if self.beaten else ""
        return f"Inconclusive: {score}{rest}; {listed(self.rivals)} may be as good."


def verdict_on(section: Section, column: str) -> Verdict | None:
    """Compare the labels of a section in one column.

    Returns:
        The verdict; None if nothing was measured.
    """
    values = {label: found for label in section.runs if (found := section.values(label, column))}
    order = sorted(
        [label for label in values if not section.is_oracle(label)] or values,
        key=lambda label: -statistics.fmean(values[label].values()),
    )
    if not order:
        return None
    best, *rest = order
    rivals = [label for label in rest if not is_above(section.gap(best, label, column))]
    local = section.reference
    return Verdict(
        column,
        best,
        interval(list(values[best].values())),
        rest[0] if rest else None,
        section.gap(best, rest[0], column) if rest else None,
        rivals,
        [label for label in rest if label not in rivals],
        section.gap(best, local, column) if local in rest else None,
    )


def headline(verdicts: Sequence[Verdict], seeds: int) -> str:
    """Sum the verdicts up in one sentence.

    Args:
        verdicts: one for each column that was measured.
        seeds: the number of seeds.
    """
    if not verdicts:
        return "Nothing was measured."
    first = verdicts[0]
    if all(verdict.second is None for verdict in verdicts):
        measured = " and ".join(f"{v.mean.mean:.1f} % on {v.tasks}" for v in verdicts)
        return f"{first.best} reaches {measured}."
    same = len(verdicts) > 1 and len({verdict.best for verdict in verdicts}) == 1
    margins = " and ".join(
        f"{points(v.margin)} on {v.tasks} (second: {v.second})" for v in verdicts
    )
    if same and all(verdict.is_win for verdict in verdicts):
        return f"{first.best} is best on both: {margins}."
    if any(verdict.is_win for verdict in verdicts):
        sentence = "; ".join(map(_clause, verdicts)) + "."
        return sentence[0].upper() + sentence[1:]
    highest = " and ".join(f"{v.best} on {v.tasks} ({_ahead(v)})" for v in verdicts)
    if same:
        highest = f"{first.best} on both, {margins}"
    reason = "one seed" if any(v.lacks_interval for v in verdicts) else count(seeds, "seed")
    return f"Inconclusive with {reason}. Highest: {highest}."


def _clause(verdict: Verdict) -> str:
    if verdict.is_win:
        return f"on {verdict.tasks} {verdict.best} is best ({_ahead(verdict)})"
    return f"on {verdict.tasks} inconclusive, {verdict.best} is highest ({_ahead(verdict)})"


def _ahead(verdict: Verdict) -> str:
    return f"{points(verdict.margin)} over {verdict.second}"
