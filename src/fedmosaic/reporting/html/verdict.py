"""Who won, by how much, how sure, and who learned from whom, in words that the intervals bear out.

A label counts as above another when the 95 % t-interval of their difference, paired by seed, lies above zero. The winner is the label with
the highest mean; it has won when it is above *every* other one. It is chosen by the very seeds it is judged on, and the intervals are not
widened for the number of labels: with many of them and few seeds, read a narrow win as a hint. Oracles do not compete.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmosaic.config import ClientSpec
from fedmosaic.experiments.statistics import Interval, interval
from fedmosaic.reporting.html.collect import Relevance
from fedmosaic.reporting.html.sections import Section

PLACES = {"Self": "own tasks", "Others": "the other clients' tasks"}


@dataclass(frozen=True)
class Standing:
    """How the labels stand in one column.

    Attributes:
        leader: the label with the highest mean, and that mean. next: the second highest, None if there is no other.
        margin: leader − next, paired. level: labels that the leader is not above, by their means; under: those it is.
        local: leader − local training, None where that is the leader or missing.
    """

    column: str
    leader: str
    mean: Interval
    next: str | None
    margin: Interval | None
    level: Sequence[str]
    under: Sequence[str]
    local: Interval | None

    @property
    def place(self) -> str:
        return PLACES[self.column]

    @property
    def won(self) -> bool:
        return self.next is not None and not self.level

    @property
    def single(self) -> bool:
        """Whether no interval can be had."""
        return self.next is not None and (self.margin is None or self.margin.half is None)


def above(gap: Interval | None) -> bool:
    """Whether a difference is above zero, as far as its interval can tell."""
    return gap is not None and gap.half is not None and gap.mean - gap.half > 0


def below(gap: Interval | None) -> bool:
    return gap is not None and gap.half is not None and gap.mean + gap.half < 0


def standing(section: Section, column: str) -> Standing | None:
    """Of the labels that were measured on it; None without any."""
    values = {label: found for label in section.runs if (found := section.values(label, column))}
    order = sorted(
        [label for label in values if not section.oracle(label)] or values,
        key=lambda label: -statistics.fmean(values[label].values()),
    )
    if not order:
        return None
    leader, *rest = order
    level = [label for label in rest if not above(section.gap(leader, label, column))]
    local = section.reference
    return Standing(
        column,
        leader,
        interval(list(values[leader].values())),
        rest[0] if rest else None,
        section.gap(leader, rest[0], column) if rest else None,
        level,
        [label for label in rest if label not in level],
        section.gap(leader, local, column) if local in rest else None,
    )


def headline(standings: Sequence[Standing], seeds: int) -> str:
    """The verdict in one sentence."""
    if not standings:
        return "Nothing was measured."
    if all(found.next is None for found in standings):
        measured = " and ".join(f"{found.mean.mean:.1f} % on {found.place}" for found in standings)
        return f"{standings[0].leader} reaches {measured}; there is nothing to compare it with."
    if (
        all(found.won for found in standings)
        and len({found.leader for found in standings}) == 1
        and len(standings) > 1
    ):
        margins = " and ".join(
            f"{points(found.margin)} on {found.place} (next: {found.next})" for found in standings
        )
        return f"{standings[0].leader} wins on both counts: {margins}."
    if not any(found.won for found in standings):
        if len({found.leader for found in standings}) == 1 and len(standings) > 1:
            seen = "one seed" if standings[0].single else count(seeds, "seed")
            told = " and ".join(
                f"{points(found.margin)} on {found.place} (next: {found.next})"
                for found in standings
            )
            return f"{standings[0].leader} is highest on both counts, but {seen} cannot tell that it wins: {told}."
        told = " and ".join(
            f"{found.leader} on {found.place} ({_ahead(found)})" for found in standings
        )
        if any(found.single for found in standings):
            return f"One seed cannot tell a winner: highest are {told}."
        return f"No winner that {count(seeds, 'seed')} can tell: highest are {told}."
    sentence = "; ".join(_clause(found) for found in standings) + "."
    return sentence[0].upper() + sentence[1:]


def _clause(found: Standing) -> str:
    if found.won:
        return f"on {found.place} {found.leader} wins ({_ahead(found)})"
    return f"on {found.place} no winner can be told, {found.leader} is highest ({_ahead(found)})"


def _ahead(found: Standing) -> str:
    return f"{points(found.margin)} over {found.next}"


def sureness(found: Standing) -> str:
    """How sure the standing is, in a sentence."""
    if found.next is None:
        return "Nothing to compare with."
    if found.single:
        return "Not sure at all: without a second seed there is no interval."
    if found.won:
        return (
            "Sure at 95 %: the interval of the difference to every other algorithm is above zero."
        )
    rest = f" It is above {listed(found.under)}." if found.under else ""
    return f"Not sure: {listed(found.level)} may be as good; the interval of the difference reaches zero.{rest}"


@dataclass(frozen=True)
class Listening:
    """Who learned from whom, by the relevance weights of a label's last round.

    Attributes:
        inside: share of a client's mix that comes from its own group, over seeds; None without groups.
        chance: what equal weights would give. pairs: (client, the peer it weighs most, that weight), means over seeds.
    """

    label: str
    inside: Interval | None
    chance: float
    pairs: Sequence[tuple[str, str, float]]

    @property
    def sentence(self) -> str:
        if self.inside is None:
            return f"{self.label} reports the weights below; its clients have no groups to compare them with."
        share, chance = (
            f"{percent_of(self.inside)} of what a client of {self.label} received came from its own group",
            (f"equal weights would give {100 * self.chance:.0f} %"),
        )
        gap = Interval(self.inside.mean - self.chance, self.inside.half, self.inside.n)
        if self.inside.half is None:
            return f"{share}; {chance}. One seed: no interval."
        told = (
            "clients listened to related peers"
            if above(gap)
            else (
                "clients listened to unrelated peers"
                if below(gap)
                else "no preference that these seeds can tell"
            )
        )
        return f"{share}; {chance}: {told}."


def listening(section: Section, label: str) -> Listening | None:
    """None where the label reports no relevance."""
    last = [
        run.relevance[max(run.relevance)] for run in section.runs[label].values() if run.relevance
    ]
    if not last:
        return None
    clients = section.scenario.clients
    shares = [share for found in last if (share := inside_share(found, clients)) is not None]
    weights: dict[str, dict[str, list[float]]] = {}
    for found in last:
        for client, row in zip(found.clients, found.weights, strict=True):
            for peer, weight in zip(found.clients, row, strict=True):
                if peer != client:
                    weights.setdefault(client, {}).setdefault(peer, []).append(weight)
    pairs = []
    for client, peers in weights.items():
        peer = max(peers, key=lambda name: statistics.fmean(peers[name]))
        pairs.append((client, peer, statistics.fmean(peers[peer])))
    inside = interval([share for share, _ in shares]) if shares else None
    return Listening(label, inside, shares[0][1] if shares else 0.0, pairs)


@dataclass(frozen=True)
class Control:
    """A label with real relevance weights against one of the same algorithm with other ones: what it is worth whom one listens to."""

    label: str
    control: str
    gaps: Mapping[str, Interval]

    @property
    def sentence(self) -> str:
        parts = []
        for column, gap in self.gaps.items():
            told = "more" if above(gap) else "less" if below(gap) else "not to be told from zero"
            parts.append(f"{points(gap)} on {PLACES[column]} ({told})")
        return f"{self.label} against {self.control}: {', '.join(parts)}."


def controls(section: Section) -> list[Control]:
    """Every control among the labels with relevance weights, against the first label that has RELA's."""
    kinds = {
        label: run.settings.scenario.relevance.kind
        for label, run in section.first.items()
        if run.relevance
    }
    real = next((label for label in kinds if label == "fedmosaic"), None) or next(
        (label for label, kind in kinds.items() if kind == "rela"), None
    )
    if real is None or kinds[real] != "rela":
        return []
    return [
        Control(
            real,
            label,
            {c: gap for c in PLACES if (gap := section.gap(real, label, c)) is not None},
        )
        for label, kind in kinds.items()
        if kind in ("uniform", "permuted", "random")
    ]


