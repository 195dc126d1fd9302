"""Test that data sets are read in the forms in which people publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data_factory import item, shown, write_image, write_json

Item = dict[str, Any]
QA = {"question": "q?", "answer": "a"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shade, name in enumerate(("a.png", "b.png", "c.png", "my pic.png")):
        write_image(tmp_path / name, shade, size=16 + shade)
    return tmp_path


READ: list[tuple[str, Item, str]] = [
    ("LLaVA, text only", {**item("Hi", "Ho"), "model": ""}, "u:Hi | a:Ho"),
    ("ShareGPT, system_prompt", {**item("Hi", "Ho"), "system_prompt": "s"}, "s:s | u:Hi | a:Ho"),
    (
        "OneVision, several pictures",
        item("<image>\n<image>\nWhich?", "left", ["a.png", "b.png"], data_source="x"),
        "u:<image>\n<image>\nWhich? | a:left [16, 17]",
    ),
    (
        "InternVL",
        {**item("Image-1: <image>\nq", "a", ["a.png"]), "width_list": [16], "height_list": [16]},
        "u:Image-1: <image>\nq | a:a [16]",
    ),
    (
        "Qwen-VL, pictures in the text",
        item("Picture 1: <img>b.png</img>\nPicture 2: <img>a.png</img>\nq", "<ref>x</ref>"),
        "u:Picture 1: <image>\nPicture 2: <image>\nq | a:<ref>x</ref> [17, 16]",
    ),
    (
        "Qwen2-VL, parts with pixels",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": "a.png", "min_pixels": 1, "max_pixels": 9},
                        {"type": "text", "text": "q"},
                    ],
                },
                {"role": "assistant", "content": "a"},
            ]
        },
        "u:<image>q | a:a [16]",
    ),
    (
        "Qwen2-VL, marks of the model",
        {**item("<|vision_start|><|image_pad|><|vision_end|>q", "a"), "images": ["a.png"]},
        "u:<image>q | a:a [16]",
    ),
    (
        "MiniCPM-V, pictures by mark",
        {
            **item("<image_01> and <image_00>?", "a"),
            "image": {"<image_00>": "a.png", "<image_01>": "b.png"},
        },
        "u:<image> and <image>? | a:a [17, 16]",
    ),
    (
        "MiniCPM-V, mark with its end",
        {**item("(<image>./</image>)\nq", "a"), "image": "a.png"},
        "u:<image>\nq | a:a [16]",
    ),
    (
        "Phi-3-V",
        item("<|image_1|>\n<|image_2|>\nq", "a", ["a.png", "b.png"]),
        "u:<image>\n<image>\nq | a:a [16, 17]",
    ),
    (
        "parts that number the images (llava-instruct-mix)",
        {
            "images": ["a.png", "b.png"],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "text": None, "index": 1},
                        {"type": "image", "text": None, "index": 0},
                        {"type": "text", "text": "q", "index": None},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "a", "index": None}]},
            ],
        },
        "u:<image><image>q | a:a [17, 16]",
    ),
    (
        "the cauldron",
        {
            "images": ["a.png"],
            "texts": [
                {"user": "q", "assistant": "a", "source": "x"},
                {"user": "q2", "assistant": "a2", "source": "x"},
            ],
        },
        "u:<image>\nq | a:a | u:q2 | a:a2 [16]",
    ),
    (
        "XTuner",
        {
            "conversation": [
                {"system": "s", "input": "q", "output": "a"},
                {"input": "r", "output": "b"},
            ]
        },
        "s:s | u:q | a:a | u:r | a:b",
    ),
    (
        "Vertex AI",
        {
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"text": "a"}]},
            ]
        },
        "u:q | a:a",
    ),
    (
        "OpenAI without tools",
        {
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a", "tool_calls": [], "refusal": None},
            ],
            "tools": [],
            "parallel_tool_calls": False,
        },
        "u:q | a:a",
    ),
    ("LLaMA-Factory, tools written as text", {**item("q", "a"), "tools": "[]"}, "u:q | a:a"),
    (
        "an earlier answer that is not learned",
        {
            "conversations": [
                *item("q", "a")["conversations"][:1],
                {"from": "gpt", "value": "a", "loss": False},
                *item("r", "b")["conversations"],
            ]
        },
        "u:q | a-:a | u:r | a:b",
    ),
    (
        "an earlier answer of a history that is not learned",
        {
            "history": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a", "weight": 0},
            ],
            "query": "r",
            "response": "b",
        },
        "u:q | a-:a | u:r | a:b",
    ),
    (
        "an empty text beside the text of a turn",
        {
            "messages": [
                {"role": "user", "value": "", "content": "q"},
                {"from": "gpt", "value": "a"},
            ]
        },
        "u:q | a:a",
    ),
    ("FLAN", {"inputs": "i", "targets": "t"}, "u:i | a:t"),
    ("Natural Instructions", {"definition": "d", "inputs": "i", "targets": "t"}, "u:d\n\ni | a:t"),
    ("M3IT", {"instruction": "i", "inputs": "c", "outputs": "o"}, "u:i\n\nc | a:o"),
    (
        "VQAv2 on the Hub",
        {
            "image": "a.png",
            "image_id": 9,
            "question": "q?",
            "multiple_choice_answer": "net",
            "answers": [{"answer": "nets", "answer_id": 1}, {"answer": "net", "answer_id": 2}],
        },
        "u:<image>\nq? | a:net [16]",
    ),
    (
        "ScienceQA",
        {
            **{"image": None, "question": "q?", "choices": ["x", "y"], "answer": 1, "hint": "h"},
            **{"lecture": "l", "solution": "s"},
        },
        "u:q?\n\nh | a:y ['x', 'y'] -> y",
    ),
    (
        "MMMU, a choice",
        {
            "question": "Is <image 1> it?",
            "options": "['x', \"it's\"]",
            "image_1": "a.png",
            "answer": "B",
        },
        "u:Is <image> it? | a:it's [16] ['x', \"it's\"] -> it's",
    ),
    (
        "MMMU, open",
        {
            "question": "<image 1> <image 2>",
            "options": "[]",
            "image_1": "a.png",
            "image_2": "b.png",
            "answer": "3",
        },
        "u:<image> <image> | a:3 [16, 17]",
    ),
    (
        "SEED-Bench",
        {"image": "a.png", "question": "q?", "choice_a": "One", "choice_b": "Two", "answer": "B"},
        "u:<image>\nq? | a:Two [16] ['One', 'Two'] -> Two",
    ),
    (
        "WinoGrande",
        {"question": "A _", "option1": "x", "option2": "y", "answer": "2"},
        "u:A _ | a:y ['x', 'y'] -> y",
    ),
    (
        "SWAG",
        {"ctx": "c", "ending0": "x", "ending1": "y", "label": 1},
        "u:c | a:y ['x', 'y'] -> y",
    ),
    (
        "OpenBookQA",
        {
            "question_stem": "q",
            "choices": {"text": ["x", "y"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        "u:q | a:y ['x', 'y'] -> y",
    ),
    (
        "VCR",
        {"img_fn": "a.png", "question": "q", "answer_choices": ["x", "y"], "answer_label": 1},
        "u:<image>\nq | a:y [16] ['x', 'y'] -> y",
    ),
    (
        "RACE",
        {"article": "t", "question": "q?", "options": ["x", "y"], "answer": "A"},
        "u:q?\n\nt | a:x ['x', 'y'] -> x",
    ),
    (
        "a name of the file beside a picture",
        {"image": "a.png", "filename": "7.jpg", **QA},
        "u:<image>\nq? | a:a [16]",
    ),
    (
        "an address beside a picture",
        {"image": "a.png", "image_url": "http://x/a.jpg", **QA},
        "u:<image>\nq? | a:a [16]",
    ),
    (
        "two names for one picture",
        {"image": "a.png", "images": ["a.png"], **QA},
        "u:<image>\nq? | a:a [16]",
    ),
    ("file_name alone", {"file_name": "a.png", "caption": "c"}, "u:<image> | a:c [16]"),
    ("file_name of no picture", {"file_name": "main.py", **QA}, "u:q? | a:a"),
    ("a path with a blank behind", {"image": "a.png \n", **QA}, "u:<image>\nq? | a:a [16]"),
    ("a path with an encoded blank", {"image": "my%20pic.png", **QA}, "u:<image>\nq? | a:a [19]"),
    (
        "a mark in brackets",
        {"image": "a.png", "question": "Is [image] it?", "answer": "a"},
        "u:Is <image> it? | a:a [16]",
    ),
    (
        "a mark as an empty tag",
        {"image": "a.png", "question": "<image/>q", "answer": "a"},
        "u:<image>q | a:a [16]",
    ),
    (
        "a tag of HTML without a picture",
        {"question": "What is <img>?", "answer": "a"},
        "u:What is <img>? | a:a",
    ),
    (
        "a template without a picture",
        {"question": "f'{image}'", "answer": "a"},
        "u:f'{image}' | a:a",
    ),
]


@pytest.mark.parametrize(("record", "expected"), [r[1:] for r in READ], ids=[r[0] for r in READ])
def test_published_items(folder: Path, record: Item, expected: str) -> None:
    assert shown(write_json(folder / "set.json", [record])) == [expected]
