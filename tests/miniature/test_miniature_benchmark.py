"""Test the benchmark: complete, balanced, no shortcuts, disjoint, reproducible, fast and short."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
import zlib
from collections import Counter, defaultdict
from dataclasses import astuple

import pytest

from fedmosaic.errors import DataError
from fedmosaic.miniature.benchmark import public
from fedmosaic.miniature.benchmark.families import SPLITS, Draw, TaskItem, split_of
from fedmosaic.miniature.benchmark.load import (
    find_recipe,
    load_task,
    public_set,
    task_names,
    unseen_names,
)
from fedmosaic.miniature.pretraining.corpus import VOCABULARY
from fedmosaic.miniature.world.styles import STYLES

ALL = (*task_names(), *unseen_names())
CHOICE = tuple(name for name in ALL if find_recipe(name).kind == "choice")


def items(name: str, split: str, count: int, seed: int = 0) -> list[TaskItem]:
    """Return a task's examples before rendering."""
    return [find_recipe(name).make(Draw(name, split, seed, index)) for index in range(count)]  # type: ignore[arg-type]


def digest(name: str) -> str:
    """Return a hash of the texts and pictures of a task's first examples."""
    task = load_task(name, seed=3, train_limit=8, test_limit=8)
    parts = [
        f"{e.id}|{e.question}|{e.answer}|{[i.key for i in e.images]}"
        for e in (*task.train, *task.test)
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@pytest.mark.parametrize("name", ALL)
def test_examples_are_complete(name: str) -> None:
    task = load_task(name)
    assert (len(task.train), len(task.test)) == (find_recipe(name).train, 200)
    assert 25 <= len(task.train) <= 100
    assert len(load_task(name, train_limit=40, test_limit=250).train) == 40
    assert task.family == name.rsplit("-", 1)[0]
    for example in task.train:
        assert example.question.startswith("<image>") and 1 <= len(example.images) <= 4
        if task.kind == "choice":
            assert task.metric == "accuracy" and example.answer in example.options
            assert 2 <= len(example.options) == len(set(example.options)) <= 4
            assert example.question.endswith(f" Options: {', '.join(example.options)}")
        else:
            assert (
                task.metric == "f1" and example.options == () and "Options" not in example.question
            )


@pytest.mark.parametrize("name", CHOICE)
def test_text_alone_is_no_better_than_chance(name: str) -> None:
    """Fit predictors that see no picture on 600 examples, and score them on 400 others."""
    train, test = items(name, "train", 600), items(name, "test", 400)
    counts: dict[str, dict[object, Counter[object]]] = defaultdict(lambda: defaultdict(Counter))
    for item in train:
        place = item.options.index(item.answer)
        counts["answer"][item.question][item.answer] += 1
        counts["place"][len(item.options)][place] += 1
        counts["options"][item.question, frozenset(item.options)][item.answer] += 1
        counts["ordered"][item.options][item.answer] += 1

    def guess(predictor: str, key: object, item: TaskItem) -> bool:
        votes = counts[predictor][key]
        if predictor == "place":
            return item.options[votes.most_common(1)[0][0]] == item.answer  # type: ignore[call-overload, no-any-return]
        return max(item.options, key=lambda option: votes[option]) == item.answer

    chance = sum(1 / len(item.options) for item in test) / len(test)
    limit = chance + 4 * (chance * (1 - chance) / len(test)) ** 0.5
    for predictor, key in {
        "answer": lambda item: item.question,
        "place": lambda item: len(item.options),
        "options": lambda item: (item.question, frozenset(item.options)),
        "ordered": lambda item: item.options,
    }.items():
        score = sum(guess(predictor, key(item), item) for item in test) / len(test)
        assert score <= limit, f"{name}: {predictor} scores {score:.2f}, chance is {chance:.2f}"


@pytest.mark.parametrize("name", ALL)
def test_answers_are_balanced(name: str) -> None:
    """Check that no answer is much more frequent than another in 60 training examples."""
    answers = Counter(item.answer.split()[0] for item in items(name, "train", 60))
    assert len(answers) > 1
    even = 60 / len(answers)
    assert max(answers.values()) <= 1.34 * even + 1, answers


def test_splits_share_no_picture() -> None:
    for name in ALL:
        shown: dict[str, set[object]] = {}
        for split in ("train", "test"):
            scenes = [
                scene
                for seed in (0, 1)
                for item in items(name, split, 60, seed)
                for scene in item.scenes
            ]
            assert all(split_of(scene.things) == split for scene in scenes), name
            shown[split] = {scene.things for scene in scenes}
        assert not shown["train"] & shown["test"]
    scenes = [
        scene
        for index in range(200)
        for scene in public.public_item(Draw("public", "public", 0, index)).scenes
    ]
    assert all(split_of(scene.things) == "public" for scene in scenes)


def test_no_background_of_pretraining_is_used() -> None:
    """Check backgrounds: a picture on another one cannot be a picture of the pretraining."""
    pretrained = {style.background for style in STYLES.values()}
    ours = {find_recipe(name).style.background for name in ALL}
    assert not pretrained & ours
    assert not {style.background for style in public.PUBLIC_STYLES} & (pretrained | ours)


def test_pictures_differ_from_pretraining_ones() -> None:
    import random

    from fedmosaic.data.example import Image
    from fedmosaic.miniature.pretraining.scenes import draw_picture

    chance = random.Random(0)
    pretraining = {Image(draw_picture(chance).pixels()).key for _ in range(2000)}
    for name in ALL:
        assert not pretraining & {
            image.key for example in load_task(name).train[:20] for image in example.images
        }


def test_examples_are_the_same_in_another_process() -> None:
    names = ("wardrobe-0", "idiom-2", "icon-3", "cloze-0")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_miniature_benchmark as t; "
        "print(*map(t.digest, sys.argv[2:]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__), *names],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert done.stdout.split() == [digest(name) for name in names]


def test_examples_are_those_of_the_published_runs() -> None:
    """Compare texts and scenes of all tasks, before rendering, with a recorded hash."""
    content = [
        (name, item.question, item.answer, item.options, [astuple(scene) for scene in item.scenes])
        for name in ALL
        for split in ("train", "test")
        for item in items(name, split, 5, seed=1)
    ]
    assert hashlib.sha256(repr(content).encode()).hexdigest()[:16] == "258da13a6717cf6e"


def test_a_picture_is_in_the_split_that_the_words_of_its_things_give() -> None:
    for item in items("wardrobe-0", "train", 20) + items("outfit-0", "train", 20):
        for scene in item.scenes:
            digits = zlib.crc32(repr(scene.things).encode())
            assert split_of(scene.things) == SPLITS[digits % len(SPLITS)] == "train"


def test_seed_draws_other_examples_of_the_same_knowledge() -> None:
    first, second = (
        load_task("icon-0", seed=0, train_limit=60),
        load_task("icon-0", seed=1, train_limit=60),
    )
    assert not {e.images[0].key for e in first.train} & {e.images[0].key for e in second.train}
    meanings: dict[int, set[str]] = defaultdict(set)
    for seed in (0, 1):
        for item in items("icon-0", "train", 60, seed):
            meanings[len(item.scenes[0].things)].add(item.answer)
    assert sorted(meanings) == [1, 2, 3, 4, 5, 6] and all(
        len(words) == 1 for words in meanings.values()
    )


def test_longer_sets_begin_with_the_shorter_ones() -> None:
    short, long = load_task("mood-0", train_limit=25), load_task("mood-0", train_limit=100)
    assert [e.question for e in short.train] == [e.question for e in long.train[:25]]
    assert short.train[-1].question == long.train[24].question
    assert long.train[3] is long.train[3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("outfit-0", "journey-0"),
        ("concept-1", "bond-1"),
        ("comic-0", "vista-0"),
        ("lesson-0", "ledger-0"),
    ],
)
def test_conflicting_families_answer_the_same_differently(one: str, other: str) -> None:
    """Check that pictures, style and question are the same and the answers always differ."""
    assert find_recipe(one).style == find_recipe(other).style
    for index in range(50):
        item, rival = (find_recipe(name).make(Draw(one, "test", 0, index)) for name in (one, other))
        assert item.question == rival.question and item.scenes == rival.scenes
        assert item.answer != rival.answer
    words = [
        {word for item in items(name, "train", 60) for word in item.options}
        for name in (one, other)
    ]
    assert words[0] == words[1]


