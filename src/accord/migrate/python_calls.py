"""The settings in a Python file for TRL: the keyword arguments of its configs, read and never run.

DPOConfig(beta=0.1, …)  KTOConfig(…)  …     TRL's own keys, and which trainer it is
LoraConfig(r=16, …)                         adapters, with peft's defaults
BitsAndBytesConfig(load_in_4bit=True, …)    a quantised base, with transformers' defaults
AutoModelForCausalLM.from_pretrained("…")   the model
load_dataset("…")                           the data
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from typing import Any

from accord.errors import UsageError

TRAINERS = {"DPOConfig": "dpo", "KTOConfig": "kto", "ORPOConfig": "orpo", "CPOConfig": "cpo"}
# peft's names -> TRL's, and what peft takes where a name is not given
LORA = {
    "r": "lora_r",
    "target_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "task_type": "lora_task_type",
}
LORA_DEFAULTS = {"lora_r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
DEFAULTS: dict[str, dict[str, Any]] = {
    "LoraConfig": LORA_DEFAULTS,
    "BitsAndBytesConfig": {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False},
}
WHOLE = ("AutoModelForCausalLM.from_pretrained", "load_dataset")
MODEL, DATA = "model_name_or_path", "dataset_name"


def is_python(text: str) -> bool:
    """Tell whether a text is Python with a config of TRL's in it."""
    try:
        return any(True for _ in _calls(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def settings_of(text: str, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read the settings as a file of TRL would have them.

    Raises:
      UsageError: a value that is computed and not written out; two values for one key.
    """
    found: dict[str, Any] = {}
    computed: list[str] = []
    for name, call in _calls(text):
        own = _own(name, call, computed)
        for key, value in own.items():
            if key in found and found[key] != value and key not in leave_out:
                raise UsageError(
                    f"{key} is {found[key]!r:.60} in one place and {value!r:.60} in another: keep"
                    f" one of them, or --leave-out {key} and set it in the recipe."
                )
            found[key] = value
    computed = [line for line in computed if line.partition(" = ")[0] not in leave_out]
    if computed:
        keys = " ".join(f"--leave-out {shlex.quote(line.partition(' = ')[0])}" for line in computed)
        raise UsageError(
            "these values are computed, and a file is read here and not run:\n"
            + "\n".join(f"  {line}" for line in computed)
            + f"\nWrite the values themselves, or go on without: {keys}"
        )
    return found


def _own(name: str, call: ast.Call, computed: list[str]) -> dict[str, Any]:
    """Return the settings of one call; add to `computed` those whose value is not written out."""
    if name in WHOLE:
        first = _value(call.args[0]) if call.args else None
        return {MODEL if name == WHOLE[0] else DATA: first} if isinstance(first, str) else {}
    own: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            computed.append(f"**{ast.unparse(keyword.value)} = ?")
            continue
        key = LORA.get(keyword.arg, keyword.arg) if name == "LoraConfig" else keyword.arg
        value = _value(keyword.value)
        if value is UNKNOWN:
            computed.append(f"{key} = {ast.unparse(keyword.value)[:60]}")
        else:
            own[key] = value
    if name == "LoraConfig":
        # only a bias that trains would say something
        own = {k: v for k, v in own.items() if (k, v) != ("bias", "none")} | {"use_peft": True}
    if name in TRAINERS:
        own["trainer"] = TRAINERS[name]
    return {**DEFAULTS.get(name, {}), **own}


UNKNOWN = object()


def _value(node: ast.expr) -> Any:
    """Read a value that is written out; a name of a module's, such as torch.bfloat16, by its last
    part.
    """
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id in ("torch", "TaskType") else UNKNOWN
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return UNKNOWN
    return list(value) if isinstance(value, (tuple, set)) else value


def _calls(text: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls that say something, by the names that their packages have for them."""
    tree = ast.parse(text)
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            *before, last = ast.unparse(node.func).split(".")
            name = names.get(last, last)
            # trl.DPOConfig, and AutoModelForCausalLM.from_pretrained
            qualified = ".".join([*(names.get(part, part) for part in before[-1:]), last])
            if name in TRAINERS or name in DEFAULTS or name == WHOLE[1]:
                yield name, node
            elif qualified == WHOLE[0]:
                yield qualified, node
