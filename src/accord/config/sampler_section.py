"""The section `rollouts.sampler` of a config: a server that draws the policy's answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from accord.config.section import Section

Named = Annotated[str, Field(min_length=1)]  # "" would be taken for a default


class SamplerConfig(Section):
    server: str
    """Address of a vLLM server, such as http://127.0.0.1:8000. `accord serve-policy` prints the
    command that starts one."""
    model: Named | None = None
    """Name under which it serves the model that the policy starts from. null: the only one that it
    serves."""
    sync: Literal["adapter", "weights"] | None = None
    """How the policy reaches the server: as a LoRA adapter that is loaded under a name of its own,
    or as whole weights that are read from a folder. null: as the run trains."""
    folder: Named | None = None
    """Folder for the policy's versions, which the server must be able to read. null: `policy` in
    the run's folder."""
    seen_as: Named | None = None
    """The same folder as the server sees it, where that is another path (another machine)."""
    timeout: Annotated[float, Field(strict=True, gt=0)] = 120.0
    """Seconds for one answer."""
    attempts: Annotated[int, Field(strict=True, ge=1, le=100)] = 8
    """Attempts at one answer, with a wait that doubles from half a second to 30."""
    workers: Annotated[int, Field(strict=True, ge=1, le=4096)] = 32
    """Answers asked for at a time."""
    sleep: bool = False
    """Let the server give its memory back while the policy trains on the same device."""

    @model_validator(mode="after")
    def _another_path_of_a_folder(self) -> SamplerConfig:
        if self.seen_as is not None and self.folder is None:
            raise ValueError(
                "seen_as is another path of rollouts.sampler.folder, which is not given: a run's"
                " own folder has a new name each time. Give both"
            )
        return self
