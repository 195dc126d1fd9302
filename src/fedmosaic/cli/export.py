"""Implement ``fedmosaic export``: write a client's adapter as a standard PEFT LoRA adapter."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fedmosaic.cli.options import add_client

if TYPE_CHECKING:
    from fedmosaic.adapters.exported import ExportedLora


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Write the adapter that a client uses after the last finished round as a LoRA adapter of "
        "PEFT, with a model card. It loads with transformers and PEFT, without fedmosaic."
    )
    add_client(parser)
    parser.add_argument(
        "--to", choices=["lora"], default="lora", help="format of the adapter (default: lora)"
    )
    parser.add_argument(
        "--for",
        dest="layout",
        choices=["peft", "vllm"],
        default="peft",
        help="who loads it (default: peft). vllm: one rank everywhere and no bias, as vLLM, "
        "llama.cpp and merging need it; refused where Q makes a bias (train with adapter.q=false)",
    )
    parser.add_argument(
        "--experts",
        action="store_true",
        help="write an adapter for each model that the client chooses from, and what chooses: its "
        "own, what it received, and its experts. The folder then holds features of the client's "
        "training prompts",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write, which must not exist"
    )


def handle(arguments: argparse.Namespace) -> None:
    """Write the adapter and say what is needed to load and serve it."""
    from fedmosaic import api
    from fedmosaic.adapters.exported import ExportedLora

    folder = api.export(
        arguments.source,
        arguments.client,
        arguments.out,
        layout=arguments.layout,
        experts=arguments.experts,
    )
    read = held(folder) if arguments.experts else needs(ExportedLora.read(folder))
    print("\n".join([f"wrote {folder}", *read]))


def held(folder: Path) -> list[str]:
    """Return lines that say what a folder of experts holds."""
    import json

    from fedmosaic.adapters.exported import ExportedLora

    facts = json.loads((folder / "router.json").read_text(encoding="utf-8"))
    models = facts["models"]
    base = ExportedLora.read(folder / models["own"]["folder"]).base_model
    lines = [f"  base model  {base}", f"  router      {facts['features']['model']}"]
    for name, one in models.items():
        read = ", read by the difference to the base model" if one["by_difference"] else ""
        lines.append(f"  adapter     {name}: {one['folder']}{read}")
    return [
        *lines,
        "  load        see README.md there; load_adapter for each, set_adapter for each input",
        "  reveals     features of the client's training prompts (router.safetensors)",
    ]


def needs(exported: ExportedLora) -> list[str]:
    """Return lines that say what an adapter needs from PEFT and from a server."""
    ranks, folder = sorted(set(exported.ranks.values())), str(exported.folder)
    lines = [
        f"  base model  {exported.base_model}",
        f"  modules     {', '.join(exported.modules)} ({len(exported.ranks)} in all)",
        f"  rank        {', '.join(map(str, ranks))}",
        f"  bias        {'yes' if exported.bias else 'no'}",
        f"  load        peft.PeftModel.from_pretrained(base_model, {folder!r})",
    ]
    if exported.bias:
        no = "none takes the bias that Q makes: train with adapter.q=false, export with --for vllm"
        return [*lines, f"  servers     {no}"]
    if exported.server_problems():
        return [*lines, "  servers     for vLLM, llama.cpp and merging export with --for vllm"]
    base = exported.base_model
    if (Path(base) / "adapter_config.json").is_file():
        merge = "merge the base model's own adapter first: merge_and_unload(), save_pretrained()"
        return [*lines, f"  servers     {merge}"]
    option = "--base" if Path(base).is_dir() else "--base-model-id"
    return [
        *lines,
        f"  vLLM        vllm serve {base} --enable-lora "
        f"--max-lora-rank {exported.max_lora_rank} --lora-modules NAME={folder}",
        f"  llama.cpp   convert_lora_to_gguf.py {option} {base} {folder}",
    ]
