"""Rewards by name, with weights: what `--reward` takes."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from accord.errors import first_line
from accord.rewards import constraints, verify
from accord.rewards.function import Function
from accord.rewards.judge import JudgeReward
from accord.rewards.reward import PerAnswer, Reward, Weighted
from accord.rewards.scorers import BUILT_IN as SCORERS
from accord.types import UsageError


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


# name -> what makes it, and the function whose keywords its options are
BUILT_IN: dict[str, tuple[Callable[..., Reward], Callable]] = {
    "final_answer": (_final_answer, verify.final_answer),
    "constraints": (_constraints, constraints.constraints),
    "too_long": (_too_long, verify.too_long),
    "length": (_length, _length),
    "format": (_format, _format),
    "judge": (JudgeReward, JudgeReward),
}


def load_rewards(
    specs: Sequence[str], options: Mapping[str, Mapping[str, object]] | None = None
) -> Weighted:
    """The weighted sum of some rewards.

    Args:
      specs: NAME or NAME=WEIGHT each. NAME is built in (final_answer, constraints, format, length,
        too_long, judge, vader), a function of yours (module:function), or the folder of a reward
        model.
      options: keyword arguments by NAME; of a function, `timeout` is ours and the others are its
        own.

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
    if stray := next((name for name in own if name not in names), None):
        raise UsageError(
            f"options for {stray!r}, which is none of the rewards ({', '.join(names)}): they would"
            " do nothing."
        )
    return Weighted([(_load(name, own.get(name, {})), weight) for name, weight in parts])


def _known() -> str:
    return f"{', '.join((*BUILT_IN, *SCORERS))}, module:function, or a reward model's folder"


def parse_weighted(spec: str) -> tuple[str, float]:
    """A reward's name and its weight, of NAME or NAME=WEIGHT. A folder is a name, whatever stands
    in it.

    Raises:
      UsageError: the weight is no number, or 0.
    """
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


def _load(name: str, options: dict) -> Reward:
    if name in BUILT_IN:
        make, keywords = BUILT_IN[name]
        return _made(name, make, keywords, options)
    if name in SCORERS:
        if options:
            raise UsageError(
                f"reward {name!r} takes no options, and was given {', '.join(options)}."
            )
        return Function(name, target=f"accord.rewards.scorers:{name}")
    if Path(name).expanduser().is_dir():
        # torch and transformers, only where a model is asked
        from accord.rewards.model import ModelReward

        return _made(name, lambda **given: ModelReward(name, **given), ModelReward, options)
    if ":" in name:
        seconds = options.pop("timeout", 10.0)
        _check_seconds(name, seconds)
        return Function(name, options, float(seconds))
    raise UsageError(f"no reward is called {name!r}. Known: {_known()}.")


def _check_seconds(name: str, seconds: object) -> None:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 < seconds < math.inf
    ):
        raise UsageError(f"{name}.timeout = {seconds!r:.40}: expected seconds above 0.")


def _made(name: str, make: Callable[..., Reward], keywords: Callable, options: dict) -> Reward:
    parameters = inspect.signature(keywords).parameters
    known = [p for p in parameters if p != "folder"]
    if wrong := next((key for key in options if key not in known), None):
        raise UsageError(
            f"reward {name!r} has no option {wrong!r}. It has: {', '.join(known) or 'none'}."
        )
    if missing := next(
        (p for p in known if parameters[p].default is inspect.Parameter.empty and p not in options),
        None,
    ):
        raise UsageError(f"reward {name!r} needs its option {missing}: --set {name}.{missing}=…")
    _check_types(name, keywords, options)
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"reward {name!r}: its options do not fit ({first_line(error, 200)})."
        ) from error


def _check_types(name: str, keywords: Callable, options: Mapping[str, object]) -> None:
    """Each option is of the type that its keyword states: a text where a switch is expected would
    count as on.

    Raises:
      UsageError: one is not.
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
