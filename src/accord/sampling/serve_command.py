"""The command that starts a vLLM server for a policy. vLLM itself is never imported: it lives in an
environment of its own.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.types import UsageError

OWN = Path(".venv-vllm/bin/python")  # what `make vllm` sets up
SERVER = "vllm.entrypoints.openai.api_server"
# adapters while it runs; pausing, weights from a folder, sleep
VARIABLES = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_SERVER_DEV_MODE": "1"}


@dataclass(frozen=True)
class Serving:
    """A model to be served, and the settings of its server."""

    folder: str  # of the model
    name: str  # that it is served under
    port: int = 8000
    host: str = "127.0.0.1"
    max_model_len: int | None = None  # tokens of a prompt and its answer; None: the model's own
    max_lora_rank: int = 16
    whole: bool = False  # whole weights are to be exchanged, and no adapters
    dtype: str = "auto"
    gpus: int = 1
    share: float | None = None  # of a GPU's memory
    sleep: bool = False
    python: str | None = None  # the interpreter that has vLLM


def serve_command(serving: Serving) -> tuple[dict[str, str], list[str]]:
    """Return the environment variables and the words of the command.

    The server is on this machine alone unless a host is named: whoever reaches it can load files
    of this machine as adapters. Log-probs are the model's own (raw), whatever the temperature.
    """
    python = serving.python or (str(OWN) if OWN.is_file() else "python")
    words = [python, "-m", SERVER, "--model", serving.folder, "--served-model-name", serving.name]
    words += ["--host", serving.host, "--port", str(serving.port), "--dtype", serving.dtype]
    words += ["--logprobs-mode", "raw_logprobs", "--generation-config", "vllm"]
    if serving.max_model_len is not None:
        words += ["--max-model-len", str(serving.max_model_len)]
    if not serving.whole:
        words += ["--enable-lora", "--max-lora-rank", str(serving.max_lora_rank)]
    if serving.gpus > 1:
        words += ["--tensor-parallel-size", str(serving.gpus)]
    if serving.share is not None:
        words += ["--gpu-memory-utilization", f"{serving.share:g}"]
    if serving.sleep:
        words.append("--enable-sleep-mode")
    return VARIABLES | _preloaded(python), words


def as_line(variables: dict[str, str], words: Sequence[str]) -> str:
    """Write a command as it is typed into a shell."""
    return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in variables.items()), shlex.join(words)])


def require_interpreter(python: str) -> str:
    """Return the path of an interpreter that has vLLM.

    Raises:
      UsageError: there is no such program, or it has no vLLM.
    """
    path = shutil.which(python)
    # beside its interpreter lies a program of vLLM's own
    if path is None or not (Path(path).parent / "vllm").exists():
        raise UsageError(
            f"{python} has no vLLM. Name the interpreter of its environment: --python"
            " PATH/bin/python. In accord's own tree, make vllm sets one up for a CPU, for tests."
        )
    return path


def _preloaded(python: str) -> dict[str, str]:
    """Return the variable that the CPU build needs: its threads come from Intel's OpenMP."""
    library = Path(python).parent.parent / "lib" / "libiomp5.so"
    return {"LD_PRELOAD": str(library.absolute())} if library.is_file() else {}
