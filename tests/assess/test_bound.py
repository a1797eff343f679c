"""A model is measured with the tokenizer and the template that it was made with, or it is refused
or said.
"""

import json
import shutil

import pytest
from conftest import pair_rows, write_rows
from safetensors.torch import load_file, save_file
from training.helpers import run

from accord.assess import evaluation
from accord.assess.answers import Drawing
from accord.assess.evaluation import Request, evaluate
from accord.assess.generation import Sampling, generate
from accord.assess.opened import open_model
from accord.assess.show import lines
from accord.assess.soundness import Soundness, few_rows
from accord.models import provenance
from accord.types import Refused, Tree


@pytest.fixture(scope="module")
def world(tiny_folder, tmp_path_factory):
    """A base of its own, and a run of one update on raw text."""
    folder = tmp_path_factory.mktemp("bound")
    shutil.copytree(tiny_folder, folder / "base")
    data = write_rows(folder / "train.jsonl", pair_rows(8))
    held = write_rows(folder / "held.jsonl", pair_rows(8, start=100))
    options = {"held_out": held, "steps": 1, "template": "raw", "allow": ["raw_text"]}
    run(folder / "base", data, folder / "run", **options)
    return folder


@pytest.fixture
def base(world):
    """The base, which a test may alter: it is put back."""
    kept = shutil.copytree(world / "base", world / "kept")
    yield world / "base"
    shutil.rmtree(world / "base")
    kept.rename(world / "base")


def swap_two_ids(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    one, other = [token for token in vocabulary if len(token) == 1 and token.isalpha()][:2]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    file.write_text(json.dumps(content), "utf-8")


def alter_template(folder):
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text("utf-8").replace("helpful", "rude"), "utf-8")


def test_sound_models_give_no_word(world):
    for name in ("base", "run", "run/adapter"):
        opened = open_model(str(world / name))
        assert opened.warnings == (), name
        # the run's own template also for its weights alone
        assert opened.template.kind == ("chat" if name == "base" else "raw"), name
    found, _ = evaluate(str(world / "run"), Request(drawing=Drawing(prompts=0)))
    assert found["binding"]["warnings"] == []


@pytest.mark.parametrize("name", ["run", "run/adapter"])
def test_another_vocabulary_is_refused(name, world, base):
    swap_two_ids(base)
    with pytest.raises(Refused, match=r"2 of \d+ tokens have another id.* then, .* now"):
        open_model(str(world / name))


@pytest.mark.parametrize("name", ["run", "run/adapter"])
def test_another_chat_template_of_the_base(name, world, base):
    alter_template(base)
    opened = open_model(str(world / name))
    assert "the saved one is used" in opened.warnings[0]
    assert "helpful" in opened.model.tokenizer.chat_template


def test_another_template_is_said(world):
    for name in ("run", "run/adapter"):
        (warning,) = open_model(str(world / name), template="auto").warnings
        assert "--template auto" in warning and "trained with raw" in warning
    said = []
    done, _ = generate(
        str(world / "run"),
        prompts=None,
        prompt="Who?",
        sampling=Sampling(k=1, max_new_tokens=2),
        output=None,
        limit=None,
        dtype=None,
        template="auto",
        say=said.append,
    )
    assert any(line.startswith("! --template auto") for line in said) and done["warnings"]
    assert done["provenance"]["temperature"] == 1.0


def test_the_record_beside_weights(world, tmp_path):
    """Of a model without its run: the record's template and tokenizer."""
    model = shutil.copytree(world / "base", tmp_path / "model")
    provenance.write(model, provenance.Provenance(template="raw", tokenizer="0" * 64))
    opened = open_model(str(model))
    assert opened.template.kind == "raw"
    assert "not the one that it was saved with" in opened.warnings[0]
    provenance.write(model, provenance.Provenance(template=str(tmp_path / "gone.jinja")))
    assert "which is not there any more" in open_model(str(model)).warnings[0]


def test_held_out_rows_that_were_altered(world):
    file = world / "held.jsonl"
    text = file.read_text("utf-8")
    file.write_text(text.replace("Yes, ", "No, ", 1), "utf-8")
    found, _ = evaluate(str(world / "run"), Request(drawing=Drawing(prompts=0)))
    assert "is not as it was when the run was evaluated" in found["binding"]["warnings"][0]
    named = Request(data=str(file), drawing=Drawing(prompts=0))
    found, _ = evaluate(str(world / "run"), named)
    file.write_text(text, "utf-8")
    assert not found["binding"]["warnings"]  # it was asked for
    says = found["binding"]["notes"][-1]
    assert "is another file than the one that the run" in says and "may be others, fewer" in says


