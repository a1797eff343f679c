"""The kinds of folder that are given for a language model and are none: each is refused by its
name, with what to do instead.

Nothing is loaded for it: file names, config.json and the headers of the weights tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accord.models.weight_files import Stored, require_no_pointer, stored_tensors
from accord.types import UsageError

# Last parts of the names of tensors that only a quantised model has.
QUANTISED_TENSORS = (
    "qweight",
    "qzeros",
    "g_idx",
    "weight_packed",
    "weight_scale",
    "weight_scale_inv",
    "weight_shape",
    "absmax",
    "quant_map",
    "SCB",
)
# Architectures of transformers that score or label text; the last parts of their names.
LABELS = ("ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
ENCODES = ("ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction")
GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json as far as it can be read; transformers reports what is wrong with it."""
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def require_known_kind(folder: Path, name: str) -> None:
    """Refuse a folder whose file names show that it is of another kind.

    Raises:
      UsageError: with the name of its kind and what to do.
    """
    for kind in FOLDERS:
        if (says := kind(folder, name)) is not None:
            raise UsageError(f"{name}: {says}")


def require_language_model(folder: Path, name: str, *, reward: bool = False) -> dict[str, Stored]:
    """Refuse a folder whose configuration or weights are not those of a causal language model in
    full precision.

    Args:
      name: the folder as the user named it.
      reward: a sequence classifier is wanted.

    Returns:
      the headers of its tensors.

    Raises:
      UsageError: with the name of its kind and what to do.
    """
    for file in ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        if (folder / file).is_file():
            require_no_pointer(folder / file, name)
    config = read_config(folder)
    for described in CONFIGS if reward else (*CONFIGS, _classifier):
        if (says := described(config, folder)) is not None:
            raise UsageError(f"{name}: {says}")
    tensors = stored_tensors(folder, name)
    if (says := _quantised_tensors(tensors)) is not None:
        raise UsageError(f"{name}: {says}")
    return tensors


# ---------------------------------------------------------------- by the files of the folder


def _pipeline(folder: Path, name: str) -> str | None:
    if (folder / "model_index.json").is_file():
        return "a diffusers pipeline, not a language model: it makes images, no text."
    return None


def _sentences(folder: Path, name: str) -> str | None:
    if (folder / "modules.json").is_file() or (
        folder / "config_sentence_transformers.json"
    ).is_file():
        return (
            "a sentence-transformers model, not a language model: it turns text into vectors and"
            " writes none.\nName a model that generates text."
        )
    return None


def _training_state(folder: Path, name: str) -> str | None:
    """Find the sharded state of a training run: DeepSpeed's, or FSDP's."""
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return None
    steps = sorted(path.name for path in folder.glob("global_step*") if path.is_dir())
    if steps or any(folder.glob("*zero_pp_rank_*")):
        inside = folder / (steps[-1] if steps else "")
        script = " ".join(["python", "zero_to_fp32.py", str(folder), "OUT", "--safe_serialization"])
        return (
            f"a training checkpoint of DeepSpeed ({inside.name}), whose weights lie in pieces of an"
            f" optimizer's state.\nGather them first: {script} (the script lies in the"
            " checkpoint), and copy config.json and the tokenizer beside them."
        )
    if any(folder.glob("*.distcp")) or any(folder.glob("pytorch_model_fsdp*")):
        return (
            "a training checkpoint of FSDP, whose weights lie in pieces.\nGather them first:"
            f" accelerate merge-weights {folder} OUT, and copy config.json and the tokenizer"
            " beside them."
        )
    return None


def merged_first(run: Path) -> str:
    """Say how a run's adapter is given to a command that takes none; empty where this is no run."""
    if not (run / "config.yaml").is_file():
        return ""
    return (
        "\nA command without --set takes both as one model:"
        f" accord export {run} --merge --output DIR, and then name DIR"
    )


