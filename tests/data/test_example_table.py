"""Examples written into tables come back as they were, of every kind and with all that a row may
have beside its texts.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.data.example_table import Examples, Picked, read_back, table, written
from accord.data.joined import JoinedExamples
from accord.types import Demonstration, FileLine, Labelled, Origin, Pair, TemplateInputs, Turn

texts = st.text(max_size=12)  # with halves of surrogate pairs, controls and marks
keys = st.lists(st.tuples(texts, texts), max_size=2).map(tuple)
turns = st.lists(
    st.builds(Turn, st.sampled_from(["system", "user", "assistant", "tool"]), texts, keys),
    min_size=1,
    max_size=3,
).map(tuple)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
extras = st.dictionaries(texts, values, max_size=2)
lines = st.integers(1, 2**40) | st.builds(
    FileLine, st.integers(1, 2**40), texts, st.integers(0, 2**40)
)
origins = st.builds(Origin, st.just("f.jsonl"), lines)


def inputs(answers: int):
    of_answers = st.just(()) | st.tuples(*[keys] * answers)
    return st.builds(TemplateInputs, texts, texts, texts, of_answers)


KINDS = {
    "pairs": st.builds(Pair, turns, texts, texts, origins, extras, inputs(2)),
    "labelled": st.builds(Labelled, turns, texts, st.booleans(), origins, extras, inputs(1)),
    "demonstrations": st.builds(Demonstration, turns, texts, origins, extras, inputs(1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_comes_back(kind):
    @given(KINDS[kind])
    def check(example):
        back = read_back(written(example), kind, "f.jsonl")
        assert back == example and repr(back) == repr(example)
        assert back.extra == example.extra and type(back.origin.line) is type(example.origin.line)
        assert str(back.origin) == str(example.origin)

    check()


def test_no_number_is_kept_as_one():
    example = Pair((Turn("user", "q"),), "a", "b", Origin("f", 1), {"score": float("nan")})
    assert np.isnan(read_back(written(example), "pairs", "f").extra["score"])


def test_a_type_that_nobody_knows_is_no_text():
    """It would come back as another value than it is in memory."""
    example = Pair((Turn("user", "q"),), "a", "b", Origin("f", 1), {"score": object()})
    with pytest.raises(TypeError, match="object is not JSON"):
        written(example)


def test_places_from_both_ends_and_in_parts():
    """As a list has them, over several tables, several files and a choice."""
    all_of = [Pair((Turn("user", f"q{n}"),), "a", "b", Origin("f", n + 1)) for n in range(7)]
    stored = Examples([table(all_of[:3]), table([]), table(all_of[3:])], "pairs", "f")
    joined = JoinedExamples([all_of[:2], [], all_of[2:]])
    picked = Picked(all_of, np.arange(7))
    for found in (stored, joined, picked):
        assert len(found) == 7 and list(found) == all_of
        assert [found[at] for at in range(-7, 7)] == [*all_of, *all_of]
        assert found[1:6:2] == all_of[1:6:2] and found[::-1] == all_of[::-1] and found[9:] == []
        for beyond in (7, -8):
            with pytest.raises(IndexError):
                found[beyond]
