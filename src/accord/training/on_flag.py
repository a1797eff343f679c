"""The action on red flags: report what the figures mean, then do what `--on-flag` asks: nothing,
stop, or adapt.
"""

from __future__ import annotations

from accord.runs import checkpoint
from accord.runs.folder import vars_of
from accord.training.events import record_finding
from accord.training.red_flags import choose_action, explain_flag
from accord.training.saving import held_out_score, save
from accord.training.state import Run
from accord.types import Finding, Flagged


def apply_on_flag(run: Run) -> None:
    """Report what the figures mean; then do what `--on-flag` asks.

    Raises:
      Flagged: a red flag, and on_flag is stop. The run is saved.
    """
    ready, progress = run.ready, run.progress
    found = look_for_flags(run)
    for finding in found:
        record_finding(run, finding)
    wanted = choose_action(
        ready.config.monitor.on_flag, found, can_go_back=progress.best_step is not None
    )
    if wanted is None:
        return
    what, cause = wanted
    if what == "stop":
        path = save(run)
        raise Flagged(
            f"{cause.check}: {cause.says}\n{cause.means}\nWhat to do: {cause.remedy}\nSaved {path}."
            f" Go on all the same: accord resume {run.folder.path} (this flag does not stop it"
            " again)."
        )
    if what == "slower":
        slow_down(run, cause)
    else:
        go_back(run, cause)


def look_for_flags(run: Run) -> list[Finding]:
    """Look for flags in the figures.

    Of several ranks the first one's figures count, since speed and memory differ from rank to rank.
    """
    world = run.ready.world
    if world.size == 1:
        return [
            explain_flag(run.ready, run.progress.step, finding, run.folder.path)
            for finding in run.monitor.look()
        ]
    return [
        Finding(**finding)
        for finding in world.on_first(lambda: [vars_of(finding) for finding in run.monitor.look()])
    ]


def slow_down(run: Run, cause: Finding) -> None:
    """Halve the learning rate of every update to come."""
    run.progress.rate_scale *= 0.5
    run.ready.optimizer.scale = run.progress.rate_scale
    says = (
        f"the learning rate is {run.progress.rate_scale:g} times the planned one from here on,"
        f" since {cause.check} was raised"
    )
    record_finding(
        run,
        Finding(
            "guard.slower", "note", says, {"scale": run.progress.rate_scale, "cause": cause.check}
        ),
    )


def go_back(run: Run, cause: Finding) -> None:
    """End the run with the weights of the best held-out evaluation."""
    progress, best = run.progress, run.progress.best_step
    assert best is not None and progress.best is not None, "there was an evaluation to go back to"
    if best != progress.step:  # otherwise they are the ones at hand
        world = run.ready.world
        tensors = checkpoint.load(run.folder.checkpoints, "best").tensors if world.first else {}
        run.ready.load_state(world.from_first(tensors), best)
    progress.taken = best
    says = (
        f"the run ends with the weights of step {best}, the best on held-out rows, since"
        f" {cause.check} was raised"
    )
    if progress.best > held_out_score(progress.before):
        says += (
            f"; even they are worse there than what training started from ({progress.best:.4g}"
            f" against {held_out_score(progress.before):.4g})"
        )
    record_finding(run, Finding("guard.best", "note", says, {"taken": best, "cause": cause.check}))