def inside_share(found: Relevance, clients: Sequence[ClientSpec]) -> tuple[float, float] | None:
    """Mean share of the weights that stay inside a client's group, and what equal weights would give.

    Over the clients that have peers of their group and others; None without any.
    """
    group: Mapping[str, str] = {client.name: client.group for client in clients}
    shares, chances = [], []
    for index, name in enumerate(found.clients):
        peers = [other for other in range(len(found.clients)) if other != index]
        inside = [other for other in peers if group.get(found.clients[other]) == group.get(name)]
        if 0 < len(inside) < len(peers):
            total = sum(found.weights[index][other] for other in peers)
            if total > 0:
                shares.append(sum(found.weights[index][other] for other in inside) / total)
                chances.append(len(inside) / len(peers))
    return (statistics.fmean(shares), statistics.fmean(chances)) if shares else None


def points(gap: Interval | None) -> str:
    """``+2.0 ± 2.5 points``."""
    if gap is None:
        return "an unknown number of points"
    half = "" if gap.half is None else f" ± {gap.half:.1f}"
    return f"{round(gap.mean, 1) + 0.0:+.1f}{half} points".replace("-", "−")


def percent_of(share: Interval) -> str:
    half = "" if share.half is None else f" ± {100 * share.half:.0f}"
    return f"{100 * share.mean:.0f}{half} %"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and 3 more``."""
    if len(names) > 4:
        return ", ".join(names[:3]) + f" and {len(names) - 3} more"
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
