"""accord.train and accord.resume from Python: the command line's schema under keyword arguments."""

import pytest

import accord
from accord.errors import UsageError


def test_keywords_of_the_objective_reach_it(tiny_folder, pairs_file, tmp_path, capsys):
    """beta is DPO's; `set` reaches every field; nothing is printed unless asked."""
    result = accord.train(
        model=str(tiny_folder),
        data=pairs_file,
        method="ipo",
        beta=0.5,
        normalize="sequence_sum",
        steps=1,
        dtype="float32",
        batch_size=4,
        output=str(tmp_path / "run"),
        set={"train.warmup": 0.5},
    )
    config = (result.folder / "config.yaml").read_text()
    assert "beta: 0.5" in config and "normalize: sequence_sum" in config and "warmup: 0.5" in config
    assert result.as_dict()["saved"] == str(tmp_path / "run/adapter") and result.steps == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "step " not in captured.err


def test_a_recipe_may_be_a_mapping(tiny_folder, pairs_file, tmp_path, capsys):
    recipe = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": pairs_file},
        "objective": "simpo",
    }
    result = accord.train(recipe, steps=1, batch_size=2, output=str(tmp_path / "run"), verbose=True)
    assert "method" not in recipe and result.steps == 1
    assert "simpo; log-probs are means over answer tokens" in capsys.readouterr().err


def test_a_misspelt_keyword_is_an_error(tiny_folder, pairs_file, tmp_path):
    with pytest.raises(UsageError, match="does not know the keyword 'bta'; did you mean 'beta'"):
        accord.train(model=str(tiny_folder), data=pairs_file, bta=0.1, output=str(tmp_path / "run"))


def test_a_method_is_a_function_of_the_package():
    assert accord.objectives.dpo is accord.objectives.OBJECTIVES["dpo"].function


def test_audit_from_python(pairs_file):
    import accord.auditing  # the package must not hide the function

    assert accord.audit(pairs_file).verdict in ("fit", "fit with care", "unfit")
