"""The comparison of the modules that were named to get adapters with those that got one."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import torch

from accord.compat import adapter_layers
from accord.errors import AccordWarning
from accord.types import UsageError


def check_targets(
    network: torch.nn.Module, targets: Sequence[str] | str, named: str, possible: Sequence[str]
) -> None:
    """Check that every name matches a module, after the adapters were put in. PEFT is content when
    one name of a list matches.

    Names that match in a part of the layers are reported, and so are alternatives of an expression
    that match nothing: an expression may be written for several families.

    Args:
      targets: names, or one regular expression, as PEFT takes them.
      named: the setting as the user wrote it.
      possible: the names that could have been given.

    Raises:
      UsageError: a name that nothing has.
    """
    layers = {id(layer) for layer in adapter_layers(network)}
    adapted = [path for path, module in network.named_modules() if id(module) in layers]
    said = []
    if isinstance(targets, str):  # PEFT itself refuses an expression that matches nothing
        groups = {targets: adapted}
        said = [f"{choice} in it matches nothing" for choice in _idle_choices(targets, adapted)]
    else:
        groups = {name: [path for path in adapted if _has_name(path, name)] for name in targets}
    if missing := [name for name, paths in groups.items() if not paths]:
        raise UsageError(
            f"model.lora.targets = {named}: no module of this model is called"
            f" {' or '.join(missing)}, and the run would train without it.\nCorrect or remove it."
            f" Modules that can take an adapter: {', '.join(possible)}."
        )
    whole = _indices(path for path, _ in network.named_modules())
    said += [_partial(name, _indices(paths), whole) for name, paths in groups.items()]
    for words in filter(None, said):
        warnings.warn(f"model.lora.targets = {named}: {words}", AccordWarning, stacklevel=3)


def _idle_choices(expression: str, adapted: Sequence[str]) -> list[str]:
    """List the alternatives ("a" and "b" in "(a|b)") of an expression that match no module."""
    idle = []
    groups = r"\((?:\?:)?([^()?][^()]*\|[^()]+)\)|^([^()]+\|[^()]+)$"
    for group in re.finditer(groups, expression):
        for choice in filter(None, (group[1] or group[2]).split("|")):
            only = f"{expression[: group.start()]}(?:{choice}){expression[group.end() :]}"
            try:
                used = any(re.fullmatch(only, path) for path in adapted)
            except re.error:  # "|" stood for itself there
                used = True
            if not used:
                idle.append(choice)
    return idle


def _has_name(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _indices(paths: Iterable[str]) -> dict[str, set[int]]:
    """Collect the layers by number, by the path of the list that they stand in."""
    found = defaultdict(set)
    for path in paths:
        if numbered := re.match(r"(.*?)\.(\d+)(\.|$)", path):
            found[numbered[1]].add(int(numbered[2]))
    return found


def _partial(name: str, has: dict[str, set[int]], whole: dict[str, set[int]]) -> str:
    """Say in which layers a name matches nothing; empty where it matches in all, or names layers by
    number itself.
    """
    if re.search(r"(^|[.\[(|])\d", name):
        return ""
    for place, layers in has.items():
        if without := sorted(whole[place] - layers):
            return (
                f"{name} matches in {len(layers)} of the {len(whole[place])} layers of {place};"
                f" layers {_numbers(without)} get no adapter by it"
            )
    return ""


def _numbers(values: Collection[int]) -> str:
    shown = ", ".join(map(str, list(values)[:8]))
    return shown + (", …" if len(values) > 8 else "")
