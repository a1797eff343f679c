"""The way of a policy's weights to a server: each version has a name of its own, is written to a
folder, loaded from there, and listed by the server before anything is drawn by it.

    policy@12-3fa9c1d2    the 12th version that this process published; the digits are of its bytes

An adapter's name is in every answer that it drew, so that an answer by another version is seen.
Whole weights are served under one name, and the server keeps their version's beside it: it is read
before and after answers are drawn. That the weights arrived is shown by the probe
(sampling/server_sampler.py), and by no name.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from accord.models.embedded import without_progress_bars
from accord.models.export import save_adapter
from accord.models.language import LanguageModel
from accord.sampling.server_client import NotServed, ServerClient
from accord.sampling.server_protocol import Served
from accord.types import CheckpointError, Refused, UsageError

PREFIX = "policy@"
DIGITS = 8  # of a version's digest, in its name


@dataclass
class PolicySync:
    """The way of a policy's versions to one server."""

    client: ServerClient
    model: LanguageModel
    masters: Mapping[str, Tensor]
    kind: Literal["adapter", "weights"]
    base: str  # the name that the server gives the model without an adapter
    folder: Path  # of the versions
    seen_as: str  # the same, as the server sees it
    number: int = 0  # versions published so far
    name: str = ""  # the model to ask for: this version's adapter, or the base
    version: str = ""
    reloads: int = 0  # times that a version had to be brought back
    _path: str = field(default="", repr=False)

    def publish(self, digest: str) -> str:
        """Write the weights as they stand, and have the server load them.

        Returns:
          the name to ask for.

        Raises:
          Refused, UsageError: the server does not take them. CheckpointError: they cannot be
            written.
        """
        before, old = self.name, self._path
        self.number += 1
        version = f"{PREFIX}{self.number}-{digest[:DIGITS]}"
        self._write(version)
        self._path = f"{self.seen_as.rstrip('/')}/{version}"
        self.name, self.version = (version if self.kind == "adapter" else self.base), version
        self._load()
        if self.kind == "adapter" and before:
            self._unload(before)
        if old:
            shutil.rmtree(self.folder / Path(old).name, ignore_errors=True)
        return self.name

    def restore(self) -> None:
        """Bring the version back to a server that lost it."""
        self.reloads += 1
        self._load()

    def present(self) -> bool:
        """Tell whether the server has the version that answers are to come from."""
        if self.kind == "weights":
            return self.client.weight_version() == self.version
        return self.name in self.client.models()

    def sweep(self, served: Mapping[str, Served]) -> None:
        """Unload what an earlier process of this run left on the server, and remove its files."""
        own = self.seen_as.rstrip("/") + "/"  # /shared/policy-b is another run's
        for name, each in served.items():
            if name.startswith(PREFIX) and each.root.startswith(own):
                self._unload(name)
        for old in self.folder.glob(f"{PREFIX}*"):
            shutil.rmtree(old, ignore_errors=True)

    def withdraw(self) -> None:
        """Take this process's version off the server, and remove its files."""
        if self.kind == "adapter" and self.name:
            self._unload(self.name)
        if self._path:
            shutil.rmtree(self.folder / Path(self._path).name, ignore_errors=True)
        self.name, self.version, self._path = "", "", ""

    def _write(self, version: str) -> None:
        place, staging = self.folder / version, self.folder / f".{version}"
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            with without_progress_bars():
                if self.kind == "adapter":
                    save_adapter(self.model, staging, self.masters)
                else:
                    self.model.network.save_pretrained(staging)
            shutil.rmtree(place, ignore_errors=True)
            staging.replace(place)
        except OSError as error:
            raise CheckpointError(
                f"{place}: the policy cannot be written there for the server ({error}). Name a"
                " folder that both can reach: --set rollouts.sampler.folder=…"
            ) from error

    def _load(self) -> None:
        if self.kind == "weights":
            self.client.reload_weights(self._path, self.version)
            return
        try:
            self.client.load_adapter(self.name, self._path)
        except Refused as error:
            if "already been loaded" not in str(error):
                raise Refused(f"{error}\n{self._why_not()}") from error
        except NotServed as error:
            raise Refused(f"{error}\n{self._why_not()}") from error
        if not self.present():
            raise Refused(
                f"adapter dropped: the server at {self.client.name} took {self.name} and does not"
                " list it. Does something else unload adapters there? Start it anew: accord"
                " serve-policy prints the command."
            )

    def _why_not(self) -> str:
        if not (self.folder / self.version).is_dir():
            return (
                f"{self.folder / self.version} is gone. Does another run use this folder? A run"
                " removes what it finds there when it begins: give each a folder of its own, then"
                " resume this one."
            )
        return (
            f"It was to read the adapter from {self._path}. Can the server see this path? On"
            " another machine: --set rollouts.sampler.folder=… and rollouts.sampler.seen_as=…, the"
            " same folder as the server sees it. Is its --max-lora-rank large enough? accord"
            " serve-policy prints the command."
        )

    def _unload(self, name: str) -> None:
        with suppress(NotServed, Refused, UsageError):  # gone already: nothing asks for it
            self.client.unload_adapter(name)
