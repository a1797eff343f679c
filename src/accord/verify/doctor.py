"""`accord doctor`: does this machine, with these libraries, compute what accord promises? It takes
less than a minute, without a download.

It makes the proofs of every run with tiny random models of several architectures, in the precision
and on the device that runs would use. It also examines what those do not touch: drawing answers, a
policy gradient, a reward model, saving. It writes only to temporary folders.
"""

from __future__ import annotations

import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil
import torch

from accord.config.schema import TrainConfig
from accord.engine.micro_budget import MicroBudget
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext, accumulate, make_batch, row_losses
from accord.environment import variables
from accord.errors import AccordWarning
from accord.forward.choose import choose
from accord.models.language import LanguageModel
from accord.models.load import pick_device, pick_dtype
from accord.models.lora import add_lora, train_all_weights
from accord.objectives import OBJECTIVES, BoundObjective, resolve
from accord.runs import checkpoint
from accord.runs.folder import versions
from accord.types import Finding, RowLogps
from accord.verify import tiny
from accord.verify.certificate import certify
from accord.verify.checks import Check, run_table
from accord.verify.doctor_answers import draw_in_every_way, policy_gradient
from accord.verify.doctor_libraries import libraries
from accord.verify.doctor_saved import reward_model, save_and_read_back
from accord.verify.step0 import prove

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
    """The findings of the doctor, in the order in which they were made."""

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
    """Make every examination, on the device and in the precision that a run would use; and in
    float32, which shows most.

    With `auto`, bfloat16 is also examined if runs would use float32. A failure in bfloat16 alone is
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
    """Describe versions, device and memory, without names and paths."""
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


@dataclass(frozen=True)
class Target:
    """A device and a precision for an examination."""

    device: torch.device
    dtype: torch.dtype


def _examination(name: str, shows: str, function: Callable[[Target], Finding]) -> Check[Target]:
    return Check(name, "doctor", shows, function)


def _on(function: Callable[..., Finding], *given: object) -> Callable[[Target], Finding]:
    """Bind the given arguments; device and precision come when the examination is made."""
    return lambda target: function(*given, target.device, target.dtype)


def once() -> tuple[Check[Target], ...]:
    """List the examinations that no precision changes."""
    return (
        _examination(
            "libraries", "their versions, and what accord needs of them", lambda m: libraries()
        ),
        _examination(
            "objectives",
            "every objective's value and gradient are its closed form's",
            lambda m: objectives(),
        ),
    )


def of_models() -> tuple[Check[Target], ...]:
    """List the examinations of what tiny models compute, in one precision."""
    proved = [
        _examination(
            f"{patient.family}, {patient.objective}",
            "the proofs of step 0 hold",
            _on(prove_step0, patient),
        )
        for patient in PATIENTS
    ]
    answered = [
        _examination(
            f"{family}, K = {k}",
            "answers have the log-probs that the model gives them",
            _on(draw_answers, family, k),
        )
        for family in DRAWN
        for k in (1, 2)
    ]
    learnt = _examination(
        "policy gradient",
        "one update on its own answers makes the better ones likelier",
        _on(gradient),
    )
    return (*proved, *answered, learnt)


def of_files() -> tuple[Check[Target], ...]:
    """List the examinations of saved files and of repetitions, in one precision."""
    return (
        _examination(
            "reward model",
            "a reward model trains, is saved and gives the same scores",
            _on(rewarding),
        ),
        _examination("saved", "a saved model is the one that was trained", _on(read_back)),
        _examination("repeatable", "two runs from one seed end in the same bits", _on(repeatable)),
        _examination(
            "checkpoint",
            "the update after a restored checkpoint is the one that would have come",
            _on(save_checkpoint),
        ),
    )


def _examinations(device: torch.device, dtypes: list[torch.dtype]) -> Iterator[Finding]:
    for check in once():
        yield _safely(check.name, check, Target(device, torch.float32))
    for table in (of_models(), of_files()):
        for dtype in dtypes:
            for check in table:
                name = f"{check.name} ({str(dtype).removeprefix('torch.')})"
                yield _safely(name, check, Target(device, dtype))


def _safely(name: str, check: Check[Target], about: Target) -> Finding:
    """Make one examination. An exception becomes a finding, since the others are still worth
    making.

    An examination that passes with a warning of accord, such as a fast way of drawing that failed,
    becomes a warning with its words. Warnings of libraries are for the commands that train, and
    stay out of the report.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AccordWarning)
        try:
            (found,) = run_table((check,), about, frozenset())
        except Exception as error:
            said = str(error).splitlines() or [type(error).__name__]
            evidence = {"error": type(error).__name__}
            return Finding(name, "refused", " ".join(said)[:400], evidence)
    said = [str(w.message) for w in caught if issubclass(w.category, AccordWarning)]
    if said and found.verdict in ("ok", "note"):
        says = f"{'; '.join(dict.fromkeys(said))}. Otherwise: {found.says}"
        evidence = found.evidence | {"warnings": said}
        found = replace(found, verdict="warning", says=says, evidence=evidence)
    return replace(found, check=name)


