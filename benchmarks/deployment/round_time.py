"""Measure what a round across machines costs beyond one in a process: seconds and bytes.

  python -m benchmarks.deployment.round_time

Three clients take one training step a round and are not evaluated, so that a round is little more
than its messages: each client gets one and answers with one. Everything runs on this machine: a
server and three clients as programs of their own, over TLS with keys, against `fedmosaic run`. Each
client connects through a port that counts all bytes that pass, with those of TLS and HTTP, of polls
and signs of life. The first rounds are left out. Once with small messages, for the seconds, and
once with large ones, for the bytes. Writes results/deployment_round_time.json.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.deployment.federation import SCENARIO, DeployedFederation, run_in_process
from benchmarks.deployment.proxy import DroppingProxy

FIRST = 5  # rounds that are left out
LIMIT_SECONDS = 600.0
SIZES: dict[str, dict[str, Any]] = {
    "small messages": SCENARIO["adapter"],
    "large messages": {"r": 64, "alpha": 64, "num_blocks": 2},
}


def measured(adapter: dict[str, Any], rounds: int, folder: Path) -> dict[str, Any]:
    """Return seconds and bytes of the later rounds.

    Args:
        adapter: settings of the adapters, which decide the size of a message.
        rounds: number of rounds that count.
        folder: empty folder.
    """
    scenario = {
        **SCENARIO,
        "rounds": FIRST + rounds + 1,
        "adapter": adapter,
        "train": {**SCENARIO["train"], "steps": 1},
        "evaluation": {"every": 1000},
    }
    reference = run_in_process(scenario, folder)
    federation = DeployedFederation(folder, scenario)
    proxies = [DroppingProxy(federation.port) for _ in federation.clients]
    for name, proxy in zip(list(federation.clients), proxies, strict=True):
        address = f"127.0.0.1:{proxy.port}"
        federation.add_client({**federation.content_of(name), "server": address})
    try:
        federation.start()
        before = _bytes_at(federation, FIRST + 1, proxies)
        after = _bytes_at(federation, FIRST + 1 + rounds, proxies)
        federation.wait_for(LIMIT_SECONDS)
    finally:
        federation.close()
    own, plain = _rounds(federation.out, rounds), _rounds(reference, rounds)
    up, down = (sum(line["bytes"][way] for line in own) for way in ("up", "down"))
    clients = len(proxies)
    deployed = statistics.median(line["seconds"]["total"] for line in own)
    in_process = statistics.median(line["seconds"]["total"] for line in plain)
    return {
        "rounds": rounds,
        "bytes of a message": round(up / rounds / clients),
        "seconds of a round": round(deployed, 3),
        "slowest": round(max(line["seconds"]["total"] for line in own), 3),
        "in one process": round(in_process, 3),
        "beyond": round(deployed - in_process, 3),
        "beyond, per message": round((deployed - in_process) / clients, 3),
        "bytes beyond the messages, up (%)": round(100 * ((after[0] - before[0]) / up - 1), 1),
        "bytes beyond the messages, down (%)": round(100 * ((after[1] - before[1]) / down - 1), 1),
        "bytes beyond, per client and round": round(
            (sum(after) - sum(before) - up - down) / rounds / clients
        ),
    }


def _bytes_at(
    federation: DeployedFederation, number: int, proxies: list[DroppingProxy]
) -> tuple[int, int]:
    """Return the bytes that have passed, up and down, when a round begins."""
    end = time.monotonic() + LIMIT_SECONDS
    while federation.status().get("round", 0) < number:
        if time.monotonic() > end or federation.server.ended():
            raise AssertionError(f"round {number} does not begin: {federation.server.lines()}")
        time.sleep(0.005)
    return sum(proxy.up for proxy in proxies), sum(proxy.down for proxy in proxies)


def _rounds(run: Path, rounds: int) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["kind"] == "round"]
    return found[FIRST : FIRST + rounds]


def main() -> None:
    """Measure both sizes and write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="that count (default: %(default)s)")
    rounds = parser.parse_args().rounds
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.deployment.round_time --rounds {rounds}"
    }
    for name, adapter in SIZES.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            result[name] = measured(adapter, rounds, Path(folder))
            print(json.dumps({name: result[name]}, indent=1), flush=True)
    write_result("deployment_round_time", result)


if __name__ == "__main__":
    main()
