"""accord export: the model of a checkpoint in a folder of its own,
read back before it is believed.
"""

import pytest
import torch
from safetensors.torch import load_file
from training.helpers import plan_held_out_losses, run
from transformers import AutoModelForCausalLM, AutoTokenizer

from accord.runs.export import export_run
from accord.types import CheckpointError, Refused, UsageError


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory):
    """A run whose best checkpoint is its second, not its last."""
    from conftest import pair_rows, write_rows

    root = tmp_path_factory.mktemp("export")
    data, held = (
        write_rows(root / f"{n}.jsonl", pair_rows(k, start=s))
        for n, k, s in (("d", 16, 0), ("h", 4, 100))
    )
    fields = {"evaluate.every": 1, "train.schedule": "constant"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        plan_held_out_losses(monkeypatch, {0: 0.7, 1: 0.6, 2: 0.4, 3: 0.5})
        return run(
            tiny_folder, data, root / "run", held_out=held, steps=3, learning_rate=0.1, set=fields
        )


def export(finished, output, **options):
    options = {"merge": False, "which": "latest", "dtype": None} | options
    return export_run(str(finished.folder), str(output) if output else None, **options)


def logits(network, folder):
    with torch.no_grad():
        return network.eval()(
            **AutoTokenizer.from_pretrained(folder)("The cat sat.", return_tensors="pt")
        ).logits


def test_latest_is_what_the_run_saved(finished, tmp_path):
    folder = export(finished, tmp_path / "out").folder
    ours, saved = (
        load_file(path / "adapter_model.safetensors") for path in (folder, finished.saved)
    )
    assert ours.keys() == saved.keys() and all(
        torch.equal(ours[name], saved[name]) for name in saved
    )


def test_best_is_another(finished):
    assert finished.best_step == 2
    folder = export(finished, None, which="best").folder
    assert folder == finished.folder / "export-best"
    best, last = (
        load_file(path / "adapter_model.safetensors") for path in (folder, finished.saved)
    )
    state = load_file(
        finished.folder / f"checkpoints/step-{finished.best_step:06d}/tensors.safetensors"
    )
    name = next(iter(best))
    master = f"master/{name.replace('.weight', '.default.weight')}"
    assert torch.equal(best[name], state[master]) and not torch.equal(best[name], last[name])


def test_merged_is_base_and_adapter_in_one(finished, tiny_folder, tmp_path):
    from peft import PeftModel

    done = export(finished, tmp_path / "out", merge=True)
    folder = done.folder
    assert "rounding changed" in done.says and not (folder / "adapter_config.json").exists()
    merged = logits(AutoModelForCausalLM.from_pretrained(folder), folder)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    plain = logits(base, tiny_folder)
    adapted = logits(PeftModel.from_pretrained(base, finished.saved), tiny_folder)
    torch.testing.assert_close(merged, adapted, rtol=1e-3, atol=1e-3)
    assert (merged - plain).abs().max() > 0.01


def test_refusals(finished, tmp_path):
    (tmp_path / "taken").mkdir()
    for words, output, options in (
        ("exists already", tmp_path / "taken", {}),
        ("expected latest or best", tmp_path / "x", {"which": "newest"}),
        ("expected float32 or bfloat16", tmp_path / "x", {"merge": True, "dtype": "float16"}),
        ("does nothing without it", tmp_path / "x", {"dtype": "float32"}),
    ):
        with pytest.raises(UsageError, match=words):
            export(finished, output, **options)
    assert not (tmp_path / "x").exists()


def test_all_weights_have_nothing_to_merge(tiny_folder, pairs_file, tmp_path):
    result = run(tiny_folder, pairs_file, tmp_path / "run", lora=False, steps=1)
    with pytest.raises(UsageError, match="nothing to merge"):
        export(result, tmp_path / "out", merge=True)
    folder = export(result, tmp_path / "out").folder
    assert (folder / "model.safetensors").read_bytes() == (
        result.saved / "model.safetensors"
    ).read_bytes()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        export(result, tmp_path / "best", which="best")


def test_another_base_is_refused(tiny_folder, pairs_file, tmp_path):
    import shutil

    shutil.copytree(tiny_folder, tmp_path / "model")
    result = run(tmp_path / "model", pairs_file, tmp_path / "run", steps=1)
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    network.model.norm.weight.data[0] += 1
    network.save_pretrained(tmp_path / "model")
    with pytest.raises(Refused, match="other weights than when"):
        export(result, tmp_path / "out")
