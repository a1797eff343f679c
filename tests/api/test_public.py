"""The public names, and how each is called: tests/api/public.txt has them, so a change shows.

PYTHONPATH=src:tests python -m api.test_public     writes the file again
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import assert_no_faults

import accord
from accord.config.build import SHORT
from accord.config.schema import Config

FILE = Path(__file__).with_name("public.txt")
FUNCTIONS = [name for name, module in accord._WHERE.items() if "accord.api." in str(module)]


def described() -> str:
    """Each public name with its kind, or with its parameters one per line."""
    return "".join(_entry(f"accord.{name}", getattr(accord, name)) for name in accord.__all__)


def _entry(name: str, value: object) -> str:
    if inspect.ismodule(value):
        return f"{name}: module\n"
    if inspect.isclass(value):
        return f"{name}: {value.__base__.__name__}\n"
    given = inspect.signature(value)
    lines = [f"    {each}\n" for each in given.parameters.values()]
    return f"{name} -> {given.return_annotation}\n{''.join(lines)}"


def test_the_public_names_are_as_written_down():
    assert described() == FILE.read_text(encoding="utf-8"), (
        "a public name changed; if it was meant, see this file's first lines"
    )


def test_every_name_is_offered():
    assert set(accord.__all__) <= set(dir(accord))
    assert set(accord._WHERE) == set(accord.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        accord.trian  # noqa: B018 (the look-up is what fails)


def test_every_parameter_is_explained():
    """In its own docstring, or in that of the function that it refers to."""
    train = set(inspect.signature(accord.train).parameters)

    def faults(name: str) -> list[str]:
        function = getattr(accord, name)
        text = inspect.getdoc(function)
        named = set(re.findall(r"\w+", text.partition("Args:")[2]))
        refers = re.findall(r"as for `accord\.(\w+)`", text)
        for other in refers:
            named |= set(inspect.signature(getattr(accord, other)).parameters)
            named |= train if other == "compare" else set()
        parameters = inspect.signature(function).parameters
        return [f"{each}: not explained" for each in parameters if each not in named]

    assert_no_faults(FUNCTIONS, faults)


def test_trains_docstring_has_the_defaults_that_are_true():
    text = " ".join(inspect.getdoc(accord.train).split())
    config = Config.model_validate({"data": {"train": "x"}})
    for name, default in [
        ("batch_size", config.train.batch_size),
        ("seed", config.train.seed),
        ("max_tokens", config.data.max_tokens),
    ]:
        assert re.search(rf"\b{name}: [^:]*Default: {default}\.", text), name
    for name, default in [
        ("model", config.model.name),
        ("method", config.objective["name"]),
        ("reference", config.reference),
        ("template", config.data.template),
        ("dtype", config.model.dtype),
        ("on_flag", config.monitor.on_flag),
    ]:
        assert re.search(rf'\b{name}: [^.]*"{default}" \(default', text), name
    assert f"(default, rank {config.model.lora.rank})" in text


def test_train_has_every_short_name_as_a_parameter():
    assert set(SHORT) <= set(inspect.signature(accord.train).parameters)


def test_the_function_evaluate_stays_the_function():
    """The room accord.evaluate has the same name; importing it must not take its place."""
    code = (
        "import accord; from accord.evaluate import intervals; import accord.evaluate.auc;"
        "assert callable(accord.evaluate), accord.evaluate; print(intervals.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "accord.evaluate.intervals", done.stderr


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_misspelt_keyword_gets_the_nearest(name):
    function = getattr(accord, name)
    required = [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    says = rf"accord.{name} does not know the keyword 'verbos'; did you mean 'verbose'"
    if "verbose" not in inspect.signature(function).parameters and name != "dry_run":
        says = rf"accord.{name} does not know the keyword 'verbos'"
    with pytest.raises(accord.AccordError, match=says):
        given = {each: {"train.warmup": [0.1]} if each == "set" else "x" for each in required}
        function(**given, verbos=True)


if __name__ == "__main__":
    FILE.write_text(described(), encoding="utf-8")
