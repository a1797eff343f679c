"""The arithmetic of a gap, by hand; and a server's answers, read strictly."""

import json
import math

import pytest

from accord.environment.web import Unread
from accord.sampling.gap import Hypothesis, find_cause, measure_gap, weigh
from accord.sampling.server_protocol import (
    Draw,
    completion_request,
    read_completion,
    read_models,
    read_version,
    row_seed,
)
from accord.types import Refused


def suppose(logps, name="h"):
    return Hypothesis(name, "", "", logps)


def test_a_gap_by_hand():
    gap = measure_gap([-1.0, -2.0, -3.0], [-1.5, -2.0, -2.0], bound=0.6)
    assert (gap.mean, gap.worst, gap.over, gap.tokens) == (0.5, 1.0, pytest.approx(1 / 3), 3)


def test_a_slope_by_hand():
    """x = (1, 1, 2) and y = (1, 0, 2): θ = 5/6, residuals (1, -5, 2)/6, se² = 30/36/2/6."""
    found = weigh([-1.0, -2.0, -1.0], [-2.0, -2.0, -3.0], suppose([-1.0, -1.0, -1.0]))
    assert found.slope == pytest.approx(5 / 6)
    assert found.error == pytest.approx(math.sqrt(30 / 36 / 2 / 6))
    assert found.left == pytest.approx(1 / 3) and not found.holds and not found.told_apart


def test_a_hypothesis_that_predicts_the_same_is_not_told_apart():
    same = weigh([-1.0, -2.0], [-1.5, -2.5], suppose([-1.5, -2.5]))
    assert same.error == math.inf and not same.told_apart and not same.holds


def rounding(n):
    """Noise of .05 nats that points nowhere."""
    return [0.05 * math.sin(7.3 * i * i) for i in range(n)]


def test_a_small_step_is_seen_under_larger_rounding():
    """Weights one update old move log-probs by .02 nats, under rounding of .05: the probe tells
    which of the two the server has, both ways.
    """
    trained = [-3.0 - math.cos(i) for i in range(400)]
    older = [t + 0.02 * (-1) ** i for i, t in enumerate(trained)]
    for own, expected in ((trained, []), (older, ["stale"])):
        drawn = [a + b for a, b in zip(own, rounding(400), strict=True)]
        verdict = find_cause(drawn, trained, [suppose(older, "stale")], bound=0.1)
        assert verdict.gap.mean < 0.1 and verdict.weighed[0].told_apart
        assert [w.hypothesis.name for w in verdict.causes] == expected
        assert verdict.fine is not expected


def test_a_cause_must_account_for_half_of_a_gap_over_the_bound():
    """A hypothesis on the way to the gap is certain to help, and is not its cause."""
    trained = [-2.0 + 0.1 * math.sin(i) for i in range(64)]
    drawn = [t - 1.0 - 0.9 * math.sin(3 * i) for i, t in enumerate(trained)]
    partly = [t - 0.9 for t in trained]
    verdict = find_cause(drawn, trained, [suppose(partly, "partly")], bound=0.1)
    assert verdict.weighed[0].holds and not verdict.causes and not verdict.fine
    exact = find_cause(drawn, trained, [suppose(partly, "partly"), suppose(drawn, "it")], 0.1)
    assert [w.hypothesis.name for w in exact.causes] == ["it"]


def test_two_causes_that_predict_the_same_are_both_named():
    trained, drawn = [-1.0, -2.0, -3.0, -1.5], [-1.5, -2.7, -3.1, -2.5]
    both = [suppose(drawn, "one"), suppose(list(drawn), "two")]
    assert [w.hypothesis.name for w in find_cause(drawn, trained, both, 0.1).causes] == [
        "one",
        "two",
    ]


# ---------------------------------------------------------------- reading answers

DRAW = Draw((5, 6, 7), 1, 3, 1.0, 1.0)
REQUEST = completion_request("policy@1-aa", DRAW, frozenset({2, 0}))


