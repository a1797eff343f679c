"""`accord doctor`: does this machine, with these libraries, compute what accord promises? Under a
minute, no download.

The proofs that every run makes of itself, made here with tiny random models of several
architectures, in the precision and on the device that runs would take; and beside them what those
do not touch: drawing answers, a policy gradient, a reward model, saving. Nothing is written but in
temporary folders.
"""

from __future__ import annotations

import platform
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from accord.config.schema import TrainConfig
from accord.engine.micro_budget import MicroBudget
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext, accumulate, make_batch, row_losses
from accord.environment import variables
from accord.errors import AccordWarning
from accord.forward.choose import Forward, choose
from accord.forward.reference import AdaptersOff, Frozen
from accord.models.language import LanguageModel
from accord.models.load import pick_device, pick_dtype
from accord.models.lora import add_lora, train_all_weights
from accord.objectives import OBJECTIVES, BoundObjective, resolve
from accord.runs import checkpoint
from accord.runs.folder import versions
from accord.types import Finding, RowLogps, Tree
from accord.verify import preflight
from accord.verify.certificate import certify
from accord.verify.doctor_answers import draw_in_every_way, policy_gradient
from accord.verify.doctor_libraries import libraries
from accord.verify.doctor_saved import reward_model, save_and_read_back

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARY = 97
# Heads of 16: a GPU's flex attention takes no narrower ones.
SIZES: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    initializer_range=0.1,
)
GPT2: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    n_embd=64,
    n_layer=2,
    n_head=4,
    n_positions=128,
    bos_token_id=1,
    eos_token_id=2,
    initializer_range=0.1,
)
DRAWN = (
    "llama",
    "gpt2",
    "gemma2",
)  # answers share a prompt in the first two, and copy it in the last
UPDATES = 3  # of the runs that are compared bit for bit


@dataclass(frozen=True)
class TinyCase:
    """One tiny run to examine: an architecture, what trains in it, and the objective."""

    family: str
    objective: str
    lora: bool


PATIENTS = (
    TinyCase("llama", "dpo", lora=True),
    TinyCase("llama", "kto", lora=True),
    TinyCase("qwen3", "simpo", lora=False),
    TinyCase("gpt2", "ipo", lora=False),
    TinyCase("gemma2", "orpo", lora=True),
)


@dataclass
class Report:
    """What was found, in the order in which it was looked for."""

    machine: dict
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def healthy(self) -> bool:
        return not any(finding.refused for finding in self.findings)

    @property
    def verdict(self) -> str:
        bad = [finding.check for finding in self.findings if finding.refused]
        warned = sum(finding.verdict == "warning" for finding in self.findings)
        if not bad:
            passed, but = len(self.findings) - warned, f", {warned} with a warning" * bool(warned)
            return f"healthy: {passed} examinations passed{but} in {self.seconds:.0f} s"
        return (
            f"unfit to train: {len(bad)} of {len(self.findings)} examinations failed"
            f" ({', '.join(dict.fromkeys(bad))})"
        )


def run_checks(
    device: str = "auto",
    dtype: str = "auto",
    tell: Callable[[Finding], None] = lambda finding: None,
) -> Report:
    """Every examination, on the device and in the precision that a run would take; and in float32,
    which shows most.

    With `auto`, bfloat16 is examined where runs would take float32, too. What fails there alone is
    a warning: nothing uses it unless it is asked for.

    Args:
      tell: called with each finding as it is made.
    """
    began = time.monotonic()
    target = pick_device(device)
    wanted = pick_dtype(dtype, target)
    report = Report(machine(target, wanted))
    taken = [torch.float32, wanted]
    dtypes = list(dict.fromkeys([*taken, torch.bfloat16] if dtype == "auto" else taken))
    for finding in _examinations(target, dtypes):
        if finding.refused and finding.check.endswith("(bfloat16)") and torch.bfloat16 not in taken:
            says = f"{finding.says} (runs take float32 on this machine)"
            finding = replace(finding, verdict="warning", says=says)
        report.findings.append(finding)
        tell(finding)
    report.seconds = time.monotonic() - began
    return report


def machine(device: torch.device, dtype: torch.dtype) -> dict:
    """Versions, device, memory; no names and no paths."""
    memory = psutil.virtual_memory()
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
        "device": str(device),
        "precision": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "settings": variables.chosen_settings(),
        "memory_gb": round(memory.total / 1e9, 1),
        "memory_free_gb": round(memory.available / 1e9, 1),
    }
    if device.type == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(device),
            "gpu_memory_gb": round(torch.cuda.mem_get_info(device)[1] / 1e9, 1),
        }
    return found


