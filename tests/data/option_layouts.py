"""Write questions with options in the layouts that people use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Layout = Callable[[str, Sequence[str]], str]
QUESTION = "Which one is it?"
CAPITALS = "ABCDEFGHIJ"


def one_a_line(before: str, after: str, labels: Sequence[str] = CAPITALS) -> Layout:
    """Return a layout of one labelled option a line."""
    return lambda question, options: "\n".join(
        [question, *(f"{before}{labels[k]}{after}{text}" for k, text in enumerate(options))]
    )


def one_line(before: str, after: str, between: str = " ", header: str = " ") -> Layout:
    """Return a layout of labelled options on one line."""
    return lambda question, options: (
        question
        + header
        + between.join(f"{before}{CAPITALS[k]}{after}{text}" for k, text in enumerate(options))
    )


def listed(header: str, between: str, end: str = "") -> Layout:
    """Return a layout of options without labels."""
    return lambda question, options: f"{question}{header}{between.join(options)}{end}"


def repeated(prefix: str, options: Sequence[str]) -> str:
    """Return one option a line, each behind a bullet."""
    return "\n".join(f"{prefix}{option}" for option in options)


ASK = "\nAnswer with the option's letter from the given choices directly."
DIGITS = [str(number) for number in range(1, 11)]
LABELS: dict[str, Sequence[str]] = {
    "full-width letters": "ＡＢＣＤＥＦＧＨＩＪ",
    "Ⓐ": "ⒶⒷⒸⒹⒺⒻⒼⒽⒾⒿ",
    "a.": CAPITALS.lower(),
    "a)": CAPITALS.lower(),
    "(a)": CAPITALS.lower(),
    "1.": DIGITS,
    "1)": DIGITS,
    "(1)": DIGITS,
    "①": "①②③④⑤⑥⑦⑧⑨⑩",
    "(i)": ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"],
    "가.": "가나다라마바사아",
    "ア.": "アイウエオカキク",
    "А)": "АБВГДЕЖЗ",
}
"""The labels of those layouts that do not use A, B, C …"""

LETTERED: dict[str, Layout] = {
    "A.": one_a_line("", ". "),
    "A. and an instruction": lambda q, o: one_a_line("", ". ")(q, o) + ASK,
    "A)": one_a_line("", ") "),
    "(A)": one_a_line("(", ") "),
    "[A]": one_a_line("[", "] "),
    "A:": one_a_line("", ": "),
    "A -": one_a_line("", " - "),
    "A –": one_a_line("", " – "),
    "**A.**": one_a_line("**", ".** "),
    "**A**.": one_a_line("**", "**. "),
    "**(A)**": one_a_line("**(", ")** "),
    "- A.": one_a_line("- ", ". "),
    "* A)": one_a_line("* ", ") "),
    "• (A)": one_a_line("• (", ") "),
    "indented": one_a_line("   ", ". "),
    "quoted": one_a_line("> ", ") "),
    "Option A:": one_a_line("Option ", ": "),
    "（A）": one_a_line("（", "）"),
    "A．": one_a_line("", "．"),
    "A、": one_a_line("", "、"),
    "A：": one_a_line("", "："),
    "full-width letters": one_a_line("", "．", LABELS["full-width letters"]),
    "Ⓐ": one_a_line("", " ", LABELS["Ⓐ"]),
    "no blank": one_a_line("", "."),
    "a.": one_a_line("", ". ", CAPITALS.lower()),
    "a)": one_a_line("", ") ", CAPITALS.lower()),
    "(a)": one_a_line("(", ") ", CAPITALS.lower()),
    "1.": one_a_line("", ". ", DIGITS),
    "1)": one_a_line("", ") ", DIGITS),
    "(1)": one_a_line("(", ") ", DIGITS),
    "①": one_a_line("", " ", LABELS["①"]),
    "(i)": one_a_line("(", ") ", LABELS["(i)"]),
    "가.": one_a_line("", ". ", LABELS["가."]),
    "ア.": one_a_line("", ". ", LABELS["ア."]),
    "А)": one_a_line("", ") ", LABELS["А)"]),
    "Options: and lines": lambda q, o: one_a_line("", ". ")(f"{q}\nOptions:", o),
    "选项： and lines": lambda q, o: one_a_line("", ". ")(f"{q}\n选项：", o),
    "Choices: and a blank line": lambda q, o: one_a_line("(", ") ")(f"{q}\nChoices:\n", o),
    "text on the next line": one_a_line("", ".\n"),
    "blank lines between": lambda q, o: one_a_line("", ". ")(q, o).replace("\n", "\n\n"),
    "(A) on one line": one_line("(", ") "),
    "Options: (A) on one line": one_line("(", ") ", header="\nOptions: "),
    "Options: (A) and an instruction": lambda q, o: (
        one_line("(", ") ", header="\nOptions: ")(f"Context: N/A\nQuestion: {q}", o) + ASK
    ),
    "A. on one line": one_line("", ". "),
    "A) with commas": one_line("", ") ", between=", "),
    "A: with semicolons": one_line("", ": ", between="; ", header=" Choices: "),
    "A. with bars": one_line("", ". ", between=" | ", header=" Options: "),
    "A. in two columns": lambda q, o: (
        q
        + "".join(
            ("\n" if index % 2 == 0 else "   ") + f"{CAPITALS[index]}. {text}"
            for index, text in enumerate(o)
        )
    ),
    "brackets with bars": lambda q, o: one_line("", ": ", "| ", " Choice list:[")(q, o) + "].",
    "brackets with commas": lambda q, o: one_line("", ". ", ", ", " Choice list:[")(q, o) + "]",
    "选项：A．": one_line("", "．", between="；", header="选项："),
    "选择 on one line": one_line("", "、", between=" ", header="\n"),
    "an example first": lambda q, o: (
        "Example: Which tree?\nA. oak\nB. elm\nC. ash\nD. fir\nAnswer: D\n\n"
        + one_a_line("", ". ")(q, o)
    ),
    "an example of the same shape": lambda q, o: (
        f"{one_line('(', ') ')('Which tree?', ['oak', 'elm', 'ash', 'fir', 'yew'])} Answer: (E)\n"
        + one_line("(", ") ")(q, o)
    ),
    "mark behind": lambda q, o: one_line("", ". ")(q, o) + "\n<image>",
    "mark first": lambda q, o: "<image>\n" + one_a_line("", ". ")(q, o),
}
UNLETTERED: dict[str, Layout] = {
    "Choice list:[]": listed(" Choice list:[", ", ", "]. Your answer is:"),
    "bars in brackets": listed(" Choice list:[", "| ", "]"),
    "quotes": lambda q, o: listed("\nOptions: [", ", ", "]")(q, [f"'{text}'" for text in o]),
    "double quotes": lambda q, o: listed("\nOptions: [", ", ", "]")(q, [f'"{t}"' for t in o]),
    "Options:": listed(" Options: ", ", "),
    "Options: with a stop": listed(" Options: ", ", ", "."),
    "Options: and an instruction": listed(" Options: ", ", ", ". Answer with one of them."),
    "Answer choices:": listed("\nAnswer choices: ", "; "),
    "Choices: with slashes": listed(" Choices: ", " / "),
    "Possible answers:": listed("\nPossible answers: ", " | "),
    "**Options:**": listed("\n**Options:** ", ", "),
    "Choose from:": listed(" Choose from: ", ", ", "."),
    "or": lambda q, o: f"{q} Options: {', '.join(o[:-1])} or {o[-1]}",
    ", or": lambda q, o: f"{q} Options: {', '.join(o[:-1])}, or {o[-1]}.",
    ", and": lambda q, o: f"{q} The options are: {', '.join(o[:-1])}, and {o[-1]}.",
    "lines": listed("\nOptions:\n", "\n"),
    "lines and an instruction": listed("\nOptions:\n", "\n", "\nAnswer with one of them."),
    "lines and a blank line": listed("\nOptions:\n\n", "\n", "\n\nYour answer:"),
    "bullets": lambda q, o: f"{q}\nOptions:\n{repeated('- ', o)}",
    "bullets without a header": lambda q, o: f"{q}\n{repeated('* ', o)}",
    "选项：": listed("选项：", "，"),
    "选项 in brackets": listed("选项：[", "，", "]"),
    "选项 with 、": listed("\n选项：", "、", "。"),
    "選択肢": listed("\n選択肢：", "、"),
    "보기": listed("\n보기: ", ", "),
    "선택지 lines": lambda q, o: f"{q}\n선택지:\n{repeated('- ', o)}",
    "Optionen": listed(" Optionen: ", ", "),
    "Opciones": listed(" Opciones: ", "; "),
    "Варианты ответа": listed("\nВарианты ответа: ", "; "),
    "an example first": lambda q, o: (
        f"Which tree? Options: oak, elm\nelm\n\n{q} Options: {', '.join(o)}"
    ),
}
