"""Strangers' files, as collected in ../shared/cases: each gives the right tokens, or is refused.

What is compared is the decoded trees, never our own words. The twelve rows of the clean file are
the truth for most of the others, which say the same in other ways.
"""

import json
from pathlib import Path

import pytest
from data.chat_templates import CHANGING, EVERY, FAITHFUL, chat, turn
from data.test_fidelity import bytewise

from accord.data.encoding_findings import findings
from accord.data.read import read
from accord.data.roundtrip_checks import roundtrip_findings
from accord.data.templates import make_template
from accord.data.trees import Limits, encode
from accord.types import AccordError

PLAIN = EVERY["plain"]


class Refused(Exception):
    """What a user reads instead of a run."""


def trained(file: Path, jinja: str = PLAIN, rows: str = "pairs", **options) -> list[list[str]]:
    """[prompt, answer, …] of each row as decoded from its tokens.

    Raises:
      Refused: the file, or too many of its rows.
    """
    template = make_template(bytewise(jinja), "auto", today="2026-01-31")
    try:
        dataset = read(file, rows, **options)
    except AccordError as error:
        raise Refused(str(error)) from error
    ledger = dataset.ledger
    if ledger.rejected_share > 0.001:
        raise Refused(str(ledger.reasons))
    encoding = encode(dataset.examples, template, Limits(100_000))
    found = [
        *findings(encoding, template, 0.001, 0.05),
        *(roundtrip_findings(encoding, template, [1], 0.001) if encoding.trees else ()),
    ]
    if refused := [finding.says for finding in found if finding.refused]:
        raise Refused("; ".join(refused))
    decode = template.tokenizer.decode
    return [
        [decode(list(part)) for part in (tree.prompt, *tree.completions)] for tree in encoding.trees
    ]


def truth(cases: Path) -> list[tuple[str, str, str]]:
    lines = (cases / "c11_no_think.jsonl").read_text("utf-8").splitlines()
    return [(r["prompt"], r["chosen"], r["rejected"]) for r in map(json.loads, lines)]


def plainly(question: str, *answers: str, before: str = "") -> list[str]:
    return [f"{before}user:{question}<end>assistant:", *(f"{answer}<end>" for answer in answers)]


def same_as_the_clean_file(cases: Path) -> list[list[str]]:
    return [plainly(*row) for row in truth(cases)]


@pytest.mark.parametrize(
    "name",
    [
        "c02_json_strings.jsonl",
        "c03_repr_from.csv",
        "c04b_image_null.jsonl",
        "c11_no_think.jsonl",
        "c34_hh_singlenl.jsonl",
        "c40_capybara.jsonl",
        "c41_axolotl.jsonl",
        "c54c_nullstruct.parquet",
        "c56_hub",
        "c70.jsonl",
        "c80.parquet",
        "c80_saved",
        "c80_mixed.jsonl",
    ],
)
def test_the_same_rows_in_other_clothes(cases, name):
    assert trained(cases / name) == same_as_the_clean_file(cases)


def test_a_quote_that_never_closes(cases):
    """The lines as they are, or a refusal; no line is swallowed."""
    try:
        rows = trained(cases / "c58l_tsvopen.tsv")
    except Refused:
        return
    lines = (cases / "c58l_tsvopen.tsv").read_text("utf-8").splitlines()[1:]
    assert rows == [plainly(*line.split("\t")) for line in lines]


@pytest.mark.parametrize("name", ["c05_argilla_input.jsonl", "c05b_ranked_input.jsonl"])
def test_material_beside_the_instruction_is_used(cases, name):
    good = [
        plainly(f"{r['instruction']}\n{r['input']}", *(r.get("responses") or _sides(r)))
        for r in map(json.loads, (cases / name).read_text("utf-8").splitlines())
    ]
    assert trained(cases / name) == good


def _sides(row: dict) -> list[str]:
    return [row["chosen_response"], row["rejected_response"]]


def test_turns_of_a_transcript(cases):
    rows = trained(cases / "c31_prompter.jsonl")
    for (question, good, bad), (prompt, *answers) in zip(truth(cases), rows, strict=True):
        assert prompt.startswith(f"user:{question}<end>assistant:")
        assert prompt.endswith("<end>user:more?<end>assistant:")
        assert answers == [f"{good}<end>", f"{bad}<end>"]


@pytest.mark.parametrize("name", ["c30b.jsonl", "c30_nemo_extra.jsonl"])
def test_tags_of_turns(cases, name):
    expected = [plainly(*row, before="system:Be brief.<end>") for row in truth(cases)]
    assert trained(cases / name) == expected