def _examinations(device: torch.device, dtypes: list[torch.dtype]) -> Iterator[Finding]:
    yield _safely("libraries", libraries)
    yield _safely("objectives", objectives)
    for dtype in dtypes:
        for patient in PATIENTS:
            yield _guarded(
                f"{patient.family}, {patient.objective}",
                dtype,
                partial(prove_step0, patient, device, dtype),
            )
        for family in DRAWN:
            for k in (1, 2):
                yield _guarded(
                    f"{family}, K = {k}", dtype, partial(draw_answers, family, k, device, dtype)
                )
        yield _guarded("policy gradient", dtype, partial(gradient, device, dtype))
    for dtype in dtypes:
        yield _guarded("reward model", dtype, partial(rewarding, device, dtype))
        yield _guarded("saved", dtype, partial(read_back, device, dtype))
        yield _guarded("repeatable", dtype, partial(repeatable, device, dtype))
        yield _guarded("checkpoint", dtype, partial(save_checkpoint, device, dtype))


def _guarded(name: str, dtype: torch.dtype, examination: Callable[[], Finding]) -> Finding:
    """One examination in a precision."""
    return _safely(f"{name} ({str(dtype).removeprefix('torch.')})", examination)


def _safely(check: str, examination: Callable[[], Finding]) -> Finding:
    """One examination; whatever it raises is a finding, since the others are still worth making.

    What passes with a warning of accord, such as a fast way of drawing that gave up, is a warning
    with its words. Those of libraries are for the commands that train, and stay out of the report.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AccordWarning)
        try:
            found = examination()
        except Exception as error:
            said = str(error).splitlines() or [type(error).__name__]
            evidence = {"error": type(error).__name__}
            return Finding(check, "refused", " ".join(said)[:400], evidence)
    said = [str(w.message) for w in caught if issubclass(w.category, AccordWarning)]
    if said and found.verdict in ("ok", "note"):
        says = f"{'; '.join(dict.fromkeys(said))}. Otherwise: {found.says}"
        evidence = found.evidence | {"warnings": said}
        found = replace(found, verdict="warning", says=says, evidence=evidence)
    return replace(found, check=check)


# ---------------------------------------------------------------- examinations


def _losses_of(
    bound: BoundObjective,
    policy: RowLogps,
    known: RowLogps | None,
    context: dict[str, torch.Tensor],
) -> torch.Tensor:
    """The losses of some rows through the step's own call."""
    return row_losses(bound, policy, known, context).losses


def objectives() -> Finding:
    """Every objective's value and gradient, through the step's own call,
    against its closed form.
    """
    failed = []
    for name in OBJECTIVES:
        bound = resolve(name)
        finding = certify(bound, partial(_losses_of, bound))
        if finding.refused:
            failed.append(finding.says)
    if failed:
        return Finding("objectives", "refused", " ".join(failed), {"failed": len(failed)})
    return Finding(
        "objectives",
        "ok",
        f"{len(OBJECTIVES)} objectives have the value and gradient of their closed forms:"
        f" {', '.join(OBJECTIVES)}",
    )


def prove_step0(patient: TinyCase, device: torch.device, dtype: torch.dtype) -> Finding:
    """Fast path against oracle, gradients, micro-batches, determinism, reference: a run's own
    proofs on a tiny model.
    """
    learner, optimizer = _learner(patient, device, dtype)
    trees = some_trees(resolve(patient.objective).rows)
    found = preflight.prove(learner, optimizer, trees, exact=True)
    bad = [finding for finding in found if finding.refused]
    if bad:
        return Finding(
            "",
            "refused",
            "; ".join(f"{f.check}: {f.says}" for f in bad),
            {f.check: f.evidence for f in bad},
            bad[0].remedy,
        )
    trained = "LoRA" if patient.lora else "all weights"
    says = (
        f"{trained}, {learner.forward.path} path: {len(found)} proofs hold, largest distance to the"
        f" oracle {learner.forward.worst:.1e} nats a token"
    )
    return Finding("", "ok", says, {finding.check: finding.evidence for finding in found})


def repeatable(device: torch.device, dtype: torch.dtype) -> Finding:
    """Two runs of a few updates from one seed end in the same bits."""
    first, second = (_trained(device, dtype, UPDATES)[1].state() for _ in range(2))
    apart = [name for name in first if not torch.equal(first[name], second[name])]
    if not apart:
        return Finding("", "ok", f"{UPDATES} updates from one seed, twice: the same bits")
    gap = max((first[name] - second[name]).abs().max().item() for name in apart)
    says = (
        f"{UPDATES} updates from one seed, twice: {len(apart)} of {len(first)} tensors differ, by"
        f" up to {gap:.1e}"
    )
    if device.type == "cpu":
        return Finding(
            "",
            "refused",
            says,
            {"gap": gap},
            "a resumed run would not be the same; report this with your versions",
        )
    return Finding(
        "",
        "note",
        says + "; GPU kernels may add in any order: resumed runs are equal up to that",
        {"gap": gap},
    )


def draw_answers(family: str, k: int, device: torch.device, dtype: torch.dtype) -> Finding:
    """See `drawn`."""
    return draw_in_every_way(_network(family), k, device, dtype)


def gradient(device: torch.device, dtype: torch.dtype) -> Finding:
    """See `policy_gradient`."""
    return policy_gradient(_network("llama"), device, dtype)


def rewarding(device: torch.device, dtype: torch.dtype) -> Finding:
    """See `reward_model`."""
    with tempfile.TemporaryDirectory() as folder:
        return reward_model(_network("llama"), some_trees("pairs"), Path(folder), device, dtype)


