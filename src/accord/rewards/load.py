"""Rewards by name, with weights: what `--reward`, `--judge` and `--scorer` take."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from accord.environment.hub.names import is_hub
from accord.environment.installing import require_package
from accord.errors import first_line
from accord.rewards import constraints, verify
from accord.rewards.function import Function
from accord.rewards.judge import JudgeReward, is_address, split_address
from accord.rewards.reward import PerAnswer, Reward, Weighted
from accord.rewards.sentiment import compound
from accord.types import UsageError

# modules of verifiers with packages of their own, which only the process that runs them imports
SYMBOLIC = "accord.rewards.symbolic"
PROCEDURAL = "accord.rewards.procedural"


def _final_answer(**options) -> Reward:
    return PerAnswer("final_answer", verify.final_answer(**options))


def _constraints(**options) -> Reward:
    return PerAnswer("constraints", constraints.constraints(**options))


def _too_long(**options) -> Reward:
    return PerAnswer("too_long", verify.too_long(**options))


def _length() -> Reward:
    return PerAnswer("length", verify.length)


def _format(*, pattern: str, whole: bool = True, timeout: float = 10.0) -> Reward:
    try:
        re.compile(pattern, re.S)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"pattern {pattern!r:.100} is no regular expression: {error}") from error
    _check_seconds("format", timeout)
    return Function(
        "format", {"pattern": pattern, "whole": whole}, timeout, target="accord.rewards.verify:fits"
    )


def _vader() -> Reward:
    compound([])  # a package that is not installed is said now
    return Function("vader", target="accord.rewards.sentiment:vader")


def _math_verify(*, column: str | None = None, timeout: float = 30.0) -> Reward:
    require_package("math_verify", "reward 'math_verify'")
    _check_seconds("math_verify", timeout)
    return Function("math_verify", {"column": column}, timeout, target=f"{SYMBOLIC}:math_verify")


def _reasoning_gym(*, timeout: float = 60.0) -> Reward:
    require_package("reasoning_gym", "reward 'reasoning_gym'")
    _check_seconds("reasoning_gym", timeout)
    return Function("reasoning_gym", {}, timeout, target=f"{PROCEDURAL}:reasoning_gym")


# name -> its maker, and the function that takes its options as keywords
BUILT_IN: dict[str, tuple[Callable[..., Reward], Callable]] = {
    "final_answer": (_final_answer, verify.final_answer),
    "constraints": (_constraints, constraints.constraints),
    "too_long": (_too_long, verify.too_long),
    "length": (_length, _length),
    "format": (_format, _format),
    "judge": (JudgeReward, JudgeReward),
    "vader": (_vader, _vader),
    "math_verify": (_math_verify, _math_verify),
    "reasoning_gym": (_reasoning_gym, _reasoning_gym),
}


def load_reward(
    spec: str, options: Mapping[str, Mapping[str, object]] | None = None, *, flag: str = "--set"
) -> Reward:
    """Load one reward from NAME or NAME=WEIGHT; see `load_rewards`."""
    weighted = load_rewards([spec], options, flag=flag)
    ((reward, weight),) = weighted.parts
    return reward if weight == 1 else replace(weighted, name=spec)


def load_rewards(
    specs: Sequence[str],
    options: Mapping[str, Mapping[str, object]] | None = None,
    *,
    flag: str = "--set",
    keep: Callable[[Callable[[], Reward]], Reward] | None = None,
) -> Weighted:
    """Load the weighted sum of some rewards.

    Args:
      specs: NAME or NAME=WEIGHT each. NAME is built in (final_answer, constraints, format, length,
        too_long, judge, vader, math_verify, reasoning_gym), a function of yours (module:function),
        the folder of a reward model, or a language model behind an address
        (http://127.0.0.1:8000/v1#MODEL).
      options: keyword arguments by NAME; of a function, `timeout` is ours and the others are its
        own. Those of `judge` hold for every address.
      flag: the option of the command that gives such options, for messages.
      keep: makes the reward of a function that loads a reward model; None loads it here.

    Raises:
      UsageError: none, one that is unknown or named twice, a weight that is no number, or options
        of nothing.
    """
    own = {name: dict(given) for name, given in (options or {}).items()}
    parts = [parse_weighted(spec) for spec in specs]
    names = [name for name, _ in parts]
    if not names:
        raise UsageError(f"No reward was named. Expected at least one: {_known()}.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"reward {twice!r} is named twice; give it the sum of both weights.")
    takes = {*names, *({"judge"} if any(map(is_address, names)) else ())}
    if stray := next((name for name in own if name not in takes), None):
        raise UsageError(
            f"options for {stray!r}, which is none of the rewards ({', '.join(names)}): they would"
            " do nothing."
        )
    return Weighted([(_load(name, own, flag, keep), weight) for name, weight in parts])


def permitted_weak(
    specs: Sequence[str], options: Mapping[str, Mapping[str, object]], allow: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Return the options of rewards, with those that a run's permission `weak_reward` gives to
    reward models.
    """
    own = {name: dict(given) for name, given in options.items()}
    if "weak_reward" not in allow:
        return own
    for name in model_names(specs):
        own[name] = {"allow_weak": True} | own.get(name, {})
    return own


def _known() -> str:
    return (
        f"{', '.join(BUILT_IN)}, module:function, a reward model's folder or hub name, or"
        " http://127.0.0.1:8000/v1#MODEL"
    )


def parse_weighted(spec: str) -> tuple[str, float]:
    """Split NAME or NAME=WEIGHT into a reward's name and its weight. An existing folder is always a
    name, even with "=" in it.

    Raises:
      UsageError: the weight is no number, or 0; or an address that holds a secret.
    """
    if is_address(spec):
        split_address(spec)  # before it is shown: it may hold a secret
    name, sign, text = spec.rpartition("=")
    if not sign or Path(spec).expanduser().is_dir():
        return spec, 1.0
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight == 0 or not name:
        raise UsageError(
            f"reward {spec!r}: expected NAME or NAME=WEIGHT with a weight other than 0, such as"
            " length=-0.001."
        )
    return name, weight


def model_names(specs: Sequence[str]) -> list[str]:
    """Return the names of the reward models among some rewards."""
    names = [name for name, _ in map(parse_weighted, specs)]
    return [name for name in names if name not in BUILT_IN and _is_model(name)]


def _is_model(name: str) -> bool:
    return is_hub(name) or Path(name).expanduser().is_dir()


def _load(
    name: str,
    given: Mapping[str, dict],
    flag: str,
    keep: Callable[[Callable[[], Reward]], Reward] | None,
) -> Reward:
    options = dict(given.get(name, {}))
    if name in BUILT_IN:
        make, keywords = BUILT_IN[name]
        return _made(name, make, keywords, options, flag)
    if is_address(name):
        return _behind_address(name, {**given.get("judge", {}), **options}, flag)
    if _is_model(name):
        # imports torch and transformers, so only if a model is asked
        from accord.rewards.model import ModelReward

        def make(**options) -> Reward:
            load = partial(ModelReward, name, **options)
            return keep(load) if keep is not None else load()

        return _made(name, make, ModelReward, options, flag)
    if ":" in name:
        seconds = options.pop("timeout", 10.0)
        _check_seconds(name, seconds)
        return Function(name, options, float(seconds))
    meant = difflib.get_close_matches(name, BUILT_IN, n=1, cutoff=0.5)
    hint = f" Did you mean {meant[0]}?" if meant else ""
    raise UsageError(f"no reward is called {name!r}.{hint} Known: {_known()}.")


def _check_seconds(name: str, seconds: object) -> None:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 < seconds < math.inf
    ):
        raise UsageError(f"{name}.timeout = {seconds!r:.40}: expected seconds above 0.")


