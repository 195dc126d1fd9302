"""Let one fault after the other happen in deployed federations, and note what came of each.

  python -m benchmarks.deployment.faults

Servers and clients run as programs of their own on this machine, over TLS with keys. The first
federation has faults in which nothing is lost, and must end with the numbers of `fedmosaic run`,
bit for bit. The second has clients that hang or send what they should not: the rounds go on without
them. Each fault must be named by `fedmosaic status --json` or in the server's events.jsonl. Last
come clients that must be refused, with one line and exit status 2. A full disk needs the right to
mount a file system, and another clock a C compiler. Writes results/deployment_faults.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.deployment.fault_stage import FaultStage
from benchmarks.deployment.federation import (
    SCENARIO,
    DeployedFederation,
    differences,
    run_in_process,
    trainings_of,
)
from benchmarks.deployment.kills import restart
from benchmarks.deployment.other_clock import other_clock
from benchmarks.deployment.processes import kill, process_of
from benchmarks.deployment.proxy import DroppingProxy
from benchmarks.deployment.refused_clients import refusals

DAY = 86_400
DOWNLOAD_BYTES = 20_000  # fewer than a download has, and more than any other request
CUT_SECONDS = 60.0
STARTED_ANEW = "was started anew"
LONGER_TURNS = {**SCENARIO, "train": {**SCENARIO["train"], "steps": 12}}


def without_loss(folder: Path) -> dict[str, Any]:
    """Let faults happen in which nothing is lost; return what came of them."""
    scenario = {**LONGER_TURNS, "rounds": 22}
    reference = run_in_process(scenario, folder)
    federation = DeployedFederation(folder, scenario)
    proxy = DroppingProxy(federation.port)
    federation.add_client({**federation.content_of("a"), "server": f"127.0.0.1:{proxy.port}"})
    clock = other_clock(folder, DAY)
    federation.add_client(federation.content_of("c"), variables=clock)
    stage = FaultStage(federation)
    with small_disk(folder / "b") as disk:
        try:
            federation.start()
            stage.begin_round()
            if clock:
                _clock(stage)
            _client_kills(stage, proxy)
            _server_kills(stage)
            _cut(stage, proxy)
            if disk is not None:
                _full_disk(stage, disk)
            stage.end_rounds()
            trained = {name: trainings_of(folder / name) for name in "abc"}
            return {
                "rounds": scenario["rounds"],
                "faults": stage.found,
                "different from the run in one process": differences(federation, reference),
                "turns trained twice": sum(n > 1 for t in trained.values() for n in t.values()),
                "processes left": federation.leftovers(),
            }
        finally:
            federation.close()


def _clock(stage: FaultStage) -> None:
    line = f"this machine's clock is {DAY} s ahead"
    stage.until(lambda: line in stage.federation.clients["c"].lines(), "the client's clock is off")
    stage.found.append({"fault": "the clock of a client is a day ahead", "named": f"c: {line}"})


def _client_kills(stage: FaultStage, proxy: DroppingProxy) -> None:
    a = stage.federation.clients["a"]
    with stage.fault("a client is killed in training", "a", STARTED_ANEW):
        number = stage.begin_round()
        while not _killed_in_training(stage, number):
            number = stage.begin_round()
    with stage.fault("a client is killed while its answer is on the way", "a", STARTED_ANEW):
        number, folder = stage.begin_round(), stage.federation.root / "a"
        before = _downloads(folder)  # that of the former round may be there for a moment
        stage.until(lambda: bool(_downloads(folder) - before), "a has its download")
        proxy.cut()
        stage.until(lambda: stage.committed("a", number), "a has trained")
        a.kill()
        proxy.mend()
        a.start()
    with stage.fault("a client is killed between rounds", "a", STARTED_ANEW):
        stage.begin_round()
        stage.until(lambda: stage.state_of("a") == "done", "a is done")
        restart(a)
    stage.begin_round()
    kill(process_of(stage.federation.root / "b", "flower.node"))
    line = "the connecting process has ended"  # which concerns the client alone
    stage.until(lambda: line in stage.federation.clients["b"].lines(), line)
    stage.pass_round()
    stage.found.append({"fault": "the node of a client is killed", "named": f"b: {line}"})


def _killed_in_training(stage: FaultStage, number: int) -> bool:
    """Kill and start client a; return whether its turn was not yet on its disk."""
    stage.until(lambda: stage.state_of("a") == "working", "a works")
    time.sleep(0.2)
    a = stage.federation.clients["a"]
    a.kill()
    trained = stage.committed("a", number)
    a.start()
    return not trained


def _downloads(folder: Path) -> set[str]:
    """Return the requests that a client's node has stored with all of their content."""
    found = set()
    for path in folder.glob("*/*.request"):
        with contextlib.suppress(FileNotFoundError):  # answered meanwhile
            if path.stat().st_size > DOWNLOAD_BYTES:
                found.add(path.name)
    return found


