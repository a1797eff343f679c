"""Rows against the positions of their model: counted and refused, permitted by name, or computed so
that each is what it is alone.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import pair_rows, write_rows
from forward.test_regimes import ROPE, mixed_trees, phi3
from forward.tiny import some_trees, tiny
from training.helpers import ready_for

from accord.forward.choose import Forward
from accord.types import Refused
from accord.verify.row_lengths import (
    causal_path,
    growth_finding,
    position_findings,
    spread_of_lengths,
)

DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}


def finding(model, trees=None, **options):
    found = position_findings(model, trees or some_trees(), "training rows", **options)
    return next((f for f in found if f.verdict != "ok"), found[-1])


def test_rows_within_the_positions_are_silent():
    for family in ("llama", "gpt2", "mistral", "phi3", "bloom", "mamba"):
        assert finding(tiny(family)).verdict == "ok"


@pytest.mark.parametrize(
    ("family", "changes", "words", "permitted"),
    [
        ("llama", {}, "never trained there", "note"),
        ("mistral", {}, "never trained there", "note"),
        ("llama", {"rope_parameters": DYNAMIC}, "depend on the longest row", "refused"),
        ("gpt2", {}, "no vector for a position", "refused"),
        ("opt", {}, "no vector for a position", "refused"),
    ],
)
def test_rows_beyond_the_positions(family, changes, words, permitted):
    model = tiny(family, max_position_embeddings=14, **changes)
    found = finding(model)
    assert found.refused and "2 of 4 training rows are longer" in found.says
    assert words in found.says
    assert "--set data.max_tokens=14 --set data.max_too_long=0.5" in found.remedy
    assert ("--allow beyond_positions" in found.remedy) == (permitted == "note")
    assert finding(model, permitted=True).verdict == permitted


def test_rows_that_are_all_too_long_are_not_left_out():
    found = finding(tiny("gpt2", max_position_embeddings=3))
    assert found.refused and "more positions" in found.remedy and "max_tokens" not in found.remedy


def test_longrope_on_both_sides():
    model = phi3()
    found = finding(model, mixed_trees())
    assert found.verdict == "ok" and "passes of their own" in found.says
    assert found.evidence == {"boundary": 16, "long": 4}
    refused = finding(model, mixed_trees(), one_pass=True)
    assert refused.refused and "--set data.max_tokens=16" in refused.remedy
    assert "all end within" in finding(model, mixed_trees()[:1]).says
    assert "all end behind" in finding(model, mixed_trees()[2:3]).says


def test_answers_that_would_grow_over_the_boundary():
    model = phi3()
    (found,) = growth_finding(model, [(1,) * 5, (1,) * 12, (1,) * 20], 5)
    assert found.refused and "1 of 3 prompts" in found.says
    assert growth_finding(model, [(1,) * 5, (1,) * 20], 5)[0].verdict == "ok"
    assert growth_finding(tiny("llama"), [(1,) * 5], 500) == []


def test_the_spread_has_the_shortest_and_the_longest_row():
    trees = some_trees()
    chosen = spread_of_lengths(tiny("llama"), trees)
    sizes = [tree.tokens for tree in chosen]
    assert sizes == sorted(sizes) and sizes[0] == 4 and sizes[-1] == 18
    cut = spread_of_lengths(tiny("llama", max_position_embeddings=10), trees)
    assert [tree.tokens for tree in cut] == [2, 5, 10]
    assert all(tree.completions[0] for tree in cut)


class Leaky(Forward):
    """A path that adds to each log-prob a share of the last one."""

    def token_logps(self, trees):
        found = super().token_logps(trees)
        return replace(found, values=found.values + found.values[-1] / 100)


@pytest.mark.parametrize(("kind", "verdict"), [(Forward, "ok"), (Leaky, "refused")])
def test_a_path_that_looks_ahead(kind, verdict):
    learner = SimpleNamespace(forward=kind(tiny("llama"), "padded", "", 0.0))
    found = causal_path(learner, some_trees())
    assert found.verdict == verdict and found.check == "step0.causal"


# ---------------------------------------------------------------- through a run's set-up


def folder(tmp_path, tokenizer, family, **changes):
    model = tiny(family, vocab_size=len(tokenizer), **changes)
    model.network.config.bos_token_id = tokenizer.bos_token_id
    model.network.config.eos_token_id = tokenizer.eos_token_id
    model.network.save_pretrained(tmp_path / family)
    tokenizer.save_pretrained(tmp_path / family)
    return tmp_path / family


def rows(tmp_path):
    long = [row | {"prompt": row["prompt"] * 3} for row in pair_rows(8, start=50)]
    return write_rows(tmp_path / "rows.jsonl", pair_rows(16) + long)


def found_by(ready):
    return {f.check: f for f in ready.findings}


def test_longrope_trains_on_rows_of_both_sides(tmp_path, tokenizer):
    rope = ROPE | {"original_max_position_embeddings": 60}
    made = folder(
        tmp_path,
        tokenizer,
        "phi3",
        rope_parameters=rope,
        original_max_position_embeddings=60,
        max_position_embeddings=512,
    )
    found = found_by(ready_for(made, rows(tmp_path)))
    assert "passes of their own" in found["data.longrope"].says
    lengths = found["step0.lengths"]
    assert lengths.verdict == "ok" and lengths.evidence["nats"] < 1e-4
    assert found["model.causal"].verdict == found["step0.causal"].verdict == "ok"


@pytest.mark.parametrize(
    ("family", "changes"),
    [("gpt2", {}), ("llama", {"rope_parameters": DYNAMIC})],
    ids=["a table of positions", "dynamic"],
)
def test_a_run_beyond_the_positions_is_refused(family, changes, tmp_path, tokenizer):
    made = folder(tmp_path, tokenizer, family, max_position_embeddings=60, **changes)
    with pytest.raises(Refused, match="(?s)data.positions: .*what to do: leave them out"):
        ready_for(made, rows(tmp_path), allow=["beyond_positions"])


def test_windows_shorter_than_the_rows_are_sound(tmp_path, tokenizer):
    made = folder(tmp_path, tokenizer, "mistral", sliding_window=9, max_position_embeddings=60)
    found = found_by(ready_for(made, rows(tmp_path), allow=["beyond_positions"]))
    assert found["data.positions"].verdict == "note"
    assert found["step0.lengths"].verdict == "ok"


def test_a_neighbour_that_changes_a_row_is_found(tmp_path, tokenizer, monkeypatch):
    """Longrope in one pass, as if nobody had split it."""
    from accord.forward import regimes

    rope = ROPE | {"original_max_position_embeddings": 60}
    made = folder(
        tmp_path,
        tokenizer,
        "phi3",
        rope_parameters=rope,
        original_max_position_embeddings=60,
        max_position_embeddings=512,
    )
    monkeypatch.setattr(regimes, "boundary", lambda model: None)
    with pytest.raises(Refused, match="step0.lengths: .*depend on the length of its neighbours"):
        ready_for(made, rows(tmp_path))


def test_a_bidirectional_folder_is_refused(tmp_path, tokenizer, monkeypatch):
    made = folder(tmp_path, tokenizer, "llama", max_position_embeddings=512)
    from transformers.models.llama import modeling_llama

    def unmasked(**options):
        return None

    monkeypatch.setattr(modeling_llama, "create_causal_mask", unmasked)
    start = modeling_llama.LlamaAttention.__init__

    def init(self, *args, **options):
        start(self, *args, **options)
        self.is_causal = False

    monkeypatch.setattr(modeling_llama.LlamaAttention, "__init__", init)
    with pytest.raises(Refused, match="model.causal: .*the model looks ahead"):
        ready_for(made, rows(tmp_path))
