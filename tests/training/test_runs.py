"""Every method, end to end: a run of a few steps leaves a whole folder, finite records and a model
that others load.
"""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import pair_rows, write_rows
from safetensors.torch import load_file
from training.helpers import (
    AUDITED,
    DEFAULTS,
    json_lines,
    labelled_rows,
    metrics,
    plan_held_out_losses,
    ready_for,
    run,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

import accord
from accord.objectives import resolve
from accord.training import loop
from accord.training.setup.references import choose_reference

FILES = {
    "config.yaml",
    "environment.json",
    "data.json",
    "rejected.jsonl",
    "preflight.json",
    "metrics.jsonl",
    "timings.jsonl",
    "README.md",
    "checkpoints",
    "examples.parquet",
    "last_answers.json",
    "samples.jsonl",
    "trained_rows.safetensors",
    "audit.json",
}
ALWAYS = {"step", "epoch", "learning_rate", "grad_norm", "num_tokens", "loss", "entropy"}
OF_PAIRS = {
    "logps/chosen",
    "logps/rejected",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
}
# no pair, no margin
OF_LABELS = {"logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected", "kl"}
FURTHER = {"orpo": {"nll_loss", "log_odds_ratio", "log_odds_chosen"}, "cpo": {"nll_loss"}}
ON_PAIRS = (
    "dpo",
    "cdpo",
    "robust",
    "ipo",
    "hinge",
    "simpo",
    "orpo",
    "cpo",
    "training.mine:squared",
)


def of_pairs(method):
    return OF_PAIRS | FURTHER.get(method, set())


CASES = [(method, "pairs", of_pairs(method)) for method in ON_PAIRS] + [
    ("kto", "pairs", OF_LABELS),
    ("kto", "labels", OF_LABELS),
    ("sft", "pairs", {"logps/chosen", "rewards/chosen"}),
]


def logits(network, tokenizer):
    with torch.no_grad():
        return network.eval()(**tokenizer("The cat sat on a mat.", return_tensors="pt")).logits


@pytest.mark.parametrize("method, rows, names", CASES, ids=[f"{m}-{rows}" for m, rows, _ in CASES])
def test_a_run_leaves_a_whole_folder(
    method, rows, names, tiny_folder, pairs_file, held_out_file, tmp_path
):
    """Files as documented, a line for every step under TRL's names, all finite; the loss of step 1
    in closed form.
    """
    data = (
        pairs_file
        if rows == "pairs"
        else write_rows(tmp_path / "labels.jsonl", labelled_rows(pair_rows(8)))
    )
    result = run(
        tiny_folder,
        data,
        tmp_path / "run",
        method=method,
        steps=3,
        held_out=held_out_file,
        set=AUDITED,
    )
    present = {file.name for file in result.folder.iterdir()}
    tokens = {"pairs.json"} if method != "sft" else set()  # which has no rewards to compare
    # events: where there was something to say
    assert present - {"events.jsonl"} == FILES | {"adapter"} | tokens
    lines = metrics(result)
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert {
            name for name in line if not name.startswith("diag/")
        } | names == ALWAYS | names and names <= line.keys()
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[-1]["grad_norm"] > 0
    evaluated = [
        line for line in json_lines(result.folder / "metrics.jsonl") if "eval_entropy" in line
    ]
    assert [line["step"] for line in evaluated] == [0, 3]
    assert result.before == {k: v for k, v in evaluated[0].items() if k != "step"}
    assert json.loads((result.folder / "data.json").read_text())["train"]["ledger"]["rejected"] == 0
    assert not [
        f
        for f in json.loads((result.folder / "preflight.json").read_text())
        if f["verdict"] == "refused"
    ]


@pytest.mark.parametrize(
    "method, loss", [("dpo", math.log(2)), ("ipo", 25.0), ("hinge", 1.0), ("kto", 0.5)]
)
def test_first_loss_is_the_closed_form(method, loss, tiny_folder, pairs_file, tmp_path):
    """Policy = reference: log 2, 1/(4β²), 1 and λ/2; margins 0 exactly."""
    first = metrics(run(tiny_folder, pairs_file, tmp_path / "run", method=method, steps=1))[0]
    assert first["loss"] == pytest.approx(loss, rel=1e-6)
    assert first["rewards/chosen"] == first["rewards/rejected"] == 0.0


def test_dpo_learns_its_rows(tiny_folder, pairs_file, held_out_file, tmp_path):
    """40 steps on 24 pairs: the training margin rises and the accuracy with it."""
    lines = metrics(run(tiny_folder, pairs_file, tmp_path / "run", steps=40, learning_rate=5e-3))
    assert lines[-1]["rewards/margins"] > 1.0 and lines[-1]["rewards/accuracies"] == 1.0
    assert lines[-1]["loss"] < 0.3


ADAPTERS = {
    "lora": {},
    "all-linear": {"model.lora.targets": "all-linear"},
    "dora": {"model.lora.dora": True},
    "dropout": {"model.lora.dropout": 0.3},
}


@pytest.mark.parametrize(
    "dtype, fields",
    [*(("float32", f) for f in ADAPTERS.values()), ("bfloat16", {})],
    ids=[*ADAPTERS, "bfloat16"],
)
def test_a_stranger_loads_the_adapter(
    dtype, fields, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """PEFT's own loader gives the logits of the network that was trained."""
    from peft import PeftModel

    trained = {}
    monkeypatch.setattr(
        loop,
        "run_due_tasks",
        lambda run, settle=loop.run_due_tasks: (trained.update(run=run), settle(run)),
    )
    result = run(
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        steps=3,
        dtype=dtype,
        set=fields,
        learning_rate=5e-3,
    )
    tokenizer = AutoTokenizer.from_pretrained(result.saved)
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=getattr(torch, dtype))
    base = logits(plain, tokenizer)
    theirs = logits(
        PeftModel.from_pretrained(plain, result.saved, autocast_adapter_dtype=False), tokenizer
    )
    ours = logits(trained["run"].ready.model.network, tokenizer)
    spread = ours.float().std()
    assert ((ours - theirs).float().square().mean().sqrt() / spread) < 1e-3
    # the adapter does something
    assert ((ours - base).float().square().mean().sqrt() / spread) > 3e-3
    # the masters
    assert load_file(result.saved / "adapter_model.safetensors").popitem()[1].dtype == torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_weights(dtype, tiny_folder, pairs_file, tmp_path):
    """`lora: false` trains everything and saves a model that transformers loads, tied embeddings
    included.
    """
    result = run(
        tiny_folder, pairs_file, tmp_path / "run", lora=False, dtype=dtype, learning_rate=3e-3
    )
    assert result.saved.name == "final"
    network = AutoModelForCausalLM.from_pretrained(result.saved)
    assert network.dtype == getattr(torch, dtype)
    assert network.lm_head.weight is network.model.embed_tokens.weight
    before = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=network.dtype).state_dict()
    assert all(
        not torch.equal(p, before[name])
        for name, p in network.state_dict().items()
        if "layernorm" not in name
    )
    assert AutoTokenizer.from_pretrained(result.saved).chat_template
    assert metrics(result)[0]["loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert metrics(result)[-1]["loss"] < math.log(2)


def test_from_an_incoming_adapter(tiny_folder, pairs_file, tmp_path):
    """Its frozen copy is the reference: margins start at exactly 0 though the adapter has left the
    base.
    """
    first = run(tiny_folder, pairs_file, tmp_path / "first", steps=8, learning_rate=1e-2)
    second = run(tiny_folder, pairs_file, tmp_path / "second", adapter=str(first.saved), steps=3)
    lines = metrics(second)
    assert lines[0]["rewards/margins"] == 0.0 and lines[0]["loss"] == pytest.approx(
        math.log(2), rel=1e-6
    )
    assert lines[0]["logps/chosen"] != metrics(first)[0]["logps/chosen"]
    before, after = (load_file(r.saved / "adapter_model.safetensors") for r in (first, second))
    assert before.keys() == after.keys() and any(
        not torch.equal(before[name], after[name]) for name in before
    )
    assert (second.saved / "adapter_config.json").exists()


@pytest.mark.parametrize("lora", [None, False], ids=["lora", "all-weights"])
def test_every_reference_gives_one_trajectory(lora, tiny_folder, pairs_file, tmp_path):
    """frozen, adapter_off and cached are three ways to the same numbers."""
    kinds = ("frozen", "cached") if lora is False else ("frozen", "adapter_off", "cached")
    runs = {
        k: metrics(run(tiny_folder, pairs_file, tmp_path / k, reference=k, lora=lora))
        for k in kinds
    }
    for kind in kinds[1:]:
        for ours, theirs in zip(runs["frozen"], runs[kind], strict=True):
            for name in ("loss", "grad_norm", "rewards/margins", "logps/chosen"):
                assert theirs[name] == pytest.approx(ours[name], rel=1e-5, abs=1e-5), (kind, name)


def cache_finding(result):
    return next(f for f in result.findings if f.check == "step0.cache")


def test_another_beta_reads_the_cache(tiny_folder, pairs_file, held_out_file, tmp_path):
    """One reference pass serves every method, β and learning rate; other weights or another
    template do not read it.
    """
    both = {"reference": "cached", "epochs": 1, "steps": None, "held_out": held_out_file}
    data = write_rows(tmp_path / "own.jsonl", pair_rows(10, start=500))
    first = run(tiny_folder, data, tmp_path / "a", **both)
    again = run(tiny_folder, data, tmp_path / "b", beta=0.5, **both)
    assert cache_finding(first).evidence["computed"] >= 10
    assert cache_finding(again).evidence["computed"] == 0
    assert metrics(again)[0]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    third = run(tiny_folder, data, tmp_path / "c", template="raw", allow=("raw_text",), **both)
    assert cache_finding(third).evidence["computed"] >= 10


def without_late_merges(folder: Path) -> None:
    """Make a tokenizer of the same vocabulary that gives the same texts in more tokens."""
    state = json.loads((folder / "tokenizer.json").read_text())
    merges = state["model"]["merges"]
    state["model"]["merges"] = merges[: len(merges) // 2]
    (folder / "tokenizer.json").write_text(json.dumps(state))


def test_other_tokens_of_the_same_text_do_not_read_the_cache(tiny_folder, held_out_file, tmp_path):
    """A tokenizer with fewer merges gives other ids, which each entry of the cache is keyed by."""
    both = {"reference": "cached", "steps": 1, "held_out": held_out_file}
    data = write_rows(tmp_path / "own.jsonl", pair_rows(4, start=700))
    run(tiny_folder, data, tmp_path / "a", **both)
    shutil.copytree(tiny_folder, tmp_path / "model")
    without_late_merges(tmp_path / "model")
    second = run(tmp_path / "model", data, tmp_path / "b", **both)
    cached = cache_finding(second).evidence
    assert cached["computed"] == cached["needed"] > 0
    digests = [
        json.loads((tmp_path / name / "data.json").read_text())["train"]["tokens"]["sha256"]
        for name in "ab"
    ]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    "method, adapters, repeats, kind",
    [
        ("dpo", True, False, "adapter_off"),
        ("dpo", True, True, "cached"),
        ("dpo", False, False, "cached"),
        ("simpo", True, True, "none"),
    ],
)
def test_auto_reference(method, adapters, repeats, kind):
    """Rows that come once: adapters off. Rows that come again, or all weights: a cache. No
    reference: none.
    """
    assert choose_reference("auto", resolve(method), adapters=adapters, repeats=repeats)[0] == kind


def test_learning_rate_of_the_objective(tiny_folder, pairs_file):
    """Not given: the objective's own for adapters, a tenth for all weights."""
    peaks = [
        ready_for(tiny_folder, pairs_file, learning_rate=None, lora=lora).peak
        for lora in (None, False)
    ]
    assert peaks == pytest.approx([resolve("dpo").learning_rate, resolve("dpo").learning_rate / 10])


def test_epochs_and_order(tiny_folder, pairs_file, tmp_path):
    """Two epochs of 24 rows in batches of 5: ten updates; `epoch` and `num_tokens` count up."""
    result = run(
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        steps=None,
        epochs=2,
        batch_size=5,
        method="simpo",
    )
    lines = metrics(result)
    assert len(lines) == 10 and [line["epoch"] for line in lines] == [k / 5 for k in range(1, 11)]
    tokens = [line["num_tokens"] for line in lines]
    assert tokens[-1] == 2 * tokens[4] and tokens == sorted(tokens)  # every row once an epoch


def test_seed_makes_the_run(tiny_folder, pairs_file, tmp_path):
    """The same seed gives the same bytes, another one does not."""
    saved = {
        name: (
            (
                run(tiny_folder, pairs_file, tmp_path / name, seed=seed, steps=3).saved
                / "adapter_model.safetensors"
            ).read_bytes()
        )
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    assert saved["a"] == saved["b"] != saved["c"]


@pytest.mark.parametrize(
    "best, losses",
    [
        (3, {0: 0.1, 1: 0.9, 2: 0.7, 3: 0.5, 4: 0.6, 5: 0.5, 6: 0.8}),  # 5 is no better than 3
        (6, {0: 0.1, 1: 0.9, 2: 0.5, 3: 0.8, 4: 0.6, 5: 0.7, 6: 0.4}),
    ],
)
def test_best_checkpoint_has_the_lowest_held_out_loss(
    best, losses, tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch
):
    """BEST stays when newer ones are pruned, and names the step whose eval_loss is least; the
    untrained model is no checkpoint.
    """
    plan_held_out_losses(monkeypatch, losses)
    result = run(
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        held_out=held_out_file,
        steps=6,
        set={"evaluate.every": 1, "checkpoint.every": 1, "checkpoint.keep": 1},
    )
    scores = {
        line["step"]: line["eval_loss"]
        for line in json_lines(result.folder / "metrics.jsonl")
        if "eval_loss" in line
    }
    assert scores == losses and result.best_step == best
    checkpoints = result.folder / "checkpoints"
    assert (checkpoints / "BEST").read_text() == f"step-{best:06d}\n"
    assert {p.name for p in checkpoints.glob("step-*")} == {f"step-{best:06d}", "step-000006"}


def test_warns_of_nothing_on_a_clean_run(tiny_folder, pairs_file, held_out_file, tmp_path):
    """A clean run stays silent: no finding is a warning. What the audit says of these made-up rows,
    which a few words decide, is true of them.
    """
    result = run(
        tiny_folder, pairs_file, tmp_path / "run", held_out=held_out_file, steps=1, set=AUDITED
    )
    raised = [f for f in result.findings if f.verdict in ("warning", "refused")]
    assert {f.check for f in raised} <= {"data.shortcut", "data.audit"}


def test_evaluate_rows_draws_by_the_seed(tiny_folder, pairs_file, held_out_file):
    picked = [
        [
            tree.row
            for tree in ready_for(
                tiny_folder,
                pairs_file,
                held_out=held_out_file,
                seed=seed,
                assignments=["evaluate.rows=3"],
            ).source.held_out.trees
        ]
        for seed in (0, 0, 1)
    ]
    assert picked[0] == picked[1] != picked[2] and all(len(rows) == 3 for rows in picked)


def test_output_is_not_touched_when_it_exists(tiny_folder, pairs_file, tmp_path):
    """A refused folder may be used again; one that holds a run or anything else may not."""
    folder = tmp_path / "run"
    with pytest.raises(accord.types.UsageError, match="no such model folder"):
        run(tmp_path / "no-model", pairs_file, folder)
    assert not folder.exists(), "a slip of the pen leaves nothing behind"
    with pytest.raises(accord.types.AccordError):  # a path that does not exist
        run(tiny_folder, pairs_file, folder, set={"model.forward": "none"})
    assert (folder / "refused.txt").is_file()
    run(tiny_folder, pairs_file, folder, steps=1)
    assert not (folder / "refused.txt").exists()
    with pytest.raises(accord.types.UsageError, match="exists already"):
        run(tiny_folder, pairs_file, folder, steps=1)
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("mine")
    with pytest.raises(accord.types.UsageError, match="exists already"):
        run(tiny_folder, pairs_file, other, steps=1)
    assert (other / "precious.txt").read_text() == "mine"


def test_default_folder_is_fresh(tiny_folder, pairs_file, tmp_path, monkeypatch):
    """runs/<method>-<data>, then -2: two runs never share one."""
    monkeypatch.chdir(tmp_path)
    keywords = DEFAULTS | {"steps": 1}
    names = [
        accord.train(model=str(tiny_folder), data=pairs_file, **keywords).folder.name
        for _ in range(2)
    ]
    assert names == ["dpo-pairs", "dpo-pairs-2"]
