"""Run the scenario, or continue it if its folder holds a run."""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

import fedmosaic
from fedmosaic.engines.flower.app import over_grid

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run or resume with the settings of the app."""
    config = context.run_config
    out = Path(str(config["out"]))
    if not out.is_absolute():
        raise ValueError("out: name the run folder by its full path")
    with over_grid(grid):
        if (out / "config.yaml").exists():
            fedmosaic.resume(out)
            return
        fedmosaic.run(
            str(config["scenario"]),
            algorithm=str(config["algorithm"]),
            seed=int(config["seed"]),
            out=out,
            engine="flower",
        )
