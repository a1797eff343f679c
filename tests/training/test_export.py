"""accord export: the model of a checkpoint in a folder of its own,
read back before it is believed.
"""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from training.helpers import plan_held_out_losses, run
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from accord.assess.opened import open_model
from accord.models import merge, provenance
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


@pytest.mark.parametrize("end", [KeyboardInterrupt, CheckpointError, OSError(28, "full")], ids=str)
def test_an_export_that_ends_early_leaves_nothing_and_can_be_repeated(
    finished, tmp_path, monkeypatch, end
):
    def die(*args):
        raise end

    with monkeypatch.context() as patch:
        patch.setattr(merge, "_read_back", die)
        with pytest.raises((KeyboardInterrupt, CheckpointError)):
            export(finished, tmp_path / "out", merge=True)
    assert not [*tmp_path.iterdir()]
    assert export(finished, tmp_path / "out", merge=True, dtype="float32").folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_refused_merge_names_the_folder_that_was_asked_for(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "MERGE_LOSS", 0.0)
    with pytest.raises(CheckpointError, match=f"{tmp_path}/out: merged into bfloat16"):
        export(finished, tmp_path / "out", merge=True, dtype="bfloat16")


def test_every_save_has_a_record(finished, tiny_folder, tmp_path):
    merged = export(finished, tmp_path / "merged", merge=True).folder
    records = [provenance.read(folder) for folder in (finished.saved, merged)]
    for record in records:
        assert record.base == str(tiny_folder) and record.method == "dpo"
        assert record.run == str(finished.folder) and record.train_tokens and record.tokenizer
    assert [record.merged for record in records] == [False, True]


def test_another_base_is_refused_without_checkpoints_too(finished, tiny_folder, tmp_path):
    """The record beside the adapter is enough; so it is for a run that was begun elsewhere."""
    run_folder = tmp_path / "run"
    shutil.copytree(finished.folder, run_folder)
    shutil.rmtree(run_folder / "checkpoints")
    file = run_folder / "config.yaml"
    relative = file.read_text().replace(str(tiny_folder), "./tiny")
    assert "./tiny" in relative
    file.write_text(relative)
    assert open_model(str(run_folder)).model.folder == tiny_folder
    shutil.copytree(tiny_folder, tmp_path / "edited")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    network.model.norm.weight.data[0] += 1
    network.save_pretrained(tmp_path / "edited")
    file.write_text(relative.replace("./tiny", str(tmp_path / "edited")))
    with pytest.raises(Refused, match="(?s)is not that model as it was.*--model"):
        open_model(str(run_folder))
    file.write_text(relative)
    record = run_folder / "adapter/accord.json"
    record.write_text(record.read_text().replace(str(tiny_folder), "/gone"))
    with pytest.raises(UsageError, match="(?s)no such folder is there now.*model.name"):
        open_model(str(run_folder))


def test_a_model_that_cannot_be_saved_is_not_trained(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    def refuse(*args, **options):
        raise ValueError("The generation config instance is invalid")

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", refuse)
        words = "(?s)tried before the first update.*config instance is invalid.*Nothing was trained"
        with pytest.raises(Refused, match=words):
            run(tiny_folder, pairs_file, tmp_path / "run", lora=False, steps=1)
    assert not [*(tmp_path / "run").glob(".*")]
    assert not (tmp_path / "run/metrics.jsonl").exists()


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
    shutil.copytree(tiny_folder, tmp_path / "model")
    result = run(tmp_path / "model", pairs_file, tmp_path / "run", steps=1)
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    network.model.norm.weight.data[0] += 1
    network.save_pretrained(tmp_path / "model")
    with pytest.raises(Refused, match="other weights than when"):
        export(result, tmp_path / "out")
