"""A key that stands twice in a recipe or an option is refused: the last one would count."""

import pytest

from accord.config.build import build
from accord.config.columns import parse_columns
from accord.config.yaml_text import read_yaml
from accord.errors import UsageError


def recipe(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return build(str(file))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data: {train: a}\nseed: 1\ndata: {train: b}\n", "data stands twice, in lines 1 and 3"),
        (
            "data: {train: a}\ntrain:\n  steps: 1\n  seed: 2\n  steps: 3\n",
            "train.steps stands twice, in lines 3 and 5",
        ),
        ("data: {train: a, train: b}\n", "data.train stands twice, in line 1"),
        ('{"data": {"train": "a"},\n "data": {"train": "b"}}', "data stands twice, in lines"),
        (
            "data: {train: a}\nrollouts:\n  rewards: [x]\n  reward_options:\n    x: {k: 1, k: 2}\n",
            "rollouts.reward_options.x.k stands twice, in line 5",
        ),
        ("data: {train: a}\n'data': {train: b}\n", "lines 1 and 2"),
        ("data: &d {train: a, train: b}\nother: *d\n", "data.train stands twice"),
    ],
)
def test_recipe(text, says, tmp_path):
    with pytest.raises(UsageError, match=r"(?s)recipe\.yaml.*delete the other") as error:
        recipe(tmp_path, text)
    assert says in str(error.value)


def test_a_merge_may_write_a_key_again(tmp_path):
    text = "x: &x {steps: 1, seed: 2}\ny:\n  <<: *x\n  steps: 3\n"
    assert read_yaml(text) == {"x": {"steps": 1, "seed": 2}, "y": {"steps": 3, "seed": 2}}


def test_no_key_twice_is_no_fault(tmp_path):
    config = recipe(tmp_path, "data: {train: a}\ntrain: {steps: 1}\nobjective: {name: dpo}\n")
    assert config.train.steps == 1
    assert read_yaml("") is None and read_yaml("[a, a]") == ["a", "a"]


def test_options():
    with pytest.raises(UsageError, match=r"--set objective.*beta stands twice"):
        build(data="a", assignments=["objective={name: dpo, beta: 1, beta: 2}"])
    for text in ("{prompt: a, prompt: b}", '{"prompt": "a", "prompt": "b"}'):
        with pytest.raises(UsageError, match="stands twice"):
            parse_columns(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-3", -3),
        ("0", 0),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1.0e-5", 1e-5),
        ("-.5", -0.5),
        ("010", "010"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("1:30.5", "1:30.5"),
        ("2026-11-30", "2026-11-30"),
        ("'2026-11-30'", "2026-11-30"),
        (".inf", float("inf")),
    ],
)
def test_numbers_are_what_they_look_like(text, value):
    """YAML 1.1 reads 010 as 8, 1:30 as 90 and a date as a date."""
    found = read_yaml(f"x: {text}")["x"]
    assert found == value and type(found) is type(value)