def test_labels_by_name(cases):
    tree_rows = read(cases / "c50_classlabel.parquet", "labelled").examples
    assert [row.desirable for row in tree_rows] == [n % 2 == 0 for n in range(12)]
    assert [row.completion for row in tree_rows[:2]] == [truth(cases)[0][1], truth(cases)[1][2]]


def test_the_tag_counts_and_not_the_list(cases):
    rows = read(cases / "c43_kto_list_output.csv", "labelled").examples
    assert [row.desirable for row in rows] == [n % 2 == 1 for n in range(12)]
    assert rows[0].completion == '["the", "cat"]'


@pytest.mark.parametrize(
    ("name", "jinja"),
    [
        ("c01_reasoning_content.jsonl", PLAIN),  # a template without a place for it
        ("c04_video.jsonl", PLAIN),
        ("c10_think_inline.jsonl", CHANGING["think stripped"]),
        ("c10_think_inline.jsonl", CHANGING["empty think always"]),
        ("c11_no_think.jsonl", CHANGING["think emptied"]),
        ("c11_no_think.jsonl", CHANGING["think required"]),
        ("c11_no_think.jsonl", FAITHFUL["think opened"]),
        ("c13_close_only.jsonl", CHANGING["think stripped"]),
        ("c20_tool_turn.jsonl", CHANGING["drops tool"]),
        ("c23_interleaved.jsonl", CHANGING["drops system"]),
        ("c110_concat_256_244.jsonl", CHANGING["drops system"]),
        ("c100_code.jsonl", CHANGING["folds blanks"]),
        ("c100_code.jsonl", CHANGING["joins lines"]),
        ("c45_tools.jsonl", PLAIN),
        ("c48b_rank.jsonl", PLAIN),
    ],
)
def test_refused(cases, name, jinja):
    with pytest.raises(Refused):
        trained(cases / name, jinja)


def test_reasoning_is_handed_to_a_template_that_takes_it(cases):
    rows = trained(cases / "c01_reasoning_content.jsonl", FAITHFUL["reasoning"])
    source = map(json.loads, (cases / "c01_reasoning_content.jsonl").read_text().splitlines())
    for row, (_, *answers) in zip(source, rows, strict=True):
        for side, answer in zip(("chosen", "rejected"), answers, strict=True):
            message = row[side][0]
            thought = message["reasoning_content"]
            assert answer == f"<think>\n{thought}\n</think>\n\n{message['content']}<end>"


@pytest.mark.parametrize("name", ["c10_think_inline.jsonl", "c13_close_only.jsonl"])
def test_think_blocks_where_generation_opens_them(cases, name):
    rows = trained(cases / name, FAITHFUL["think opened"])
    for line, (prompt, *answers) in zip(
        (cases / name).read_text("utf-8").splitlines(), rows, strict=True
    ):
        row = json.loads(line)
        assert prompt == f"user:{row['prompt']}<end>assistant:<think>\n"
        for side, answer in zip(("chosen", "rejected"), answers, strict=True):
            assert answer == row[side].removeprefix("<think>\n") + "<end>"


@pytest.mark.parametrize("jinja", [CHANGING["think emptied"], CHANGING["think required"]])
def test_think_blocks_that_the_row_brings_are_as_they_are(cases, jinja):
    for line, (_, *answers) in zip(
        (cases / "c10_think_inline.jsonl").read_text("utf-8").splitlines(),
        trained(cases / "c10_think_inline.jsonl", jinja),
        strict=True,
    ):
        row = json.loads(line)
        assert answers == [row["chosen"] + "<end>", row["rejected"] + "<end>"]


def test_tools_are_handed_over(cases):
    rows = trained(cases / "c45_tools.jsonl", FAITHFUL["tools and documents"])
    assert all(prompt.startswith('tools:[{"type": "function"') for prompt, *_ in rows)


def test_options_of_the_template_are_used(cases):
    said = "{% if enable_thinking is defined and not enable_thinking %}no thinking<end>{% endif %}"
    rows = trained(cases / "c14_kwargs.jsonl", chat(turn(), said))
    assert all(prompt.startswith("no thinking<end>user:Question") for prompt, *_ in rows)


def test_a_conversation_that_ends_in_the_answer(cases):
    try:
        rows = trained(cases / "c42_answer_included.jsonl")
    except Refused:
        return
    assert rows == same_as_the_clean_file(cases)
