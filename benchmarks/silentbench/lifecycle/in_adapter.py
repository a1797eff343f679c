"""Faults of adapters: their base, their configuration, their tensors, and merging them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from benchmarks.silentbench.lifecycle.case import Case
from benchmarks.silentbench.lifecycle.in_model import layer_of
from benchmarks.silentbench.lifecycle.kinds import ADAPTER, PAIRS, Kind
from benchmarks.silentbench.lifecycle.models import trained_model

BARE = ("eval, adapter", "generate, adapter", "train, adapter")
OWN_BASE = (
    r"(made|trained|measured) (on|with|from) (another|other|a different)|another base|other base"
    r"|fingerprint|base (model )?(is|was|has)\b.*(not|chang|other|differ|edited)"
    r"|(weights|model|config\w*) .*(chang|differ|not the (one|same))|not the base"
    r"|(has|have|was|were|been) chang\w*.*(model|weights|base|config)"
    r"|other (weights|tokens|config\w*) than"
)
FILE = "adapter_model.safetensors"


def adapter_folder(case: Case) -> Path:
    """The folder whose adapter the place's last command reads."""
    own = case.folder / "adapter"
    return own if own.exists() else case.folder / "run" / "adapter"


def adapter_config(case: Case, **values) -> None:
    case.config("adapter_config.json", lambda c: c.update(values), adapter_folder(case))


def other_base(case: Case) -> str:
    """Another base of the same shapes stands where the first one stood."""
    other = trained_model(case.models, "llama", seed=1)
    shutil.copy(other / "model.safetensors", case.model / "model.safetensors")
    return "a base of the same shapes from another seed"


def named_other_base(case: Case) -> str:
    adapter_config(case, base_model_name_or_path=str(trained_model(case.models, "llama", seed=1)))
    return "base_model_name_or_path names another base of the same shapes"


def edited_base(case: Case) -> str:
    scale, layer = case.rng.choice((0.9, 1.02, 1.2)), case.rng.randrange(4)

    def change(tensors):
        for name, tensor in tensors.items():
            if layer_of(name) == layer and tensor.dim() > 1:
                tensor.mul_(scale)

    case.tensors(change)
    return f"layer {layer} of the base times {scale}"


def other_rope(case: Case) -> str:
    theta = case.rng.choice((500.0, 5e5, 1e6))

    def change(config):
        if "rope_parameters" in config:
            config["rope_parameters"] = {**config["rope_parameters"], "rope_theta": theta}
        else:
            config["rope_theta"] = theta

    case.config("config.json", change)
    return f"rope theta of the base {theta:g}"


def merged_already(case: Case) -> str:
    """The base's folder now holds the merged model."""
    merged = case.folder / "whole"
    case.do("export", case.folder / "run", "--merge", "--output", merged)
    shutil.copy(merged / "model.safetensors", case.model / "model.safetensors")
    shutil.rmtree(merged)
    case.said.clear()
    return "the merged model stands where the base stood"


def rewriting_start(case: Case) -> str:
    how = case.rng.choice(("pissa", "pissa_niter_4", "olora"))
    adapter_config(case, init_lora_weights=how)
    return f"init_lora_weights {how}"


def relative_base(case: Case) -> str:
    name = case.rng.choice(("./model", "../models/base", "checkpoints/base"))
    adapter_config(case, base_model_name_or_path=name)
    return f"base_model_name_or_path {name}"


def moved_base(case: Case) -> str:
    adapter_config(case, base_model_name_or_path=str(case.folder / "gone" / "base"))
    return "base_model_name_or_path names a folder that is gone"


def half_of_the_layers(case: Case) -> str:
    """Tensors of some layers are not in the file: those layers stay as the base's."""
    layers = sorted(case.rng.sample(range(4), case.rng.choice((1, 2))))

    def change(tensors):
        for name in [n for n in tensors if layer_of(n) in layers]:
            del tensors[name]

    case.tensors(change, adapter_folder(case), FILE)
    return f"no tensors of layers {layers}"


def targets_that_match_nothing(case: Case) -> str:
    wrong = case.rng.choice(("c_attn", "query_key_value", "q_projection"))

    def change(config):
        config["target_modules"] = [*config["target_modules"], wrong]

    case.config("adapter_config.json", change, adapter_folder(case))
    return f"target_modules name {wrong}"


def targets_in_settings(case: Case) -> str:
    wrong = case.rng.choice(("layers.7.self_attn.v_proj", "c_attn", "k_projection"))
    case.settings["model.lora.targets"] = json.dumps(["q_proj", wrong])
    return f"targets q_proj and {wrong}"


def renamed_tensors(case: Case) -> str:
    """A tool's prefix on every name: nothing is loaded."""
    prefix = case.rng.choice(("module.", "_orig_mod."))

    def change(tensors):
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    case.tensors(change, adapter_folder(case), FILE)
    return f"names begin with {prefix}"


def not_finite(case: Case) -> str:
    value = case.rng.choice((float("nan"), float("inf")))

    def change(tensors):
        name = case.rng.choice(sorted(tensors))
        tensors[name].view(-1)[0] = value

    case.tensors(change, adapter_folder(case), FILE)
    return f"one number is {value}"


