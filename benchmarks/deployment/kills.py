"""Kill processes of a deployed federation at random moments, and compare it with a whole run.

  python -m benchmarks.deployment.kills --rounds 10 --kills 20 --seed 0

A server and three clients run as programs of their own on this machine, over TLS with keys. At
random moments one of their processes is killed with SIGKILL: the main process of a client or of the
server, which is started anew with the same command, or one that these have started: a client's
node, the SuperLink, the SuperExec, the relay. At the end metrics (times aside) and adapters must be
those of `fedmosaic run`, bit for bit; no turn may have been trained twice; no process may be left.
Writes results/deployment_kills.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.deployment.federation import (
    SCENARIO,
    DeployedFederation,
    differences,
    run_in_process,
    trainings_of,
)
from benchmarks.deployment.processes import kill, processes_of
from benchmarks.deployment.program import ProgramProcess

# Words by which the processes are known that a main process has started.
STARTED = {
    "node of a client": "flower.node",
    "SuperLink": "flower-superlink",
    "SuperExec": "flower-superexec",
    "relay": "flwr-serverapp",
}
SERVER, CLIENT = "server", "client"
STEPS = 30  # so that a round takes longer than a delay
LONGEST_DELAY = 4.0
LIMIT_SECONDS = 1800.0


class Killer:
    """Kill processes of a federation, and start main processes anew.

    Args:
        federation: runs.
        draw: gives the moments and the processes.
        kinds: from which the processes are drawn.
    """

    def __init__(
        self, federation: DeployedFederation, draw: random.Random, kinds: tuple[str, ...]
    ) -> None:
        self.federation, self.draw, self.kinds = federation, draw, kinds
        self.done: list[dict[str, Any]] = []

    def kill_one(self) -> None:
        """Kill a process; where none of the kind is there now, draw another kind."""
        while True:
            kind = self.draw.choice(self.kinds)
            if kind in (SERVER, CLIENT):
                programs = {
                    name: program
                    for name, program in self.federation.programs().items()
                    if (name == SERVER) == (kind == SERVER) and not program.ended()
                }
                if programs:
                    name = self.draw.choice(sorted(programs))
                    self._note(kind)
                    restart(programs[name])
                    return
            else:
                found = processes_of(self.federation.root)
                pids = sorted(pid for pid, line in found.items() if STARTED[kind] in line)
                if pids:
                    self._note(kind)
                    if kill(self.draw.choice(pids)):
                        return
                    self.done.pop()

    def _note(self, kind: str) -> None:
        status = self.federation.status()
        place = {name: status.get(name) for name in ("state", "round")}
        self.done.append({"process": kind, **place})


def restart(program: ProgramProcess) -> None:
    """Kill a program and start it with the same command."""
    program.kill()
    program.start()


def experiment(rounds: int, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Compare a run in one process with a deployed one whose processes are killed.

    A kill follows the moment when the server's status shows a round that is drawn, after a time
    that is drawn. Round 0: while the clients join. None is after the end: a client that is killed
    when the server has finished finds nobody any more.

    Args:
        rounds: number of rounds.
        kills: number of kills.
        seed: of the moments and the processes.
        folder: empty folder.
    """
    train = {**SCENARIO["train"], "steps": STEPS}
    scenario = {**SCENARIO, "rounds": rounds, "train": train}
    reference = run_in_process(scenario, folder)
    draw = random.Random(seed)
    moments = sorted(
        (draw.randint(0, rounds - 1), round(draw.uniform(0, LONGEST_DELAY), 2))
        for _ in range(kills)
    )
    federation = DeployedFederation(folder, scenario)
    killer = Killer(federation, draw, (SERVER, CLIENT, *STARTED))
    started = time.monotonic()
    try:
        federation.start()
        for number, delay in moments:
            _wait_for_round(federation, number, started)
            time.sleep(delay)
            if federation.status().get("state") == "finished":
                break
            killer.kill_one()
            print(
                json.dumps({"at": round(time.monotonic() - started), **killer.done[-1]}), flush=True
            )
        federation.wait_for(started + LIMIT_SECONDS - time.monotonic())
        seconds = time.monotonic() - started
        trained = {name: trainings_of(folder / name) for name in federation.clients}
        return {
            "rounds": rounds,
            "kills": killer.done,
            "by process": dict(Counter(one["process"] for one in killer.done)),
            "seconds": round(seconds, 1),
            "different from the run in one process": differences(federation, reference),
            "turns": rounds * len(trained),
            "updates that left": sum(sum(counts.values()) for counts in trained.values()),
            "turns trained twice": sum(n > 1 for one in trained.values() for n in one.values()),
            "processes left": federation.leftovers(),
        }
    finally:
        federation.close()


def _wait_for_round(federation: DeployedFederation, number: int, started: float) -> None:
    while federation.status().get("round", 0) < number and not federation.server.ended():
        if time.monotonic() - started > LIMIT_SECONDS:
            raise AssertionError(f"round {number} has not begun within {LIMIT_SECONDS:g} s")
        time.sleep(0.02)


def passed(found: dict[str, Any], kills: int) -> bool:
    """Return whether all kills happened and nothing was lost, changed, trained twice or left."""
    return (
        len(found["kills"]) == kills
        and not found["different from the run in one process"]
        and found["updates that left"] == found["turns"]
        and not found["turns trained twice"]
        and not found["processes left"]
    )


def _arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--kills", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="empty folder that stays, for a closer look")
    return parser.parse_args()


def main() -> None:
    """Run the experiment and write its result; exit with 1 if anything differs."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = experiment(arguments.rounds, arguments.kills, arguments.seed, folder)
    command = (
        f"python -m benchmarks.deployment.kills --rounds {arguments.rounds} "
        f"--kills {arguments.kills} --seed {arguments.seed}"
    )
    result = {"command": command, **found}
    print(json.dumps(result, indent=1))
    if not passed(found, arguments.kills):
        sys.exit("the run whose processes were killed is not as it should be; see above")
    write_result("deployment_kills", result)


if __name__ == "__main__":
    main()
