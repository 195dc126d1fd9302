"""Average the clients' LoRA by FedAvg, and save the average and the figures of every round."""

import json
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from task import load_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation."""
    config = context.run_config
    model, _ = load_model(config)
    strategy = FedAvg(
        fraction_evaluate=0.0,  # clients measure after their training
        min_train_nodes=config["clients"],
        min_available_nodes=config["clients"],
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(get_peft_model_state_dict(model)),
        num_rounds=config["rounds"],
    )
    out = Path(config["out"])
    out.mkdir(parents=True, exist_ok=True)
    save_file(result.arrays.to_torch_state_dict(), out / "adapter_model.safetensors")
    figures = [dict(metrics) for _, metrics in sorted(result.train_metrics_clientapp.items())]
    (out / "figures.json").write_text(json.dumps(figures))
