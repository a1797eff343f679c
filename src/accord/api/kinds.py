"""The types of what callers give. None of the libraries is imported: their objects are known by
what they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Protocol, TypeAlias


class DataFrame(Protocol):
    """A table of pandas."""

    @property
    def iloc(self) -> Any: ...

    def to_dict(self, *args: Any, **kwargs: Any) -> Any: ...


class Dataset(Protocol):
    """A data set of datasets, of one split."""

    @property
    def column_names(self) -> Any: ...

    @property
    def features(self) -> Any: ...


class LoadedModel(Protocol):
    """A model of transformers that is in memory."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any: ...

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any: ...


class Tokenizer(Protocol):
    """The tokenizer of a loaded model."""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any: ...


Path: TypeAlias = str | PathLike
Rows: TypeAlias = Path | Sequence[Mapping[str, Any]] | DataFrame | Dataset
Prompts: TypeAlias = Rows | Sequence[str]
Model: TypeAlias = Path | LoadedModel  # a run's result is a path, too
Recipe: TypeAlias = Path | Mapping[str, Any]
Columns: TypeAlias = Mapping[str, str] | str
Names: TypeAlias = Sequence[str] | str
Rewards: TypeAlias = Names | Mapping[str, float]  # a mapping has the weights
Fields: TypeAlias = Mapping[str, Any]  # values by their paths
Lora: TypeAlias = bool | int | Mapping[str, Any]