def _above(folder: Path, name: str) -> str | None:
    """Find the model in a folder below this one."""
    if (folder / "config.json").is_file():
        return None
    if (folder / "snapshots").is_dir():
        found = sorted((folder / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime)
        if found:
            return (
                "an entry of the hub's cache; the model lies below it. Name that folder:"
                f" {found[-1]}"
            )
    checkpoints = [
        path
        for path in folder.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdigit() and (path / "config.json").is_file()
    ]
    last = max(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    for inside in (folder / "final", last):
        if inside is not None and (inside / "config.json").is_file():
            return f"the folder of a training run; the model lies below it. Name that: {inside}"
    if (folder / "adapter" / "adapter_config.json").is_file():
        return (
            "the folder of a training run that trained an adapter. Name the base as the model, and"
            f" the adapter beside it: --set model.adapter={folder / 'adapter'}"
            + merged_first(folder)
        )
    if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
        return (
            "the folder of a training run that is not finished. Go on with it: accord resume"
            f" {folder}\nOr write its model as it stands: accord export {folder} --output DIR"
        )
    return None


def _other_format(folder: Path, name: str) -> str | None:
    """Find weights in a format that is not loaded, where there are none in safetensors."""
    if any(folder.glob("*.safetensors")) and (folder / "config.json").is_file():
        return None
    if gguf := sorted(path.name for path in folder.glob("*.gguf")):
        return (
            f"a GGUF folder ({gguf[0]}): a format for inference, of quantised weights.\nName the"
            " folder of safetensors that it was converted from."
        )
    if (folder / "params.json").is_file() and list(folder.glob("consolidated*")):
        return (
            "weights in their maker's own layout (params.json, consolidated.*), not in that of"
            " transformers.\nConvert them first, with the family's convert_…_weights_to_hf.py of"
            " transformers, or download the folder that ends in -hf."
        )
    pickled = sorted(
        p.name for end in ("bin", "pt", "pth", "ckpt") for p in folder.glob(f"*.{end}")
    )
    pickled = [file for file in pickled if file not in ("training_args.bin", "optimizer.pt")]
    if pickled and (folder / "config.json").is_file():
        return (
            f"its weights are pickled ({pickled[0]}), and a pickle can run any code: the model does"
            ' not load.\nConvert them where you trust the file: python -c "from transformers'
            f" import AutoModelForCausalLM as M; M.from_pretrained({name!r},"
            f' use_safetensors=False).save_pretrained({name + "-safetensors"!r})", and copy the'
            " tokenizer beside them."
        )
    other = {"tf_model.h5": "TensorFlow", "flax_model.msgpack": "Flax", "*.onnx": "ONNX"}
    for pattern, maker in other.items():
        if list(folder.glob(pattern)):
            return f"its weights are those of {maker} alone. Expected *.safetensors."
    return None


FOLDERS: tuple[Callable[[Path, str], str | None], ...] = (
    _pipeline,
    _sentences,
    _training_state,
    _above,
    _other_format,
)

# ---------------------------------------------------------------- by config.json


def _quantised(config: dict[str, Any], folder: Path) -> str | None:
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else {}
    settings = next(
        (
            found
            for place in (config, inner)
            for key in ("quantization_config", "compression_config")
            if isinstance(found := place.get(key), dict)
        ),
        None,
    )
    return _quantised_says(_method(settings)) if settings is not None else None


def _method(settings: dict[str, Any]) -> str:
    """Name the method of a quantisation as its settings do."""
    method = settings.get("quant_method") or settings.get("quant_algo") or ""
    bits = next((settings[key] for key in ("bits", "w_bit", "nbits") if settings.get(key)), None)
    if settings.get("load_in_4bit") or settings.get("_load_in_4bit"):
        method, bits = method or "bitsandbytes", 4
    elif settings.get("load_in_8bit") or settings.get("_load_in_8bit"):
        method, bits = method or "bitsandbytes", 8
    return f"{method or 'unnamed method'}{f', {bits} bits' if bits else ''}"


def _quantised_says(how: str) -> str:
    return (
        f"a quantised model ({how}). Quantised weights do not train, and what is merged into them"
        " cannot be saved.\nName the full-precision model that it was made from (accord quantises"
        " one itself, under adapters: --set model.quantize=nf4); or write one from it: load it"
        " with transformers' AutoModelForCausalLM, call .dequantize() and"
        " save_pretrained(NEW_FOLDER), and copy the tokenizer beside it."
    )


def _quantised_tensors(tensors: dict[str, Stored]) -> str | None:
    """Find quantised weights that no settings speak of."""
    for key, tensor in tensors.items():
        if tensor.dtype.startswith(("F8", "F4", "F6")):
            return _quantised_says(f"{key} is stored as {tensor.dtype}")
        last = key.rpartition(".")[2]
        packed = last == "weight" and tensor.dtype in ("I8", "U8", "I32")
        if packed or last in QUANTISED_TENSORS or last.endswith(("_proj_blocks", "_proj_scales")):
            return _quantised_says(f"its files hold {key}")
    return None


def _remote_code(config: dict[str, Any], folder: Path) -> str | None:
    """Find an architecture that only the folder's own code knows."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind = config.get("model_type")
    if not config.get("auto_map") or kind in CONFIG_MAPPING_NAMES:
        return None
    return (
        f"the model needs code that comes with it (auto_map in config.json; transformers has no"
        f" {kind!r}), and code of a model is never run here: the model does not load.\nUse a"
        " version of the model whose architecture transformers has."
    )


def _encoder_decoder(config: dict[str, Any], folder: Path) -> str | None:
    from transformers import CONFIG_MAPPING

    kind, built = str(config.get("model_type")), _built(config)
    both = config.get("is_encoder_decoder")
    if both is None and kind in CONFIG_MAPPING and not built.endswith(("ForCausalLM",)):
        try:
            both = getattr(CONFIG_MAPPING[kind](), "is_encoder_decoder", False)
        except Exception:  # configurations of several parts cannot be made without them
            both = False
    if both is not True:
        return None
    return (
        f"an encoder–decoder ({built or kind}): the encoder reads the prompt and the decoder"
        " writes. Only decoders are trained here, which read and write in one sequence (Llama,"
        " Qwen, Mistral, Gemma, GPT-2 and their kin): name one of these."
    )


def _encoder(config: dict[str, Any], folder: Path) -> str | None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind, built = config.get("model_type"), _built(config)
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    reads = masked and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    # BERT and its kin can be decoders, if their configuration says so
    both_ways = masked and not config.get("is_decoder") and not _decoder_by_nature(kind)
    if not (reads or both_ways or built.endswith(ENCODES)) or built.endswith(GENERATES[:1]):
        return None
    return (
        f"an encoder ({built or kind}): every token sees those behind it, so it has no log-prob of"
        " an answer and writes no text.\nName a decoder: Llama, Qwen, Mistral, Gemma, GPT-2 and"
        " their kin."
    )


def _decoder_by_nature(kind: object) -> bool:
    """Tell whether a family of the table of masked models predicts the next token by nature."""
    return kind in ("bart", "mbart", "mvp", "reformer", "xlm")


def _classifier(config: dict[str, Any], folder: Path) -> str | None:
    built = _built(config)
    if "SequenceClassification" in built:
        return (
            "holds a reward model, not a language model: its head gives one number, no words.\n"
            "Name the language model that it was made from."
        )
    if built.endswith(LABELS):
        return f"a classifier ({built}), not a language model: its head gives labels, no words."
    return None


def _built(config: dict[str, Any]) -> str:
    """Return the class that the model was saved from; empty where the configuration names none."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


CONFIGS: tuple[Callable[[dict[str, Any], Path], str | None], ...] = (
    _quantised,
    _remote_code,
    _encoder_decoder,
    _encoder,
)
