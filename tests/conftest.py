"""What many tests share: a two-layer model, its tokenizer and SmolLM2's own, and a few rows."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

# before transformers is imported: no test may go to the network
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# and each process, also those that tests start, computes in one thread: as many workers as cores
# test side by side, and threads that wait for each other take the other worker's time
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from tiers import ROUNDS, is_slow, is_slow_file, round_now, round_of

torch.set_num_threads(1)
# no clock decides a test: an example may take long on a busy machine
settings.register_profile("accord", deadline=None)
settings.load_profile("accord")

WORDS = (
    "the cat sat on a mat and saw one red bird fly over two green hills near an old house".split()
)

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{%"
    " endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{%"
    " endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_addoption(parser):
    parser.addoption(
        "--round", help=f"slow tests of one round: 0 to {ROUNDS - 1}, or week; default: of all"
    )


def chosen_round(config) -> int | None:
    asked = config.getoption("--round")
    if asked is None:
        return None
    return round_now() if asked == "week" else int(asked)


def pytest_terminal_summary(terminalreporter, config):
    """Say which tests were left out."""
    chosen = chosen_round(config)
    if chosen is not None:
        terminalreporter.write_line(
            f"Of the slow tests those of round {chosen} of 0 to {ROUNDS - 1} were run; make"
            " test-all runs all."
        )


def pytest_collection_modifyitems(config, items):
    for item in items:
        name = getattr(item, "originalname", item.name)
        if is_slow(item.path, name, getattr(item, "fixturenames", [])):
            item.add_marker(pytest.mark.slow)
    chosen = chosen_round(config)
    if chosen is None:
        return
    others = [
        item
        for item in items
        if item.get_closest_marker("slow") and round_of(item.nodeid) != chosen
    ]
    config.hook.pytest_deselected(items=others)
    left_out = set(others)
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish():
    """What is imported by now stays: the collector, which a run calls before it reads its model
    back, need not walk through it each time (.3 s of a run of 3 s).
    """
    gc.collect()
    gc.freeze()


def pytest_ignore_collect(collection_path, config):
    """The fast tier does not even import the files of slow tests: that is half of its time."""
    fast = "not slow" in (config.option.markexpr or "")
    return True if fast and is_slow_file(collection_path) else None


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Reference passes of tests go to their own folder; the converted model stays where it is."""
    from accord.forward import reference

    monkeypatch.setattr(
        reference, "cache_root", lambda: tmp_path_factory.getbasetemp() / "reference-cache"
    )


@pytest.fixture(scope="session")
def smollm2_folder():
    """The real 135M model's folder; converting it once takes about 20 s."""
    from accord.errors import UsageError
    from accord.models.embedded import embedded_folder

    try:
        return embedded_folder()
    except UsageError as error:
        pytest.skip(f"the embedded model is not installed: {error}")


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """Find a file of the real data sets, which lie beside the repository and are no part of it.

    The only way to them: test_architecture.py holds that no test names their folder itself.
    """

    def find(name: str) -> Path:
        if not (SHARED / name).is_file():
            pytest.skip(f"a real data set that is no part of the repository: ../shared/data/{name}")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def cases():
    """The folder of small strangers' files, which lies beside the repository."""
    folder = SHARED.parent / "cases" / "data"
    if not folder.is_dir():
        pytest.skip("small files that are no part of the repository: ../shared/cases")
    return folder


@pytest.fixture(scope="session")
def tokenizer(smollm2_folder):
    """SmolLM2's own, with its chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_folder)


@pytest.fixture(scope="session")
def small_tokenizer():
    """A byte-level BPE of 400 tokens with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(
        [*WORDS, *(text for row in pair_rows(40) for text in row.values())], trainer
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    made.chat_template = TEMPLATE
    return made


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, small_tokenizer):
    """A random two-layer Llama in save_pretrained layout, with a vocabulary of a few hundred
    tokens: with 49,152, nearly all the time of a short run goes into the head.
    """
    return save_tiny(tmp_path_factory.mktemp("tiny"), small_tokenizer)


def save_tiny(folder, tokenizer):
    """Write a random two-layer Llama with this tokenizer; its folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,  # large enough for attention to matter
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sentence(seed: int, length: int) -> str:
    return " ".join(WORDS[(seed * 7 + i * (seed % 5 + 1)) % len(WORDS)] for i in range(length))


def pair_rows(n: int, start: int = 0) -> list[dict]:
    """Distinct prompts, answers of different lengths."""
    return [
        {
            "prompt": f"Question {i}: {sentence(i, 4)}?",
            "chosen": f"Yes, {sentence(i, 3 + i % 5)}.",
            "rejected": f"No {sentence(i + 3, 2 + i % 3)}!",
        }
        for i in range(start, start + n)
    ]


def write_rows(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def assert_no_faults(things, faults_of, name_of=str):
    """Check many files (or commands, or rows of a table) in one test and report every fault.

    `faults_of(thing)` lists what is wrong with one thing; an exception that it raises is a fault
    too. An empty `things` fails: a check of nothing would pass for ever.
    """
    things, found = list(things), []
    assert things, "nothing to check"
    for thing in things:
        try:
            faults = faults_of(thing) or []
        except Exception as error:  # the other things are still checked
            faults = [f"{type(error).__name__}: {error}"]
        found += [f"{name_of(thing)}: {fault}" for fault in faults]
    if found:
        raise AssertionError("\n".join([f"{len(found)} faults in {len(things)} checked:", *found]))


@pytest.fixture
def pairs_file(tmp_path):
    """24 good pairs."""
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(24))


@pytest.fixture
def held_out_file(tmp_path):
    """8 pairs with other prompts."""
    return write_rows(tmp_path / "held_out.jsonl", pair_rows(8, start=100))
