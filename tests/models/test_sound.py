"""Weights that are not finite, and tokens that the embedding does not know."""

import pytest
import torch
from forward.tiny import some_trees, tiny

from accord.models.model_checks import model_findings
from accord.types import Tree


class Names:
    bos_token_id, eos_token_id, unk_token_id = 1, 2, 0

    def convert_ids_to_tokens(self, token: int) -> str:
        return f"<{token}>"

    def get_added_vocab(self) -> dict[str, int]:
        return self.added

    def __init__(self, **added: int):
        self.added = added

    def __call__(self, text: str) -> dict:
        return {"input_ids": [3 + ord(letter) % 90 for letter in text[:40]]}


@pytest.fixture
def model():
    made = tiny("llama")
    made.tokenizer = Names()
    return made


def found(model, trees) -> dict:
    """Tell what is not in order; that a tiny model is random is always noted."""
    found = {f.check: f for f in model_findings(model, trees) if f.verdict != "ok"}
    note = found.pop("model.language", None)
    assert note is None or (note.verdict == "note" and "no more than chance" in note.says)
    return found


def test_silent_on_a_sound_model(model):
    assert found(model, some_trees()) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite(model, value):
    with torch.no_grad():
        model.network.model.layers[1].mlp.up_proj.weight[2, 3] = value
    finding = found(model, some_trees())["model.weights"]
    assert finding.refused and "layers.1.mlp.up_proj" in finding.says


def test_a_token_beyond_the_vocabulary(model):
    finding = found(model, [Tree((3, 97), ((4, 5),), 0)])["model.vocabulary"]
    assert finding.refused and "97 rows" in finding.says and "<97>" in finding.says


def test_an_embedding_of_zeros_but_for_padding(model):
    with torch.no_grad():
        model.network.get_input_embeddings().weight[5] = 0
    assert "<5>" in found(model, [Tree((3, 4), ((5, 6),), 0)])["model.vocabulary"].says
    assert (
        model.network.get_input_embeddings().padding_idx == 0
        and found(model, [Tree((0, 4), ((6, 7),), 0)]) == {}
    )
