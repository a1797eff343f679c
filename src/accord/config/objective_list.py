"""A recipe's list of objectives, `[{name: dpo, beta: 0.1}, {name: sft, weight: 0.1}]`, written as
one name with the options of each part: the form in which everything else reads a mixture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

WPO = "wpo"  # the weight that is no number
EXPECTED = "[{name: dpo, beta: 0.1}, {name: sft, weight: 0.1}]"


def one_name(parts: Sequence[Any]) -> dict[str, Any]:
    """Return the list as {"name": "dpo+0.1*sft", "dpo": {"beta": 0.1}, "sft": {}}.

    What a weight may be, and which parts go together, the objective itself says later.

    Raises:
      ValueError: an entry is no objective with its options, or names one twice.
    """
    terms, options = [], {}
    for part in parts:
        own = {"name": part} if isinstance(part, str) else part
        if not isinstance(own, Mapping) or not isinstance(own.get("name"), str):
            raise ValueError(f"expected a list such as {EXPECTED}; one entry is {part!r:.60}")
        name, weight = own["name"].strip(), own.get("weight", 1)
        star = ""
        if name.startswith(f"{WPO}*"):
            name, star = name.removeprefix(f"{WPO}*").strip(), f"{WPO}*"
        if weight == WPO:
            weight, star = 1, f"{WPO}*"
        if "+" in name or "*" in name:
            raise ValueError(
                f"{name!r:.60} is a mixture in a list. Write its parts as entries, or the whole as"
                " one name"
            )
        if name in options:
            raise ValueError(f"{name} is listed twice. One part has one weight: add the two")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise ValueError(f"the weight of {name} is {weight!r:.60}, which is no number")
        weighed = "weight" in own and own["weight"] != WPO
        terms.append((f"{written(weight)}*" if weighed else "") + star + name)
        options[name] = {k: v for k, v in own.items() if k not in ("name", "weight")}
    if not terms:
        raise ValueError(f"an empty list; expected a list such as {EXPECTED}")
    if len(terms) == 1 and len(options) == 1 and (terms[0] in options or terms[0].startswith(WPO)):
        return {"name": terms[0], **next(iter(options.values()))}
    return {"name": "+".join(terms), **{name: own for name, own in options.items() if own}}


def written(weight: float) -> str:
    """Write a weight as it stands in a name."""
    short = f"{weight:g}"
    return short if float(short) == weight else repr(float(weight))


def split_terms(name: str) -> list[str]:
    """Cut a mixture's name at each "+", save in a weight such as 1e+3."""
    return re.split(r"(?<![0-9.]e)\+", name)
