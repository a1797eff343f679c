"""The quick rendering of plain text: the text of `apply_chat_template`, or none."""

from __future__ import annotations

import pytest
from data.chat_templates import EVERY
from data.crafted import crafted, turns
from data.families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data import plain_rendering
from accord.data.plain_rendering import PlainRendering
from accord.data.templates import make_template
from accord.types import NO_INPUTS, Origin, Pair, TemplateInputs, Turn

TEXT = st.text("ab \n<>{}%'\"é▁", max_size=12)
KNOWN = {**EVERY, **FAMILIES}


def rendered(tokenizer, said, prompt, options=None):
    messages = [{"role": turn.role, "content": turn.content} for turn in said]
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=prompt, **(options or {})
    )


@pytest.mark.parametrize("name", sorted(KNOWN))
@settings(max_examples=15)
@given(texts=st.lists(TEXT, min_size=1, max_size=5), system=st.none() | TEXT, prompt=st.booleans())
def test_the_text_is_that_of_transformers_or_the_refusal(name, texts, system, prompt):
    tokenizer = crafted(KNOWN[name])
    said = turns(*texts, system=system)
    plain = PlainRendering(tokenizer, {})
    try:
        expected = rendered(tokenizer, said, prompt)
    except Exception as error:
        with pytest.raises(type(error)):
            plain.render(said, NO_INPUTS, prompt)
        return
    assert plain.render(said, NO_INPUTS, prompt) == expected
    assert plain.render(said, NO_INPUTS, prompt) == expected  # the second time it is not compared
    assert len(plain.sequences) == 1


def test_options_reach_the_template():
    tokenizer = crafted("{% if loud %}!{% endif %}{{ messages[0].content }}")
    assert PlainRendering(tokenizer, {"loud": True}).render(turns("a"), NO_INPUTS, True) == "!a"
    assert PlainRendering(tokenizer, {}).render(turns("a"), NO_INPUTS, True) == "a"


def test_a_text_that_transformers_writes_otherwise_is_never_used(monkeypatch):
    class Other:
        def render(self, **given):
            return "something else"

    monkeypatch.setattr(plain_rendering, "compiled_template", lambda text: Other())
    tokenizer = crafted()
    plain = PlainRendering(tokenizer, {})
    assert plain.render(turns("a"), NO_INPUTS, True) is None and not plain.usable
    pair = Pair(turns("a"), "b", "c", Origin("f", 1))
    made = make_template(tokenizer, "auto")
    assert made.tree(pair, 0) == make_template(crafted(), "auto").tree(pair, 0)


def test_messages_with_keys_and_tokenizers_of_their_own_go_the_long_way():
    tokenizer = crafted()
    keyed = (Turn("user", "a", (("name", '"b"'),)),)
    plain = PlainRendering(tokenizer, {})
    assert plain.render(keyed, NO_INPUTS, True) is None
    assert plain.render(turns("a"), TemplateInputs(tools="[]"), True) is None

    class Own(type(tokenizer)):
        def apply_chat_template(self, *args, **options):
            return super().apply_chat_template(*args, **options)

    tokenizer.__class__ = Own
    assert PlainRendering(tokenizer, {}).render(turns("a"), NO_INPUTS, True) is None


def test_another_template_is_compiled_again():
    tokenizer = crafted()
    plain = PlainRendering(tokenizer, {})
    plain.render(turns("a"), NO_INPUTS, True)
    tokenizer.chat_template = "{{ messages[0].content }}#"
    assert plain.render(turns("a"), NO_INPUTS, True) == "a#"
