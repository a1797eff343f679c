"""The base of an adapter: the model that it names, and the comparison with the model that it is put
on.

An adapter is a difference from the weights that it was trained on. On other weights of the same
shapes it loads without an error and computes something that nobody trained.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

from accord.environment.hub.names import PREFIX, is_hub, may_be_repo
from accord.errors import AccordWarning
from accord.models import fingerprint, provenance
from accord.models.embedded import EMBEDDED_NAME
from accord.models.language import LanguageModel
from accord.models.positions import positions_matter
from accord.models.quantized import assignment, words
from accord.types import Refused, UsageError

CONFIG = "adapter_config.json"
NAMES_BASE = "base_model_name_or_path"


def place(name: str | Path) -> str:
    """Return a folder's absolute path; the name itself where no such folder is (a hub name)."""
    path = Path(name).expanduser()
    return os.path.abspath(path) if path.is_dir() else str(name)


def base_of(model: LanguageModel) -> str:
    """Return the name of a model for whoever looks for it later: a folder's absolute path, or a hub
    name with its commit.
    """
    return model.source if is_hub(model.source) else place(model.folder)


def base_weights(model: LanguageModel) -> str:
    """Return the digest of the base's weights (`fingerprint.base_weights`): of a quantised one, of
    the weights that it was made from.
    """
    if model.quantization is not None:
        return model.quantization.dense
    return fingerprint.base_weights(model.network)


def base_named_by(adapter: str | Path, *, hub: bool = False) -> str:
    """Return the base that an adapter's folder names, found from here.

    A relative path is looked for from the working directory, then from the adapter's folder: other
    tools write down what their user typed. A base that accord took from a hub has its commit in
    the record beside the adapter.

    Args:
      hub: the adapter is of a hub, so that its base may be one as well.

    Raises:
      UsageError: it names none, or one that is not there any more.
    """
    folder = Path(adapter).expanduser()
    try:
        base = json.loads((folder / CONFIG).read_text("utf-8"))[NAMES_BASE]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        base = None
    if not base or not isinstance(base, str):
        raise UsageError(
            f"{adapter}: {CONFIG} names no base model. Write its folder there, as {NAMES_BASE}."
        )
    if base == EMBEDDED_NAME:
        return base
    for candidate in (Path(base).expanduser(), folder / base):
        if candidate.is_dir():
            return str(candidate)
    record = provenance.read(folder)
    if record is not None and is_hub(record.base):
        return record.base
    if hub and may_be_repo(base):
        return PREFIX + base
    raise UsageError(
        f"{adapter} is an adapter of {base}, and no such folder is there now, seen from here or"
        f" from the adapter.\nPut the model there, or write where it lies as {NAMES_BASE} in"
        f" {folder / CONFIG}. Its weights are compared with those that the adapter was trained on,"
        " where the adapter has a record of them."
    )


def require_same_base(model: LanguageModel, adapter: str | Path) -> None:
    """Check that a model is the base that an adapter was trained on, by the record beside the
    adapter. The model may carry adapters already.

    Without a record, as in adapters of other tools, a warning says that the weights could not be
    compared.

    Raises:
      Refused: it has other weights, or its configuration computes other numbers.
    """
    record = provenance.read(adapter)
    if record is None or not record.base_weights:
        warnings.warn(_incomparable(model, adapter), AccordWarning, stacklevel=2)
        return
    causes = _config_differences(record.base_config, fingerprint.numbers(model.network))
    if not positions_matter(model):
        causes = [cause for cause in causes if not cause.startswith("max_position_embeddings ")]
    weights = base_weights(model)
    if weights != record.base_weights:
        causes.insert(
            0,
            "its weights differ from those that the adapter was trained on"
            f" ({record.base_weights[:16]} then, {weights[:16]} now)",
        )
    _require_same_quantisation(model, adapter, record)
    if causes:
        listed = "\n".join(f"  {cause}" for cause in causes[:8])
        raise Refused(
            f"{adapter} was trained on {record.base or 'another model'}, and the base here,"
            f" {model.source}, is not that model as it was:\n{listed}\n{_remedy(model, record)}"
        )


def _require_same_quantisation(
    model: LanguageModel, adapter: str | Path, record: provenance.Provenance
) -> None:
    """
    Raises:
      Refused: the base was quantised in another way when the adapter was trained, or not at all.
    """
    quantization = model.quantization
    now = quantization.settings if quantization is not None else None
    then = record.quantize_settings
    if now != then:
        raise Refused(
            f"{adapter} was trained on a base that was {words(then)}, and the base here is"
            f" {words(now)}: other weights.\nLoad it as it was: --set {assignment(then)}. To go on"
            " with another one, merge the adapter first (accord export RUN --merge), and name the"
            " merged model."
        )


def _config_differences(then: dict[str, object], now: dict[str, object]) -> list[str]:
    """List the fields that differ. One that only one side has comes from another version of
    transformers, which writes its defaults.
    """
    return [
        f"{path} in config.json was {then[path]!r}, and is {now[path]!r}"
        for path in then
        if path in now and then[path] != now[path]
    ]


def _remedy(model: LanguageModel, record: provenance.Provenance) -> str:
    own = provenance.read(model.folder) if Path(model.folder).is_dir() else None
    if own is not None and own.merged:
        return (
            f"{model.source} has an adapter merged into it already; with this one it would be"
            f" counted twice. Use {model.source} as it is, without the adapter, or name the base"
            f" as the model: --model {own.base or record.base}"
        )
    known = is_hub(record.base) or (record.base and Path(record.base).is_dir())
    if known and base_of(model) != record.base:
        return f"Name that base as the model: --model {record.base}"
    return (
        "Put the base back as it was, or name a copy of it as the model (--model FOLDER). A base"
        " that was edited, trained on, merged, resized or saved in float16 since is another model:"
        " train the adapter again on it."
    )


def _incomparable(model: LanguageModel, adapter: str | Path) -> str:
    """Say that an adapter has no record of its base, and compare what it names with what was
    loaded.
    """
    try:
        named = json.loads((Path(adapter).expanduser() / CONFIG).read_text("utf-8"))[NAMES_BASE]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        named = None
    begin = (
        f"{adapter} has no record of its base's weights ({provenance.NAME}, which accord writes):"
        " whether it was trained on these weights cannot be checked"
    )
    if not named:
        return f"{begin}, and it names no base"
    if _same_name(str(named), model):
        return f"{begin}; it names {named}, as the model here is called"
    return f"{begin}. It names {named}, and is put on {model.source}: make sure that they are one"


def _same_name(named: str, model: LanguageModel) -> bool:
    def last(name: str | Path) -> str:
        return str(name).rstrip("/").rpartition("/")[2].lower()

    source = model.source.removeprefix(PREFIX).partition("@")[0]
    own = {last(source), last(place(model.folder))}
    return place(named) == place(model.folder) or last(named) in own