# ---------------------------------------------------------------- examinations


def _losses_of(
    bound: BoundObjective,
    policy: RowLogps,
    known: RowLogps | None,
    context: dict[str, torch.Tensor],
) -> torch.Tensor:
    """Compute the losses of some rows through the step's own call."""
    return row_losses(bound, policy, known, context).losses


def objectives() -> Finding:
    """Compare every objective's value and gradient, through the step's own call, with its closed
    form.
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
    """Make a run's own proofs on a tiny model: fast path against oracle, gradients, micro-batches,
    determinism, reference.
    """
    learner, optimizer = _learner(patient, device, dtype)
    trees = tiny.some_trees(resolve(patient.objective).rows)
    found = prove(learner, optimizer, trees, exact=True)
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
    """Check that two runs of a few updates from one seed end in the same bits."""
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
    """Examine drawing on a tiny model; see `draw_in_every_way`."""
    return draw_in_every_way(tiny.network(family), k, device, dtype)


def gradient(device: torch.device, dtype: torch.dtype) -> Finding:
    """Examine an update on a tiny model's own answers; see `policy_gradient`."""
    return policy_gradient(tiny.network("llama"), device, dtype)


def rewarding(device: torch.device, dtype: torch.dtype) -> Finding:
    """Examine a tiny reward model; see `reward_model`."""
    with tempfile.TemporaryDirectory() as folder:
        return reward_model(
            tiny.network("llama"), tiny.some_trees("pairs"), Path(folder), device, dtype
        )


def read_back(device: torch.device, dtype: torch.dtype) -> Finding:
    """Examine saving and loading of a tiny model; see `save_and_read_back`."""
    with tempfile.TemporaryDirectory() as folder:
        return save_and_read_back(
            tiny.network("llama"), tiny.some_trees("pairs"), Path(folder), device, dtype
        )


def save_checkpoint(device: torch.device, dtype: torch.dtype) -> Finding:
    """Examine a checkpoint in a temporary folder; see `restore_checkpoint`."""
    with tempfile.TemporaryDirectory() as folder:
        return restore_checkpoint(Path(folder), device, dtype)


def restore_checkpoint(folder: Path, device: torch.device, dtype: torch.dtype) -> Finding:
    """Save a checkpoint and load it; check that the next update from it equals the next update
    without it.
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


def _learner(
    patient: TinyCase, device: torch.device, dtype: torch.dtype
) -> tuple[UpdateContext, Optimizer]:
    """Make a tiny model with everything that a step needs."""
    model = LanguageModel(
        tiny.network(patient.family).to(device, dtype),
        tiny.number_tokenizer(),
        patient.family,
        Path("."),
    )
    if patient.lora:
        add_lora(model, rank=4, alpha=8, targets="attention", dropout=0.0, dora=False, seed=0)
    else:
        train_all_weights(model)
    objective = resolve(patient.objective)
    probe = tiny.some_trees(objective.rows)
    forward = replace(choose(model, probe, "auto"), columns=objective.columns)
    reference = tiny.reference_of(forward) if objective.reference else None
    learner = UpdateContext(forward, objective, reference, MicroBudget(64), 0)
    return learner, Optimizer(model.trainable(), TrainConfig(), 1e-3, 10)


def _trained(
    device: torch.device, dtype: torch.dtype, updates: int
) -> tuple[UpdateContext, Optimizer]:
    learner, optimizer = _learner(PATIENTS[0], device, dtype)
    for number in range(updates):
        _update(learner, optimizer, number)
    return learner, optimizer


def _update(learner: UpdateContext, optimizer: Optimizer, number: int) -> None:
    accumulate(
        learner, make_batch(learner, number, tiny.some_trees(learner.kind)), optimizer.masters
    )
    optimizer.update(number, optimizer.grad_norm())
