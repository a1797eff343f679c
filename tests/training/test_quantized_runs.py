"""Runs on a quantised base: proved, resumed bit for bit, saved, opened again, and merged into the
base that was asked for.
"""

import json
import shutil

import pytest
import torch
from conftest import pair_rows, write_rows
from safetensors.torch import load_file
from training.helpers import metrics, ready_for, run, stopped_after
from training.test_resume import same
from transformers import AutoModelForCausalLM

import accord
from accord.assess.opened import open_model
from accord.config.build import build
from accord.models import provenance
from accord.models.export import logits
from accord.models.load import load
from accord.models.merge import merge
from accord.models.quantized import QuantizedLinear, quantized_layers
from accord.runs.export import export_run
from accord.training.setup import offline
from accord.types import Interrupted, Refused, UsageError
from accord.verify.weight_probes import still

pytest.importorskip("bitsandbytes")

NF4, INT8 = {"model.quantize": "nf4"}, {"model.quantize": "int8"}
PROBE = [(5, 6, 7, 8, 9), (50, 2, 30)]


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("quantised")
    data = write_rows(root / "d.jsonl", pair_rows(16))
    held = write_rows(root / "h.jsonl", pair_rows(4, start=100))
    fields = {**NF4, "evaluate.every": 2}
    return run(tiny_folder, data, root / "run", held_out=held, learning_rate=0.05, set=fields)


# ---------------------------------------------------------------- training


def test_every_proof_holds_and_the_base_is_told(tiny_folder, pairs_file):
    ready = ready_for(tiny_folder, pairs_file, assignments=["model.quantize=nf4"])
    found = {finding.check: finding for finding in ready.findings}
    assert not [f for f in found.values() if f.refused]
    told = found["model.quantize"]
    assert "nf4" in told.says and told.evidence["bits"] < 5 and told.evidence["kind"] == "nf4"
    assert found["step0.quantized"].evidence == {"layers": 14, "apart": 0.0}
    assert "step0.gradient" in found and found["step0.gradient"].evidence["relative"] < 1e-3
    names = dict(still(ready))
    packed = [name for name in names if name.endswith("q_proj.base_layer.codes")]
    assert len(packed) == 2, "what is packed is watched while training"
    share = found["step0.trainable"].evidence["share"]
    plain = ready_for(tiny_folder, pairs_file)
    dense = {f.check: f for f in plain.findings}["step0.trainable"].evidence["share"]
    assert share == dense