def other_scale(case: Case) -> str:
    """The strength of the adapter is edited after it was trained."""
    if case.rng.random() < 0.5:
        adapter_config(case, use_rslora=True)
        return "use_rslora true"
    alpha = case.rng.choice((3.2, 320.0, 3200.0))
    adapter_config(case, lora_alpha=alpha)
    return f"lora_alpha {alpha:g} of 32"


def other_rank(case: Case) -> str:
    rank = case.rng.choice((4, 8, 32))
    adapter_config(case, r=rank)
    return f"r {rank} of 16"


def stale_tensors(case: Case) -> str:
    """Tensors of another training lie in the folder."""
    generator = torch.Generator().manual_seed(case.rng.randrange(1_000))

    def change(tensors):
        for tensor in tensors.values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor.std())

    case.tensors(change, case.folder / "run" / "adapter", FILE)
    return "the run's adapter holds other numbers than the run saved"


def tied_targets(case: Case) -> str:
    which = case.rng.choice((["q_proj", "embed_tokens"], ["v_proj", "lm_head"]))
    case.settings["model.lora.targets"] = json.dumps(which)
    return f"targets {', '.join(which)}, tied"


def merged_is_right(case: Case) -> bool:
    """Compare the merged folder with the adapter on its base, by plain transformers and PEFT."""
    merged, adapter = case.folder / "merged", case.folder / "run" / "adapter"
    if not (merged / "config.json").exists():
        return False
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.arange(300, 340)[None]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(case.model, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(base, adapter)(input_ids=ids).logits
        whole = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
        found = whole(input_ids=ids).logits
    return bool((found - adapted).abs().max() < 1e-3 * adapted.std())


def base_is_untouched(case: Case) -> bool:
    """Tell whether the held-out log-probs are those of PEFT's own loading of a finished adapter,
    which takes the base as it stands and the tensors of the file.
    """
    figure = _measured(case)
    adapter_config(case, init_lora_weights=True)
    file = case.folder / "measured.jsonl"
    plain = case.do("eval", case.folder / "adapter", "--data", file, "--samples", "0")
    case.said.pop()
    again = [line for line in plain.output.splitlines() if line.strip().startswith("margin")]
    return bool(figure) and figure == again


def _measured(case: Case) -> list[str]:
    return [
        line
        for step in case.said
        if step.words[0] == "eval"
        for line in step.lines
        if line.strip().startswith("margin")
    ]


def alike(case: Case) -> bool:
    """Tell whether the base was found all the same: the command reached its end."""
    return case.said[-1].code == 0


ADAPTERS = (
    Kind("another base of the same shapes", OWN_BASE, other_base, ADAPTER, PAIRS, between=True),
    Kind("another base is named", OWN_BASE, named_other_base, BARE, between=True),
    Kind("an edited base", OWN_BASE, edited_base, ADAPTER, PAIRS, between=True),
    Kind("a base with another rope", OWN_BASE + "|rope", other_rope, ADAPTER, between=True),
    Kind(
        "a base that was merged already",
        r"merged|twice|" + OWN_BASE,
        merged_already,
        ADAPTER,
        between=True,
    ),
    Kind(
        "an initialisation that rewrites the base",
        r"pissa|olora|init_lora|rewrit|decompos",
        rewriting_start,
        BARE,
        between=True,
        handled=base_is_untouched,
    ),
    Kind(
        "a relative base path",
        r"relative|absolute|base_model_name_or_path|not found|no such",
        relative_base,
        BARE,
        between=True,
        handled=alike,
    ),
    Kind(
        "a base that is gone",
        r"gone|not found|no such|does not exist|moved|no folder",
        moved_base,
        BARE,
        between=True,
    ),
    Kind(
        "no tensors for some layers",
        r"missing|lacks|not in the (file|adapter)|no (tensors|weights)|layers?",
        half_of_the_layers,
        BARE,
        ("dpo", "simpo"),
        between=True,
    ),
    Kind(
        "targets that match nothing, in the folder",
        r"target|match",
        targets_that_match_nothing,
        BARE,
        between=True,
    ),
    Kind(
        "targets that match nothing, in the settings",
        r"target|match",
        targets_in_settings,
        ("train", "dry run"),
        ("dpo", "kto", "simpo", "bradley_terry"),
    ),
    Kind(
        "tensors under other names",
        r"missing|unexpected|names?\b|prefix|not in|no place",
        renamed_tensors,
        BARE,
        between=True,
    ),
    Kind("an adapter that is no number", r"finite|\bnan\b|\binf", not_finite, BARE, between=True),
    Kind(
        "another alpha than it was trained with",
        r"alpha|scal|rslora|adapter_config|chang|edited",
        other_scale,
        BARE,
        between=True,
    ),
    Kind("another rank than its tensors", r"rank|\br\b|shape|size", other_rank, BARE, between=True),
    Kind(
        "tensors of another training",
        r"digest|hash|chang|not what .*(saved|run)|differ|edited|tamper",
        stale_tensors,
        ("eval", "generate", "export"),
        PAIRS,
        between=True,
    ),
    Kind(
        "tied weights among the targets, merged",
        r"\btied?\b|untied|embed_tokens|lm_head",
        tied_targets,
        ("export",),
        ("dpo", "simpo"),
        handled=merged_is_right,
    ),
)
