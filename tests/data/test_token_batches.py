"""Token ids made of parts, in batches and threads, are those of each whole text."""

import random
import string

import pytest
from conftest import pair_rows
from data.crafted import BOS, END, EOS, crafted, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from accord.data import token_batches, trees
from accord.data.templates import make_template
from accord.data.token_batches import Tokenizing, seams, tokenised
from accord.data.trees import Limits, encode, encoded
from accord.types import Origin, Pair, Turn

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ["<|im_start|>", "<|im_end|>", "<|end|>"]
# what cuts a text into words, and changes it before, in the tokenizers in wide use
CUTS = {
    "bytes": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "bytes with a first blank": lambda: pre_tokenizers.ByteLevel(add_prefix_space=True),
    "metaspace, always": lambda: pre_tokenizers.Metaspace(prepend_scheme="always"),
    "metaspace, at the start": lambda: pre_tokenizers.Metaspace(prepend_scheme="first"),
    "metaspace, never": lambda: pre_tokenizers.Metaspace(prepend_scheme="never"),
    "whitespace": lambda: pre_tokenizers.Whitespace(),
    "digits": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    ),
}
CHANGES = {
    "plain": lambda: None,
    "lower case": normalizers.Lowercase,
    "NFC": normalizers.NFC,
    "a mark in front": lambda: normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    ),
    "stripped": normalizers.Strip,
}
TEXTS = [" ".join(sorted({*string.ascii_letters})), "the cat sat on the mat. 12 34 été naïve ▁ x"]


def made(cut: str, change: str, marks=None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = CUTS[cut]()
    if (step := CHANGES[change]()) is not None:
        backend.normalizer = step
    backend.decoder = decoders.ByteLevel()
    random.seed(0)
    words = [
        " ".join(random.choices([*TEXTS[1].split(), *string.ascii_letters], k=12))
        for _ in range(99)
    ]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>"], initial_alphabet=alphabet
    )
    backend.train_from_iterator([*TEXTS, *words], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    given_marks = marks or [AddedToken(mark, special=True, normalized=False) for mark in MARKS]
    tokenizer.add_special_tokens({"additional_special_tokens": given_marks})
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = CHATML
    return tokenizer


def apart(template, text: str, answers) -> tuple:
    """The ids of a prompt and its conversations, by parts and whole."""
    example = Pair((Turn("user", text),), *answers, Origin("f", 1))
    written = template.write(example)
    found = []
    for whole in (False, True):
        tokenizing = Tokenizing(template, whole)
        texts = tokenizing.texts(written)
        found.append(tokenizing.joined(written, tokenizing.ids(texts)))
    return (*found, written)


words = st.text(st.sampled_from(" \n\tabcXYZ.,!?0123é▁<|>"), min_size=1, max_size=30).filter(
    lambda text: text.strip() != ""
)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("cut", CUTS)
def test_parts_are_the_whole(cut, change):
    template = make_template(made(cut, change), "auto", permit_changes=True)
    assert seams(template.tokenizer) is not None

    @settings(max_examples=40, deadline=None)
    @given(words, words, words)
    def check(text, one, two):
        parts, whole, written = apart(template, text, (one, two))
        assert parts == whole
        assert whole.prompt == template.encode(written.prompt)
        expected = tuple(template.encode(full) for full in written.conversations)
        assert whole.conversations == expected

    check()


def test_work_is_saved():
    """The words of a prompt go to the tokenizer once."""
    template = make_template(made("bytes", "plain"), "auto")
    _, _, written = apart(template, "the cat sat on the mat " * 20, ("yes", "no"))
    texts = Tokenizing(template).texts(written)
    assert sum(map(len, texts)) < 1.3 * len(written.conversations[0])


LOOKING = {
    "left": AddedToken("<|im_start|>", normalized=False, lstrip=True),
    "word": AddedToken("<|im_start|>", normalized=False, single_word=True),
}


@pytest.mark.parametrize("mark", LOOKING.values(), ids=LOOKING)
def test_tokens_that_look_beyond_themselves_are_no_seams(mark):
    assert seams(made("bytes", "plain", [mark])) is None


def test_normalised_tokens_are_no_seams():
    """They are looked for after the text was changed."""
    marks = [AddedToken(mark, normalized=True) for mark in MARKS]
    found = seams(made("bytes", "lower case", marks))
    assert found is None or not found.search("<|im_start|>")


def test_no_seams_where_special_tokens_are_text():
    tokenizer = made("bytes", "plain")
    tokenizer.backend_tokenizer.encode_special_tokens = True
    assert seams(tokenizer) is None


def test_a_difference_is_found_and_rows_are_tokenised_whole(monkeypatch):
    """A tokenizer that is not as its settings say, as far as the sample tells."""
    template = make_template(made("bytes", "plain"), "auto")
    rows = [
        Pair((Turn("user", row["prompt"]),), row["chosen"], row["rejected"], Origin("f", n))
        for n, row in enumerate(pair_rows(300))
    ]
    right = list(encode(rows, template, Limits(512)).trees)
    joined = Tokenizing.joined

    def wrong(self, written, ids):
        found = joined(self, written, ids)
        return (
            found
            if self.seams is None
            else token_batches.TokenIds([5, *found.prompt], found.conversations)
        )

    monkeypatch.setattr(Tokenizing, "joined", wrong)
    with pytest.raises(trees.Seam):
        list(encoded(enumerate(rows), template, Limits(512)))
    assert list(encode(rows, template, Limits(512)).trees) == right


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_come_in_order_from_any_number_of_threads(threads):
    template = make_template(made("bytes", "plain"), "auto")
    rows = [pair(f"question {n}", chosen=f"yes {n}", rejected="no") for n in range(1_000)]

    def write(row):
        return None if row.chosen.endswith("7") else template.write(row)

    found = list(tokenised(rows, write, Tokenizing(template), threads))
    assert [row for row, _, _ in found] == rows
    for row, written, ids in found:
        assert (ids is None) == row.chosen.endswith("7")
        if ids is not None:
            assert ids.conversations[0] == template.encode(written.conversations[0])


def test_one_text_that_the_tokenizer_does_not_take(monkeypatch):
    """The others of its batch are tokenised all the same."""
    template = make_template(crafted(), "auto")
    rows = [pair("q", chosen="\ud800 half", rejected="no"), pair("q", chosen="yes", rejected="no")]
    found = [each for _, _, each in encoded(enumerate(rows[1:]), template, Limits(99))]
    assert found[0].tree.completions


def test_raw_text_keeps_its_bos_and_loses_the_eos_of_the_tokenizer():
    tokenizer = crafted(None, adds_bos=True, adds_eos=True)
    template = make_template(tokenizer, "raw")
    tree = encode([pair("question", chosen="yes", rejected="no")], template, Limits(99)).trees[0]
    said = tokenizer.convert_ids_to_tokens(list(tree.prompt))
    assert said[0] == BOS and said.count(EOS) == 0
    assert tokenizer.convert_ids_to_tokens(list(tree.completions[0]))[-1] == EOS
    assert END not in said


def test_no_truncation_of_the_file_is_left(tmp_path):
    """A tokenizer.json may hold a length to cut at; transformers sets it aside at each call."""
    tokenizer = made("bytes", "plain")
    tokenizer.backend_tokenizer.enable_truncation(4)
    template = make_template(tokenizer, "auto")
    parts, whole, _ = apart(template, "the cat sat on the mat " * 5, ("yes", "no"))
    assert parts == whole and len(parts.prompt) > 20