@pytest.mark.parametrize("fields", [NF4, INT8], ids=["nf4", "int8"])
def test_resumed_equals_uninterrupted(fields, tiny_folder, pairs_file, tmp_path, monkeypatch):
    run(tiny_folder, pairs_file, tmp_path / "straight", set=fields)
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "stopped", set=fields)
    accord.resume(str(tmp_path / "stopped"))
    same(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize(
    "then, now, words",
    [
        (NF4, "{kind: int8, double: null, keep: []}", ["model.quantize.kind", "nf4", "int8"]),
        (NF4, "null", ["model.quantize", "nf4"]),
        ({}, "nf4", ["model.quantize", "nf4"]),
    ],
    ids=["another kind", "dense now", "dense then"],
)
def test_resume_refuses_another_quantisation_by_name(
    then, now, words, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, folder, set=then)
    file = folder / "config.yaml"
    lines, inside = [], False
    for line in file.read_text().splitlines():
        inside = inside and line.startswith("    ")
        if line.startswith("  quantize:"):
            lines.append(f"  quantize: {now}")
            inside = True
        elif not inside:
            lines.append(line)
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(Refused) as refused:
        accord.resume(str(folder))
    assert all(word in str(refused.value) for word in words), refused.value


def test_what_is_packed_must_not_change(tiny_folder, pairs_file, tmp_path, monkeypatch):
    """A library that repacks weights behind the run's back is found by the invariants."""
    from accord.training import loop

    update = loop.make_update

    def repacking(run):
        update(run)
        if run.progress.step == 1:
            for _, layer in quantized_layers(run.ready.model.network):
                layer.codes.bitwise_xor_(1)

    monkeypatch.setattr(loop, "make_update", repacking)
    with pytest.raises(Refused, match="codes does not train, and has changed"):
        run(tiny_folder, pairs_file, tmp_path / "run", set=NF4)


def test_layers_that_pass_no_gradient_are_refused(tiny_folder, pairs_file, monkeypatch):
    """The trap of bitsandbytes' own layers: after a pass without gradients, none flows."""
    right = offline.choose

    def trapped(model, *given):
        found = right(model, *given)
        monkeypatch.setattr(
            QuantizedLinear,
            "forward",
            lambda self, x: torch.nn.functional.linear(x, self.weight, self.bias).detach(),
        )
        return found

    monkeypatch.setattr(offline, "choose", trapped)
    with pytest.raises(Refused, match="passes no gradient on"):
        ready_for(tiny_folder, pairs_file, assignments=["model.quantize=nf4"])


def test_a_reward_model_on_a_quantised_base(tiny_folder, pairs_file, tmp_path):
    made = run(
        tiny_folder, pairs_file, tmp_path / "run", method="bradley_terry", set=NF4, reference=None
    )
    folder = export_run(
        str(made.folder), str(tmp_path / "out"), merge=True, which="latest", dtype="float32"
    ).folder
    assert provenance.read(folder).merged_into == "dequantised"


# ---------------------------------------------------------------- refused settings


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lora": False}, "quantised weights do not train.*--all-weights.*model.quantize=null"),
        ({"assignments": ["train.parallel=sharded"]}, "sharded.*train.parallel=replicated"),
    ],
)
def test_what_does_not_go_together(changes, words):
    given = ["model.quantize=nf4", *changes.pop("assignments", ())]
    with pytest.raises(UsageError, match=f"(?s){words}"):
        build(data="-", assignments=given, **changes)


@pytest.mark.parametrize(
    "given, words",
    [
        ("nf5", "model.quantize.kind: expected nf4 or int8"),
        ("4", "model.quantize"),
        ("{kind: int8, double: true}", "double is about the scales of nf4"),
        ("{kind: nf4, kept: [q_proj]}", "model.quantize.kept: unknown key.*keep"),
    ],
)
def test_settings_that_mean_nothing(given, words):
    with pytest.raises(UsageError, match=f"(?s){words}"):
        build(data="-", assignments=[f"model.quantize={given}"])


def test_one_word_takes_further_settings():
    config = build(
        {"model": {"quantize": "nf4"}, "data": {"train": "-"}},
        assignments=["model.quantize.double=false"],
    )
    assert config.model.quantize.kind == "nf4" and config.model.quantize.double is False
    assert build(data="-", assignments=["model.quantize=false"]).model.quantize is None


