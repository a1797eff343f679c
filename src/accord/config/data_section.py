"""The section `data` of a config: the rows, and how they become tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from accord.config.mixed_files import (
    JOIN,
    MixedFile,
    NamedFile,
    as_entries,
    as_written,
    name_of,
    spelled,
)
from accord.config.section import Section, finite
from accord.errors import UsageError, plural


class DataConfig(Section):
    train: str
    """File of preferences or labels: JSONL, JSON, CSV, Parquet, gzip, zstd, a datasets folder, -
    for standard input, or hub:org/name@revision#split, of which a run records the commit, or its
    first N rows, #split[:N]. A list mixes files: [{path: a.jsonl, weight: 2}, {path: b.jsonl}]."""
    held_out: str | None = None
    """File to evaluate on, or a list of files. Never trained on."""
    train_files: tuple[MixedFile, ...] = Field((), exclude=True)
    """The files of a list under `train`, which is where they are written."""
    held_out_files: tuple[NamedFile, ...] = Field((), exclude=True)
    """The files of a list under `held_out`, which is where they are written."""
    hold_out: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    """Share of the rows of `train` to cut off by prompt and evaluate on, as `accord split` does, in
    place of `held_out`. Both parts lie in the run's folder, under split/."""
    format: str = "auto"
    """auto judges every row on its own; a format's name insists on it."""
    columns: dict[str, str] = {}
    """Renames columns before rows are read: {prompt: question}, or prompt=question,chosen=good."""
    ignore_columns: tuple[str, ...] = ()
    """Columns, and keys of messages, that hold no content: they are not read, and not refused."""
    max_tokens: Annotated[int, Field(strict=True, ge=8)] = 1024
    """Longest prompt + answer. The next two fields say what to do with a longer row."""
    long_prompts: Literal["cut", "reject"] = "cut"
    """cut drops the oldest turns of a conversation, never the system turn or the last one; then
    reject."""
    long_answers: Literal["reject", "cut"] = "reject"
    """cut keeps the beginning of an answer, without an end token."""
    template: str = "auto"
    """auto is the model's chat template; raw takes prompt and answer as they stand; or a Jinja
    file."""
    chat_template_kwargs: dict[str, Any] = {}
    """Options of the chat template, such as {enable_thinking: false}; a row's own column of this
    name comes on top."""
    template_date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")] | None = None
    """The day that a template which writes the date is given. null: the day on which the run began,
    recorded here."""
    max_rejected: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.001
    """Largest share of unusable rows (bad JSON, empty or identical answers, …) that training
    accepts."""
    max_too_long: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.05
    """Largest share of rows lost or cut for their length that training accepts."""

    @model_validator(mode="before")
    @classmethod
    def _several_files(cls, raw):
        """Take a list under `train` or `held_out` apart: its files, and a name for all of them."""
        if not isinstance(raw, dict):
            return raw
        raw = dict(raw)
        for field, key in (("train", "train_files"), ("held_out", "held_out_files")):
            if key in raw:
                raise ValueError(f"{key}: write the files as a list under data.{field}")
            if isinstance(raw.get(field), (list, tuple)):
                raw[key] = as_entries(raw[field], field)
                raw[field] = name_of(raw[key])
        return raw

    @field_serializer("train", "held_out")
    def _as_written(self, value, info):
        files = self.train_files if info.field_name == "train" else self.held_out_files
        return as_written(files) if files else value

    @model_validator(mode="after")
    def _fit_for_a_mix(self):
        if self.train_files and self.hold_out is not None:
            raise ValueError(
                "hold_out (--hold-out) cuts rows off one file, and train is a list of files. Name"
                " rows to evaluate on (--held-out FILE), or cut each file in two: accord split FILE"
            )
        for key in ("columns", "ignore_columns"):
            if self.train_files and getattr(self, key):
                raise ValueError(
                    f"{key}: train is a list of files, each with columns of its own. Write {key}"
                    f" beside the path: [{{path: {self.train_files[0].path}, {key}: …}}, …]"
                )
        return self

    @model_validator(mode="after")
    def _one_held_out(self):
        if self.hold_out is not None and self.held_out is not None:
            raise ValueError(
                f"--held-out {self.held_out} and --hold-out {self.hold_out:g} both say what to"
                " evaluate on; give one"
            )
        return self

    @field_validator("chat_template_kwargs")
    @classmethod
    def _finite_options(cls, value):
        return finite(value)

    @field_validator("columns", "ignore_columns", mode="before")
    @classmethod
    def _spelled(cls, value, info):
        return spelled(value, info.field_name)

    @property
    def train_paths(self) -> tuple[str, ...]:
        """Return the path of every training file."""
        return tuple(each.path for each in self.train_files) or (self.train,)

    @property
    def held_out_paths(self) -> tuple[str, ...]:
        """Return the path of every held-out file."""
        named = () if self.held_out is None else (self.held_out,)
        return tuple(each.path for each in self.held_out_files) or named

    @property
    def held_out_file(self) -> str:
        """Return `held_out` where it is known to be given."""
        assert self.held_out is not None, "whoever asks has required a held-out file"
        return self.held_out

    @property
    def name(self) -> str:
        """Return the names of the training files, without their folders."""
        return JOIN.join(Path(path).name for path in self.train_paths)

    def require_one_file(self, what: str) -> None:
        """Require one file to train on and one to evaluate on.

        Args:
          what: what reads them, such as "A comparison".

        Raises:
          UsageError: there are several.
        """
        for field, files in (("train", self.train_files), ("held_out", self.held_out_files)):
            if files:
                raise UsageError(
                    f"data.{field}: {what} takes one file, and this is a list of"
                    f" {plural(len(files), 'file')} ({', '.join(each.path for each in files)})."
                    " Write their rows into one file; accord convert FILE --output OUT.jsonl brings"
                    " files of several formats into one."
                )
