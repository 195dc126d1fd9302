"""Check the table of the adaptation benchmark without running any."""

from __future__ import annotations

from benchmarks.accuracy import adaptation
from fedmosaic.config.load import load_scenario


def test_one_client_of_each_architecture() -> None:
    models = {client.name: client.model for client in load_scenario("miniature/hetero").clients}
    assert {models[name] for name in adaptation.CLIENTS} == set(models.values())


def test_differences_are_paired_by_seed() -> None:
    flat = {str(seed): [30.0 + seed] * 6 for seed in (0, 1, 2)}
    found = {
        label: flat
        for label in (*adaptation.untrained_rows(), *adaptation.untrained_rows().values())
    }
    found["fedmosaic"] = {
        str(seed): [30.0 + seed + 2 * point for point in range(6)] for seed in (2, 1, 0)
    }
    text = adaptation.table(found, "the command")
    assert "| local steps | 0 | 10 | 20 | 30 | 40 | 50 |" in text
    assert "| sft | 31.0 ± 2.5 |" in text
    gains = " | ".join(f"+{2 * point}.0 ± 0.0" for point in range(6))
    assert text.count(f"| fedmosaic | {gains} |") == 3