def test_a_quantised_folder_is_refused_with_the_setting(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": settings}))
    with pytest.raises(UsageError, match="(?s)quantised model.*--set model.quantize=nf4"):
        load(str(tmp_path / "m"))


# ---------------------------------------------------------------- saved, opened, merged


def test_the_record_names_the_base_and_its_quantisation(finished, tiny_folder):
    record = provenance.read(finished.saved)
    assert record.base == str(tiny_folder)
    assert record.quantize == {"kind": "nf4", "double": True, "keep": []}
    plain = load(str(tiny_folder))
    from accord.models.base import base_weights

    assert record.base_weights == base_weights(plain)
    card = (finished.folder / "README.md").read_text()
    assert "quantised (nf4)" in card and "export RUN --merge" in card


@pytest.mark.parametrize("what", ["run", "adapter"])
def test_it_opens_as_it_was_trained(finished, what, tiny_folder):
    name = finished.folder if what == "run" else finished.saved
    opened = open_model(str(name), dtype="float32")
    assert opened.model.quantization.settings.kind == "nf4"
    done = export_run(
        str(finished.folder),
        str(finished.folder / f"as-{what}"),
        merge=True,
        which="latest",
        dtype="float32",
    )
    merged = AutoModelForCausalLM.from_pretrained(done.folder, dtype=torch.float32)
    torch.testing.assert_close(
        logits(opened.model.network, PROBE), logits(merged, PROBE), rtol=1e-4, atol=1e-4
    )


def test_it_answers_and_is_measured(finished, tmp_path):
    found = accord.evaluate(finished.folder, write_rows(tmp_path / "h.jsonl", pair_rows(4, 100)))
    assert found is not None
    said = accord.generate(finished.folder, ["Question 1: the cat?"], max_new_tokens=4)
    assert said is not None


def test_merged_into_either_base_and_said(finished, tiny_folder, tmp_path):
    made = {
        into: export_run(
            str(finished.folder),
            str(tmp_path / into),
            merge=True,
            which="latest",
            dtype="float32",
            into=into,
        )
        for into in ("dequantised", "original")
    }
    assert [provenance.read(made[into].folder).merged_into for into in made] == list(made)
    assert all(provenance.read(done.folder).merged for done in made.values())
    assert "dequantised base, which the adapter was trained on" in made["dequantised"].notes[0]
    assert "original base" in made["original"].notes[0] and "%" in made["original"].notes[0]
    # the difference of the two is that of the bases: the adapter's part is the same
    dequantised, original = (load_file(d.folder / "model.safetensors") for d in made.values())
    base = load_file(tiny_folder / "model.safetensors")
    quantised = load(str(tiny_folder), dtype="float32", quantize=_nf4())
    for path, layer in quantized_layers(quantised.network):
        name = f"{path}.weight"
        torch.testing.assert_close(
            dequantised[name] - layer.weight, original[name] - base[name], rtol=1e-4, atol=1e-6
        )


def _nf4():
    from accord.config.quantize_section import QuantizeConfig

    return QuantizeConfig(kind="nf4")


def test_a_base_to_merge_into_where_there_is_no_choice(finished, tiny_folder, pairs_file, tmp_path):
    plain = run(tiny_folder, pairs_file, tmp_path / "plain", steps=1)
    for folder, into, merging, words in (
        (finished.folder, "dense", True, "expected dequantised or original"),
        (finished.folder, "original", False, "add --merge"),
        (plain.folder, "original", True, "trained on its base as it was saved"),
    ):
        with pytest.raises(UsageError, match=words):
            export_run(
                str(folder),
                str(tmp_path / "x"),
                merge=merging,
                which="latest",
                dtype=None,
                into=into,
            )


@pytest.mark.parametrize("then", ["nf4", "dense"])
def test_an_adapter_of_another_quantisation_is_refused(
    then, finished, tiny_folder, pairs_file, tmp_path
):
    if then == "nf4":
        adapter, fields, words = finished.saved, {}, '"model.quantize": "nf4"'
    else:
        adapter = run(tiny_folder, pairs_file, tmp_path / "plain", steps=1).saved
        fields, words = NF4, '"model.quantize": None'
    with pytest.raises(Refused, match=f"(?s)base that was.*{words}.*export.*merge"):
        run(tiny_folder, pairs_file, tmp_path / "run", adapter=str(adapter), set=fields)
    if then == "nf4":
        again = run(
            tiny_folder, pairs_file, tmp_path / "again", adapter=str(adapter), set=NF4, steps=1
        )
        assert metrics(again)


def test_a_merge_in_memory_leaves_the_quantised_model_as_it_was(finished, tmp_path):
    model = open_model(str(finished.folder), dtype="float32").model
    before = logits(model.network, PROBE)
    merge(model, tmp_path / "merged", PROBE)
    assert torch.equal(logits(model.network, PROBE), before)
    assert any(True for _ in quantized_layers(model.network))
