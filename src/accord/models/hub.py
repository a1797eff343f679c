"""Models of a hub: which files of a repository are a model, and the folder that they are fetched
into.

Safetensors, settings and the tokenizer's files; no pickled weights, no code, no copies in the
layouts of other tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from accord.environment.hub import store, words
from accord.environment.hub.client import HubFile, Listing
from accord.environment.hub.names import MODEL, HubName, is_hub, parse
from accord.errors import plural

# Settings and tokenizers lie beside the weights. vocab.txt and merges.txt are BERT's and GPT-2's.
BESIDE = (
    "*.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "*.model",
    "vocab.txt",
    "merges.txt",
    "*.tiktoken",
)
PICKLED = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|msgpack|h5)", re.IGNORECASE)
WHOLE, INDEX, ADAPTER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
)
LONGEST_JSON = 200 << 20  # bytes of a settings file; a tokenizer of 256,000 words has 35 MB


def pinned_model(text: str) -> str:
    """Return a model's hub name at the commit that it stands for now; any other name as it is.

    Raises:
      AccordError: there is no such model.
    """
    return str(_located(parse(text, MODEL))[0]) if is_hub(text) else text


def model_folder(text: str) -> Path:
    """Fetch a model of a hub, or an adapter, if the cache does not have it; return its folder.

    Raises:
      AccordError: there is none that accord loads, or it cannot be fetched.
    """
    name, listing = _located(parse(text, MODEL))
    paths = [path for path in listing.files if _is_beside(listing.files[path])]
    root = store.fetch(listing, paths, name, quietly=True)
    return store.fetch(listing, [*paths, *_weights(name, listing, root)], name)


def local_folder(text: str) -> Path:
    """Return the folder that a model's name means: of a hub, fetched; of the disk, as it is."""
    return model_folder(text) if is_hub(text) else Path(text).expanduser()


def _located(name: HubName) -> tuple[HubName, Listing]:
    listing = store.located(name)
    return name.at(listing.name.revision), listing


def _is_beside(file: HubFile) -> bool:
    folder = "/" in file.path and not file.path.startswith("additional_chat_templates/")
    return (
        not folder
        and file.size <= LONGEST_JSON
        and any(fnmatchcase(file.path, rule) for rule in BESIDE)
    )


def _weights(name: HubName, listing: Listing, root: Path) -> list[str]:
    """List the files of weights: one, or the shards that an index names.

    Raises:
      AccordError: there is none, or one that the index names is missing.
    """
    files = listing.files
    found = [path for path in (WHOLE, ADAPTER) if path in files]
    if found:
        return found
    if INDEX in files:
        shards = _shards(name, root)
        if missing := [shard for shard in shards if shard not in files]:
            raise words.failure(
                name,
                f"{INDEX} names {plural(len(shards), 'file')} of weights, and the repository does"
                f" not have {missing[0]}: the model is incomplete there. Name another revision.",
            )
        return shards
    if others := [path for path in files if path.endswith(".safetensors") and "/" not in path]:
        return others
    raise words.failure(name, _without_weights(name, files))


def _shards(name: HubName, root: Path) -> list[str]:
    try:
        named = json.loads((root / INDEX).read_text("utf-8"))["weight_map"].values()
        return sorted({str(shard) for shard in named})
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise words.failure(name, f"{INDEX} is no list of files of weights.") from error


def _without_weights(name: HubName, files: Mapping[str, HubFile]) -> str:
    """Say what a repository holds in place of safetensors."""
    pickled = [path for path in files if PICKLED.fullmatch(path)]
    if pickled:
        return (
            f"it has pickled weights alone ({pickled[0]}), which can run code when they are opened."
            " accord loads safetensors.\nLook for a converted copy among its revisions"
            f" (hub:{name.repo}@refs/pr/N), or convert it where you trust it, with"
            " save_pretrained, and name that folder."
        )
    if gguf := [path for path in files if path.endswith(".gguf")]:
        return (
            f"it has GGUF files alone ({gguf[0]}): rounded weights, which cannot be trained. Name"
            " the model that they were made from."
        )
    inside = ", ".join(sorted(files)[:6]) or "nothing"
    return f"it holds no weights (*.safetensors). It holds {inside}."
