"""Hints for mixtures: every option and every method that a red flag names is one that the mixture,
or the mixture that is advised, takes.
"""

import re
import shlex

import pytest

from accord.monitor.settings import why_no_gradient
from accord.monitor.watch import RULES
from accord.objectives import resolve
from accord.objectives.hints import for_parts
from accord.types import UsageError

MIXTURES = (
    "dpo+0.1*sft",
    "wpo*ipo",
    "0.5*wpo*dpo+sft",
    "0.5*sft+2*simpo",
    "dpo+0.5*simpo",
    "ipo+cdpo+0.1*sft",
    "orpo+dpo",
)
HINTS = {
    rule.name: text
    for rule in RULES
    for text in (" ; ".join((rule.says, rule.means, rule.remedy, rule.shown)),)
    if "objective." in text or "--method" in text
}


def test_an_option_lies_under_its_part_and_a_method_takes_the_judges_place():
    mixed = resolve("dpo+0.1*sft")
    assert for_parts("--set objective.beta=0.1", mixed) == "--set objective.dpo.beta=0.1"
    assert for_parts("--method ipo, or a higher beta", mixed) == (
        "--method 'ipo+0.1*sft', or a higher beta"
    )
    assert for_parts("--method ipo or cdpo (both stop)", mixed) == (
        "--method 'ipo+0.1*sft' or 'cdpo+0.1*sft' (both stop)"
    )
    noise = "--method cdpo --set objective.label_smoothing=0.2"
    assert for_parts(noise, mixed) == (
        "--method 'cdpo+0.1*sft' --set objective.cdpo.label_smoothing=0.2"
    )
    # ipo is there already: the weights of what stays are kept
    assert for_parts("--method ipo", resolve("dpo+0.5*ipo")) == "--method ipo"
    assert for_parts("--method kto", mixed) == "--method kto"  # of other rows: no part of this
    # both have a beta: that of the part whose margins are shown
    assert for_parts("objective.beta", resolve("0.5*sft+simpo+dpo")) == "objective.simpo.beta"
    assert for_parts("objective.alpha", mixed) == "objective.alpha"  # no part's
    # a weight by the policy stays, of the part that is named or that gives way, and is not doubled
    assert for_parts("--method ipo", resolve("wpo*dpo+sft")) == "--method 'wpo*ipo+sft'"
    assert for_parts("--method dpop", resolve("2*ipo+wpo*dpop")) == "--method 'wpo*dpop'"
    assert for_parts("--method wpo", resolve("wpo*ipo")) == "--method wpo"


@pytest.mark.parametrize("name", ["dpo", "kto", "grpo"])
def test_one_objective_hears_what_was_written(name):
    assert all(for_parts(hint, resolve(name)) == hint for hint in HINTS.values())


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("flag", HINTS)
def test_what_a_flag_names_is_taken(flag, mixture):
    objective = resolve(mixture)
    said = for_parts(HINTS[flag], objective)
    known = {option for part in objective.parts for option in part.options}
    # what is left without a part is no option of this run, so that its flag is never raised
    assert not known & set(re.findall(r"objective\.(\w+)(?![\w.])", said))
    for part, option in re.findall(r"objective\.(\w+)\.(\w+)", said):
        assert takes(mixture, part, option)
    for listed in re.findall(r"--method ((?:'[^']+'|\w+)(?: or (?:'[^']+'|\w+))*)", said):
        for method in listed.split(" or "):
            resolve(shlex.split(method)[0])


def takes(mixture: str, part: str, option: str) -> bool:
    """Whether the option can be given so; what value it may have is not asked."""
    value = next(p.options[option] for p in resolve(mixture).parts if p.name == part)
    try:
        resolve(mixture, {part: {option: value}})
    except UsageError:
        return False
    return True


def test_the_flags_hints_are_of_both_kinds():
    assert {"beta-too-low", "beta-too-high", "margin-unreachable"} <= set(HINTS)
    assert {"length-only", "length-drift", "memorised", "chosen-falling"} <= set(HINTS)


def test_a_gradient_that_is_gone_names_the_parts_beta():
    """A hint that is made of the run's figures, not written in a rule."""
    objective = resolve("dpo+0.1*sft")
    _, fix = why_no_gradient({"loss": 0.0}, objective.judge.options)
    assert "a lower objective.dpo.beta than 0.1," in for_parts(fix, objective)
