"""From text to tokens as at inference: each way in which this has silently failed elsewhere is
noticed on its row.
"""

import pytest
from data.crafted import BOS, CHAT, END, EOS, TURNS, crafted, label, pair, shown, turns
from tokenizers import AddedToken

from accord.data.templates import make_template
from accord.data.tokenizer_text import Unfit
from accord.types import Refused, Turn, UsageError


def template(tokenizer=None, wanted="auto", **options):
    return make_template(tokenizer or crafted(), wanted, **options)


def raw(*, adds_bos=False, **options):
    return template(crafted(None, adds_bos=adds_bos, **options), "raw")


def unfit(made, example, reason):
    with pytest.raises(Unfit) as error:
        made.tree(example, 0)
    assert error.value.reason == reason
    return error.value.detail


def text(made, ids):
    return made.tokenizer.decode(ids)


MERGE = "the last prompt token and the first answer token merge"
OTHERWISE = "the template renders the prompt otherwise in context"
SPECIAL = "a special token stands in the text"
SAME = "chosen and rejected are the same tokens"


# ---------------------------------------------------------------- what a row becomes


def test_a_pair_by_hand():
    made = template()
    tree = made.tree(pair("hi", chosen="yes", rejected="no"), 7)
    assert text(made, tree.prompt) == "user:hi<end>assistant:"
    assert [text(made, c) for c in tree.completions] == ["yes<end>", "no<end>"]
    assert tree.row == 7 and tree.desirable is None


def test_labels_travel_with_their_rows():
    made = template()
    assert [made.tree(label("yes", value), 0).desirable for value in (True, False)] == [True, False]
    assert made.tree(shown("yes"), 0).desirable is None


def test_only_the_last_answer_is_scored():
    """Earlier assistant turns are prompt."""
    made = template()
    tree = made.tree(shown("last", "one", "two", "three"), 0)
    assert text(made, tree.prompt) == "user:one<end>assistant:two<end>user:three<end>assistant:"
    assert text(made, tree.completions[0]) == "last<end>"


def test_smollm2(tokenizer):
    """The prompt is what `generate` gets, token by token; the newline behind the end token is never
    generated.
    """
    made = template(tokenizer)
    messages = [{"role": "user", "content": "What is 2 + 2?"}]
    tree = made.tree(pair("What is 2 + 2?", chosen="It is 4.", rejected="No idea!\n"), 0)
    given = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    assert list(tree.prompt) == list(given["input_ids"] if hasattr(given, "keys") else given)
    assert text(made, tree.prompt).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert text(made, tree.completions[0]) == "It is 4.<|im_end|>"
    assert text(made, tree.completions[1]) == "No idea!\n<|im_end|>"
    rendered = tokenizer.apply_chat_template(
        [*messages, {"role": "assistant", "content": "It is 4."}], tokenize=False
    )
    assert rendered == text(made, [*tree.prompt, *tree.completions[0]]) + "\n"


# ---------------------------------------------------------------- 1: merged boundary


def test_a_merged_boundary_is_named_with_its_tokens():
    made = raw(merges=("ab",))
    detail = unfit(made, pair("xa", chosen="bc", rejected="cc"), MERGE)
    assert detail == "alone …['a'], with the answer …['ab', 'c']"
    unfit(made, pair("xa", chosen="cc", rejected="bc"), MERGE)  # on either side
    made.tree(pair("xa", chosen="cb", rejected="cc"), 0)
    made.tree(pair("xab", chosen="abc", rejected="cc"), 0)  # merges inside are no fault


def test_a_boundary_that_merges_in_the_real_vocabulary(tokenizer):
    made = template(tokenizer, "raw", allow_raw=True)
    unfit(made, pair("My favourite col", chosen="our is red.", rejected=" is"), MERGE)
    made.tree(pair("My favourite", chosen=" colour is red.", rejected=" one"), 0)
    # two spaces: the first would join the newline behind "assistant"
    unfit(template(tokenizer), pair("Hello", chosen="  Hi", rejected="Hi"), MERGE)


# --------------------------------------------------------------- 2: otherwise alone than in context


