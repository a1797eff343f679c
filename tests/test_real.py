"""The command line on the real 135M model, once: what a stranger does first."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "src" / "accord" / "demo"
CITIES = ("Lyon", "London", "Berlin", "Rome", "Madrid")


@pytest.mark.real
def test_dpo_on_the_embedded_model_from_the_shell(tmp_path, smollm2_folder):
    """Three updates on shipped pairs; the adapter is loaded by PEFT alone and answers in words."""
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "accord",
        "train",
        "--data",
        str(DEMO / "train.jsonl"),
        "--held-out",
        str(DEMO / "held_out.jsonl"),
        "--method",
        "dpo",
        "--steps",
        "3",
        "--batch-size",
        "4",
        "--learning-rate",
        "1e-4",
        "--set",
        "evaluate.rows=6",
        "--set",
        "monitor.samples=2",
        "--set",
        "monitor.sample_tokens=8",
        "--output",
        str(run),
        "--json",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    # policy = reference: all ties
    assert report["ok"] and report["result"]["before"]["eval_rewards/accuracies"] == 0.5

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert (
        steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        and steps[0]["rewards/margins"] == 0.0
    )
    assert steps[2]["rewards/margins"] != 0.0
    findings = {f["check"]: f for f in json.loads((run / "preflight.json").read_text())}
    assert findings["step0.forward"]["says"].startswith("tree path")
    assert findings["step0.reference"]["evidence"]["largest_log_ratio_a_token"] == 0.0
    _knows_the_capital_through_peft(run / "adapter")


def _knows_the_capital_through_peft(adapter: Path) -> None:
    """Load it as the model card says, without accord: it acts, and the model knows and speaks.

    Which answer greedy decoding gives hangs on rounding once two first tokens are nearly as likely.
    How much likelier the right city is than the next does not: 5.4 nats, before and after training.
    """
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    torch.set_num_threads(2)
    model = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    answer = model.generate(input_ids=ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1] :]
    assert re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", tokenizer.decode(answer))

    begun = tokenizer(f"{text}The capital of France is", return_tensors="pt")["input_ids"]
    cities = [tokenizer(f" {city}")["input_ids"][0] for city in ("Paris", *CITIES)]
    with torch.no_grad():
        trained = model(input_ids=begun).logits[0, -1].log_softmax(-1)[cities]
        with model.disable_adapter():
            before = model(input_ids=begun).logits[0, -1].log_softmax(-1)[cities]
    torch.set_num_threads(1)
    assert (trained[0] - trained[1:]).min() > 1.0, dict(
        zip(CITIES, trained[1:] - trained[0], strict=True)
    )
    assert (trained - before).abs().max() > 1e-3  # 0.04; 0 without the adapter
