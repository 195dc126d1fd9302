"""State what differential privacy a run gives what its clients publish, or that it gives none.

Two things can be covered, signatures and prototypes of prompts. The same statement is in the
summary, in tables and in reports, which write it with
:func:`fedmosaic.reporting.privacy.privacy_lines`. P, Q, LoRA and measurements leave a client in the
same messages, and no noise is added to them. With settings that guarantee nothing, and where nobody
asked for a guarantee, there is no statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.algorithms import algorithm_class
from fedmosaic.algorithms.base import Algorithm
from fedmosaic.config import RunSettings
from fedmosaic.config.routing import RoutingSettings
from fedmosaic.relevance.privacy import INSTALL, PrivacyMechanism, can_account, gaussian_epsilon

LARGEST = 20.0  # above it, odds may change by a factor of e^20, half a billion
NOT_COVERED = ["P", "Q", "LoRA", "measurements"]
SECRET, SEEDED = "a secret of each client", "the seed of the run"
SIGNATURES, PROTOTYPES = "signatures", "prototypes"
EXACT, AT_MOST = "exact", "at most"
Lines = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Published:
    """Describe one kind of what clients publish with noise.

    Attributes:
        kind: ``signatures`` or ``prototypes``.
        setting: of its noise.
        mechanism: clip and noise.
        asked: whether the settings ask for a guarantee.
        numbers: how many left each client.
    """

    kind: str
    setting: str
    mechanism: PrivacyMechanism
    asked: bool
    numbers: Mapping[str, int]

    def fault(self, delta: float) -> str:
        """Return why this kind has no guarantee, whatever else is published; empty: it has one."""
        if not self.mechanism.guarantees:
            return f"{self.setting} needs to be above 0" + (
                ", and relevance.clip to be set" if self.kind == SIGNATURES else ""
            )
        most = max(self.numbers.values())
        if gaussian_epsilon([(self.mechanism.std, most)], delta) <= LARGEST:
            return ""
        return (
            f"{self.setting} = {self.mechanism.std:g} is too little noise to guarantee anything "
            f"over {most} {self.kind} of a client (ε would be above {LARGEST:g})"
        )


def signatures_sent(lines: Lines, *, deployed: bool = False) -> dict[str, int]:
    """Count the signatures that left each client, from the lines of a metrics file.

    Each update holds one. An update that the server refused has left its client all the same.

    Args:
        lines: of the metrics file.
        deployed: whether clients are at sites of their own. A server cannot know whether a client
            that gave no answer in time has sent one, so every round counts in which it was asked
            to train. The log of the site has the exact number.
    """
    sent = Counter[str]()
    for line in lines:
        if deployed and line["kind"] == "round":
            sent.update(line["clients"])
        elif not deployed and line["kind"] == "client" and line["bytes"]["up"]:
            sent[line["client"]] += 1
    return dict(sent)


def prototypes_sent(
    lines: Lines, algorithm: Algorithm, *, deployed: bool = False
) -> dict[str, int]:
    """Count how often each client has published prototypes with new noise.

    Prototypes that are sent once more, noise included, say nothing new and do not count.

    Args:
        lines: of the metrics file.
        algorithm: says in which rounds a client may publish new ones.
        deployed: as of :func:`signatures_sent`; every round counts in which a client was asked to
            train and may have published.
    """
    sent = Counter[str]()
    for line in lines:
        if deployed and line["kind"] == "round" and algorithm.may_publish(line["round"]):
            sent.update(line["clients"])
        elif not deployed and line["kind"] == "client" and line.get("new_prototypes", False):
            sent[line["client"]] += 1
    return dict(sent)


def noise_is_secret(lines: Lines) -> bool:
    """Return whether all noise on what is clipped came from secrets of the clients."""
    sent = [line for line in lines if line["kind"] == "client" and line["bytes"]["up"]]
    return bool(sent) and all(line.get("secret_noise", False) for line in sent)


def privacy_statement(
    settings: RunSettings,
    signatures: Mapping[str, int],
    prototypes: Mapping[str, int] | None = None,
    *,
    secret: bool = False,
    exact: bool = True,
) -> dict[str, Any] | None:
    """State the guarantee that a run's settings give for signatures and prototypes together.

    It compares a client's data with any other data in its place. It holds for everything of the
    covered kinds that the client published, also against somebody who sees everything that the
    other clients send. A kind without a guarantee is named and not covered.

    Args:
        settings: the run.
        signatures: number of signatures that left each client.
        prototypes: how often each client published new prototypes; None: never.
        secret: whether the noise came from a secret of each client.
        exact: whether the numbers are exact, or the most that can have left.

    Returns:
        None where nothing is guaranteed and nobody asked for a guarantee: no clip, no noise,
        ``routing.noise_std`` as it is by default, or nothing published. Else ``{"epsilon":
        {client: ε}, "worst": the largest, "delta", "signatures": {client: number}, "prototypes",
        "counted", "covers", "does_not_cover", "unclaimed": {kind: reason}, "noise_from"}`` without
        what does not apply, or ``{"none": reason}`` where a guarantee was asked for but no figure
        can be given.
    """
    kinds = _published(settings, signatures, prototypes or {})
    if not any(kind.asked for kind in kinds):
        return None
    if not can_account():
        asked = " and ".join(_asked_by(kind) for kind in kinds if kind.asked)
        return {"none": f"{asked} is set; to compute what it guarantees: {INSTALL}"}
    return _guarantee(kinds, settings.scenario.relevance.delta, secret, exact)


def _guarantee(
    kinds: Sequence[Published], delta: float, secret: bool, exact: bool
) -> dict[str, Any]:
    """Return the statement of a run that asks for a guarantee."""
    faults = {kind.kind: fault for kind in kinds if (fault := kind.fault(delta))}
    covered = [kind for kind in kinds if kind.kind not in faults]
    if not covered:
        return {"none": "; ".join(faults.values())}
    epsilon = _epsilon(covered, delta)
    worst = max(epsilon.values())
    if worst > LARGEST:
        return {"none": _too_much(covered)}
    return {
        "epsilon": epsilon,
        "worst": worst,
        "delta": delta,
        **{kind.kind: dict(kind.numbers) for kind in covered},
        "counted": EXACT if exact else AT_MOST,
        "covers": [kind.kind for kind in covered],
        "does_not_cover": [*NOT_COVERED, *faults],
        **({"unclaimed": faults} if faults else {}),
        "noise_from": SECRET if secret else SEEDED,
    }


def _published(
    settings: RunSettings, signatures: Mapping[str, int], prototypes: Mapping[str, int]
) -> list[Published]:
    """Return the kinds that left any client."""
    algorithm, scenario = algorithm_class(settings.algorithm), settings.scenario
    relevance, std = scenario.relevance, scenario.routing.noise_std
    hides = PrivacyMechanism(relevance.noise, relevance.noise_std, relevance.clip)
    # Features have norm 1, so that the clip of prototypes is no setting: √k for k of them.
    mixes = PrivacyMechanism("gaussian", std, 1.0)
    more = std > RoutingSettings.model_fields["noise_std"].default
    found = []
    if algorithm.computes_signatures and any(signatures.values()):
        found.append(
            Published(SIGNATURES, "relevance.noise_std", hides, hides.guarantees, signatures)
        )
    if algorithm.publishes_prototypes and any(prototypes.values()):
        found.append(Published(PROTOTYPES, "routing.noise_std", mixes, more, prototypes))
    return found


def _epsilon(kinds: Sequence[Published], delta: float) -> dict[str, float]:
    """Return the ε of each client for all that it published of these kinds."""
    clients = dict.fromkeys(client for kind in kinds for client in kind.numbers)
    spent = {
        client: tuple((kind.mechanism.std, kind.numbers.get(client, 0)) for kind in kinds)
        for client in clients
    }
    known = {releases: gaussian_epsilon(releases, delta) for releases in set(spent.values())}
    return {client: known[releases] for client, releases in spent.items()}


def _asked_by(kind: Published) -> str:
    return "relevance.clip" if kind.kind == SIGNATURES else kind.setting


def _too_much(kinds: Sequence[Published]) -> str:
    """Return that several kinds, each of which has a guarantee, have none together."""
    settings = " and ".join(f"{kind.setting} = {kind.mechanism.std:g}" for kind in kinds)
    numbers = " and ".join(f"{max(kind.numbers.values())} {kind.kind}" for kind in kinds)
    return (
        f"{settings} are too little noise to guarantee anything over {numbers} of a client "
        f"together (ε would be above {LARGEST:g})"
    )
