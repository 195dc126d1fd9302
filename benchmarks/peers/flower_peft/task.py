"""Load the model and the data of a client, train it and measure it: PEFT and transformers alone.

Items are rows of ``question``, ``options`` and ``answer``. ``batches.json`` lists the items of
every training step, so that all programs that are compared learn from the same ones.
"""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

IGNORE = -100
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load_model(config):
    """Return the model with LoRA, and its tokenizer."""
    base = AutoModelForCausalLM.from_pretrained(config["model"], dtype=torch.float32)
    lora = LoraConfig(
        r=config["r"],
        lora_alpha=config["alpha"],
        lora_dropout=0.0,
        target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(config["seed"])
    return get_peft_model(base, lora), AutoTokenizer.from_pretrained(config["model"])


def load_data(folder, client):
    """Return the training items, the items of each training step, and the test items."""
    names = ("train", "batches", "test")
    files = [Path(folder) / f"client-{client}" / f"{name}.json" for name in names]
    return [json.loads(file.read_text()) for file in files]


def encode(tokenizer, question, answer):
    """Return the tokens of a conversation, and labels that hold the answer and its end alone."""
    turns = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    given = tokenizer(prompt, add_special_tokens=False).input_ids
    learned = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False).input_ids
    return torch.tensor(given + learned), torch.tensor([IGNORE] * len(given) + learned)


def collate(tokenizer, pairs):
    """Return a padded batch of questions and answers."""
    rows = [encode(tokenizer, question, answer) for question, answer in pairs]
    ids = pad_sequence([row[0] for row in rows], batch_first=True, padding_value=0)
    labels = pad_sequence([row[1] for row in rows], batch_first=True, padding_value=IGNORE)
    lengths = torch.tensor([len(row[0]) for row in rows])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train(model, tokenizer, items, batches, lr):
    """Train LoRA on one batch a step and return the mean loss."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    model.train()
    losses = []
    for numbers in batches:
        pairs = [(items[n]["question"], items[n]["answer"]) for n in numbers]
        loss = model(**collate(tokenizer, pairs)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def evaluate(model, tokenizer, items, batch_size):
    """Return the share of items whose right option is the likeliest one."""
    model.eval()
    pairs = [(item["question"], option) for item in items for option in item["options"]]
    scores = []
    for start in range(0, len(pairs), batch_size):
        batch = collate(tokenizer, pairs[start : start + batch_size])
        labels = batch.pop("labels")[:, 1:]
        logits = model(**batch).logits[:, :-1]
        losses = cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        scores += (-losses.sum(1)).tolist()
    right = 0
    for item in items:
        own, scores = scores[: len(item["options"])], scores[len(item["options"]) :]
        right += item["options"][own.index(max(own))] == item["answer"]
    return right / len(items)


def train_and_measure(model, tokenizer, config, client, round_number):
    """Train a client for one round (counted from 1), measure it, and return its figures."""
    items, batches, test = load_data(config["data"], client)
    first = (round_number - 1) * config["steps"]
    loss = train(model, tokenizer, items, batches[first : first + config["steps"]], config["lr"])
    accuracy = evaluate(model, tokenizer, test, config["eval-batch-size"])
    return {"loss": loss, "accuracy": accuracy, "num-examples": len(items)}