def _server_kills(stage: FaultStage) -> None:
    server = stage.federation.server
    with stage.fault("the server is killed while it waits", "", "killed while training"):
        stage.begin_round()
        stage.until(lambda: stage.state_of("b") == "working", "b works")
        restart(server)
    with stage.fault("the server is killed in aggregation", "", "killed while aggregating"):
        while True:
            while stage.federation.status().get("state") != "aggregating":
                time.sleep(0.001)
            server.kill()
            state = stage.federation.status().get("state")
            server.start()
            if state == "aggregating":
                break
            stage.begin_round()


def _cut(stage: FaultStage, proxy: DroppingProxy) -> None:
    # The server counts a client as gone after 60 s, so that only the client notices.
    stage.begin_round()
    started, line = time.monotonic(), "lost the connection"
    before = stage.federation.clients["a"].lines().count(line)
    proxy.cut()
    time.sleep(CUT_SECONDS)
    proxy.mend()
    stage.pass_round()
    assert stage.federation.clients["a"].lines().count(line) > before
    entry = {"fault": "the link of a client is cut for 60 s", "named": f"a: {line}"}
    stage.found.append({**entry, "next round after (s)": round(time.monotonic() - started, 1)})


def _full_disk(stage: FaultStage, disk: Path) -> None:
    with stage.fault("the disk of a client is full", "b", "No space left"):
        stage.begin_round()
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(1 << 12))
            except OSError:
                pass
        stage.until(lambda: "space" in _error(stage, "b"), "b reports it")
        filler.unlink()


def _error(stage: FaultStage, name: str) -> str:
    found: str = stage.federation.status().get("sites", {}).get(name, {}).get("error", "")
    return found


def with_loss(folder: Path) -> dict[str, Any]:
    """Let clients hang and send what they should not; return what came of it."""
    limits = {"round_seconds": 20, "request_seconds": 20, "max_message_gib": 0.01}
    deployment = {**SCENARIO["deployment"], **limits}
    federation = DeployedFederation(folder, {**SCENARIO, "rounds": 20, "deployment": deployment})
    mode = folder / "mode"
    mode.write_text("")
    federation.add_client(
        federation.content_of("b"),
        program=["benchmarks.deployment.hostile_client"],
        variables={"HOSTILE_MODE": str(mode), "HOSTILE_BYTES": str(20_000_000)},
    )
    stage = FaultStage(federation)
    try:
        federation.start()
        stage.begin_round()
        with stage.fault("a client hangs past the deadline", "a", "no answer within"):
            stage.begin_round()
            os.kill(federation.clients["a"].pid, signal.SIGSTOP)
            stage.until(lambda: "no answer within" in _error(stage, "a"), "a is late")
            os.kill(federation.clients["a"].pid, signal.SIGCONT)
        for kind, name, words in (
            ("nan", "an update with a value that is no number", "NaN or Inf"),
            ("shapes", "an update with a wrong shape", "shape"),
            ("replay", "the answer of an old round", "perhaps a replay"),
            ("long", "a message over the limit", "over"),
        ):
            with stage.fault(name, "b", words):
                mode.write_text(kind)
                stage.until(lambda words=words: words in _error(stage, "b"), name)  # type: ignore[misc]
                mode.write_text("")
        stage.end_rounds()
        return {"faults": stage.found, "processes left": federation.leftovers()}
    finally:
        federation.close()


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int = 24) -> Iterator[Path | None]:
    """Mount a small file system at a folder; None where this user may not."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


PARTS = {"without loss": without_loss, "with loss": with_loss, "refusals": refusals}


def main() -> None:
    """Let the faults happen and write what came of them; exit with 1 if anything is wrong."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--part", choices=list(PARTS), help="only this part; nothing is written")
    chosen = parser.parse_args().part
    result: dict[str, Any] = {"command": "python -m benchmarks.deployment.faults"}
    for name in [chosen] if chosen else PARTS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            result[name] = PARTS[name](Path(folder))
    print(json.dumps(result, indent=1, ensure_ascii=False))
    lost = result.get("without loss", {})
    wrong = lost.get("different from the run in one process") or lost.get("turns trained twice")
    if wrong or any(result[name].get("processes left") for name in PARTS if name in result):
        sys.exit("a run with faults is not as it should be; see above")
    if not chosen:
        write_result("deployment_faults", result)


if __name__ == "__main__":
    main()
