"""Memory: what a run will take is said before; what does not fit is made smaller, aloud, with the
same gradient.
"""

import gc

import psutil
import pytest
import torch
from conftest import pair_rows, write_rows
from forward.tiny import some_trees, tiny
from training.helpers import json_lines, metrics, ready_for, run

import accord
from accord.compat import is_out_of_memory
from accord.engine import memory
from accord.engine.memory import Estimate, fit_into_memory, fitting, kept_bytes
from accord.engine.optimizer import Optimizer
from accord.evaluate import held_out
from accord.forward.choose import choose
from accord.forward.layout import pack
from accord.forward.logps import TokenLogps, tree_logps
from accord.models.lora import add_lora
from accord.models.recompute import recompute_activations
from accord.types import Refused, Tree


def grad(model, trees):
    tree_logps(model, trees).values.square().sum().backward()
    found = {name: p.grad.clone() for name, p in model.trainable().items()}
    for p in model.trainable().values():
        p.grad = None
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_recomputed_activations_give_bitwise_the_same_gradient_from_less(family):
    model, trees = tiny(family), [Tree(t.prompt * 4, t.completions, t.row) for t in some_trees()]
    model.network.requires_grad_(True)
    forward = choose(model, trees)
    kept, wanted = kept_bytes(forward, trees), grad(model, trees)
    assert recompute_activations(model) == 2 and recompute_activations(model) == 0
    assert all(torch.equal(wanted[name], g) for name, g in grad(model, trees).items())
    assert kept_bytes(forward, trees) < 0.5 * kept


def test_recomputed_dropout_is_the_dropout_of_the_forward_pass():
    model, trees = tiny("llama"), some_trees()
    add_lora(model, rank=4, alpha=8, targets="attention", dropout=0.5, dora=False, seed=0)
    with torch.no_grad():
        for p in model.trainable().values():
            p.copy_(torch.randn_like(p))
    choose(model, trees)

    def dropped():
        torch.manual_seed(1)
        with model.adapter_dropout():
            return grad(model, trees)

    wanted = dropped()
    recompute_activations(model)
    assert all(torch.equal(wanted[name], g) for name, g in dropped().items())


def test_kept_bytes_grow_with_the_tokens_and_leave_weights_out():
    model = tiny("llama", torch.bfloat16)
    model.network.requires_grad_(True)
    forward = choose(model, some_trees())
    one, three = (Tree((3,) * n, ((4, 5),), 0) for n in (41, 123))
    per_token = [kept_bytes(forward, [tree]) / pack([tree]).tokens for tree in (one, three)]
    assert per_token[0] == pytest.approx(per_token[1], rel=0.15)
    with torch.no_grad():
        assert kept_bytes(forward, [one]) == 0


def alive() -> set[int]:
    """Numbers of all tensors that Python or autograd still holds."""
    gc.collect()
    return {id(each) for each in gc.get_objects() if isinstance(each, torch.Tensor)}


