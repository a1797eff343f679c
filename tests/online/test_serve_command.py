"""The command that starts a sampling server."""

import pytest

from accord.sampling.serve_command import Serving, as_line, require_interpreter, serve_command
from accord.types import UsageError


def test_a_server_for_adapters():
    variables, words = serve_command(Serving("/m", "m", max_model_len=64, python="/v/bin/python"))
    line = as_line(variables, words)
    assert line.startswith("VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_SERVER_DEV_MODE=1 /v/bin/")
    assert "--host 127.0.0.1" in line, "nobody but this machine can have it load files"
    assert "--enable-lora --max-lora-rank 16" in line and "--max-model-len 64" in line
    assert "--logprobs-mode raw_logprobs" in line, "log-probs are at temperature 1"


def test_a_server_for_whole_weights_on_many_gpus():
    whole = Serving("/m", "m", whole=True, gpus=8, share=0.45, sleep=True, python="p")
    line = as_line(*serve_command(whole))
    assert "lora-rank" not in line and "--enable-lora" not in line
    assert "--tensor-parallel-size 8 --gpu-memory-utilization 0.45 --enable-sleep-mode" in line


def test_the_cpu_build_gets_its_threads(tmp_path):
    """libiomp5 lies in the environment's lib; without it vLLM's CPU build does not start."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libiomp5.so").touch()
    python = str(tmp_path / "bin/python")
    variables, _ = serve_command(Serving("/m", "m", python=python))
    assert variables["LD_PRELOAD"] == str(tmp_path / "lib/libiomp5.so")


def test_an_interpreter_without_vllm_is_not_started(tmp_path):
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.touch()
    python.chmod(0o755)
    with pytest.raises(UsageError, match="--python"):
        require_interpreter(str(python))
    (tmp_path / "bin/vllm").touch()
    assert require_interpreter(str(python)) == str(python)