def read_back(device: torch.device, dtype: torch.dtype) -> Finding:
    """See `saved`."""
    with tempfile.TemporaryDirectory() as folder:
        return save_and_read_back(
            _network("llama"), some_trees("pairs"), Path(folder), device, dtype
        )


def save_checkpoint(device: torch.device, dtype: torch.dtype) -> Finding:
    """See `restored`."""
    with tempfile.TemporaryDirectory() as folder:
        return restore_checkpoint(Path(folder), device, dtype)


def restore_checkpoint(folder: Path, device: torch.device, dtype: torch.dtype) -> Finding:
    """A checkpoint goes to disk and back; the next update from it is the one that would have
    come.
    """
    learner, optimizer = _trained(device, dtype, UPDATES)
    path = checkpoint.save(folder, UPDATES, optimizer.state(), {})
    loaded = checkpoint.load(folder)
    differs = [
        n
        for n, t in optimizer.state().items()
        if n not in loaded.tensors or not torch.equal(t.cpu(), loaded.tensors[n])
    ]
    if differs:
        return Finding(
            "",
            "refused",
            f"{len(differs)} tensors come back from disk otherwise than they went, such as"
            f" {differs[0]}",
        )
    fresh, again = _trained(device, dtype, 0)
    again.load_state({name: tensor.to(device) for name, tensor in loaded.tensors.items()}, UPDATES)
    _update(learner, optimizer, UPDATES)
    _update(fresh, again, UPDATES)
    apart = [
        name
        for name, tensor in optimizer.state().items()
        if not torch.equal(tensor, again.state()[name])
    ]
    if apart and device.type == "cpu":
        return Finding(
            "",
            "refused",
            f"the update after a restored checkpoint is another one: {len(apart)} tensors differ,"
            f" such as {apart[0]}",
        )
    size = (path / "tensors.safetensors").stat().st_size
    return Finding(
        "",
        "ok",
        f"{size / 1e3:.0f} kB to disk, verified and back; the next update is the same"
        + (" up to rounding" if apart else ", bit for bit"),
    )


# ---------------------------------------------------------------- tiny runs


def some_trees(rows: str, n: int = 8) -> list[Tree]:
    """Trees of odd lengths that share a beginning, some of them a whole prompt."""
    rng = random.Random(0)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(length))

    system, trees = draw(9), []
    for row in range(n):
        prompt = (*system, *draw(3 + row % 5))
        answers = tuple(
            (*draw(2 + (row + side * 3) % 7), 2) for side in range(2 if rows == "pairs" else 1)
        )
        trees.append(
            Tree(prompt, answers, row, desirable=bool(row % 2) if rows == "labelled" else None)
        )
    return trees


def _network(family: str):
    import transformers as tf

    windows: dict[str, Any] = dict(
        head_dim=16, sliding_window=5, layer_types=["sliding_attention", "full_attention"]
    )
    configs = {
        "llama": lambda: tf.LlamaConfig(**SIZES),
        "qwen3": lambda: tf.Qwen3Config(**SIZES, head_dim=16),
        "gpt2": lambda: tf.GPT2Config(**GPT2),
        "gemma2": lambda: tf.Gemma2Config(
            **SIZES, **windows, attn_logit_softcapping=20.0, final_logit_softcapping=10.0
        ),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tf.AutoModelForCausalLM.from_config(configs[family]())


def _tokenizer() -> PreTrainedTokenizerBase:
    """Every id is a word of its own; the trees of the checks are made of ids."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {str(number): number for number in range(VOCABULARY)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")))


def _learner(
    patient: TinyCase, device: torch.device, dtype: torch.dtype
) -> tuple[UpdateContext, Optimizer]:
    """A tiny model with everything that a step needs."""
    model = LanguageModel(
        _network(patient.family).to(device, dtype), _tokenizer(), patient.family, Path(".")
    )
    if patient.lora:
        add_lora(model, rank=4, alpha=8, targets="attention", dropout=0.0, dora=False, seed=0)
    else:
        train_all_weights(model)
    objective = resolve(patient.objective)
    forward = choose(model, some_trees(objective.rows), "auto")
    learner = UpdateContext(
        forward, objective, _reference(objective.reference, forward), MicroBudget(64), 0
    )
    return learner, Optimizer(model.trainable(), TrainConfig(), 1e-3, 10)


def _reference(needed: bool, forward: Forward):
    if not needed:
        return None
    return AdaptersOff(forward) if forward.model.has_adapters else Frozen.copy_of(forward)


def _trained(
    device: torch.device, dtype: torch.dtype, updates: int
) -> tuple[UpdateContext, Optimizer]:
    learner, optimizer = _learner(PATIENTS[0], device, dtype)
    for number in range(updates):
        _update(learner, optimizer, number)
    return learner, optimizer


def _update(learner: UpdateContext, optimizer: Optimizer, number: int) -> None:
    accumulate(learner, make_batch(learner, number, some_trees(learner.kind)), optimizer.masters)
    optimizer.update(number, optimizer.grad_norm())
