"""A model that several ranks read in parts: every tensor is bit for bit that of the whole model,
and what cannot be read in slices is read whole, with a note. What one rank lacks is said on all.
"""

from functools import partial

import pytest
import torch
from forward.tiny import tiny
from safetensors.torch import load_file, save_file
from training.worlds import in_world, rank, train

from accord.distributed.world import join_world
from accord.forward.sharded import load_sharded
from accord.models import fingerprint, part_files
from accord.models.load import load
from accord.models.part_files import rows_of, stand_ins
from accord.models.parts import gathered, jointly
from accord.models.weight_files import Stored
from accord.verify.tiny import tokenizer

WEIGHTS = "model.safetensors"


def saved(family, folder, **changes):
    tiny(family, **changes).network.save_pretrained(folder)
    tokenizer(97).save_pretrained(folder)
    return folder


def rewrite(folder, edit):
    tensors = load_file(folder / WEIGHTS)
    save_file(edit(tensors), folder / WEIGHTS, {"format": "pt"})


def contents(network) -> dict[str, torch.Tensor]:
    """Every parameter and buffer, the tied ones by each name."""
    found = dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers())
    return {name: gathered(tensor.detach()) for name, tensor in found.items()}


def compared(folders, dtype):
    """For each folder, what differs from the whole model, its notes, and what a rank holds."""
    out = []
    with join_world() as world:
        for folder in folders:
            parts = load_sharded(folder, world, dtype=dtype, device="cpu")
            whole = load(folder, dtype=dtype, device="cpu")
            ours, right = contents(parts.network), contents(whole.network)
            assert ours.keys() == right.keys()
            ids = torch.tensor([[5, 7, 11, 13]])
            with torch.no_grad():
                logits = parts.network(input_ids=ids, use_cache=False).logits
                wanted = whole.network(input_ids=ids, use_cache=False).logits
                (again,) = jointly(parts.network, partial(_by_trunk, parts, ids))
                (right_again,) = _by_trunk(whole, ids)
            out.append(
                {
                    "differ": [n for n in right if not torch.equal(ours[n], right[n])],
                    "dtypes": [n for n in right if ours[n].dtype != right[n].dtype],
                    "tied": _tied(parts.network) == _tied(whole.network),
                    "lean": _kinds(parts.network) == _kinds(whole.network),
                    "logits": torch.equal(logits, wanted) and torch.equal(again, right_again),
                    "weights": fingerprint.weights(parts.network)
                    == fingerprint.weights(whole.network),
                    "notes": list(parts.notes),
                    "held": sum(p.to_local().numel() for p in parts.network.parameters()),
                    "all": sum(p.numel() for p in whole.network.parameters()),
                }
            )
    return out


def _by_trunk(model, ids):
    return (model.head.logits(model.trunk(ids)[0]),)


def _tied(network) -> list[str]:
    once = dict(network.named_parameters())
    return sorted(dict(network.named_parameters(remove_duplicate=False)).keys() - once.keys())


def _kinds(network) -> list[str]:
    """The classes of the modules, without what FSDP puts before the names of its own."""
    return [type(module).__name__.removeprefix("FSDP") for module in network.modules()]


FAMILIES = ("llama", "gpt2", "phi3", "mistral", "gemma2", "gpt_neox", "opt", "qwen3")


@pytest.mark.parametrize("dtype, size", [("float32", 3), ("bfloat16", 2)])
def test_every_tensor_is_the_whole_models(dtype, size, tmp_path):
    """Rotary angles and other buffers that no file holds included; 97 rows over 3 ranks are
    uneven.
    """
    folders = [str(saved(family, tmp_path / family)) for family in FAMILIES]
    folders.append(str(saved("llama", tmp_path / "tied", tie_word_embeddings=True)))
    shards = tmp_path / "shards"
    tiny("llama").network.save_pretrained(shards, max_shard_size="50kB")
    tokenizer(97).save_pretrained(shards)
    assert len(list(shards.glob("*.safetensors"))) > 1
    answers = in_world(size, tmp_path / "w", compared, [*folders, str(shards)], dtype)
    for at, folder in enumerate([*folders, str(shards)]):
        found = [answer[at] for answer in answers]
        for one in found:
            assert (one["differ"], one["dtypes"], one["notes"]) == ([], [], []), folder
            assert one["tied"] and one["lean"] and one["logits"] and one["weights"], folder
        assert sum(one["held"] for one in found) == found[0]["all"], folder
        assert max(one["held"] for one in found) < 0.6 * found[0]["all"], folder


def head_twice(folder):
    rewrite(folder, lambda held: held | {"lm_head.weight": held["model.embed_tokens.weight"] + 0})


