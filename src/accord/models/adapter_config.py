"""The settings of an adapter that comes in: which of them accord computes, and which it refuses."""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig, PeftConfig

from accord.errors import first_line
from accord.models.base import NAMES_BASE
from accord.types import UsageError

# Initialisations that leave the base as it is. The adapter's own weights replace what they draw, so
# that which of them it was no longer matters. All others (pissa, olora, corda, loftq, lora_ga, and
# what a later PEFT may add) take a part out of the base when an adapter is made.
KEEP_THE_BASE = (True, False, "gaussian", "eva", "orthogonal", "mica")
# Settings of LoRA that compute something else than W + scale · B A, or DoRA's form of it; of the
# last, PEFT itself finds no place for the head's tensors when it loads them.
OTHER_FORMS = (
    *("velora_config", "alora_invocation_tokens", "monteclora_config", "use_bdlora"),
    *("arrow_config", "kasa_config", "use_qalora", "layer_replication", "ensure_weight_tying"),
)
# the same file on every load: an SVD or QR of the whole matrix; the others draw numbers or need
# data
REPEATABLE = ("pissa", "olora")


def read_config(folder: Path, named: str) -> LoraConfig:
    """Read the settings of an adapter that can be trained further, in the form in which it is
    loaded: without the initialisation, whose values the file replaces.

    Args:
      named: the folder as the user wrote it.

    Raises:
      UsageError: it trains more than low-rank updates, it was made on a base that its
        initialisation had changed, or it computes something else than LoRA and DoRA.
    """
    try:
        config = PeftConfig.from_pretrained(str(folder))
    # its settings are foreign: a word for the rank raises TypeError
    except Exception as error:
        first = first_line(error)
        raise UsageError(
            f"model.adapter = {named}: adapter_config.json cannot be read: {first}"
        ) from error
    # AdaLoRA's settings are a kind of LoRA's
    if not isinstance(config, LoraConfig) or config.peft_type != "LORA":
        raise UsageError(
            f"model.adapter = {named} is a {config.peft_type} adapter; only LoRA adapters can be"
            " trained further."
        )
    _only_low_rank(config, named)
    _known_form(config, named)
    _base_kept(config, named)
    config.init_lora_weights = True
    return config


def _only_low_rank(config: LoraConfig, named: str) -> None:
    """Refuse adapters that train more than low-rank updates.

    Weights that they train beside them have no frozen copy.
    """
    beside = [
        name
        for name in ("modules_to_save", "trainable_token_indices")
        if getattr(config, name, None)
    ]
    if config.bias != "none":
        beside.append(f"bias={config.bias}")
    if beside:
        raise UsageError(
            f"model.adapter = {named} trains whole modules beside its low-rank updates"
            f" ({', '.join(beside)}), and the reference would move with them.\nMerge the adapter"
            " into its base, and train the merged model."
        )


def _known_form(config: LoraConfig, named: str) -> None:
    other = [name for name in OTHER_FORMS if getattr(config, name, None)]
    if other:
        raise UsageError(
            f"model.adapter = {named}: {', '.join(other)} in adapter_config.json makes it a form of"
            " LoRA that accord does not compute; it computes LoRA and DoRA.\nUse an adapter without"
            " it, or merge this one into its base with the tool that made it and name the result as"
            " the model."
        )


def _base_kept(config: LoraConfig, named: str) -> None:
    """Refuse an adapter whose initialisation took a part out of the base.

    PEFT takes it out again whenever it loads the adapter: loaded twice, as policy and reference,
    it is taken out twice, and without the adapter the model is not the base.
    """
    init = config.init_lora_weights
    if any(init == kept and type(init) is type(kept) for kept in KEEP_THE_BASE):
        return
    base = config.base_model_name_or_path or f"the base that {NAMES_BASE} names"
    if init in REPEATABLE:
        how = (
            "Merge it with PEFT, and use the result as the model: PeftModel.from_pretrained(base,"
            f' "{named}").merge_and_unload().save_pretrained("merged"), with {base} as the base,'
            " then --model merged.\nOr save it again where it was trained, with"
        )
    else:
        how = "Save it again where it was trained, with"
    raise UsageError(
        f"model.adapter = {named} was initialised by {init!r} (init_lora_weights), which takes a"
        " part out of the base's weights: it belongs to a base that was changed, and loading it"
        f" would change {base} again.\n{how} save_pretrained(...,"
        " path_initial_model_for_weight_conversion=...), which makes a plain LoRA adapter of it."
    )