RUNS = {
    "dpo": {},
    "all weights": {"lora": False},
    "recomputed": {"set": {"train.recompute": "always"}},
    "grpo": {
        "method": "grpo",
        "set": {"rollouts.rewards": ["length"], "rollouts.max_new_tokens": 4},
    },
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_a_run_leaves_no_tensor_behind(changes, tiny_folder, pairs_file, held_out_file, tmp_path):
    """One pass in a proof had held its own graph, and so the whole model: a comparison kept the
    models of all its cells, and a run its own while it read what it had saved.
    """
    files = {"held_out": str(held_out_file)}
    run(tiny_folder, str(pairs_file), tmp_path / "first", **files | {"steps": 1} | changes)
    before = alive()
    run(tiny_folder, str(pairs_file), tmp_path / "second", **files | {"steps": 1} | changes)
    assert len(alive() - before) == 0


def estimate_of(tokens=1000, kept=1000.0, fixed=10_000, resident=5_000, device="cpu"):
    return Estimate(resident, kept, tokens, fixed, device)


def test_the_estimate_is_the_formula():
    assert estimate_of().peak == 5_000 + 2.0 * 1000 * 1000 + 10_000
    assert estimate_of(device="cuda").peak == 5_000 + 1.2 * 1000 * 1000 + 10_000


@pytest.mark.parametrize(
    ("room", "budget"),
    [(10**9, 2048), (2_010_000, 1000), (1_010_000, 500), (130_000, None), (0, None)],
)
def test_the_budget_that_fits(room, budget):
    assert fitting(estimate_of(), room, 2048) == budget


def prepared_with(free, folder, data, monkeypatch, **changes):
    """A prepared run on a machine with so much memory beside what the run has."""
    ready = ready_for(folder, data, **changes)
    monkeypatch.setattr(memory, "free", lambda device: free / memory.ROOM)
    finding = fit_into_memory(
        ready.config.train, ready.learner, ready.optimizer, ready.source.largest(ready.steps)
    )
    return ready, ready.learner.micro_tokens, finding


def test_enough_memory_changes_nothing(tiny_folder, pairs_file, monkeypatch):
    ready, budget, finding = prepared_with(10**12, tiny_folder, pairs_file, monkeypatch)
    assert budget == ready.learner.micro_tokens == 2048 and finding.verdict == "ok"
    assert (
        "GB at the peak" in finding.says
        and finding.evidence["peak"] > psutil.Process().memory_info().rss / 2
    )


def needs(ready):
    """Fixed bytes and bytes a token of a prepared run."""
    batches = [ready.batch_trees(i) for i in range(ready.steps)]
    optimizer = ready.optimizer
    found = memory.estimate(ready.learner.forward, optimizer, batches, 2048)
    return (
        found.fixed,
        memory.OVERHEAD["cpu"] * found.kept_per_token,
        max(t.tokens for b in batches for t in b),
    )


def test_too_little_memory_makes_smaller_micro_batches(tiny_folder, pairs_file, monkeypatch):
    fixed, per_token, longest = needs(ready_for(tiny_folder, pairs_file))
    room = fixed + per_token * (max(longest, 64) + 10.5)
    _, budget, finding = prepared_with(room, tiny_folder, pairs_file, monkeypatch)
    assert budget == pytest.approx(max(longest, 64) + 10, abs=1) and finding.verdict == "note"
    assert f"micro-batches of {budget} tokens instead of 2,048" in finding.says


@pytest.fixture
def long_rows(tmp_path):
    rows = [{**row, "chosen": row["chosen"] * 12} for row in pair_rows(8)]
    return write_rows(tmp_path / "long.jsonl", rows)


@pytest.mark.parametrize("recompute", ["auto", "never"])
def test_a_row_that_does_not_fit_is_recomputed_or_refused(
    recompute, tiny_folder, long_rows, monkeypatch
):
    changes = {"assignments": [f"train.recompute={recompute}"]}
    fixed, per_token, longest = needs(ready_for(tiny_folder, long_rows, **changes))
    assert longest > 100
    _, budget, finding = prepared_with(
        fixed + per_token * 0.8 * longest, tiny_folder, long_rows, monkeypatch, **changes
    )
    if recompute == "auto":
        assert (
            finding.verdict == "note"
            and "activations are computed again" in finding.says
            and budget >= longest
        )
    else:
        assert (
            finding.refused
            and f"the longest row ({longest:,} tokens)" in finding.says
            and "max_tokens" in finding.remedy
        )


@pytest.mark.parametrize(
    "changes", [{"lora": False}, {"set": {"model.lora.dropout": 0.3}}], ids=["all", "dropout"]
)
def test_recompute_always_is_the_same_run(changes, tiny_folder, pairs_file, tmp_path):
    """With dropout of adapters too: the backward pass drops the units that the forward pass did."""
    plain = run(tiny_folder, pairs_file, tmp_path / "plain", **changes)
    settings = {**changes.get("set", {}), "train.recompute": "always"}
    again = run(tiny_folder, pairs_file, tmp_path / "again", **changes | {"set": settings})
    assert metrics(plain) == metrics(again)


@pytest.fixture
def small_machine(monkeypatch):
    """Allocations fail where a micro-batch has more tokens than `limit`."""

    def limit(tokens, error=None):
        from accord.forward.choose import Forward

        real = Forward.__call__

        def call(self, trees):
            if torch.is_grad_enabled() and sum(tree.tokens for tree in trees) > tokens:
                raise error or torch.OutOfMemoryError("CUDA out of memory")
            return real(self, trees)

        monkeypatch.setattr(Forward, "__call__", call)
        monkeypatch.setattr(memory, "estimate", lambda *_: estimate_of(1, 1.0, 0))
        monkeypatch.setattr("accord.training.setup.common.prove", lambda *_, **__: [])

    return limit


CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"
    " allocate 9 bytes"
)


