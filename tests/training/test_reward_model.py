"""bradley_terry: a scalar head on the last token, proved, trained, saved as a classifier that
transformers loads.
"""

import json

import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import metrics, ready_for, run
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from accord.evaluate.records import Records
from accord.evaluate.scores import calibration_error, reward_model_figures
from accord.forward.scores import SCORE_PATHS, score_completions
from accord.models.reward import load_reward_model, with_score_head
from accord.runs.export import export_run
from accord.types import DataError, Refused, Tree, UsageError
from accord.verify import preflight
from accord.verify.independent import by_definition


def gpt2_folder(root, tokenizer):
    """Another architecture: learnt positions, a fused projection, a classifier that is not the
    generic one.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(root)
    tokenizer.save_pretrained(root)
    return root


def answers(ready):
    return [
        (*tree.prompt, *completion)
        for tree in ready.source.rows.trees[:4]
        for completion in tree.completions
    ]


@torch.no_grad()
def strangers_scores(network, tokenizer, rows, side):
    """As someone would score with transformers alone: one padded batch."""
    tokenizer.padding_side = side
    batch = tokenizer.pad({"input_ids": [list(row) for row in rows]}, return_tensors="pt")
    return network.eval()(**batch).logits[:, 0]


@pytest.fixture(params=["llama", "gpt2"])
def folder(request, tiny_folder, tokenizer, tmp_path):
    return tiny_folder if request.param == "llama" else gpt2_folder(tmp_path / "gpt2", tokenizer)


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """Adapters and head, a few steps, with held-out rows: enough of them for correlations."""
    root = tmp_path_factory.mktemp("reward")
    data, held = (
        write_rows(root / f"{n}.jsonl", pair_rows(k, start=s))
        for n, k, s in (("d", 24, 0), ("h", 24, 100))
    )
    return run(
        tiny_folder,
        data,
        root / "run",
        method="bradley_terry",
        held_out=held,
        steps=6,
        learning_rate=1e-2,
    )


# ---------------------------------------------------------------- one number, whoever computes it


@pytest.mark.parametrize("path", ["tree", "padded"])
def test_every_path_gives_the_classifiers_own_score(path, folder, pairs_file):
    """Forward and backward, on trees of unequal completions, in a batch and alone."""
    ready = ready_for(folder, pairs_file, method="bradley_terry", lora=False)
    model, trees = (
        ready.model,
        [
            *ready.source.rows.trees[:3],
            Tree(ready.source.rows.trees[3].prompt, ready.source.rows.trees[3].completions * 2, 3),
        ],
    )
    got, wanted = (SCORE_PATHS[name](model, trees).reduce() for name in (path, "oracle"))
    assert (
        got.count.tolist()
        == wanted.count.tolist()
        == [len(c) for t in trees for c in t.completions]
    )
    torch.testing.assert_close(got.value, wanted.value, rtol=0, atol=2e-5)
    weight = torch.linspace(-1, 1, len(got))
    slopes = [
        torch.autograd.grad(
            (scores.value * weight).sum(), list(model.trainable().values()), allow_unused=True
        )
        for scores in (got, wanted)
    ]
    for ours, theirs in zip(*slopes, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_last_token_is_read_and_no_other():
    """By hand: prompt 5 6, answers 7 8 9 and 4; what is read is 9, at position 4, and 4, at
    position 2.
    """
    layout, last = score_completions([Tree((5, 6), ((7, 8, 9), (4,)), 0)])
    assert layout.ids[last].tolist() == [9, 4]
    assert layout.positions[last].tolist() == [4, 2]


def test_the_head_is_drawn_from_the_seed_alone(tiny_folder):
    from accord.models.load import load

    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(weights))  # of no consequence
        weights.append(
            with_score_head(load(str(tiny_folder), dtype="float32"), seed).head.module.weight
        )
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(33**-0.5, rel=0.3)


# ---------------------------------------------------------------- proofs


@pytest.mark.parametrize("lora", [True, False], ids=["adapters", "all-weights"])
def test_a_clean_run_proves_everything(lora, folder, pairs_file):
    changes = (
        {}
        if "gpt2" not in str(folder)
        else {"assignments": ["model.lora.targets=all-linear"] if lora else []}
    )
    ready = ready_for(
        folder, pairs_file, method="bradley_terry", lora=None if lora else False, **changes
    )
    found = {f.check: f for f in ready.findings}
    expected = {
        "objective",
        "forward",
        "trainable",
        "mask",
        "deterministic",
        "split_losses",
        "micro_batches",
        "definition",
        "numerics",
        "gradient",
        "moved",
        "order",
        "noise_floor",
    }
    assert {f"step0.{name}" for name in expected} <= found.keys() and "step0.reference" not in found
    assert all(f.verdict in ("ok", "note") for f in found.values()), found
    assert "each prompt computed once" in found["step0.forward"].says
    assert "step0.reference" in found["model.padding"].says  # what does not apply is named
    assert any("score" in name for name in ready.model.trainable())


def test_the_end_token_is_read_though_it_was_the_padding(tokenizer, tmp_path, pairs_file):
    """GPT-2's folder pads with its end token: transformers would read every answer one token
    early.
    """
    ready = ready_for(gpt2_folder(tmp_path / "gpt2", tokenizer), pairs_file, method="bradley_terry")
    assert (
        ready.model.network.config.pad_token_id
        == ready.model.tokenizer.pad_token_id
        != tokenizer.eos_token_id
    )
    ready.model.network.config.pad_token_id = tokenizer.eos_token_id
    tree = ready.source.rows.trees[0]
    early = by_definition(ready.model, tree.prompt, tree.completions[0]).item()
    assert abs(SCORE_PATHS["tree"](ready.model, [tree]).values[0].item() - early) > 1e-3


def read_too_early(patch):
    def early(trees, *device):
        layout, last = score_completions(trees, *device)
        return layout, last - 1

    patch.setattr(preflight, "score_completions", early)


def head_skipped(patch):
    from accord.models.reward import RewardModel

    patch.setattr(RewardModel, "score", lambda self, hidden: hidden.float().mean(-1))


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [(read_too_early, "step0.mask"), (head_skipped, "differ from the model's own")],
)
def test_sabotage_is_refused(sabotage, words, tiny_folder, pairs_file, monkeypatch):
    sabotage(monkeypatch)
    with pytest.raises(Refused, match=words):
        ready_for(tiny_folder, pairs_file, method="bradley_terry")


# ---------------------------------------------------------------- training, saving, loading


def test_it_learns_and_says_what_held_out_pairs_say(trained):
    lines = metrics(trained)
    assert lines[-1]["rewards/accuracies"] > 0.9 and lines[-1]["loss"] < lines[0]["loss"]
    assert not any("logps" in name or "entropy" in name for line in lines for name in line)
    names = {"calibration_error", "brier", "score_length", "accuracy_longer"}
    assert {f"diag/eval_{name}" for name in names} <= trained.after.keys()
    card = (trained.folder / "README.md").read_text()
    assert (
        "AutoPeftModelForSequenceClassification" in card and "diag/eval_calibration_error" in card
    )

    import pyarrow.parquet as parquet

    table = parquet.read_table(trained.folder / "examples.parquet/step-000006.parquet").to_pydict()
    wins = (
        sum(
            good > bad
            for good, bad in zip(table["rewards/chosen"], table["rewards/rejected"], strict=True)
        )
        / 24
    )
    assert wins == pytest.approx(trained.after["eval_rewards/accuracies"])


def test_adapter_merged_and_loaded_give_one_score(trained, tiny_folder, tmp_path):
    """The adapter by PEFT as its card says; merged, by transformers, padded on either side; by
    ours.
    """
    from peft import AutoPeftModelForSequenceClassification

    adapter = json.loads((trained.saved / "adapter_config.json").read_text())
    assert adapter["task_type"] == "SEQ_CLS" and "score" in adapter["modules_to_save"]
    target = export_run(
        str(trained.folder), str(tmp_path / "merged"), merge=True, which="latest", dtype=None
    ).folder
    tokenizer = AutoTokenizer.from_pretrained(target)
    merged = AutoModelForSequenceClassification.from_pretrained(target)
    assert (
        type(merged).__name__ == "LlamaForSequenceClassification" and merged.config.num_labels == 1
    )
    rows = [
        tuple(tokenizer.encode(f"{'<|im_start|>' * i}some words {i}<|im_end|>"))
        for i in range(1, 5)
    ]
    options = {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id}
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(trained.saved, **options)
    ours = load_reward_model(str(target), dtype="float32")
    wanted = SCORE_PATHS["padded"](ours, [Tree(row[:1], (row[1:],), 0) for row in rows]).values
    for network in (merged, loaded):
        for side in ("left", "right"):
            got = strangers_scores(network, tokenizer, rows, side)
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_all_weights_are_saved_as_a_classifier_with_identical_scores(folder, pairs_file, tmp_path):
    result = run(folder, pairs_file, tmp_path / "run", method="bradley_terry", lora=False, steps=3)
    ready = ready_for(folder, pairs_file, method="bradley_terry", lora=False)
    network = AutoModelForSequenceClassification.from_pretrained(result.saved, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(result.saved)
    from safetensors.torch import load_file

    ready.load_state(load_file(result.folder / "checkpoints/step-000003/tensors.safetensors"), 3)
    trees = ready.source.rows.trees[:4]
    trained_scores = SCORE_PATHS["tree"](ready.model, trees).values
    # learnt positions know no left padding
    for side in ("left", "right") if "gpt2" not in str(folder) else ("right",):
        got = strangers_scores(network, tokenizer, answers(ready), side)
        torch.testing.assert_close(got, trained_scores, rtol=0, atol=2e-5)


def test_a_resumed_reward_model_is_the_uninterrupted_one(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    from safetensors.torch import load_file
    from training.helpers import stopped_after

    import accord
    from accord.types import Interrupted

    whole = run(tiny_folder, pairs_file, tmp_path / "whole", method="bradley_terry")
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "cut", method="bradley_terry")
    resumed = accord.resume(str(tmp_path / "cut"))
    one, other = (load_file(r.saved / "adapter_model.safetensors") for r in (whole, resumed))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------- margins and settings


def with_margins(margins):
    return [
        row | ({} if margin is None else {"margin": margin})
        for row, margin in zip(pair_rows(24), margins, strict=True)
    ]


def test_margins_reach_the_loss(tiny_folder, tmp_path):
    data = write_rows(tmp_path / "m.jsonl", with_margins([0.5 * i for i in range(20)] + [None] * 4))
    ready = ready_for(tiny_folder, data, method="bradley_terry")
    assert sorted(tree.margin for tree in ready.source.rows.trees)[-3:] == [8.5, 9.0, 9.5]
    assert "20 of 24 rows have a margin" in next(
        f.says for f in ready.findings if f.check == "data.margin"
    )
    one, other = (
        run(tiny_folder, data, tmp_path / name, method="bradley_terry", set=options, steps=1)
        for name, options in (("with", {}), ("without", {"objective.margin": "none"}))
    )
    assert metrics(one)[0]["loss"] > metrics(other)[0]["loss"] + 0.5


@pytest.mark.parametrize("value", ["much", True, [1]])
def test_a_margin_that_is_no_number_is_refused(value, tiny_folder, tmp_path):
    data = write_rows(tmp_path / "m.jsonl", with_margins([1.0] * 7 + [value] + [2.0] * 16))
    with pytest.raises(DataError, match=r"margin that is no finite number(.|\n)*m.jsonl:8"):
        ready_for(tiny_folder, data, method="bradley_terry")


def test_settings_that_would_do_nothing_are_refused(tiny_folder, pairs_file, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Hello\n")
    for changes, words in (
        ({"assignments": [f"monitor.prompts={prompts}"]}, "monitor.prompts would do nothing"),
        ({"reference": "frozen"}, "uses none"),
    ):
        with pytest.raises(UsageError, match=words):
            ready_for(tiny_folder, pairs_file, method="bradley_terry", **changes)


def test_a_tokenizer_that_can_only_pad_with_its_end_token_is_refused(tiny_folder):
    from accord.models.load import load

    model = load(str(tiny_folder), dtype="float32")
    model.tokenizer.pad_token = model.tokenizer.eos_token
    model.network.generation_config.eos_token_id = list(model.tokenizer.added_tokens_decoder)
    with pytest.raises(UsageError, match="one token early"):
        with_score_head(model, 0)


def test_what_is_no_reward_model_is_not_loaded_as_one(tiny_folder):
    with pytest.raises(UsageError, match="score"):
        load_reward_model(str(tiny_folder))


# ---------------------------------------------------------------- held-out figures


def records_of(chosen, rejected, tokens_chosen, tokens_rejected):
    columns = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "tokens/chosen": tokens_chosen,
        "tokens/rejected": tokens_rejected,
    }
    return Records(
        list(range(len(chosen))),
        {name: [torch.tensor(v, dtype=torch.float64)] for name, v in columns.items()},
    )


def test_calibration_by_hand():
    """Four pairs a bin: σ = .75 where 3 of 4 are right is calibrated; where half are, it is off by
    .25; by .15 where .9 are.
    """
    margins = torch.full((40,), 3.0, dtype=torch.float64).log()
    won = (torch.arange(40) % 4 > 0).double()
    margins = torch.where(won > 0, margins, -margins)
    assert calibration_error(margins, won) == pytest.approx(0)
    assert calibration_error(margins.abs(), torch.full((40,), 0.5)) == pytest.approx(0.25)
    assert calibration_error(margins.abs(), torch.full((40,), 0.9)) == pytest.approx(0.15)


def test_length_bias_is_seen():
    """Scores that are the length itself: all pairs won where the chosen answer is longer, none
    where it is shorter.
    """
    long, short = [float(10 + i) for i in range(24)], [float(5 + i % 3) for i in range(24)]
    chosen, rejected = (
        [a if i % 3 else b for i, (a, b) in enumerate(zip(*pair, strict=True))]
        for pair in ((long, short), (short, long))
    )
    found = reward_model_figures(records_of(chosen, rejected, chosen, rejected))
    assert found["diag/eval_score_length"] == pytest.approx(1.0)
    assert (found["diag/eval_accuracy_longer"], found["diag/eval_accuracy_shorter"]) == (1.0, 0.0)
    assert (found["diag/eval_pairs_longer"], found["diag/eval_pairs_shorter"]) == (16, 8)
