"""Measure the server's round of FedMosaic with many clients, on synthetic updates.

  python -m benchmarks.cost.server_scale --clients 1000 [--top-k 16] [--memory 4GB]
  python -m benchmarks.cost.server_scale --clients 100000 --signatures-only --signature 9728

An update has P and Q of rank 128 in seven modules of four blocks, ordinary A and B of
`--layer-values` values in each of three architectures (none by default: of a real model they take
100 times the space of P and Q), and a signature as long as `relevance.keep` 0.4 keeps of
SmolLM2-135M, the smallest model of `reference/hetero`. Signatures have groups: a client's is the
direction of its group and noise of its own. Updates are made as they arrive; that is not timed.

Timed is the server's work of a round by the code that a run uses: reading and checking each
update and putting it into the state, similarities, weights, mixtures, their record as JSON, and
packing each download. All reading and writing of the state's files is timed. Beside it, the matrix
products of the same operands in blocks in memory: W [n, n] with P and Q, and the signatures with
their transpose; above `--products` multiply-adds they are measured on some blocks and scaled up.
With `--signatures-only`, the search for the `--top-k` most similar peers is timed, and compared
with all pairs for some clients. Writes its figures into results/server_scale.json, one entry for
each set of arguments. On a busy machine only the processor's seconds count.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import RESULTS, write_result
from benchmarks.cost.synthetic_updates import (
    ARCHITECTURES,
    BLOCK_COUNT,
    MODULES,
    RANK,
    SIGNATURE,
    BenchServer,
    Clock,
    directions,
    signature,
    update,
)
from fedmosaic.algorithms import make_algorithm
from fedmosaic.algorithms.base import Algorithm, Member
from fedmosaic.algorithms.common.many_clients import CANDIDATES, StoredSignatures
from fedmosaic.algorithms.fedmosaic import BLOCKS, SIGNATURES
from fedmosaic.algorithms.state import ServerState
from fedmosaic.algorithms.storage import Storage
from fedmosaic.config import Scenario, ServerSettings
from fedmosaic.config.load import parse
from fedmosaic.federation.exchange import Downloads, Results, Updates
from fedmosaic.federation.instructions import ClientResult
from fedmosaic.federation.wire import pack, schema_of
from fedmosaic.memory import peak_memory
from fedmosaic.relevance import nearest_peers

NAME = "server_scale"


def server_round(
    algorithm: Algorithm, server: BenchServer, arguments: Any, clock: Clock, schemas: Any
) -> None:
    """Do the server's work of one round."""
    members = {member.name: member for member in server.members}
    results = Results(Updates(server.state.storage), lambda m, u: algorithm.take(server, m, u))
    groups = directions(arguments.signature)
    for client, member in enumerate(server.members):
        signed = signature(client, arguments.signature, groups)
        message = update(member, client, server.round, signed, arguments.layer_values)
        schemas.setdefault(member.architecture, schema_of(message))
        result = ClientResult(update=pack(message))
        del message, signed
        with clock.part("receive"):
            results.add(member, result, schemas[member.architecture])
    assert not results.refused, results.refused
    with clock.part("aggregate"):
        algorithm.aggregate(server, results.updates)
    with clock.part("record"):
        json.dumps(server.recorded)
    downloads = Downloads(
        lambda name: pack(algorithm.download(server, members[name])), members, nullcontext()
    )
    server.recorded = {}
    for name in members:
        with clock.part("downloads"):
            payload = downloads[name]
        assert len(payload) > 4 * BLOCK_COUNT * len(MODULES) * RANK * (RANK + 1)