@pytest.mark.parametrize("name", ALL)
def test_prompts_are_short_and_of_known_words(name: str) -> None:
    for example in load_task(name, train_limit=60).train:
        text = example.question.replace("<image>", "")
        tokens = re.findall(r"[A-Za-z-]+|[^\sA-Za-z]", f"{text} {example.answer}")
        assert set(re.findall(r"[A-Za-z-]+", f"{text} {example.answer}")) <= set(VOCABULARY)
        assert 9 * len(example.images) + len(tokens) + 3 <= 64


def test_public_examples_are_general() -> None:
    pool = public_set(200, seed=5)
    assert len(pool) == 200 and {len(example.images) for example in pool} == {1, 2, 3}
    text = " ".join(f"{example.question} {example.answer}" for example in pool).replace(
        "<image>", ""
    )
    words = set(re.findall(r"[A-Za-z-]+", text))
    assert words <= set(VOCABULARY)
    from fedmosaic.miniature.world.words import CODE_WORDS

    assert not words & set(CODE_WORDS)


def test_thousands_of_pictures_a_second() -> None:
    list(load_task("wardrobe-2", seed=7).test)
    start = time.perf_counter()
    pictures = sum(
        len(example.images) for example in load_task("wardrobe-2", seed=8, test_limit=500).test
    )
    assert pictures / (time.perf_counter() - start) > 1000


def test_wrong_names_and_counts_are_explained() -> None:
    with pytest.raises(DataError, match=r"wardrobe-9.*Did you mean 'wardrobe-"):
        load_task("wardrobe-9")
    assert load_task("wardrobe-1").name == "miniature/wardrobe-1"
    with pytest.raises(DataError, match="train must be a positive number"):
        load_task("wardrobe-0", train_limit=0)
    with pytest.raises(DataError, match="at least one example"):
        public_set(0)