def test_a_think_block_that_vanishes_in_context():
    thinks = TURNS + "{% if add_generation_prompt %}assistant:<think>{% endif %}"
    reason = "the generation prompt opens a think block, and the answer has none"
    detail = unfit(template(crafted(thinks)), pair("hi"), reason)
    assert "<think>" in detail and "yes" in detail


def test_a_template_that_looks_at_the_whole_conversation():
    counts = "{{ messages | length }}:" + CHAT
    unfit(template(crafted(counts)), pair("hi"), OTHERWISE)


# ---------------------------------------------------------------- 3: BOS


def test_a_templates_bos_is_the_only_one():
    made = template(crafted("<s>" + CHAT, adds_bos=True))
    tree = made.tree(pair("hi"), 0)
    assert text(made, tree.prompt) == "<s>user:hi<end>assistant:"


def test_two_bos():
    unfit(template(crafted("<s><s>" + CHAT)), pair("hi"), "two BOS tokens")


def test_raw_text_gets_bos_from_the_tokenizer_and_no_eos():
    made = raw(adds_bos=True, adds_eos=True)
    tree = made.tree(pair("ab", chosen="cd", rejected="e"), 0)
    assert text(made, tree.prompt) == "<s>ab" and text(made, tree.completions[0]) == "cd</s>"


# ---------------------------------------------------------------- 4: exactly one end


@pytest.mark.parametrize("closes", ["<end>", "<end>\n", "<end></s>", "", "<end>\n\n!", "</s>"])
def test_an_answer_ends_exactly_once(closes):
    """Whatever a template puts behind an answer; where it puts nothing, EOS is added."""
    turn = TURNS.replace("<end>", closes)
    made = template(crafted(turn + "{% if add_generation_prompt %}assistant:{% endif %}"))
    tree = made.tree(pair("hi"), 0)
    wanted = END if closes.startswith(END) else EOS
    assert [text(made, c) for c in tree.completions] == ["yes" + wanted, "no" + wanted]
    assert all(sum(token in made.end_ids for token in c) == 1 for c in tree.completions)


def test_which_tokens_end_an_answer():
    tokenizer = crafted()
    eos, end, question = tokenizer.convert_tokens_to_ids([EOS, END, "?"])
    assert template(tokenizer).end_ids == {eos, end}
    assert template(tokenizer, generation_eos=[question]).end_ids == {eos, end, question}
    assert raw().end_ids == {eos}, "no template, so nothing else ends a turn"


def test_smollm2_ends(tokenizer):
    assert template(tokenizer).end_ids == {tokenizer.convert_tokens_to_ids("<|im_end|>")}


@pytest.mark.parametrize("answer", ["", "   "])
def test_an_answer_of_no_tokens(answer):
    strips = CHAT.replace("m.content", "m.content | trim")
    unfit(template(crafted(strips)), pair("hi", chosen=answer), "the answer has no tokens")


def test_a_prompt_of_no_tokens():
    unfit(raw(), pair(""), "the prompt has no tokens")


# ---------------------------------------------------------------- special tokens in the data


@pytest.mark.parametrize("special", [BOS, EOS, END])
def test_special_tokens_in_the_data_are_refused_wherever_they_stand(special):
    made = template()
    hidden = f"so{special}user:ha"
    for example in (
        pair(hidden),
        pair("hi", chosen=hidden),
        pair("hi", rejected=hidden),
        pair("a", hidden, "b"),
        pair("hi", system=hidden),
        label(hidden, True),
        shown(hidden),
    ):
        assert unfit(made, example, SPECIAL) == repr(special)
    made.tree(pair("s>", chosen="<s", rejected="/s>"), 0)


def test_a_token_that_is_special_without_a_role(tokenizer):
    """As Llama 3's <|start_header_id|>: no EOS, no padding, in no list of further ones, and yet no
    text.
    """
    made = crafted()
    made.add_tokens([AddedToken("<header>", special=True)])
    assert "<header>" not in made.all_special_tokens
    assert unfit(template(made), pair("hi <header>system"), SPECIAL) == repr("<header>")


