"""Write the folder that every program of the comparison reads: one model, four clients' data.

::

    model/                   a folder of transformers, with its tokenizer
    data/client-<i>/         train.json, test.json, batches.json
    scenario.yaml            fedmosaic's scenario, with its number of clients and rounds

``batches.json`` lists the items of every training step as fedmosaic will draw them, so that all
programs learn from the same items in the same sequence. The seed that is returned makes PEFT draw
fedmosaic's first LoRA weights.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fedmosaic.data.example import Example, Task, Turn
from fedmosaic.data.stream import ClientStream
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import seed_for

HERE = Path(__file__).parent
MODELS = ("small", "smollm2")
RUN_SEED = 0
TRAIN_ITEMS, TEST_ITEMS = 60, 20
SIZES: dict[str, Any] = {
    "hidden_size": 320,
    "intermediate_size": 864,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
SHELVES = ("the upper shelf", "the lower shelf", "the cold room", "the front desk")
THINGS = ("lamp", "kettle", "carpet", "mirror", "basket", "candle", "pillow", "teapot")
COLOURS = ("red", "green", "blue", "white", "black", "yellow", "brown", "grey")
TOWNS = ("Lyon", "Porto", "Gdansk", "Turin", "Bergen", "Ghent", "Malaga", "Graz")


@dataclass(frozen=True)
class Prepared:
    """Name what was prepared.

    Attributes:
        folder: the folder with model, data and scenario.
        clients: number of clients.
        rounds: number of rounds.
        lora_seed: seed before PEFT makes the adapter, for fedmosaic's first weights.
    """

    folder: Path
    clients: int
    rounds: int
    lora_seed: int


def prepare(folder: Path, model: str, clients: int, rounds: int) -> Prepared:
    """Write model, data and scenario into a folder.

    Args:
        folder: an empty folder.
        model: ``small`` (a random Llama with 10 million parameters) or ``smollm2``.
        clients: number of clients.
        rounds: number of rounds.
    """
    items = [client_items(client) for client in range(clients)]
    if model == "small":
        write_small_model(folder / "model", [text for own in items for text in _texts(own)])
    else:
        from fedmosaic.models.packaged import packaged_folder

        (folder / "model").symlink_to(packaged_folder("pypi:smollm2-135m-instruct"))
    scenario = scenario_of(clients, rounds)
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario, sort_keys=False))
    for client, own in enumerate(items):
        write_client(folder / "data" / f"client-{client}", f"client-{client}", own, scenario)
    identity = Backbone.load(str(folder / "model")).identity
    return Prepared(folder, clients, rounds, seed_for(RUN_SEED, "lora", identity))


def scenario_of(clients: int, rounds: int) -> dict[str, Any]:
    """Return the committed scenario with another number of clients and rounds."""
    scenario: dict[str, Any] = yaml.safe_load((HERE / "scenario.yaml").read_text())
    scenario["rounds"] = rounds
    scenario["clients"] = [
        {"name": f"client-{i}", "model": "./model", "tasks": [f"client-{i}"]}
        for i in range(clients)
    ]
    return scenario


def client_items(client: int) -> list[dict[str, Any]]:
    """Return a client's items, those of training first: where is a thing kept?

    The thing decides. Colour and town tell nothing, and every client's depot has its own number.
    """
    draw = random.Random(client)
    items = []
    for _ in range(TRAIN_ITEMS + TEST_ITEMS):
        thing, colour, town = draw.choice(THINGS), draw.choice(COLOURS), draw.choice(TOWNS)
        question = (
            f"Depot {client + 1} has a {colour} {thing} that came from {town} this morning. "
            "Where in the depot does it belong?"
        )
        answer = SHELVES[THINGS.index(thing) % len(SHELVES)]
        items.append({"question": question, "options": list(SHELVES), "answer": answer})
    return items


def write_client(
    folder: Path, name: str, items: list[dict[str, Any]], scenario: dict[str, Any]
) -> None:
    """Write a client's items, and the numbers of those that each training step takes."""
    folder.mkdir(parents=True)
    train, test = items[:TRAIN_ITEMS], items[TRAIN_ITEMS:]
    steps, rounds = scenario["train"]["steps"], scenario["rounds"]
    examples = [Example(str(i), (Turn("assistant", "-"),)) for i in range(len(train))]
    stream = ClientStream(
        [Task(name, examples, ())],  # only their number counts here
        rounds=rounds,
        steps_per_round=steps,
        batch_size=scenario["train"]["batch_size"],
        seed_parts=(RUN_SEED, name),
    )
    batches = []
    for number in range(rounds):
        stream.begin_round(number)
        batches += [[item for _, item in stream.next_batch()] for _ in range(steps)]
    for file, content in (("train", train), ("test", test), ("batches", batches)):
        (folder / f"{file}.json").write_text(json.dumps(content))


def write_small_model(folder: Path, texts: list[str]) -> None:
    """Write a Llama with random weights and a byte-level tokenizer that knows these texts."""
    import torch

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|pad|>", "<|turn|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(fast),
            pad_token_id=fast.pad_token_id,
            bos_token_id=None,
            eos_token_id=fast.eos_token_id,
            **SIZES,
        )
        LlamaForCausalLM(config).save_pretrained(folder)


def _texts(items: list[dict[str, Any]]) -> list[str]:
    return [text for item in items for text in (item["question"], *item["options"])]
