"""Recipe, flags and --set become one config; the later word wins."""

import pytest

from accord.config.build import SHORT, build, split_keywords
from accord.errors import UsageError

RECIPE = {
    "data": {"train": "a.jsonl"},
    "objective": "ipo",
    "train": {"epochs": 2, "seed": 3},
    "allow": ["raw_text"],
}


def test_order_of_precedence():
    """A recipe gives way to whatever is said beside it, which is said once."""
    config = build(RECIPE, seed=4)
    assert (config.train.seed, config.data.train, config.objective["name"]) == (4, "a.jsonl", "ipo")
    assert build(RECIPE, fields={"train.seed": 5}).train.seed == 5
    assert build(RECIPE, assignments=["train.seed=6"]).train.seed == 6
    with pytest.raises(UsageError, match="both give train.seed"):
        build(RECIPE, seed=4, fields={"train.seed": 5})


def test_the_recipe_is_left_as_it_was():
    build(RECIPE, seed=4, assignments=["objective.beta=0.2"])
    assert RECIPE["train"] == {"epochs": 2, "seed": 3} and RECIPE["objective"] == "ipo"


def test_from_a_file(tmp_path):
    (tmp_path / "r.yaml").write_text("data: {train: a.jsonl}\nobjective: {name: dpo, beta: 0.3}\n")
    config = build(str(tmp_path / "r.yaml"), assignments=["objective.label_smoothing=0.1"])
    assert config.objective == {"name": "dpo", "beta": 0.3, "label_smoothing": 0.1}


def test_every_short_name_reaches_its_field():
    values = {
        "model": "m",
        "adapter": "a",
        "lora": None,
        "dtype": "float32",
        "data": "d",
        "held_out": "h",
        "hold_out": 0.1,
        "max_tokens": 99,
        "template": "raw",
        "columns": {"prompt": "question"},
        "ignore_columns": ("notes",),
        "method": "kto",
        "reference": "frozen",
        "steps": 7,
        "epochs": 1.5,
        "batch_size": 3,
        "learning_rate": 0.01,
        "seed": 5,
        "output": "o",
        "on_flag": "stop",
    }
    assert values.keys() == SHORT.keys()
    for name, value in values.items():
        if value is not None:
            found = build({"data": {"train": "x"}}, **{name: value})
            *sections, key = SHORT[name].split(".")
            for section in sections:
                found = getattr(found, section)
            assert (found[key] if isinstance(found, dict) else getattr(found, key)) == value


def test_steps_beat_epochs_and_the_reverse():
    """The length given later is meant; both at once is an error."""
    assert build(RECIPE, steps=9).train.epochs is None
    config = build({**RECIPE, "train": {"steps": 5}}, epochs=1)
    assert (config.train.steps, config.train.epochs) == (None, 1)
    with pytest.raises(UsageError, match="both say how long to train; give one"):
        build(RECIPE, steps=9, epochs=1)


def test_permissions_add_up():
    assert build(RECIPE, allow=["hub"]).allow == ("raw_text", "hub")
    assert build(RECIPE, allow="hub").allow == ("raw_text", "hub")
    assert build({**RECIPE, "allow": "hub"}).allow == ("hub",)
    with pytest.raises(UsageError, match="allow"):
        build({**RECIPE, "allow": 5})


@pytest.mark.parametrize("assignment", ["data.train.x=1", "train.seed.y=2"])
def test_a_value_is_no_section(assignment):
    with pytest.raises(UsageError, match="expected a section with keys"):
        build(RECIPE, assignments=[assignment])


def test_options_are_the_objectives():
    short, options = split_keywords({"model": "m", "steps": 3, "beta": 0.1, "gamma": 1.0})
    assert (short, options) == ({"model": "m", "steps": 3}, {"beta": 0.1, "gamma": 1.0})


def test_an_adapter_s_setting_beside_all_weights_is_refused_in_words():
    with pytest.raises(UsageError, match=r"model\.lora\.rank: all weights train"):
        build(RECIPE, lora=False, assignments=["model.lora.rank=4"])
