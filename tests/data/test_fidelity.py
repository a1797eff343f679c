"""Fidelity of chat templates, generated: any conversation under any template is trained as it
stands, or the difference is named, or the row is refused.

The oracle shares nothing with the code under test: it decodes the tokens and looks for the row's
texts, character by character.

    ACCORD_EXAMPLES=20000 pytest tests/data/test_fidelity.py     the long form, run by hand
"""

import os
import re
from dataclasses import replace

import pytest
from data.chat_templates import CHANGING, EVERY, FAITHFUL
from data.crafted import BOS, END, EOS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from accord.data import fidelity
from accord.data.encoding_findings import findings
from accord.data.roundtrip_checks import roundtrip_findings
from accord.data.templates import make_template
from accord.data.tokenizer_text import Unfit
from accord.data.trees import Limits, encode
from accord.types import Labelled, Origin, Pair, TemplateInputs, Turn

EXAMPLES = int(os.environ.get("ACCORD_EXAMPLES", "300"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 300,
    suppress_health_check=list(HealthCheck),
)
ROW = Origin("f.jsonl", 1)


def bytewise(template: str) -> PreTrainedTokenizerFast:
    """One token a byte: any script, and nothing is lost."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([BOS, EOS, END, *letters])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[END],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


TOKENIZERS = {name: bytewise(jinja) for name, jinja in EVERY.items()}
MADE = {
    name: make_template(tokenizer, "auto", today="2026-01-31")
    for name, tokenizer in TOKENIZERS.items()
}

# ---------------------------------------------------------------- rows

WORDS = st.sampled_from(
    "a the of Paris 42 yes. No! café naïve Καλημέρα привет 你好 こんにちは مرحبا 👩‍🚀 e\u0301 … "
    "if(x): return assistant: user: Human: <b> &amp; {{x}} {%y%} \\n \"quoted\" 'q' zz".split(" ")
)
GAPS = st.sampled_from(
    [" ", " ", " ", "  ", "\n", "\n\n", "\n    ", "\t", "\r\n", "\u00a0", "\u2028"]
)
EDGES = st.sampled_from(["", "", "", "", "", " ", "\n", "\n\n", "  "])


@st.composite
def texts(draw, most: int = 12):
    words = draw(st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=most))
    inner = "".join(word + gap for word, gap in words[:-1]) + words[-1][0]
    return draw(EDGES) + (inner or "x") + draw(EDGES)


@st.composite
def answers(draw):
    said = draw(texts())
    thought, gap = draw(texts(4)).strip() or "hm", draw(st.sampled_from(["\n\n", "\n", "", " "]))
    return draw(
        st.sampled_from(
            [
                *[said] * 12,
                f"<think>\n{thought}\n</think>{gap}{said}",
                f"<think>{thought}</think>{gap}{said}",
                f"<think>\n\n</think>\n\n{said}",
                f"{thought}\n</think>\n\n{said}",
            ]
        )
    )


KEYS = st.sampled_from([*[()] * 11, (("reasoning_content", '"Why a\\nbecause b"'),)])
TOOLS = '[{"type": "function", "function": {"name": "look_up", "description": "Finds \\"it\\""}}]'
INPUTS = st.builds(
    TemplateInputs,
    tools=st.sampled_from([*[""] * 9, TOOLS]),
    documents=st.sampled_from([*[""] * 9, '[{"title": "T 1", "text": "Long\\nago"}]']),
    options=st.sampled_from(["", "", '{"enable_thinking": false}']),
)
CALL = (("tool_calls", '[{"function": {"name": "look_up", "arguments": {"x": "Paris"}}}]'),)


@st.composite
def prompts(draw):
    turns = [Turn("system", draw(texts()))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3))):
        turns.append(Turn("user", draw(texts())))
        if draw(st.integers(0, 15)) == 0:
            turns += [Turn("assistant", "", CALL), Turn("tool", draw(texts()))]
        turns.append(Turn("assistant", draw(answers()), draw(KEYS)))
    turns.append(Turn("user", draw(texts())))
    if draw(st.integers(0, 9)) == 0:
        turns.append(Turn("user", draw(texts())))
    if draw(st.integers(0, 9)) == 0:
        turns.append(Turn("assistant", draw(texts())))
    return tuple(turns)


@st.composite
def pairs(draw):
    keys = draw(st.tuples(KEYS, KEYS))
    inputs = replace(draw(INPUTS), answers=keys if any(keys) else ())
    turns = [
        replace(turn, content=numbered(turn.content, n)) for n, turn in enumerate(draw(prompts()))
    ]
    good, bad = numbered(draw(answers()), 98), numbered(draw(answers()), 99)
    return Pair(tuple(turns), good, bad, ROW, {}, inputs)


def numbered(text: str, number: int) -> str:
    """The text with a number in each of its parts, so that the oracle finds it in one place."""
    parts = re.split(r"(</?think>)", text)
    return "".join(
        re.sub(r"\S", lambda m, at=at: f"§{number}.{at}§{m[0]}", part, count=1)
        if not part.startswith(("<think", "</think"))
        else part
        for at, part in enumerate(parts)
    )


# ---------------------------------------------------------------- the oracle


def wanted(turns) -> list[str]:
    """Texts that a reader must find, in order."""
    out = []
    for turn in turns:
        out += [eval_text(value) for name, value in turn.keys if name == "reasoning_content"]
        out += ["look_up", "Paris"] if turn.keys and turn.keys[0][0] == "tool_calls" else []
        out.append(turn.content)
    return out


def eval_text(value: str) -> str:
    return {'"Why a\\nbecause b"': "Why a\nbecause b"}[value]


def residue(text: str, parts: list[str]) -> str | None:
    """Text that is left when the parts are taken out in their order; None if one is missing."""
    left, position = [], 0
    for part in parts:
        at = text.find(part, position)
        if at < 0:
            return None
        left.append(text[position:at])
        position = at + len(part)
    return "|".join([*left, text[position:]])


def wrong(template, tree, example) -> str:
    """What is wrong with a row that was trained without a word; empty for nothing."""
    decode = template.tokenizer.decode
    prompt = decode(list(tree.prompt))
    for index, ids in enumerate(tree.completions):
        said, answer = decode(list(ids)), example.completions[index]
        whole = prompt + said
        last = Turn("assistant", answer, example.inputs.of_answer(index))
        if residue(whole, wanted((*example.prompt, last))) is None:
            return f"texts of the row are missing in {whole!r}"
        reasoning = dict(last.keys).get("reasoning_content")
        opened = re.search(r"<think>\s*\Z", prompt)
        body = answer
        if opened and answer.startswith(opened.group()):
            body = answer[len(opened.group()) :]
        if reasoning is None and not said.startswith(body):
            return f"{said!r} is scored, the answer is {answer!r}"
        if reasoning is not None and answer not in said:
            return f"{said!r} is scored, the answer is {answer!r}"
        rest = said[len(body) :] if reasoning is None else said[said.rfind(answer) + len(answer) :]
        if rest.strip() not in ("", END, EOS):
            return f"{rest!r} is scored behind the answer"
    return ""


def twin(example: Pair) -> Pair:
    """Another row of the same shape: every text says something else."""
    swap = str.maketrans("aeP4你", "oiQ7我")

    def other(text: str) -> str:
        parts = re.split(r"(</?think>|§[\d.]+§)", text)
        return "".join(
            p if p.startswith(("<think", "</think", "§")) else p.translate(swap) for p in parts
        )

    turns = tuple(replace(turn, content=other(turn.content)) for turn in example.prompt)
    return replace(
        example, prompt=turns, chosen=other(example.chosen), rejected=other(example.rejected)
    )


def constants(template, tree, example) -> list[str | None]:
    decode = template.tokenizer.decode
    return [
        residue(
            decode([*tree.prompt, *ids]),
            wanted((*example.prompt, Turn("assistant", answer, example.inputs.of_answer(k)))),
        )
        for k, (ids, answer) in enumerate(zip(tree.completions, example.completions, strict=True))
    ]


# ---------------------------------------------------------------- properties


@pytest.fixture(scope="module")
def tally():
    counts: dict[str, int] = {}
    yield counts
    if EXAMPLES != 300:
        print("\n", dict(sorted(counts.items())))


@SETTINGS
@given(pairs(), st.sampled_from([*sorted(FAITHFUL) * 3, *sorted(CHANGING)]))
def test_trained_as_it_stands_or_named_or_refused(tally, example, name):
    template = MADE[name]
    try:
        encoded = template.encoded(example, 0)
    except Unfit as unfit:
        assert unfit.reason
        tally["refused"] = tally.get("refused", 0) + 1
        return
    if encoded.changes:
        tally["named"] = tally.get("named", 0) + 1
        return
    tally["as it stands"] = tally.get("as it stands", 0) + 1
    assert wrong(template, encoded.tree, example) == ""
    other = twin(example)
    try:
        again = template.encoded(other, 0)
    except Unfit:
        return
    if not again.changes:
        one, two = (
            constants(template, encoded.tree, example),
            constants(template, again.tree, other),
        )
        assert one == two, "rows of one shape with other constants around their texts"


@SETTINGS
@given(pairs(), st.sampled_from(sorted(set(FAITHFUL) - {"think opened"})))
def test_faithful_templates_refuse_no_right_row(example, name):
    """Only what the template itself refuses, or has no place for, is refused."""
    allowed = (
        "the chat template refuses the row",
        "the template does not write the row's tools",
        "the template does not write the row's documents",
        "the template drops the thinking of the answer",
        "the template drops a call of a tool",
        "chosen and rejected are the same tokens",
        "the answer has no tokens",
    )
    try:
        encoded = MADE[name].encoded(example, 0)
    except Unfit as unfit:
        # an answer that thinks first cannot go on from a turn that has begun to answer
        if any(example.inputs.answers) and example.prompt[-1].role == "assistant":
            allowed = (*allowed, "the template renders the prompt otherwise in context")
        assert unfit.reason in allowed, f"{unfit.reason}: {unfit.detail}"
        return
    mild = ("does not read the option", "drops the thinking of an assistant turn")
    assert all(any(word in change.cause for word in mild) for change in encoded.changes)


@settings(SETTINGS, max_examples=max(50, EXAMPLES // 4))
@given(texts(), answers(), answers())
def test_a_template_that_opens_thinking_takes_answers_that_close_it(question, good, bad):
    """Three writings of an answer are right: whole block, only its end; none is refused."""
    example = Pair((Turn("user", question),), good, bad, ROW)
    try:
        tree = MADE["think opened"].encoded(example, 0).tree
    except Unfit as unfit:
        plain = [a for a in (good, bad) if "</think>" not in a]
        spaced = [a for a in (good, bad) if a.startswith("<think>") and a[7:8] != "\n"]
        same = good == bad or good.removeprefix("<think>\n") == bad.removeprefix("<think>\n")
        assert plain or spaced or same, unfit
        return
    decode = TOKENIZERS["think opened"].decode
    assert decode(list(tree.prompt)).endswith("assistant:<think>\n")
    for said, answer in zip(tree.completions, (good, bad), strict=True):
        assert decode(list(said)) == answer.removeprefix("<think>\n") + END


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_every_habit_is_named(name):
    """Each changing template is caught on rows that show its habit, by its cause."""
    shows = {
        "system": Pair(
            (
                Turn("system", "Be Brief A"),
                Turn("user", "one Two a"),
                Turn("assistant", "First a"),
                Turn("tool", "RESULT a"),
                Turn("user", "Three,\n  four & five, six, seven, eight a, nine, ten"),
            ),
            " Yes:\n\n    x = 1 & a",
            "no a",
            ROW,
        )
    }
    with_thought = replace(
        shows["system"], chosen="<think>\nhm a\n</think>\n\nYes a", rejected="x</think>no"
    )
    causes = set()
    for example in (shows["system"], with_thought):
        try:
            causes |= {change.cause for change in MADE[name].encoded(example, 0).changes}
        except Unfit as unfit:
            causes.add(unfit.reason)
    assert causes, f"{name} passes without a word"


def test_half_of_the_rows_have_a_turn_that_is_dropped():
    """Wherever they stand in the file: every row is compared."""
    plain = Pair((Turn("user", "q"),), "yes", "no", ROW)
    with_system = replace(plain, prompt=(Turn("system", "Be kind"), Turn("user", "q")))
    for rows in ([plain] * 256 + [with_system] * 244, [plain, with_system] * 300):
        template = make_template(bytewise(EVERY["drops system"]), "auto")
        encoding = encode(rows, template, Limits(512))
        finding = next(
            f for f in findings(encoding, template, 0.001, 0.05) if f.check == "data.template_text"
        )
        assert finding.refused and "the template drops a system turn" in finding.says


def test_a_permitted_change_is_used_and_shown():
    row = Pair((Turn("user", "Say\nit"),), "Yes\nindeed", "no", ROW)
    behind = EVERY["joins lines"].replace("<end>", "<end>\n")  # which is never scored
    template = make_template(bytewise(behind), "auto", permit_changes=True)
    encoding = encode([row], template, Limits(512))
    assert template.tokenizer.decode(encoding.trees[0].completions[0]) == "Yes indeed<end>"
    stops = [template.tokenizer.eos_token_id, *template.end_ids]
    decoded = roundtrip_findings(encoding, template, stops, 0.0)
    assert not any(f.refused for f in decoded), "the permission holds for the decoded tokens too"
    found = [f for f in findings(encoding, template, 0.001, 0.05) if f.verdict == "warning"]
    assert any('"Yes\\nindeed" became "Yes indeed"' in f.says for f in found)


def test_the_date_is_the_runs():
    row = Pair((Turn("user", "q"),), "yes", "no", ROW)
    days = [
        make_template(bytewise(EVERY["date"]), "auto", today=f"2026-01-0{n}") for n in (1, 1, 2)
    ]
    one, same, other = (template.encoded(row, 0).tree for template in days)
    assert one == same != other
    assert "Today is 01 January 2026." in days[0].tokenizer.decode(one.prompt)


# ---------------------------------------------------------------- the check itself, broken


BLANKS = "trims", "folds blanks", "joins lines"


@pytest.mark.parametrize("broken", ["blanks", "order", "constants", "scored", "rows"])
def test_a_broken_check_is_noticed(monkeypatch, broken):
    """Without one part of the comparison, the oracle above finds rows that pass and should not."""
    if broken == "blanks":
        text = fidelity.Skeleton.text
        blind = lambda self, pieces: Folded(text(self, pieces))  # noqa: E731
        monkeypatch.setattr(fidelity.Skeleton, "text", blind)
    elif broken == "order":
        monkeypatch.setattr(fidelity, "_moved", lambda *given: ())
    elif broken == "constants":
        monkeypatch.setattr(
            fidelity.Skeleton,
            "text",
            lambda self, pieces: Anything("\0".join(p.text for p in pieces)),
        )
    elif broken == "scored":
        monkeypatch.setattr("accord.data.templates.scored_changes", lambda *given: ())
    else:
        monkeypatch.setattr(
            fidelity.Skeleton, "compare", lambda self, found, rendered: (self.changes, None)
        )
    assert silently_wrong() > 0


class Folded(str):
    """A text that takes another for equal if only blanks differ."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return "".join(self.split()) == "".join(other.split())


class Anything(str):
    """A text that takes every other for equal in which its pieces stand in order."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return residue(other, self.split("\0")) is not None


SIMPLE = [
    Pair(turns, good, bad, ROW)
    for turns in (
        (Turn("user", "§0§one a\n  two"),),
        (Turn("user", " §0§one e\n"),),
        (Turn("user", "§0§one"), Turn("assistant", "§1§b a"), Turn("user", "§2§three")),
        (Turn("system", "§0§Be P"), Turn("user", "§1§one"), Turn("assistant", "§2§b")),
    )
    for good, bad in (
        ("§8§yes a", "§9§no e"),
        ("§8§yes\n\n    a = 1", "§9§no\n"),
        ("<think>\n§7§hm\n</think>\n\n§8§yes", "<think>\n§6§hm\n</think>\n\n§9§no a"),
    )
]


def silently_wrong() -> int:
    """Rows that pass without a word although the oracle sees a difference, over simple rows."""
    count = 0
    for name in EVERY:
        template = make_template(TOKENIZERS[name], "auto")
        for example in SIMPLE:
            try:
                encoded, again = template.encoded(example, 0), template.encoded(twin(example), 0)
            except Unfit:
                continue
            if encoded.changes or again.changes:
                continue
            one, two = (
                constants(template, each.tree, row)
                for each, row in ((encoded, example), (again, twin(example)))
            )
            count += bool(wrong(template, encoded.tree, example)) or one != two
    return count


def test_the_check_as_it_is_lets_nothing_pass():
    assert silently_wrong() == 0


def test_labels_and_decoding_agree():
    """The decoded tokens of rows of many shapes are their text."""
    rows = [
        Labelled((Turn("user", f"q {n}"),) * (1 + n % 3), f"answer {n}\n", bool(n % 2), ROW)
        for n in range(30)
    ]
    template = MADE["plain"]
    encoding = encode(rows, template, Limits(512))
    found = roundtrip_findings(encoding, template, [template.tokenizer.eos_token_id], 0.0)
    text = next(f for f in found if f.check == "data.text")
    assert text.verdict == "ok" and "3 shapes" in text.says