def products(server: BenchServer, most: float) -> dict[str, float]:
    """Time the blocked matrix products of the operands; scale up above ``most`` multiply-adds."""
    state, clock = server.state, Clock()
    names = state.clients(BLOCKS)
    n = len(names)
    weights = torch.rand(n, n)
    done = {}
    for key, left in ((BLOCKS, weights), (SIGNATURES, None)):
        values = state.values(key)
        width = max(1, min(values, state.storage.block // (4 * n)))
        starts = range(0, values, width)
        chosen = starts[: max(1, int(most / (n * n * width)))]
        total = torch.zeros(n, n)
        for start in chosen:
            block = state.read(key, names, start, min(start + width, values)).contiguous()
            with clock.part(key.kind):
                if left is None:
                    total.addmm_(block, block.T)
                else:
                    left @ block
        share = (min(chosen[-1] + width, values)) / values
        done[key.kind] = clock.wall[key.kind] / share
        done[f"{key.kind} processor"] = clock.processor[key.kind] / share
        done[f"{key.kind} measured share"] = round(share, 4)
    return done


def whole_round(arguments: Any, folder: Path) -> dict[str, Any]:
    """Measure rounds of the server with updates of every client."""
    clients = [
        {"name": f"c{i:06}", "model": ARCHITECTURES[i % 3], "tasks": ["t"]}
        for i in range(arguments.clients)
    ]
    sections: dict[str, Any] = {"server": {"memory": arguments.memory}}
    if arguments.top_k:
        sections["relevance"] = {"top_k": arguments.top_k}
    scenario = parse(Scenario, {"clients": clients, **sections}, "benchmark")
    members = [Member(name=spec.name, architecture=spec.model) for spec in scenario.clients]
    algorithm = make_algorithm("fedmosaic", scenario, 0)
    server = BenchServer(members, Storage(scenario.server.memory_bytes, folder))
    clocks = []
    schemas: dict[str, Any] = {}
    for number in range(arguments.rounds or max(1, min(3, 600 // arguments.clients))):
        server.round = number
        clocks.append(Clock())
        server_round(algorithm, server, arguments, clocks[-1], schemas)
    peak = peak_memory()
    on_disk = sum(path.stat().st_size for path in folder.glob("*")) if folder.exists() else 0
    gemm = products(server, arguments.products)
    middle = sorted(clocks, key=lambda clock: sum(clock.processor.values()))[len(clocks) // 2]
    seconds = median(sum(clock.wall.values()) for clock in clocks)
    processor = median(sum(clock.processor.values()) for clock in clocks)
    products_wall = gemm["block"] + gemm["signature"]
    products_processor = gemm["block processor"] + gemm["signature processor"]
    return {
        "rounds": len(clocks),
        "seconds": seconds,
        "gemm_seconds": products_wall,
        "ratio_to_gemm": seconds / products_wall,
        "peak_gib": peak / 2**30,
        "processor_seconds": processor,
        "gemm_processor_seconds": products_processor,
        "processor_ratio_to_gemm": processor / products_processor,
        "parts": middle.wall,
        "processor_parts": middle.processor,
        "gemm": gemm,
        "files_gib": on_disk / 2**30,
        "values": {
            "P and Q": server.state.values(BLOCKS),
            "signature": arguments.signature,
            "ordinary A and B": arguments.layer_values,
        },
    }


def signatures_only(arguments: Any, folder: Path) -> dict[str, Any]:
    """Measure the search for the most similar peers, and how many it finds of all pairs."""
    k, n, length = arguments.top_k or 16, arguments.clients, arguments.signature
    names = [f"c{i:06}" for i in range(n)]
    limit = ServerSettings(memory=arguments.memory).memory_bytes
    state = ServerState(names, Storage(limit, folder))
    groups = directions(length)
    for client, name in enumerate(names):
        signed = signature(client, length, groups, alike=not arguments.random)
        state.put(SIGNATURES, {"signature": signed}, name)
    stored, clock = StoredSignatures(state, SIGNATURES, names), Clock()
    with clock.part("search"):
        found = nearest_peers(stored, k, max(CANDIDATES, 4 * k))
    peak = peak_memory()
    chosen = list(range(0, n, max(1, n // 200)))
    own = torch.stack([state.read(SIGNATURES, [names[i]])[0] for i in chosen])
    own /= own.norm(dim=1, keepdim=True)
    cosines = torch.empty(len(chosen), n)
    for start in range(0, n, 1000):
        block = state.read(SIGNATURES, names[start : start + 1000])
        cosines[:, start : start + 1000] = own @ (block / block.norm(dim=1, keepdim=True)).T
    cosines[torch.arange(len(chosen)), torch.tensor(chosen)] = -2.0
    best = cosines.topk(k, dim=1).indices.tolist()
    pairs = zip(best, found.peers[chosen].tolist(), strict=True)
    recall = sum(len(set(a) & set(b)) for a, b in pairs) / (k * len(chosen))
    flops = 2.0 * n * n * length
    return {
        "seconds": clock.wall["search"],
        "processor_seconds": clock.processor["search"],
        "peak_gib": peak / 2**30,
        "recall": recall,
        "values": {"signature": length},
        "all_pairs_tflop": flops / 1e12,
        "signatures": "random" if arguments.random else "of 50 groups, with noise",
    }


def main() -> None:
    """Measure, print and write the figures."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clients", type=int, default=100, help="number of clients")
    parser.add_argument("--top-k", type=int, default=0, help="relevance.top_k; 0: all peers")
    parser.add_argument("--memory", default="8GB", help="server.memory")
    parser.add_argument("--signature", type=int, default=SIGNATURE, help="values of a signature")
    parser.add_argument("--layer-values", type=int, default=0, help="values of ordinary A and B")
    parser.add_argument("--signatures-only", action="store_true", help="only search similar peers")
    parser.add_argument("--random", action="store_true", help="signatures that nothing relates")
    parser.add_argument("--rounds", type=int, default=0, help="rounds; 0: three, of many one")
    parser.add_argument("--products", type=float, default=2e12, help="multiply-adds to measure")
    parser.add_argument("--json", action="store_true", help="print JSON only, and write nothing")
    parser.add_argument("--folder", type=Path, help="for the files; default: a temporary folder")
    arguments = parser.parse_args()
    measure = signatures_only if arguments.signatures_only else whole_round
    with tempfile.TemporaryDirectory(dir=arguments.folder) as work:
        figures = measure(arguments, Path(work) / "rows")
    known = ("clients", "top_k", "memory", "signature", "layer_values", "signatures_only", "random")
    entry = {name: getattr(arguments, name) for name in known}
    machine: dict[str, Any] = {"threads": torch.get_num_threads(), "cores": os.cpu_count()}
    machine |= {"torch": str(torch.__version__), "processor": platform.machine()}
    machine["load"] = round(os.getloadavg()[0], 1)
    found = {**entry, **_rounded(figures), "machine": machine}
    print(json.dumps(found, indent=None if arguments.json else 2))
    if not arguments.json:
        path = RESULTS / f"{NAME}.json"
        content = json.loads(path.read_text()) if path.is_file() else []
        content = [old for old in content if any(old[name] != entry[name] for name in known)]
        content.append(found)
        write_result(NAME, sorted(content, key=lambda old: json.dumps([old[k] for k in known])))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