def test_special_tokens_of_smollm2(tokenizer):
    for special in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        unfit(template(tokenizer), pair("hi", rejected=f"no{special}"), SPECIAL)


# ---------------------------------------------------------------- 5: the wrong template


def test_raw_text_on_a_chat_model_is_refused_unless_insisted_on():
    with pytest.raises(Refused, match="(?s)data.template = raw.*--allow raw_text"):
        template(crafted(), "raw")
    made = template(crafted(), "raw", allow_raw=True)
    assert text(made, made.tree(pair("ab"), 0).prompt) == "ab"


def test_a_model_without_a_template_is_refused():
    with pytest.raises(
        Refused, match="(?s)no chat template.*data.template=raw.*data.template=FILE.jinja"
    ):
        template(crafted(None))


def test_a_template_from_a_file(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text(CHAT.replace("user", "u").replace("assistant:", "bot:"), encoding="utf-8")
    tokenizer = crafted(None)
    made = template(tokenizer, str(file))
    assert made.kind == "chat" and made.prompt_text(turns("hi")) == "user:hi<end>bot:"
    with pytest.raises(UsageError, match="nonesuch.jinja': expected auto, raw, or a Jinja file"):
        template(tokenizer, str(tmp_path / "nonesuch.jinja"))


def test_a_conversation_needs_a_template():
    unfit(raw(), pair("a", "b", "c"), "a conversation without a chat template")


def test_what_a_template_refuses_is_a_row_left_out():
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
        + CHAT
    )
    made = template(crafted(strict))
    assert (
        unfit(made, pair("hi", system="be nice"), "the chat template refuses the row")
        == "no system turns"
    )
    made.tree(pair("hi"), 0)


def test_a_template_that_refuses_without_a_word():
    made = template(crafted("{{ raise_exception('') }}"))
    assert unfit(made, pair("hi"), "the chat template refuses the row") == "TemplateError"


def test_a_template_that_leaves_the_answer_out():
    """Its end token cannot be looked for; the rows then say what is wrong."""
    made = template(
        crafted("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    )
    unfit(made, pair("hi"), "the template drops the answer")


def test_a_template_file_that_is_no_text(tmp_path):
    (tmp_path / "own.jinja").write_bytes(b"\xff\xfe{{ 1 }}")
    with pytest.raises(UsageError, match="own.jinja': not a text in UTF-8"):
        template(crafted(None), str(tmp_path / "own.jinja"))


# ---------------------------------------------------------------- 7: the same tokens


def test_answers_that_differ_only_as_text():
    made = raw(lowercase=True)
    case = "the tokenizer changes the case of the text"
    unfit(made, pair("ab", chosen="Yes", rejected="yet"), case)
    made = template(crafted(None, lowercase=True), "raw", permit_changes=True)
    unfit(made, pair("ab", chosen="Yes", rejected="yES"), SAME)
    made.tree(pair("ab", chosen="Yes", rejected="yet"), 0)


# ---------------------------------------------------------------- 15: prefill


def test_a_prefill_stays_open_and_is_continued():
    made = template()
    tree = made.tree(pair("hi", "Well", chosen=", yes", rejected=", no"), 0)
    assert text(made, tree.prompt) == "user:hi<end>assistant:Well"
    assert [text(made, c) for c in tree.completions] == [", yes<end>", ", no<end>"]


def test_smollm2_prefill(tokenizer):
    made = template(tokenizer)
    tree = made.tree(pair("Hi", "Well, I", chosen=" think so.", rejected=" don't."), 0)
    assert text(made, tree.prompt).endswith("<|im_start|>assistant\nWell, I")
    assert text(made, tree.completions[0]) == " think so.<|im_end|>"
    unfit(made, pair("Hi", "Well, I th", chosen="ink so.", rejected="x"), MERGE)


def test_a_prefill_in_raw_text_is_one_turn_too_many():
    unfit(raw(), pair("hi", "Well"), "a conversation without a chat template")


def test_turns_keep_their_roles():
    made = template()
    asked = (Turn("system", "s"), Turn("user", "u"), Turn("tool", "t"))
    assert made.prompt_text(asked) == "system:s<end>user:u<end>tool:t<end>assistant:"
