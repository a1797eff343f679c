"""Tokens against text: silent where they agree, and each disagreement named."""

import json
from dataclasses import replace

import pytest
from conftest import pair_rows, write_rows
from data.crafted import pair
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from accord.data.encoding_findings import findings
from accord.data.read import read
from accord.data.roundtrip_checks import markers, roundtrip_findings
from accord.data.templates import make_template
from accord.data.tree_table import packed
from accord.data.trees import Limits, encode

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def encoded(tokenizer, tmp_path):
    """rows, a template's Jinja -> (encoding, template)."""

    def make(rows, jinja=None):
        if jinja is not None:
            file = tmp_path / "t.jinja"
            file.write_text(jinja)
        template = make_template(tokenizer, str(file) if jinja is not None else "auto")
        dataset = read(write_rows(tmp_path / "rows.jsonl", rows))
        return encode(dataset.examples, template, Limits(512)), template

    before = tokenizer.chat_template
    yield make
    tokenizer.chat_template = before


def found(encoding, template, stops=None) -> dict:
    stops = [template.tokenizer.eos_token_id] if stops is None else stops
    return {
        f.check: f
        for f in roundtrip_findings(encoding, template, stops, 0.001)
        if f.verdict != "ok"
    }


def test_silent_on_clean_rows(encoded):
    assert found(*encoded(pair_rows(12))) == {}


def test_answers_of_another_row(encoded):
    encoding, template = encoded(pair_rows(12))
    trees = list(encoding.trees)
    trees[4] = replace(trees[4], completions=trees[5].completions)
    encoding.trees = packed(trees)
    finding = found(encoding, template)["data.text"]
    assert (
        finding.refused
        and "not the row's chosen answer" in finding.says
        and finding.evidence["first"][0]["at"].endswith(":5")
    )


def test_swapped_sides_in_the_tokens(encoded):
    encoding, template = encoded(pair_rows(12))
    first, *others = encoding.trees
    encoding.trees = packed([replace(first, completions=first.completions[::-1]), *others])
    assert "data.text" in found(encoding, template)


def test_a_template_that_drops_a_turn(encoded):
    dropping = CHATML.replace(
        "{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"
    )
    rows = [{**row, "system": "Answer in one word."} for row in pair_rows(4)]
    encoding, template = encoded(rows, dropping)
    assert encoding.trees == []
    finding = {f.check: f for f in findings(encoding, template, 0.001, 0.05)}["data.template_text"]
    assert finding.refused and "the template drops a system turn" in finding.says
    assert found(*encoded(rows, CHATML)) == {}


def test_sides_as_in_the_file(encoded):
    encoding, template = encoded(pair_rows(12))
    encoding.examples = [
        replace(e, chosen=e.rejected, rejected=e.chosen) for e in encoding.examples
    ]
    encoding.trees = packed(replace(t, completions=t.completions[::-1]) for t in encoding.trees)
    assert found(encoding, template)["data.sides"].refused


def test_columns_that_are_exchanged_on_purpose(tokenizer, tmp_path):
    """What the audit advises where scores say that the columns are exchanged: the names that the
    recipe gives are the file's.
    """
    columns = {"chosen": "rejected", "rejected": "chosen"}
    dataset = read(write_rows(tmp_path / "rows.jsonl", pair_rows(12)), columns=columns)
    template = make_template(tokenizer, "auto")
    encoding = encode(dataset.examples, template, Limits(512))
    checks = {
        f.check: f
        for f in roundtrip_findings(encoding, template, [tokenizer.eos_token_id], 0.001, columns)
    }
    assert checks["data.sides"].verdict == "ok"
    assert {
        f.check: f for f in roundtrip_findings(encoding, template, [tokenizer.eos_token_id], 0.001)
    }["data.sides"].refused


def test_an_end_that_generation_does_not_hear(encoded):
    encoding, template = encoded(pair_rows(4))
    finding = found(encoding, template, stops=[7])["data.stop"]
    assert (
        "does not stop" in finding.says
        and finding.evidence["token"] == template.tokenizer.eos_token_id
    )


def test_another_models_markers(encoded):
    foreign = CHATML.replace("<|im_start|>", "<|start_header_id|>").replace(
        "<|im_end|>", "<|eot_id|>"
    )
    _, template = encoded(pair_rows(2), CHATML)
    assert markers(template).verdict == "ok"
    template.tokenizer.chat_template = foreign
    assert "<|eot_id|>" in markers(template).says and markers(template).verdict == "warning"


def test_emoji_quotes_and_blanks_are_the_same_text(encoded):
    rows = [
        {"prompt": 'Say "hi" 👩‍🚀 …', "chosen": "  Ｈｉ\tthere 🔑 \\ ", "rejected": 'No "\n" way'}
    ]
    assert found(*encoded(json.loads(json.dumps(rows)))) == {}


def test_text_that_the_tokenizer_does_not_know_is_refused_over_a_share():
    """One word in four is lost: the model would learn from blanks. It can be permitted by name."""
    words = "<unk> <s> </s> user assistant : q yes no".split()
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}"
    )
    rows = [pair("q привет 你好", chosen="yes да", rejected="no")]
    for permit, verdict in ((False, "refused"), (True, "warning")):
        template = make_template(tokenizer, "auto", permit_changes=permit)
        encoding = encode(rows, template, Limits(64))
        assert found(encoding, template)["data.unknown_tokens"].verdict == verdict