@pytest.mark.parametrize("error", [None, MemoryError(), CPU], ids=["gpu", "python", "cpu"])
def test_out_of_memory_halves_and_goes_on_with_the_same_result(
    error, tiny_folder, pairs_file, tmp_path, small_machine
):
    longest = max(t.tokens for t in ready_for(tiny_folder, pairs_file).source.rows.trees)
    by_two = run(
        tiny_folder,
        pairs_file,
        tmp_path / "small",
        set={"train.micro_tokens": max(64, 2 * longest)},
    )
    small_machine(2 * longest, error)
    result = run(tiny_folder, pairs_file, tmp_path / "run")
    events = json_lines(tmp_path / "run/events.jsonl")
    assert events and all(
        e["check"] == "memory" and "out of memory; micro-batches of" in e["says"] for e in events
    )
    for ours, theirs in zip(metrics(result), metrics(by_two), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-5)


def test_one_row_that_does_not_fit_ends_the_run_with_a_checkpoint(
    tiny_folder, pairs_file, tmp_path, small_machine
):
    small_machine(3)
    with pytest.raises(
        Refused,
        match="(?s)Out of memory at update 0, with one row .*recompute: always.*accord.resume",
    ):
        run(tiny_folder, pairs_file, tmp_path / "run")
    assert (tmp_path / "run/checkpoints/LATEST").exists()


def test_a_resumed_run_keeps_the_smaller_micro_batches(
    tiny_folder, pairs_file, tmp_path, small_machine, monkeypatch
):
    from training.helpers import stopped_after

    longest = max(t.tokens for t in ready_for(tiny_folder, pairs_file).source.rows.trees)
    small_machine(2 * longest)
    with stopped_after(monkeypatch, 2), pytest.raises(accord.types.Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run")
    before = len(json_lines(tmp_path / "run/events.jsonl"))
    accord.resume(str(tmp_path / "run"))
    assert len(json_lines(tmp_path / "run/events.jsonl")) == before, "it had to find out again"


@pytest.mark.parametrize("where", ["the policy", "the reference"])
def test_memory_that_runs_out_while_held_out_rows_are_evaluated(
    where, tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch
):
    """The packs are halved, for policy and reference alike; the figures are those of the whole."""
    plain = run(tiny_folder, pairs_file, tmp_path / "plain", held_out=held_out_file)
    evaluate, real = held_out.evaluate, TokenLogps.reduce
    rows: list[int] = []

    def small(held, forward, objective, reference, *rest):
        limit = len(held.trees) // 2

        def starved(call, trees):
            rows.append(len(trees))
            if len(trees) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return call(trees)

        class Starved:
            moves = reference.moves

            def logps(self, trees):
                return starved(reference.logps, trees)

        class StarvedForward:
            def __call__(self, trees):
                return starved(forward, trees)

            def __getattr__(self, name):
                return getattr(forward, name)

        if where == "the reference":
            return evaluate(held, forward, objective, Starved(), *rest)
        return evaluate(held, StarvedForward(), objective, reference, *rest)

    monkeypatch.setattr(held_out, "evaluate", small)
    result = run(tiny_folder, pairs_file, tmp_path / "run", held_out=held_out_file)
    says = [event["says"] for event in json_lines(tmp_path / "run/events.jsonl")]
    assert says and all("the held-out rows are evaluated again" in line for line in says)
    assert max(rows) > min(rows) and real is TokenLogps.reduce
    for name, value in plain.after.items():
        assert result.after[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name


def test_memory_that_runs_out_where_nothing_can_be_smaller(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Words, and nothing saved in the middle of an update: what goes on is the whole run."""
    settings = {"set": {"checkpoint.every": 1}}
    run(tiny_folder, pairs_file, tmp_path / "plain", **settings)
    update = Optimizer.update

    def starved(self, step, norm):
        rate = update(self, step, norm)
        if step == 2:  # the weights have moved, and the step is not counted yet
            raise MemoryError
        return rate

    with monkeypatch.context() as patch:
        patch.setattr(Optimizer, "update", starved)
        with pytest.raises(Refused, match="(?s)Out of memory at update 2.*step-000002.*resume"):
            run(tiny_folder, pairs_file, tmp_path / "run", **settings)
    accord.resume(str(tmp_path / "run"))
    for name in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
        ours, wanted = (tmp_path / part / name for part in ("run", "plain"))
        assert ours.read_bytes() == wanted.read_bytes(), name


def test_other_errors_are_not_taken_for_it():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator: can't allocate"))
