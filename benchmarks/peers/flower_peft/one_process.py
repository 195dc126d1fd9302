"""Run the same federation as a loop in one process, without Flower.

  python one_process.py '{"model": "model", "data": "data", "out": "out", ...}'

The model is loaded at the start and the clients take turns on it, so this is the least that the
federation needs.
"""

import json
import sys
from pathlib import Path

from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from task import load_model, train_and_measure


def main(config):
    """Run the federation, and save the average and the figures of every round."""
    model, tokenizer = load_model(config)
    average = {key: value.clone() for key, value in get_peft_model_state_dict(model).items()}
    lines = []
    for number in range(1, config["rounds"] + 1):
        figures, sums, total = [], {}, 0
        for client in range(config["clients"]):
            set_peft_model_state_dict(model, average)
            found = train_and_measure(model, tokenizer, config, client, number)
            figures.append(found)
            total += found["num-examples"]
            for key, value in get_peft_model_state_dict(model).items():
                sums[key] = sums.get(key, 0) + found["num-examples"] * value
        average = {key: value / total for key, value in sums.items()}
        line = {key: sum(f[key] * f["num-examples"] for f in figures) / total for key in figures[0]}
        lines.append(line)
        print(f"round {number}/{config['rounds']} {line}", flush=True)
    out = Path(config["out"])
    out.mkdir(parents=True, exist_ok=True)
    save_file(average, out / "adapter_model.safetensors")
    (out / "figures.json").write_text(json.dumps(lines))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