def answer(tokens=(8, 9, 2), logps=(-1.0, -0.5, -0.25), reason="stop", **more):
    choice = {"token_ids": list(tokens), "logprobs": {"token_logprobs": list(logps)}}
    choice |= {"finish_reason": reason, "prompt_token_ids": [5, 6, 7]} | more.pop("choice", {})
    return {"model": "policy@1-aa", "choices": [choice], "usage": {"prompt_tokens": 3}} | more


def read(body, vocabulary=10):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_completion(content, REQUEST, vocabulary)


def test_an_answer_is_read():
    found = read(answer())
    assert found.tokens == (8, 9, 2) and found.logps == (-1.0, -0.5, -0.25)
    assert found.finish_reason == "stop" and REQUEST["stop_token_ids"] == [0, 2]
    assert read(answer((8, 9, 8), reason="length")).finish_reason == "length"
    # bfloat16 may round above certainty
    assert read(answer(logps=(0.004, -0.5, -0.25))).logps[0] == 0.0


@pytest.mark.parametrize(
    "body, reason",
    [
        (b"<html>", "no JSON"),
        ([], "no object"),
        (answer(model="policy@2-bb"), "answered by 'policy@2-bb'"),
        (answer(choices=[]), "0 choices"),
        (answer(tokens=()), "an answer without tokens"),
        (answer(choice={"token_ids": None}), "no token ids"),
        (answer(tokens=(8, 9, 10)), "token ids that are none"),
        (answer(tokens=(8, True, 2)), "token ids that are none"),
        (answer(logps=(-1.0, -1.0)), "2 log-probs of 3 tokens"),
        (answer(logps=(-1.0, -1.0, float("nan"))), "log-probs that are none"),
        (answer(logps=(-1.0, 0.5, -1.0)), "log-probs that are none"),
        (answer(logps=(-1.0, None, -1.0)), "log-probs that are none"),
        (answer(choice={"logprobs": None}), "no log-probs"),
        (answer(tokens=(2, 9, 8), reason="length"), "goes on after its end"),
        (answer(tokens=(8, 9, 8)), "an end"),
        (answer(tokens=(8,), logps=(-1.0,), reason="length"), "an end"),
        (answer(reason="abort"), "an end"),
    ],
)
def test_what_is_no_answer_is_not_read_as_one(body, reason):
    with pytest.raises(Unread, match=reason):
        read(body)


@pytest.mark.parametrize(
    "more, words",
    [
        (
            {"choice": {"prompt_token_ids": [6, 7]}},
            "cut prompt: of a prompt of 3 tokens the server read 2",
        ),
        ({"choice": {"prompt_token_ids": [1, 5, 6, 7]}}, "another prompt"),
        ({"choice": {"prompt_token_ids": None}, "usage": {"prompt_tokens": 2}}, "cut prompt"),
        ({"choice": {"prompt_token_ids": None}, "usage": {"prompt_tokens": 9}}, "another prompt"),
    ],
)
def test_an_answer_to_another_prompt_is_refused(more, words):
    with pytest.raises(Refused, match=words):
        read(answer(**more))


def test_lists_and_versions():
    row = {"id": "m", "root": "/f", "parent": None, "max_model_len": 9}
    assert read_models(json.dumps({"data": [row]}).encode())["m"].longest == 9
    for bad in (b"{}", b'{"data": [1]}', b'{"data": [{"id": 3}]}'):
        with pytest.raises(Unread):
            read_models(bad)
    assert read_version(b'{"weight_version": "default"}') == "default"
    with pytest.raises(Unread):
        read_version(b'{"weight_version": 3}')


def test_seeds_are_of_their_own():
    """Answer i is of (seed, i) alone: seeds of neighbouring runs and rows do not meet, and JSON
    carries each whole.
    """
    seeds = {row_seed(s, r) for s in range(20) for r in range(50)}
    assert len(seeds) == 1000 and all(0 <= s < 2**53 for s in seeds)
    assert row_seed(1, 11) != row_seed(11, 1)
