"""The real vLLM, where one is up:

make vllm
accord serve-policy smollm2 --max-model-len 512 --dtype float32 --gpu-share 0.3 --start
TEST_VLLM=http://127.0.0.1:8000 python -m pytest tests/online/test_vllm.py
"""

import os

import pytest
from training.helpers import json_lines, run

ADDRESS = os.environ.get("TEST_VLLM")


@pytest.mark.real
@pytest.mark.skipif(not ADDRESS, reason="no vLLM: TEST_VLLM names the address of a server")
def test_the_embedded_model_is_served_as_it_is_trained(smollm2_folder, tmp_path):
    """Base, a nudged policy, and each version."""
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"Tell me about the number {n}.\n" for n in range(6)))
    fields = {
        "rollouts.rewards": ["length"],
        "rollouts.num_generations": 2,
        "rollouts.max_new_tokens": 12,
        "rollouts.max_gap": 0.06,
        "rollouts.sampler": {"server": ADDRESS, "timeout": 600.0},
        "monitor.samples": 0,
    }
    few = {"method": "grpo", "steps": 2, "batch_size": 2, "set": fields}
    run(smollm2_folder, str(file), tmp_path / "run", **few)
    assert all(not line["cause"] for line in json_lines(tmp_path / "run/sampler.jsonl"))
