"""The work of `accord export --push`: what of an exported model goes to a hub, with its card.

What is sent is for others: it names no folder of this machine. An adapter goes only where its base
can be had by whoever finds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from accord.config.schema import Config
from accord.environment.hub.names import DATASET, MODEL, HubName, is_hub, parse
from accord.environment.hub.upload import Content, require_sendable, send
from accord.environment.redaction import redact
from accord.models import provenance
from accord.models.base import CONFIG
from accord.models.quantized import words
from accord.runs.export import Exported
from accord.runs.folder import RunFolder
from accord.types import AccordError, UsageError

CARD = "README.md"


def require_pushable(run: str, push: str, *, merge: bool) -> HubName:
    """Check before anything is written that a run's model can go to a hub under a name.

    Raises:
      UsageError: no name of a hub, no token, or an adapter of a base that nobody else has.
    """
    if not is_hub(push):
        raise UsageError(f"--push {push}: expected a name of a hub: --push hub:org/name")
    name = parse(push, MODEL)
    require_sendable(name)
    config = RunFolder.open(run).config()
    if config.model.lora is not None and not merge and not is_hub(config.model.name):
        raise UsageError(
            f"--push {push}: {run} trained an adapter of {config.model.name}, which others cannot"
            " get from a hub, and without it an adapter is of no use. Send the whole model:"
            " --merge"
        )
    return name


def push_export(run: str, name: HubName, done: Exported, *, merge: bool) -> str:
    """Send an exported folder and the run's card; return the name with the new commit.

    Raises:
      AccordError: it could not be sent, in words.
    """
    folder = RunFolder.open(run)
    files = _files(done.folder)
    files[CARD] = _card(folder, name, done, merge=merge).encode("utf-8")
    files[provenance.NAME] = _record(done.folder)
    method = folder.config().objective["name"]
    try:
        commit = send(name, files, f"A model trained with {method} by accord")
    except AccordError as error:
        raise error.with_hint(
            f"\nThe export itself is whole, in {done.folder}. Delete it and give the command again."
        ) from error
    return str(name.at(commit))


def _files(folder: Path) -> dict[str, Content]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found}


def _record(folder: Path) -> bytes:
    """Return the record beside the weights, with names in place of folders of this machine."""
    told = json.loads((folder / provenance.NAME).read_text("utf-8"))
    told["run"] = Path(told.get("run") or "").name
    for field in ("base", "template"):
        if not is_hub(value := told.get(field) or ""):
            told[field] = Path(value).name
    return (json.dumps(told, indent=2, sort_keys=True) + "\n").encode("utf-8")


def _card(folder: RunFolder, name: HubName, done: Exported, *, merge: bool) -> str:
    """Write the card that a hub reads: a head with what it was made of, and the run's own card."""
    config = folder.config()
    head = yaml.safe_dump(_head(config, done.folder), sort_keys=False, allow_unicode=True)
    return redact(f"---\n{head}---\n\n{_body(folder, config, name, done, merge=merge)}")


def _head(config: Config, exported: Path) -> dict[str, object]:
    adapter = (exported / CONFIG).is_file()
    head: dict[str, object] = {"library_name": "peft" if adapter else "transformers"}
    if is_hub(config.model.name):
        head["base_model"] = parse(config.model.name, MODEL).repo
    files = (*config.data.train_paths, *config.data.held_out_paths)
    sets = [path for path in files if is_hub(path)]
    if sets:
        head["datasets"] = sorted({parse(path, DATASET).repo for path in sets})
    return {**head, "tags": ["accord", config.objective["name"]]}


def _body(folder: RunFolder, config: Config, name: HubName, done: Exported, *, merge: bool) -> str:
    """Return the run's card without folders of this machine; loaded by its name on the hub."""
    file = folder.path / CARD
    if not file.is_file():
        notes = "".join(f"\n{note}.\n" for note in done.notes)
        return f"# {name.repo}\n\nTrained with {config.objective['name']} by accord.\n{notes}"
    text = file.read_text("utf-8")
    if merge:  # the run's card loads an adapter
        before, use, after = text.partition("## Use\n")
        made = after.partition("## Made by\n")
        text = before + use + _loading(name, done.folder) + _merged(done.folder) + "".join(made[1:])
    for path, shown in _places(folder, config, name).items():
        text = text.replace(path, shown)
    return text


def _loading(name: HubName, exported: Path) -> str:
    kinds = json.loads((exported / "config.json").read_text("utf-8")).get("architectures") or [""]
    scores = kinds[0].endswith("SequenceClassification")
    auto = "AutoModelForSequenceClassification" if scores else "AutoModelForCausalLM"
    return (
        f"\n```python\nfrom transformers import {auto}, AutoTokenizer\n"
        f'model = {auto}.from_pretrained("{name.repo}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{name.repo}")\n```\n\n'
    )


def _merged(exported: Path) -> str:
    """Say into which base an adapter of a quantised one was merged."""
    record = provenance.read(exported)
    if record is None or not record.merged_into:
        return ""
    return (
        f"The adapter is merged into the {record.merged_into} base; it was trained on one that was"
        f" {words(record.quantize_settings)}.\n\n"
    )


def _places(folder: RunFolder, config: Config, name: HubName) -> Mapping[str, str]:
    """Return what stands in a card for a place on this machine; the longest places first."""
    found = {f"{folder.path / kind}": name.repo for kind in ("adapter", "final")}
    data = (*config.data.train_paths, *config.data.held_out_paths)
    for path in (*data, config.model.name, config.model.adapter, str(folder.path)):
        if path and not is_hub(path) and "/" in path:
            found[path] = Path(path).name
    return {path: found[path] for path in sorted(found, key=len, reverse=True)}
