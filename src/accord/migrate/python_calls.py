"""The settings in a Python file for TRL: the arguments of its configs, read and never run.

DPOConfig(beta=0.1, …)  KTOConfig(…)  …     TRL's own keys, and which trainer it is
ModelConfig(…)  ScriptArguments(…)          the keys of its command line
LoraConfig(r=16, …)                         adapters, with peft's defaults
BitsAndBytesConfig(load_in_4bit=True, …)    a quantised base, with transformers' defaults
AutoModelForCausalLM.from_pretrained("…")   the model; DPOTrainer("…") as well
load_dataset("…")                           the data

A name that a script assigns once, at its top level, to a value that is written out is that value.
"""

from __future__ import annotations

import ast
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from accord.errors import UsageError

TRAINERS = {"DPO": "dpo", "KTO": "kto", "BCO": "bco", "ORPO": "orpo", "CPO": "cpo"}
CONFIGS = {f"{name}Config": kind for name, kind in TRAINERS.items()}
RUNS = {f"{name}Trainer": kind for name, kind in TRAINERS.items()}
# peft's names -> TRL's, and what peft takes where a name is not given
LORA = {
    "r": "lora_r",
    "target_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "task_type": "lora_task_type",
}
LORA_DEFAULTS = {"lora_r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
# calls whose keywords are settings, and what their packages take where one is not given
KEYWORDS: dict[str, dict[str, Any]] = {
    **{name: {"trainer": kind} for name, kind in CONFIGS.items()},
    "ModelConfig": {},
    "ScriptArguments": {},
    "LoraConfig": LORA_DEFAULTS | {"use_peft": True},
    "BitsAndBytesConfig": {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False},
}
PRETRAINED, ROWS = "AutoModelForCausalLM.from_pretrained", "load_dataset"
MODEL, DATA = "model_name_or_path", "dataset_name"
# keywords of the two that say which model and rows are meant; the others are of their machine
OF_A_MODEL = {
    "pretrained_model_name_or_path": MODEL,
    "revision": "model_revision",
    **{key: key for key in ("load_in_4bit", "load_in_8bit", "trust_remote_code")},
}
OF_ROWS = {"path": DATA, "name": "dataset_config", "data_files": "data_files", "split": "split"}
FILE_KINDS = ("json", "csv", "parquet", "arrow", "text")  # that load_dataset reads by data_files


def is_python(text: str) -> bool:
    """Tell whether a text is Python with a config of TRL's in it."""
    try:
        return any(True for _ in _calls(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def settings_of(text: str, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read the settings as a file of TRL would have them.

    Raises:
      UsageError: a value that is computed and not written out; two values for one key.
    """
    tree = ast.parse(text)
    script = _Script(_constants(tree))
    found: dict[str, Any] = {}
    for name, call in _calls(tree):
        for key, value in script.own(name, call).items():
            if key == "dataset_train_split" and found.get(key, value) != value:
                key = "dataset_test_split"  # the second part of a set is held out
            if key in found and found[key] != value and key not in leave_out:
                raise UsageError(
                    f"{key} is {found[key]!r:.60} in one place and {value!r:.60} in another: keep"
                    f" one of them, or --leave-out {key} and set it in the recipe."
                )
            found[key] = value
    computed = {key: code for key, code in script.computed if key not in leave_out}
    if computed:
        keys = " ".join(f"--leave-out {shlex.quote(key)}" for key in computed)
        raise UsageError(
            "these values are computed, and a file is read here and not run:\n"
            + "\n".join(f"  {key} = {code}" for key, code in computed.items())
            + f"\nWrite the values themselves, or go on without: {keys}"
        )
    return found


def nothing_found(file: str, text: str) -> UsageError:
    """Describe a Python file that names nothing that is read."""
    read = ", ".join(f"{name}(…)" for name in (*CONFIGS, *RUNS))
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return UsageError(f"{file} is no Python that can be read: {error}.")
    return UsageError(
        f"{file}: nothing in it is read. Of a script it is the arguments of {read}; other trainers"
        " have no equivalent here.\nIf the settings stand elsewhere, give that file."
    )


class _Script:
    """The reading of a script's calls, and the values in them that are not written out."""

    def __init__(self, constants: Mapping[str, Any]):
        self.constants = constants
        self.computed: list[tuple[str, str]] = []  # key, and the code that makes it

    def own(self, name: str, call: ast.Call) -> dict[str, Any]:
        """Return the settings of one call."""
        if name == PRETRAINED:
            return self._named(call, (MODEL,), OF_A_MODEL)
        if name == ROWS:
            return _rows(self._named(call, (DATA, "dataset_config"), OF_ROWS))
        if name in RUNS:
            return {"trainer": RUNS[name]} | self._model_of(call)
        own: dict[str, Any] = {}
        first = call.args[:1] if name in CONFIGS else []
        for value in first:
            self._put(own, "output_dir", value)
        for value in call.args[len(first) :]:
            self.computed.append((f"{name}(…)", ast.unparse(value)[:60]))
        for keyword in call.keywords:
            key = keyword.arg and (LORA if name == "LoraConfig" else {}).get(keyword.arg)
            self._put(own, key or keyword.arg, keyword.value)
        if name == "LoraConfig" and own.get("bias") == "none":
            del own["bias"]  # only a bias that trains would say something
        return {**KEYWORDS[name], **own}

    def _named(
        self, call: ast.Call, places: tuple[str, ...], keys: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return the settings of a call that has many more arguments than settings."""
        own: dict[str, Any] = {}
        for key, value in zip(places, call.args, strict=False):  # as many as are given
            self._put(own, key, value)
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in keys:
                self._put(own, keys.get(keyword.arg or ""), keyword.value)
        return own

    def _model_of(self, call: ast.Call) -> dict[str, Any]:
        """Return the model that a trainer is given by its name; an object was made elsewhere."""
        given = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "model")]
        for node in given:
            if isinstance(value := self._value(node), str):
                return {MODEL: value}
            if isinstance(node, ast.JoinedStr):
                self.computed.append((MODEL, ast.unparse(node)[:60]))
        return {}

    def _put(self, own: dict[str, Any], key: str | None, node: ast.expr) -> None:
        """Set a key; a value that is not written out is noted instead. No key: `**options`."""
        value = self._value(node)
        if key is None and isinstance(value, dict):
            own |= {str(name): each for name, each in value.items()}
        elif key is None:
            self.computed.append((f"**{ast.unparse(node)[:60]}", "?"))
        elif value is UNKNOWN:
            self.computed.append((key, ast.unparse(node)[:60]))
        else:
            own[key] = value

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self.constants[node.id]
        if isinstance(node, ast.JoinedStr):
            return self._joined(node)
        return _literal(node)

    def _joined(self, node: ast.JoinedStr) -> Any:
        """Read an f-string of texts that are known."""
        parts: list[str] = []
        for part in node.values:
            plain = isinstance(part, ast.FormattedValue) and part.conversion == -1
            value = (
                self._value(part.value)
                if isinstance(part, ast.FormattedValue) and plain and not part.format_spec
                else _literal(part)
            )
            if not isinstance(value, str):
                return UNKNOWN
            parts.append(value)
        return "".join(parts)


UNKNOWN = object()


def _literal(node: ast.expr) -> Any:
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


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Return the names that are bound once in the whole file, at its top level, to a value that is
    written out.
    """
    bound = Counter(
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _binds(node)
    )
    bound.update(node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], _literal(node.value)
            # a list or dict can be changed in place, and need not be what it was
            fixed = value is not UNKNOWN and not isinstance(value, (dict, list))
            if fixed and isinstance(target, ast.Name) and bound[target.id] == 1:
                found[target.id] = value
    return found


def _binds(node: ast.Name) -> bool:
    return not isinstance(node.ctx, ast.Load)


def _rows(own: dict[str, Any]) -> dict[str, Any]:
    """Say in TRL's words which rows a call of `load_dataset` reads."""
    files, split = own.pop("data_files", None), own.pop("split", None)
    if files is not None and own.get(DATA) in FILE_KINDS:
        parts = files if isinstance(files, dict) else {"train": files}
        own[DATA] = parts.get("train")
        if "test" in parts:
            own["dataset_test_split"] = parts["test"]
    if isinstance(split, str):
        trains = split.startswith("train")
        own["dataset_train_split" if trains else "dataset_test_split"] = split
    return {key: value for key, value in own.items() if value is not None}


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls that say something, by the names that their packages have for them."""
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
            if name in KEYWORDS or name in RUNS or name == ROWS:
                yield name, node
            elif qualified == PRETRAINED:
                yield qualified, node
