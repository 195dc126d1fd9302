"""Say for every algorithm why its local steps of equal compute are what they are."""

from __future__ import annotations

AVERAGING = "A step is a step of local training; averaging costs the clients nothing."
REASONS = {
    "fedmosaic": "Both branches run in one pass; every 10th batch adds a signature, which is one "
    "forward pass of the smallest model.",
    "sft": "The reference.",
    "fedavg": AVERAGING,
    "fedprox": f"{AVERAGING} The proximal term is element-wise, which is not counted.",
    "scaffold": f"{AVERAGING} The correction is element-wise, which is not counted.",
    "fedper": AVERAGING,
    "ditto": "Two trainings on each batch.",
    "fedsim": "Both adapters are trained by one loss, as its authors' simultaneous update says: "
    "one forward and one backward pass with two adapters in it. The paper's number has one more "
    "forward pass in each step.",
    "feddat": "Two trainings on each batch, one of them with a third, frozen adapter. The paper's "
    "number has a third forward pass: the authors' code runs the teacher twice with the same "
    "weights; here one pass of it serves both directions of distillation.",
    "feddpa": "Half of the steps train one adapter together with a second, frozen one, and once a "
    "round a forward pass represents the reference samples. A count of passes sees neither.",
    "perada": "Two trainings on each batch, as in Ditto. Distillation is done by the server.",
    "feddistill": "Each step trains on a private and on a public batch.",
    "fedmkt": "Once a round, a training pass over the public examples and a forward pass that "
    "predicts their answers: the more public examples, the fewer steps are left. The paper's "
    "number has two forward passes in each step instead.",
    "takfl": f"{AVERAGING} Distillation is done by the server. The paper's number has one forward "
    "pass in each step for it.",
    "hetlora": f"{AVERAGING} Its penalty is element-wise or of the size of the rank.",
    "flexlora": f"{AVERAGING} The SVD is done by the server and is not a counted product.",
    "flora": "What has been merged stays a frozen adapter next to the trained one, because clients "
    "share W in memory. By default it is wide enough to hold every sum exactly, here as wide as "
    "the model. algorithms.flora.rank makes it narrower.",
    "fedsa-lora": AVERAGING,
    "ffa-lora": "A is frozen and needs no gradient.",
    "fedalt": "Each step trains one adapter together with a second, frozen one, and a mixer of "
    "them in every layer.",
    "raflora": f"{AVERAGING} The SVD is done by the server and is not a counted product.",
    "fedex-lora": "The residuals stay a frozen adapter next to the trained one, because clients "
    "share W in memory. algorithms.fedex-lora.rank makes it narrower.",
    "rolora": "One of A and B is frozen in each round and needs no gradient.",
    "fed-sb": "A and B are frozen and need no gradient; R is small.",
    "fedmosaic-no-communication": "Both branches without signatures.",
    "pooled": "An oracle: it trains on the data of all clients, at N times the cost, and no budget "
    "limits it.",
}