def _behind_address(name: str, options: dict, flag: str) -> Reward:
    """Make a reward from URL#MODEL: the scores of a language model."""
    url, model = split_address(name)
    options |= {"url": url} | ({"model": model} if model is not None else {})
    if "model" not in options:
        raise UsageError(
            f"{name}: name the model that it serves: {url}#MODEL, or {flag} judge.model=MODEL."
        )
    return _made(name, partial(JudgeReward, name=name), JudgeReward, options, flag)


def _made(
    name: str, make: Callable[..., Reward], keywords: Callable, options: dict, flag: str
) -> Reward:
    parameters = inspect.signature(keywords).parameters
    known = [p for p in parameters if p not in ("folder", "name")]
    if wrong := next((key for key in options if key not in known), None):
        raise UsageError(
            f"reward {name!r} has no option {wrong!r}. It has: {', '.join(known) or 'none'}."
        )
    if missing := next(
        (p for p in known if parameters[p].default is inspect.Parameter.empty and p not in options),
        None,
    ):
        raise UsageError(f"reward {name!r} needs its option {missing}: {flag} {name}.{missing}=…")
    _check_types(name, keywords, options)
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"reward {name!r}: its options do not fit ({first_line(error, 200)})."
        ) from error


def _check_types(name: str, keywords: Callable, options: Mapping[str, object]) -> None:
    """Check that each option has the type that its keyword states. A text in place of a switch
    would count as on.

    Raises:
      UsageError: an option has another type.
    """
    parameters = inspect.signature(keywords, eval_str=True).parameters
    for key, value in options.items():
        try:
            TypeAdapter(parameters[key].annotation, config=ConfigDict(strict=True)).validate_python(
                value
            )
        except ValidationError:
            stated = inspect.signature(keywords).parameters[key].annotation
            raise UsageError(f"{name}.{key} = {value!r:.100}: expected {stated}.") from None