def test_the_same_rows_in_another_file_are_no_others(world, tmp_path):
    rows = [json.loads(line) for line in (world / "held.jsonl").read_text("utf-8").splitlines()]
    spaced = tmp_path / "spaced.jsonl"
    spaced.write_text("".join(json.dumps(row, indent=None) + " \n" for row in rows), "utf-8")
    shuffled = write_rows(tmp_path / "shuffled.jsonl", rows[::-1])
    for data, says in ((spaced, "holds the same rows"), (shuffled, "in another order")):
        request = Request(data=str(data), drawing=Drawing(prompts=0))
        found, _ = evaluate(str(world / "run"), request)
        assert says in found["binding"]["notes"][-1]


def change_weights(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


def constant_layer(tensors):
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name] = tensors[name] * 0


def not_finite(tensors):
    tensors[next(iter(tensors))].view(-1)[3] = float("nan")


def test_a_broken_model_is_said_or_refused_where_it_is_measured(world, base):
    change_weights(base, constant_layer)
    (said,) = open_model(str(base)).warnings
    assert said.startswith("model.layers: 1 matrix of") and "holds nothing but zeros" in said
    change_weights(base, not_finite)
    with pytest.raises(Refused, match=r"(?s)Not measured.*model\.weights: 1 tensors.*what to do"):
        open_model(str(base))


def test_rows_beyond_the_models_positions_are_said(world, base):
    file = base / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": 16}))
    request = Request(data=str(world / "held.jsonl"), drawing=Drawing(prompts=0))
    found, _ = evaluate(str(base), request)
    assert "rows are longer than the model's 16 positions" in found["binding"]["warnings"][0]


def test_few_rows_and_rows_alike_are_said():
    def rows(prompts):
        return [Tree((5, p), ((6, 7), (8, 9)), i) for i, p in enumerate(prompts)]

    assert few_rows(rows(range(8))) == () == few_rows(rows([1, 2, 3, 4] * 3))
    assert "3 rows are too few" in few_rows(rows(range(3)))[0]
    assert "16 rows repeat 1 distinct prompt, " in few_rows(rows([4] * 16))[0]


def test_a_reference_that_the_run_did_not_start_from_is_said(world, tmp_path):
    other = shutil.copytree(world / "base", tmp_path / "other")
    change_weights(other, lambda tensors: next(iter(tensors.values())).mul_(1.1))
    for reference, said in ((other, True), (world / "base", False)):
        request = Request(reference=str(reference), drawing=Drawing(prompts=0))
        found, _ = evaluate(str(world / "run"), request)
        assert ("is not the reference of" in found["source"]["reference"]) is said


def test_one_labelled_row_is_measured(world, tmp_path, tiny_folder):
    rows = [{"prompt": "a b", "completion": f"Yes, {i}", "label": i % 2 == 0} for i in range(2)]
    data = write_rows(tmp_path / "labels.jsonl", rows)
    many = [{**row, "prompt": f"{row['prompt']} {i}"} for i in range(4) for row in rows]
    train = write_rows(tmp_path / "train.jsonl", many)
    options = {"steps": 1, "method": "kto", "template": "raw", "allow": ["raw_text"]}
    run(tiny_folder, train, tmp_path / "run", **options)
    found, _ = evaluate(str(tmp_path / "run"), Request(data=data, drawing=Drawing(prompts=0)))
    assert "2 rows are too few" in found["binding"]["warnings"][0]  # and z0 has no other prompt


@pytest.mark.parametrize("count", [1, 2])
def test_a_row_or_two_can_show_no_difference(count, world, tmp_path):
    """Two accuracies are at most 1 apart."""
    few = write_rows(tmp_path / "few.jsonl", pair_rows(count, start=300))
    found, _ = evaluate(str(world / "run"), Request(data=few, drawing=Drawing(prompts=0)))
    assert found["pairs"]["smallest_difference"] is None
    assert any(
        "too few to show any difference" in line or "can show no" in line for line in lines(found)
    )


def test_other_tokens_are_said_beside_any_other_warning(world, monkeypatch):
    """A warning on the model must not hide that the same file gives other tokens."""
    request = Request(drawing=Drawing(prompts=0))
    found, _ = evaluate(str(world / "run"), request)
    assert not found["binding"]["warnings"]
    monkeypatch.setattr(evaluation, "held_out_tokens", lambda run: "0" * 64)
    monkeypatch.setattr(evaluation, "language", lambda *given: Soundness(("of the model",), ()))
    found, _ = evaluate(str(world / "run"), request)
    assert "give other tokens" in " ".join(found["binding"]["warnings"])
