"""The stages of benchmarks/gpu.py on a CPU with tiny models: rows and models, the arithmetic of an
update, settings and passes, and each stage itself.
"""

import math
import subprocess
import sys
import time
import weakref

import pytest
import torch
from gpu_benchmark import beside, stage  # noqa: F401 - a fixture


def given(name, folder, seconds=300.0):
    from gpu_stages.tasks import Given

    now = time.time()
    return Given(stage(name), "cpu", True, folder, began=now, ends=now + seconds)


def found_by(module, name, folder, **more):
    """What a stage's task finds, run in this process."""
    from gpu_stages.running import findings

    module.run(given(name, folder, **more))
    return findings(folder / "findings.jsonl")


# ---------------------------------------------------------------- rows and models


def test_rows_have_the_shapes_that_are_named():
    from gpu_stages.models import LENGTHS, make_rows

    rows = make_rows(200, 1_000, LENGTHS)
    assert rows == make_rows(200, 1_000, LENGTHS), "seeded"
    prompts = [len(r["prompt"]) for r in rows]
    answers = [len(c) for r in rows for c in r["completions"]]
    assert 200 <= min(prompts) < 300 and 1_200 < max(prompts) <= 1_500
    assert 50 <= min(answers) < 80 and 350 < max(answers) <= 400
    assert len({tuple(r["prompt"][:40]) for r in rows}) == 1
    assert len({tuple(r["prompt"][:41]) for r in rows}) > 100
    assert all(c[-1] == 1 and 1 not in c[:-1] for r in rows for c in r["completions"])


@pytest.mark.parametrize("tiny", [False, True], ids=["full size", "tiny"])
@pytest.mark.parametrize("name", ["1b", "8b"])
def test_a_shape_counts_the_weights_of_the_model_made_from_it(name, tiny):
    """The model is made where it was asked for: on the device "meta" nothing is in memory."""
    from gpu_stages.models import random_network
    from gpu_stages.shapes import shape_of

    shape = shape_of(name, tiny)
    network = random_network(shape, "bfloat16", "meta")
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert sum(p.numel() for p in network.parameters()) == shape.weights
    layer = [m.weight for m in network.model.layers[0].modules() if isinstance(m, torch.nn.Linear)]
    assert sorted(map(tuple, (w.shape for w in layer))) == sorted(shape.linear)
    if not tiny:
        assert round(shape.weights / 1e9, 2) == {"1b": 1.24, "8b": 8.03}[name]


def test_both_sides_make_the_same_model_in_either_dtype():
    from gpu_stages.models import accord_model, random_network
    from gpu_stages.shapes import TINY

    shape = TINY["8b"]
    one, other = (random_network(shape, "bfloat16", "cpu").state_dict() for _ in range(2))
    exact = random_network(shape, "float32", "cpu").state_dict()
    for name, tensor in one.items():
        assert tensor.dtype == torch.bfloat16 and exact[name].dtype == torch.float32
        assert torch.equal(tensor, other[name]) and torch.equal(tensor.float(), exact[name])
    adapters = [accord_model(shape, "lora", "float32", "cpu").trainable() for _ in range(2)]
    assert sum(p.numel() for p in adapters[0].values()) == shape.adapters
    for name, tensor in adapters[0].items():
        assert torch.equal(tensor, adapters[1][name])


# ---------------------------------------------------------------- the arithmetic


