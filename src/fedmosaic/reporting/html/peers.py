"""Say which peers the clients received most from, and whether relevance weights help."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmosaic.config import ClientSpec
from fedmosaic.experiments.statistics import Interval, interval
from fedmosaic.reporting.html.run_data import RoundRelevance
from fedmosaic.reporting.html.sections import Section
from fedmosaic.reporting.html.wording import TASKS, outcome, percent_of, points

CONTROLS = ("uniform", "permuted", "random")


@dataclass(frozen=True)
class FavouredPeers:
    """Hold the peers that a label's clients received most from in the last round.

    Attributes:
        label: the label.
        own_group: share of what a client received that came from its own group, from 0 to 1, over
            seeds; None if the clients have no groups.
        chance: the share that equal weights would give.
        pairs: for each client its name, the peer with the largest weight, and that weight; means
            over seeds.
    """

    label: str
    own_group: Interval | None
    chance: float
    pairs: Sequence[tuple[str, str, float]]

    @property
    def sentence(self) -> str:
        """The meaning of the shares, in a sentence."""
        if self.own_group is None:
            return f"{self.label} reports the weights below."
        share = (
            f"{percent_of(self.own_group)} of what a client of {self.label} received came from its "
            f"own group (equal weights: {100 * self.chance:.0f} %)"
        )
        if self.own_group.half is None:
            return f"{share}. One seed gives no interval."
        gap = Interval(self.own_group.mean - self.chance, self.own_group.half, self.own_group.n)
        return f"{share}. Clients favour their own group: {outcome(gap)}."


def favoured_peers(section: Section, label: str) -> FavouredPeers | None:
    """Find the favoured peers of a label's clients.

    Returns:
        The peers; None if the label reports no relevance.
    """
    last = [
        run.relevance[max(run.relevance)] for run in section.runs[label].values() if run.relevance
    ]
    if not last:
        return None
    clients = section.scenario.clients
    shares = [share for found in last if (share := own_group_share(found, clients)) is not None]
    weights: dict[str, dict[str, list[float]]] = {}
    for found in last:
        for index, client in enumerate(found.clients):
            for place, weight, _ in found.row(index):
                if place != index:
                    peer = found.clients[place]
                    weights.setdefault(client, {}).setdefault(peer, []).append(weight)
    pairs = []
    for client, peers in weights.items():
        favourite = max(peers, key=lambda name: statistics.fmean(peers[name]))
        pairs.append((client, favourite, statistics.fmean(peers[favourite])))
    own_group = interval([share for share, _ in shares]) if shares else None
    return FavouredPeers(label, own_group, shares[0][1] if shares else 0.0, pairs)


def own_group_share(
    found: RoundRelevance, clients: Sequence[ClientSpec]
) -> tuple[float, float] | None:
    """Compute the mean share of the weights that stay inside a client's group.

    Args:
        found: the weights of a round.
        clients: the clients and their groups.

    Returns:
        That share and the share that equal weights would give, over the clients that have peers in
        their own group and in others; None if there is no such client.
    """
    group: Mapping[str, str] = {client.name: client.group for client in clients}
    groups = [group.get(name, "") for name in found.clients]
    sizes, peers = Counter(groups), len(groups) - 1
    shares, chances = [], []
    for index, own in enumerate(groups):
        inside = sizes[own] - 1
        row = [(place, weight) for place, weight, _ in found.row(index) if place != index]
        total = sum(weight for _, weight in row)
        if 0 < inside < peers and total > 0:
            shares.append(sum(weight for place, weight in row if groups[place] == own) / total)
            chances.append(inside / peers)
    return (statistics.fmean(shares), statistics.fmean(chances)) if shares else None


@dataclass(frozen=True)
class RelevanceControl:
    """Compare a label with relevance weights to a control with other weights.

    Attributes:
        label: the label with relevance weights.
        control: the label with uniform, permuted or random weights.
        gaps: label − control by column, paired by seed.
    """

    label: str
    control: str
    gaps: Mapping[str, Interval]

    @property
    def sentence(self) -> str:
        """The gain from relevance weights, in a sentence."""
        parts = [
            f"{points(gap)} on {TASKS[column]} ({outcome(gap)})"
            for column, gap in self.gaps.items()
        ]
        return f"Gain of {self.label} over {self.control}: {', '.join(parts)}."


def relevance_controls(section: Section) -> list[RelevanceControl]:
    """Compare the first label with RELA's weights with every control in the section."""
    kinds = {
        label: run.settings.scenario.relevance.kind
        for label, run in section.first.items()
        if run.relevance
    }
    rela = next((label for label in kinds if label == "fedmosaic"), None) or next(
        (label for label, kind in kinds.items() if kind == "rela"), None
    )
    if rela is None or kinds[rela] != "rela":
        return []
    return [
        RelevanceControl(
            rela,
            label,
            {c: gap for c in TASKS if (gap := section.gap(rela, label, c)) is not None},
        )
        for label, kind in kinds.items()
        if kind in CONTROLS
    ]
