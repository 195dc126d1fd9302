"""State what differential privacy a run gives its clients' signatures, or that it gives none.

The same statement is in the summary, in tables and in reports, which write it with
:func:`fedmosaic.reporting.privacy.privacy_lines`. It is about signatures alone: P, Q, LoRA and
measurements leave a client in the same messages, and no noise is added to them. With settings that
guarantee nothing there is no statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from fedmosaic.algorithms import algorithm_class
from fedmosaic.config import RunSettings
from fedmosaic.relevance.privacy import INSTALL, PrivacyMechanism, can_account, signature_epsilon

LARGEST = 20.0  # above it, odds may change by a factor of e^20, half a billion
NOT_COVERED = ["P", "Q", "LoRA", "measurements"]
SECRET, SEEDED = "a secret of each client", "the seed of the run"


def signatures_sent(
    lines: Iterable[Mapping[str, Any]], *, deployed: bool = False
) -> dict[str, int]:
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


def noise_is_secret(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the noise of every signature came from a secret of its client."""
    sent = [line for line in lines if line["kind"] == "client" and line["bytes"]["up"]]
    return bool(sent) and all(line.get("secret_noise", False) for line in sent)


def privacy_statement(
    settings: RunSettings, signatures: Mapping[str, int], *, secret: bool = False
) -> dict[str, Any] | None:
    """State the guarantee that a run's settings give for signatures.

    It compares a client's data with any other data in its place. It holds for all signatures of
    the client together, also against somebody who sees everything that the other clients send.

    Args:
        settings: the run.
        signatures: number of signatures that left each client.
        secret: whether their noise came from a secret of each client.

    Returns:
        None where nothing is guaranteed and nobody asked for a guarantee: no clip, no noise, or no
        signatures. Else ``{"epsilon": {client: ε}, "worst": the largest, "delta", "signatures":
        {client: number}, "covers", "does_not_cover", "noise_from"}``, or ``{"none": reason}``
        where clip and noise are set but no figure can be given.
    """
    relevance = settings.scenario.relevance
    mechanism = PrivacyMechanism(relevance.noise, relevance.noise_std, relevance.clip)
    sends = algorithm_class(settings.algorithm).computes_signatures and any(signatures.values())
    if not (sends and mechanism.guarantees):
        return None
    if not can_account():
        return {"none": f"relevance.clip is set; to compute what it guarantees: {INSTALL}"}
    by_number = {
        number: signature_epsilon(mechanism.std, number, relevance.delta)
        for number in sorted(set(signatures.values()))
    }
    worst = max(by_number.values())
    if worst > LARGEST:
        return {
            "none": f"relevance.noise_std = {mechanism.std:g} is too little noise to guarantee "
            f"anything over {max(by_number)} signatures of a client (ε would be above {LARGEST:g})"
        }
    return {
        "epsilon": {client: by_number[number] for client, number in signatures.items()},
        "worst": worst,
        "delta": relevance.delta,
        "signatures": dict(signatures),
        "covers": ["signature"],
        "does_not_cover": NOT_COVERED,
        "noise_from": SECRET if secret else SEEDED,
    }
