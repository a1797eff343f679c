"""accord's update on a GPU, against TRL's where it is installed: a 1B-shape Llama with random
weights, no network, no files.

    python benchmarks/gpu.py                         # one GPU: LoRA and all weights, bfloat16
    python benchmarks/gpu.py --tiny --device cpu     # the same flow in minutes, to check itself

Rows are pairs of token ids drawn at random in the shapes of multi-turn preferences: a system turn
that all share, prompts of 200 to 1,500 tokens, answers of 50 to 400. Every process makes the same
updates twice, and the second pass is timed: by then kernels are compiled and memory is held. First
both sides train a few rows in float32 and must report the same losses and log-probs, or no speed is
reported; then each side's settings are tried and its fastest is taken; then they take turns. The
matrix-multiplication rate is measured in the same run at the model's shapes. Results:
benchmarks/results/gpu.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from vs_trl import HERE, Case, child

RESULT = HERE / "results/gpu.json"
LLAMA_1B = dict(
    vocab_size=128_256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    max_position_embeddings=4096,
    tie_word_embeddings=True,
)
TINY = dict(
    vocab_size=509,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=4096,
    tie_word_embeddings=True,
)
LENGTHS = {"system": 40, "prompt": (200, 1500), "answer": (50, 400)}
SHORT = {"system": 8, "prompt": (20, 60), "answer": (5, 20)}
CHECK_ROWS, CHECK_UPDATES = 4, 3
# of a loss in nats; of a log-prob, of its own size: sums of hundreds of tokens at some 12 nats
TOLERANCE = 1e-4
MICRO_TOKENS = (4_096, 16_384, 65_536)  # accord: unique tokens at once
SETTINGS = [
    {"micro": micro, "checkpointing": checkpointing}
    for micro, checkpointing in ((2, False), (8, False), ("all", False), ("all", True))
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="a two-layer model and short rows: a check of the flow"
    )
    parser.add_argument("--updates", type=int, help="that are timed, in each process (6; tiny: 1)")
    parser.add_argument("--batch", type=int, help="pairs an update (32; tiny: 4)")
    parser.add_argument("--repeats", type=int, help="turns of each side (3; tiny: 1)")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    for name, usual, tiny in (("updates", 6, 1), ("batch", 32, 4), ("repeats", 3, 1)):
        if getattr(options, name) is None:
            setattr(options, name, tiny if options.tiny else usual)
    results = {
        "device": about(options.device),
        "tiny": options.tiny,
        "updates": options.updates,
        "repeats": options.repeats,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model", TINY if options.tiny else LLAMA_1B)
        for trained in ("LoRA", "all weights"):
            case = Case(
                "",
                batch=options.batch,
                max_tokens=4096,
                all_weights=trained == "all weights",
                dtype="float32" if options.device == "cpu" else "bfloat16",
            )
            results[trained] = measure(case, folder, options)
            options.output.write_text(json.dumps(results, indent=1) + "\n")
            print(line(trained, results[trained]), flush=True)


def about(device: str) -> dict:
    """What it ran on."""
    import torch
    import transformers

    found = {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}
    return found | (
        {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        if device != "cpu"
        else {}
    )


# ---------------------------------------------------------------- what is trained, and on what


def write_model(folder: Path, shape: dict) -> None:
    """Random weights in bfloat16, and a tokenizer that names every id: nothing here reads text."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        **shape, bos_token_id=0, eos_token_id=1, pad_token_id=2, dtype=torch.bfloat16
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words = {f"w{number}": number for number in range(shape["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w3"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="w0", eos_token="w1", pad_token="w2", unk_token="w3"
    ).save_pretrained(folder)


def make_rows(n: int, vocabulary: int, lengths: dict, seed: int = 0) -> list[dict]:
    """Pairs of random ids: a common system turn, lengths drawn evenly on a logarithmic scale, an
    end token.
    """
    rng = random.Random(seed)

    def draw(length: int) -> list[int]:
        return [rng.randrange(4, vocabulary) for _ in range(length)]

    def length(low: int, high: int) -> int:
        return round(low * (high / low) ** rng.random())

    system, rows = draw(lengths["system"]), []
    for _ in range(n):
        prompt = system + draw(length(*lengths["prompt"]) - len(system))
        rows.append(
            {
                "prompt": prompt,
                "completions": [[*draw(length(*lengths["answer"]) - 1), 1] for _ in range(2)],
                "desirable": None,
            }
        )
    return rows


def write_rows(folder: Path, updates: int, batch: int, tiny: bool) -> None:
    """Batches for both sides: those that are timed, twice over,
    and small ones for the comparison.
    """
    shape, lengths = (TINY, SHORT) if tiny else (LLAMA_1B, LENGTHS)
    for name, count, size, passes in (
        ("rows", updates, batch, 2),
        ("check", CHECK_UPDATES, CHECK_ROWS, 1),
    ):
        rows = make_rows(count * size, shape["vocab_size"], lengths)
        batches = [rows[i * size : (i + 1) * size] for i in range(count)]
        (folder / f"{name}.json").write_text(json.dumps(batches * passes))


# ---------------------------------------------------------------- measuring


def measure(case: Case, folder: Path, options: argparse.Namespace) -> dict:
    """Everything about LoRA, or about all weights."""
    write_rows(folder, options.updates, case.batch, options.tiny)
    more = {"model": str(folder / "model"), "device": options.device}
    facts = child("gpu_side.py", "prepare", case, folder, **more)
    trl = importlib.util.find_spec("trl") is not None
    agreement = compare(case, folder, more) if trl else None
    timed = {"updates": 2 * options.updates}

    def ours(micro_tokens: int) -> dict:
        return second_half(
            attempt("gpu_side.py", case, folder, micro_tokens=micro_tokens, **timed, **more)
        )

    def theirs(setting: dict) -> dict:
        return second_half(attempt("trl_side.py", case, folder, setting=setting, **timed, **more))

    sides = {"accord": (ours, MICRO_TOKENS)} | ({"trl": (theirs, SETTINGS)} if trl else {})
    tried, best = {}, {}
    for side, (run, settings) in sides.items():
        settings = settings[:1] if options.tiny else settings
        tried[side] = (
            {json.dumps(setting): run(setting) for setting in settings} if len(settings) > 1 else {}
        )
        best[side] = json.loads(fastest(tried[side])) if tried[side] else settings[0]
    rates, runs = [], {side: [] for side in sides}
    for _ in range(options.repeats):
        rates.append(child("gpu_side.py", "gemm", case, folder, **more)["flops_a_second"])
        for side, (run, _) in sides.items():
            runs[side].append(run(best[side]))
            if "error" in runs[side][-1]:
                raise SystemExit(
                    f"{side} failed with its best setting {best[side]}: {runs[side][-1]['error']}"
                )
    return summary(case, facts, agreement, tried, best, runs, rates)


def attempt(script: str, case: Case, folder: Path, **more) -> dict:
    """A training in a fresh process; one that fails (most often for want of memory) is a result
    too.
    """
    try:
        return child(script, "train", case, folder, **more)
    except SystemExit as error:
        return {"error": str(error).strip().splitlines()[-1][:200]}


def second_half(found: dict) -> dict:
    """Of an answer: the seconds of the second pass over the rows."""
    return (
        found
        if "error" in found
        else {**found, "seconds": found["seconds"][len(found["seconds"]) // 2 :]}
    )


def fastest(tried: dict[str, dict]) -> str:
    working = {name: found for name, found in tried.items() if "error" not in found}
    if not working:
        raise SystemExit(f"no setting works: {tried}")
    return min(working, key=lambda name: sum(working[name]["seconds"]))


def compare(case: Case, folder: Path, more: dict) -> dict[str, float]:
    """Largest differences of what both sides report of a few updates in float32. Raises SystemExit
    when they differ.
    """
    ours = child("gpu_side.py", "check", case, folder, **more)["metrics"]
    theirs = child(
        "trl_side.py",
        "check",
        case,
        folder,
        setting={"micro": "all", "checkpointing": False},
        **more,
    )["metrics"]
    apart = {
        name: max(
            abs(a[name] - b[name]) / (1 if name == "loss" else abs(a[name]))
            for a, b in zip(ours, theirs, strict=True)
        )
        for name in ours[0]
    }
    if not max(apart.values()) <= TOLERANCE:
        raise SystemExit(
            f"accord and TRL disagree, {apart}; no speed is reported.\n{ours}\n{theirs}"
        )
    return apart


def summary(
    case: Case,
    facts: dict,
    agreement: dict | None,
    tried: dict,
    best: dict,
    runs: dict,
    rates: list[float],
) -> dict:
    """Figures of each side, one a repeat, and their ratios."""
    sides = {}
    for side, found in runs.items():
        # rows differ in length: all of them count
        seconds = [statistics.mean(run["seconds"]) for run in found]
        sides[side] = {
            "seconds_an_update": seconds,
            "rows_a_second": [case.batch / s for s in seconds],
            "unique_tokens_a_second": [facts["tokens_an_update"] / s for s in seconds],
            "share_of_gemm_rate": [facts["flops_an_update"] / s / max(rates) for s in seconds],
            "peak_gb": [run["peak_gb"] for run in found],
            "device_peak_gb": [run["device_peak_gb"] for run in found],
            "setting": best[side],
            "settings_tried": {
                n: t.get("error") or statistics.mean(t["seconds"]) for n, t in tried[side].items()
            },
        }
        if side == "accord":
            sides[side]["path"] = found[0]["path"]
    pairs = (
        list(zip(*(sides[side]["seconds_an_update"] for side in ("accord", "trl")), strict=True))
        if "trl" in sides
        else []
    )
    return {
        **sides,
        "speed": sorted(theirs / ours for ours, theirs in pairs),
        "facts": facts,
        "dtype": case.dtype,
        "batch": case.batch,
        "gemm_tflops": [rate / 1e12 for rate in rates],
        "agreement_float32": agreement,
    }


def line(name: str, result: dict) -> str:
    """A line for people."""
    said = []
    for side in ("accord", "trl"):
        if side in result:
            figures = {
                key: statistics.median(result[side][key])
                for key in ("rows_a_second", "unique_tokens_a_second", "share_of_gemm_rate")
            }
            peak = result[side]["device_peak_gb"][0]
            memory = f", {peak:.1f} GB allocated at the peak" if peak is not None else ""
            said.append(
                f"{side} {figures['rows_a_second']:.2f} rows/s,"
                f" {figures['unique_tokens_a_second']:,.0f} unique tokens/s,"
                f" {figures['share_of_gemm_rate']:.0%} of the GEMM rate{memory}"
            )
    ratio = (
        f"; {statistics.median(result['speed']):.1f} × TRL"
        if result["speed"]
        else "; TRL is not installed here"
    )
    return f"{name} ({result['accord']['path']} path): " + "; ".join(said) + ratio


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