def test_tokens_of_an_update_by_hand():
    """Two pairs with a common beginning of 10 tokens. The last token of an answer is not read."""
    from gpu_stages.shapes import Counts

    from accord.types import Tree

    system = tuple(range(10))
    trees = [
        Tree((*system, 20, 21), ((30, 31, 1), (40, 1)), 0),
        Tree((*system, 22), ((50, 1), (60, 61, 62, 1)), 1),
    ]
    # 10 of the system turn, 2 and 1 of the questions, and 2, 1, 1, 3 of the answers
    seen = sum(range(1, 11)) + (11 + 12) + 11 + (13 + 14) + 13 + 12 + (12 + 13 + 14)
    assert Counts.shared(trees) == Counts(20, 11, seen)
    alone = [14, 13, 12, 14]
    assert Counts.alone(trees) == Counts(sum(alone), 11, sum(n * (n + 1) // 2 for n in alone))


@pytest.mark.parametrize("trains", ["all", "lora"])
def test_operations_of_an_update_are_those_that_torch_counts(trains):
    """torch counts the products of a forward and a backward pass as they are made. Its attention
    here computes every pair of tokens, seen or not.
    """
    from gpu_stages.models import accord_model
    from gpu_stages.shapes import RANK, TINY, Counts, update_flops
    from torch.utils.flop_counter import FlopCounterMode

    shape, tokens, answers = TINY["1b"], 24, 7
    model = accord_model(shape, trains, "float32", "cpu")
    network = model.network
    network.set_attn_implementation("eager")
    ids = torch.arange(4, 4 + tokens)[None]

    def answers_logits():
        return network(input_ids=ids, use_cache=False, logits_to_keep=answers).logits

    with FlopCounterMode(display=False) as counter:
        answers_logits().sum().backward()
    policy = counter.get_total_flops()
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        model.as_reference() if trains == "lora" else torch.no_grad(),
    ):
        answers_logits()
    counted = policy + counter.get_total_flops()
    # with adapters nobody asks for gradients below the first layer's queries, keys and values
    below = sum(o * i for o, i in shape.attention[:3]) + 3 * RANK * shape.hidden
    missing = 0 if trains == "all" else 2 * tokens * below
    expected = update_flops(shape, Counts(tokens, answers, tokens * tokens), trains)
    assert counted == expected - missing


def test_vendors_rates():
    from gpu_stages.shapes import vendor_rate

    assert vendor_rate("NVIDIA H200", "bfloat16") == vendor_rate(
        "NVIDIA H100 80GB HBM3", "bfloat16"
    )
    assert vendor_rate("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert vendor_rate("NVIDIA A100-SXM4-80GB", "bfloat16") == 312e12
    assert vendor_rate("NVIDIA A10", "bfloat16") == 125e12
    assert vendor_rate("NVIDIA H200", "float32") is None
    assert vendor_rate("x86_64", "bfloat16") is None


def test_memory_known_beforehand_is_what_a_training_of_all_weights_holds():
    """After an update the gradients are gone: 4 bytes of the masters', 2 of the network's own."""
    from gpu_stages import models, training
    from gpu_stages.plan import known_bytes
    from gpu_stages.shapes import TINY

    shape = TINY["1b"]
    trees = models.trees_of(models.make_rows(2, shape.vocab, models.SHORT))
    model = models.accord_model(shape, "all", "bfloat16", "cpu")
    trainer = training.Trainer(model, trees, 1)
    trainer.update(0, trees)
    moments = trainer.optimizer.inner.state.values()
    held = [
        *model.network.parameters(),
        *trainer.learner.reference.forward.model.network.parameters(),
        *trainer.optimizer.masters.masters.values(),
        *(tensor for state in moments for tensor in state.values() if tensor.dim()),
    ]
    gradients = (4 + 2) * shape.weights
    assert sum(t.nbytes for t in held) + gradients == known_bytes(shape, "all", "accord")


# ---------------------------------------------------------------- settings and passes


def test_the_fastest_setting_is_timed_over_whole_passes(tmp_path):
    """The first pass is not counted; a setting that does not fit is a finding, not an end."""
    from gpu_stages.running import findings
    from gpu_stages.tasks import time_updates

    calls = []

    def attempt(setting, work, until, heard):
        calls.append((setting, list(work)))
        if setting == "large":
            raise torch.OutOfMemoryError("CUDA out of memory")
        seconds = []
        for batch in work:
            first = 9.0 if len(seconds) < 2 else 0.0
            seconds.append(first + {"slow": 5.0, "fast": 2.0}[setting] + batch)
            heard(seconds)
        return seconds

    place = given("lora 1b by accord", tmp_path)
    time_updates(place, {"S": "slow", "L": "large", "F": "fast"}, attempt, [0.0, 1.0])
    found = findings(tmp_path / "findings.jsonl")
    assert found["settings_tried"] == {"S": 14.0, "L": "out of memory", "F": 11.0}
    assert found["setting"] == "F" and found["seconds_an_update"] == [2.5] * 3
    assert calls[-1] == ("fast", [0.0, 1.0] * 4) and calls[0] == ("slow", [0.0, 0.0])


def test_when_time_is_short_fewer_settings_are_tried_and_passes_end_early(tmp_path):
    from gpu_stages.running import findings
    from gpu_stages.tasks import time_updates

    def attempt(setting, work, until, heard):
        seconds = [1.0] * (len(work) if until is None else setting)
        heard(seconds)
        return seconds

    place = given("lora 1b by accord", tmp_path)
    place.began -= 10_000
    time_updates(place, {"one": 4, "two": 4}, attempt, [0, 1])
    found = findings(tmp_path / "findings.jsonl")
    assert found["settings_tried"]["two"].startswith("not tried")
    assert found["seconds_an_update"] == [1.0]
    with pytest.raises(SystemExit, match="3 updates were made.*4 are needed.*--minutes"):
        time_updates(place, {"one": 3}, attempt, [0, 1])


def test_no_setting_works(tmp_path):
    from gpu_stages.tasks import time_updates

    def attempt(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SystemExit, match="no setting works.*out of memory"):
        time_updates(given("lora 1b by accord", tmp_path), {"one": 1}, attempt, [0])


def test_an_error_that_is_not_memorys_is_no_setting_of_no_use(tmp_path):
    from gpu_stages.tasks import time_updates

    def attempt(*arguments):
        raise RuntimeError("CUDA error: an illegal memory access")

    with pytest.raises(RuntimeError, match="illegal"):
        time_updates(given("lora 1b by accord", tmp_path), {"one": 1}, attempt, [0])


# ---------------------------------------------------------------- the stages themselves


def test_the_machine(tmp_path):
    from gpu_stages import machine

    found = found_by(machine, "machine", tmp_path)
    assert found["memory"] > found["free"] > 1e8 and found["vendor_flops"] is None
    assert set(found["matmul_flops"]) == {"1b", "8b"} and min(found["matmul_flops"].values()) > 1e6
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


@pytest.mark.parametrize("name", ["lora 1b by accord", "all 8b by accord"])
def test_accords_training(name, tmp_path):
    from gpu_stages import training

    found = found_by(training, name, tmp_path)
    check = found["check"]
    assert check[0]["loss"] == pytest.approx(math.log(2), abs=1e-6) and len(check) == 3
    assert check[1]["loss"] != check[0]["loss"] and check[2]["loss"] != check[1]["loss"]
    assert found["path"] == "tree" and set(found["settings_tried"]) == {"16384", "65536", "4096"}
    assert len(found["seconds_an_update"]) == 3 and min(found["seconds_an_update"]) > 0
    assert set(found["estimated_gb"]) == set(found["settings_tried"])
    facts = found["facts"]
    assert 4 * 30 < facts["unique_tokens_an_update"] < facts["tokens_an_update_unshared"] < 4 * 160
    assert facts["flops_an_update"] < facts["flops_an_update_unshared"]


def test_paths_against_the_oracle(tmp_path):
    from gpu_stages import path_choice

    found = found_by(path_choice, "paths", tmp_path)
    assert found["path"] == "tree"
    why = "flex attention has no backward pass on cpu"
    assert found["float32"]["flex"] == {"cannot": why}
    assert found["forward_and_backward"]["flex"] == why
    for path in ("tree", "padded"):
        apart = found["float32"][path]
        assert apart["worst_nats"] < 1e-4 and apart["gradients_apart"] < 1e-3
        assert apart["mean_nats"] <= apart["worst_nats"]
    assert set(found["forward_and_backward"]) == {"flex", "tree", "padded", "oracle"}
    assert found["forward_and_backward"]["oracle"]["seconds"] > 0


def test_a_wrong_path_is_found(tmp_path, monkeypatch):
    from gpu_stages import models, path_choice
    from gpu_stages.shapes import TINY

    from accord.forward import logps

    padded = logps.PATHS["padded"]
    model = models.accord_model(TINY["1b"], "", "float32", "cpu")
    trees = models.trees_of(models.make_rows(2, 509, models.SHORT))
    assert "worst_nats" in path_choice.against_oracle(model, trees, "padded")

    def wrong(model, trees):
        return logps.replace(found := padded(model, trees), values=found.values * 1.5)

    monkeypatch.setitem(logps.PATHS, "padded", wrong)
    assert "differ" in path_choice.against_oracle(model, trees, "padded")["cannot"]


def test_generation(tmp_path):
    from gpu_stages import generating

    found = found_by(generating, "generation", tmp_path)
    assert found["greedy_tokens_equal"] and found["K"] == 8 and found["prompts"] == 2
    assert len(found["runs"]) == 3 and found["ratio"] > 0
    for turn in found["runs"]:
        for side in turn.values():
            assert 0 < side["tokens"] <= 2 * 8 * 8


def test_other_greedy_tokens_are_not_compared(tmp_path, monkeypatch):
    from gpu_stages import generating

    monkeypatch.setattr(generating.generation, "same_greedy", lambda *arguments: False)
    with pytest.raises(SystemExit, match="no speed is reported"):
        generating.run(given("generation", tmp_path))


def test_tests_are_counted_while_they_run(tmp_path, monkeypatch):
    from gpu_stages import gpu_tests
    from gpu_stages.running import findings

    lines = (
        "tests/gpu/test_head.py::test_a[float32-x y] PASSED   [  1%]",
        "tests/gpu/test_head.py::test_b SKIPPED (no CUDA) [  2%]",
        "tests/gpu/test_runs.py::test_c FAILED                [  3%]",
        "FAILED tests/gpu/test_runs.py::test_c - assert 0",
    )
    says = f"import sys; print({chr(10).join(lines)!r}); sys.exit(1)"
    popen = subprocess.Popen
    monkeypatch.setattr(
        gpu_tests.subprocess,
        "Popen",
        lambda command, **more: popen([sys.executable, "-c", says], **more),
    )
    with pytest.raises(SystemExit, match="pytest ended with 1"):
        gpu_tests.run(given("tests", tmp_path))
    found = findings(tmp_path / "findings.jsonl")
    assert found["counts"] == {"passed": 1, "skipped": 1, "failed": 1}
    assert found["failed"] == ["tests/gpu/test_runs.py::test_c"]


@pytest.mark.parametrize("name", ["lora 1b", "all 1b"])
def test_trl_reports_the_same_numbers(name, tmp_path):
    pytest.importorskip("trl")
    from gpu_stages import report, training, training_trl

    folders = [tmp_path / side for side in ("accord", "trl")]
    for folder in folders:
        folder.mkdir()
    ours = found_by(training, f"{name} by accord", folders[0])
    theirs = found_by(training_trl, f"{name} by TRL", folders[1])
    apart = report.differences(ours["check"], theirs["check"], None)
    assert max(apart.values()) <= report.TOLERANCE
    assert len(theirs["seconds_an_update"]) == 3


def test_trls_model_is_gone_before_the_next_is_made(tmp_path, monkeypatch):
    """Else the peak of a setting would hold the models of those before it."""
    pytest.importorskip("trl")
    from gpu_stages import models, training_trl

    from accord.engine.release import release

    made, both = [], training_trl.both

    def remembered(*arguments):
        model, reference = both(*arguments)
        made.append(weakref.ref(next(model.parameters())))
        return model, reference

    monkeypatch.setattr(training_trl, "both", remembered)
    batches = models.make_batches(models.CHECK, 509, True)
    for checkpointing in (False, True):
        setting = {"micro": "all", "checkpointing": checkpointing}
        clock = training_trl.Clock(None, lambda seconds: None)
        training_trl.train(given("lora 1b by TRL", tmp_path), "float32", setting, batches, clock)
        release()
    assert [reference() for reference in made] == [None, None]
