"""Read answers, score them, and summarise the scores of a run."""

from fedmosaic.evaluation.answers import read_choice
from fedmosaic.evaluation.evaluator import Evaluator, Score, ScoredTask, evaluate
from fedmosaic.evaluation.generation import generate
from fedmosaic.evaluation.metrics import rouge_l, token_f1
from fedmosaic.evaluation.records import Record
from fedmosaic.evaluation.summary import summarise

__all__ = [
    "Evaluator",
    "Record",
    "Score",
    "ScoredTask",
    "evaluate",
    "generate",
    "read_choice",
    "rouge_l",
    "summarise",
    "token_f1",
]