def angles(folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(folder, lambda held: held | {name: torch.ones(3)})


def halves(folder):
    rewrite(folder, lambda held: {name: tensor.half() for name, tensor in held.items()})


def base_alone(folder):
    """Names without the prefix, as a bare trunk is saved: transformers adds it."""
    rewrite(folder, lambda held: {name.removeprefix("model."): held[name] for name in held})


KINDS = {  # what is done to a tied Llama's file, and whether slices can follow
    "head twice": (head_twice, "lm_head.weight of its files is another tensor's copy"),
    "rotary angles": (angles, ""),
    "float16": (halves, ""),
    "without prefix": (base_alone, ""),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_other_tools(kind, tmp_path):
    change, note = KINDS[kind]
    folder = saved("llama", tmp_path / "m", tie_word_embeddings=True)
    change(folder)
    for (one,) in in_world(2, tmp_path / "w", compared, [str(folder)], "float32"):
        assert one["differ"] == [] and one["logits"] and one["tied"] and one["weights"]
        read_whole = [n for n in one["notes"] if "every process read the whole model" in n]
        assert bool(read_whole) == bool(note) and all(note in said for said in read_whole)


def test_a_family_whose_tensors_change_is_read_whole(tmp_path):
    """Mixtral's experts lie apart in files, and are one tensor in the network."""
    folder = saved("mixtral", tmp_path / "m")
    for (one,) in in_world(2, tmp_path / "w", compared, [str(folder)], "float32"):
        assert one["differ"] == [] and one["logits"] and one["weights"]
        assert any("transformers changes" in note for note in one["notes"])


def test_a_stand_in_shows_what_was_done_to_it(tmp_path):
    """It takes next to no memory, and no square one can be transposed or regrouped unnoticed."""
    stored = Stored(tmp_path / "a", "F32", (4096, 4096))
    (given,) = stand_ins({"w": stored}, torch.bfloat16).values()
    assert given.shape == (4096, 4096) and given.untyped_storage().nbytes() < 32_768
    assert part_files._untouched(torch.nn.Parameter(given), given)
    heads = given.view(32, 2, 64, 4096)
    for changed in (given.T, given[1:], heads.transpose(1, 2), given + 0, given.float()):
        own = changed.untyped_storage().data_ptr() == given.untyped_storage().data_ptr()
        assert not (own and part_files._untouched(changed, given))
    given.mul_(2)
    assert not part_files._untouched(given, given)


def test_rows_are_cut_as_torch_chunks_them():
    for rows in range(1, 12):
        for size in range(1, 5):
            pieces = [range(rows)[rows_of(rows, rank, size)] for rank in range(size)]
            assert [n for piece in pieces for n in piece] == list(range(rows))
            chunks = torch.arange(rows).chunk(size)
            assert [list(p) for p in pieces if len(p)] == [c.tolist() for c in chunks]


# ---------------------------------------------------------------- what one rank lacks


SHARDED = {"set": {"train.parallel": "sharded"}}


def without_a_model(who) -> None:
    """On rank 1 the file of the weights goes away behind the check of the headers."""
    if who == 1:

        def gone(file, framework):
            raise FileNotFoundError(f"No such file or directory: {file}")

        part_files.safe_open = gone


@pytest.mark.parametrize("changes", [SHARDED, {"lora": False}], ids=["lora", "all"])
def test_a_rank_without_the_weights(changes, tiny_folder, pairs_file, tmp_path):
    answers = in_world(
        2, tmp_path / "w", train, tiny_folder, pairs_file, tmp_path / "r", changes, without_a_model
    )
    for answer in answers:
        assert answer["error"] == "UsageError" and answer["on_all_ranks"]
        assert f"{WEIGHTS} cannot be read" in answer["says"]
    assert "rank 1 of 2 (" in answers[0]["says"]


def lacking(folder, data, output, changes, what):
    """A run in which rank 1 is given other places: there is nothing."""
    if rank() == 1:
        folder = f"{folder}-absent" if what == "model" else folder
        data = f"{data}-absent" if what == "data" else data
    return train(folder, data, output, changes)


@pytest.mark.parametrize("what", ["model", "data"])
@pytest.mark.parametrize("changes", [{}, SHARDED], ids=["replicated", "sharded"])
def test_a_rank_without_a_file(what, changes, tiny_folder, pairs_file, tmp_path):
    """Words on all ranks, with the name of the one that lacks it; no run is begun."""
    answers = in_world(
        2, tmp_path / "w", lacking, tiny_folder, pairs_file, tmp_path / "r", changes, what
    )
    for answer in answers:
        assert answer["error"] in ("UsageError", "DataError") and answer["on_all_ranks"]
        assert "-absent" in answer["says"]
    assert "rank 1 of 2 (" in answers[0]["says"] and not (tmp_path / "r").exists()


def test_a_shard_that_is_missing(tmp_path):
    """Found by the headers, before a tensor is read."""
    folder = saved("llama", tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}'
    )
    (folder / WEIGHTS).unlink()
    for answer in in_world(2, tmp_path / "w", compared, [str(folder)], "float32"):
        assert (
            answer["error"] == "UsageError" and "files of its weights are missing" in answer["says"]
        )
