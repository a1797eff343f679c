"""Faults that stand in no list: thought of once the checks were written, to see whether they hold
for a class.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from accord.data.order import Order
from accord.engine import moving_reference, optimizer, step
from accord.evaluate import held_out
from accord.forward import reference
from accord.rollouts import sample_prompts
from accord.sampling.local import LocalSampler
from accord.training.file_source import FileSource
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_code.patches import during, everywhere, later, with_path
from benchmarks.silentbench.in_code.records import resumed
from benchmarks.silentbench.in_config import labels
from benchmarks.silentbench.world import World

# ---------------------------------------------------------------- gradients


def last_rows_twice(world: World) -> None:
    """The last micro-batch of a batch of more than four rows counts twice: no proof before the
    first update has so many.
    """
    right, right_losses, last = step.accumulate, step._losses, []

    def accumulate(learner, batch, masters, **options):
        last[:] = batch.trees[-1:] if len(batch.trees) > 4 else []
        return right(learner, batch, masters, **options)

    def losses(learner, trees, *rest):
        found = right_losses(learner, trees, *rest)
        return found * 2 if any(tree is own for tree in trees for own in last) else found

    world.options["batch_size"], world.settings["train.micro_tokens"] = 8, 150
    everywhere(world, "accumulate", accumulate)
    world.patch(step, "_losses", losses)


def padding_counted(world: World, run) -> None:
    """Rows of padding are in the denominator from here on."""
    right = step.denominator
    world.patch(step, "denominator", lambda objective, trees: right(objective, trees) + 1)


def gradient_kept(world: World, run) -> None:
    """The gradient of the update before is still there when the next one is added."""
    right = optimizer.Optimizer.update

    def update(self, number, norm):
        kept = {name: grad.clone() for name, grad in self.masters.gradients().items()}
        rate = right(self, number, norm)
        for name, grad in kept.items():
            self.masters.masters[name].grad = grad
        return rate

    world.patch(optimizer.Optimizer, "update", update)


def summed_twice(world: World, run) -> None:
    """Ranks' gradients are added up once more."""
    right = optimizer.Masters.all_reduce

    def twice(self, ranks):
        right(self, ranks)
        for grad in self.gradients().values():
            grad.mul_(2)

    world.patch(optimizer.Masters, "all_reduce", twice)


def end_of_chosen_masked(world: World, chosen) -> None:
    """The last token of chosen answers weighs nothing; it is counted all the same."""

    def masked(right, model, trees):
        out = right(model, trees)
        ends, weights = out.count.cumsum(0) - 1, torch.ones_like(out.values)
        weights[ends[::2]] = 0
        return replace(out, values=out.values * weights)

    with_path(world, chosen, masked)


def long_rows_cut(world: World, chosen) -> None:
    """Answers behind the 64th token of a row are not seen: the rows of the proofs are shorter."""

    def cut(right, model, trees):
        out = right(model, trees)
        depth = torch.cat(
            [len(tree.prompt) + torch.arange(len(c)) for tree in trees for c in tree.completions]
        )
        return replace(out, values=torch.where(depth < 64, out.values, out.values.detach() * 0))

    for row in world.rows[::3]:
        row["prompt"] = [
            {
                **row["prompt"][0],
                "content": row["prompt"][0]["content"] + " Tell me more of it, please." * 12,
            }
        ]
    with_path(world, chosen, cut)


# ---------------------------------------------------------------- the optimizer


def schedule_twice(world: World) -> None:
    """The schedule is stepped twice an update."""
    right = optimizer.Optimizer.rate
    world.patch(optimizer.Optimizer, "rate", lambda self, number: right(self, 2 * number))


def no_decay(world: World) -> None:
    right = optimizer.Optimizer.__init__

    def init(self, *given):
        right(self, *given)
        for group in self.inner.param_groups:
            group["weight_decay"] = 0.0

    world.options["lora"] = False
    world.settings["train.weight_decay"] = 0.1
    world.patch(optimizer.Optimizer, "__init__", init)


def clipped_apart(world: World) -> None:
    """Each tensor is clipped by its own norm."""
    right = optimizer.Optimizer.update

    def update(self, number, norm):
        for master in self.masters.masters.values():
            if master.grad is not None:
                torch.nn.utils.clip_grad_norm_([master], 1e-3)
        return right(self, number, norm)

    world.patch(optimizer.Optimizer, "update", update)


def moments_of_others(world: World) -> None:
    """A resumed run gives each weight the moments of another of its shape."""

    def change(folder):
        right = optimizer.Optimizer.load_state

        def load_state(self, tensors, updates):
            names = list(self.masters.masters)
            shapes = {name: tensors[f"exp_avg/{name}"].shape for name in names}
            moved = {
                name: next(
                    (o for o in names[at + 1 :] + names[:at] if shapes[o] == shapes[name]), name
                )
                for at, name in enumerate(names)
            }
            others = {
                f"{key}/{name}": tensors[f"{key}/{moved[name]}"]
                for name in names
                for key in self.kind.state
            }
            right(self, {**{key: tensors[key] for key in self.shapes()}, **others}, updates)

        world.patch(optimizer.Optimizer, "load_state", load_state)

    resumed(world, change)


# ---------------------------------------------------------------- rows


def other_order_on_resume(world: World) -> None:
    """The generator of the order gives other numbers than when the run began, as another version of
    a library may.
    """

    def change(folder):
        right = Order.batch
        world.patch(
            Order, "batch", lambda self, index: right(replace(self, seed=self.seed + 1), index)
        )

    resumed(world, change)


def sides_swapped_later(world: World, run) -> None:
    """From here on every third row has its answers the other way round, under the same number."""
    right = FileSource.batch

    def trees(self, index):
        return [
            replace(t, completions=t.completions[::-1]) if t.row % 3 == 0 else t
            for t in right(self, index)
        ]

    world.patch(FileSource, "batch", trees)


def baseline_of_before(world: World) -> None:
    """KTO's baseline is that of the batch before."""
    labels(lambda number, good: good)(world)
    right, kept = step.whole_batch_context, []

    def context(learner, batch, *poll):
        kept.append(right(learner, batch, *poll))
        return kept[-2] if batch.index and len(kept) > 1 else kept[-1]

    world.options["learning_rate"] = 1e-2
    everywhere(world, "whole_batch_context", context)


# ---------------------------------------------------------------- networks


def untied(world: World, chosen) -> None:
    """Embedding and head are one tensor on disk and two in training."""
    network = chosen.model.network
    network.lm_head.weight = torch.nn.Parameter(network.lm_head.weight.detach().clone())


def scaled_twice(world: World, chosen) -> None:
    """Adapters count double, and their settings say otherwise."""
    for module in chosen.model.network.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling.update({name: 2 * value for name, value in module.scaling.items()})


def following(change):
    def spoil(world: World) -> None:
        world.options["reference"] = "moving"
        world.settings |= {"moving.every": 3, "moving.mix": 0.5}
        right = moving_reference.Moving.follow
        world.patch(
            moving_reference.Moving,
            "follow",
            lambda self, number, policy: change(right, self, number, policy),
        )

    return spoil


def noisy_reference(world: World, run) -> None:
    right = reference.AdaptersOff.logps

    def logps(self, trees):
        found = right(self, trees)
        return replace(found, sum=found.sum * (1 + 1e-3 * torch.rand(len(found.sum))))

    world.patch(reference.AdaptersOff, "logps", logps)


# ---------------------------------------------------------------- what is reported


def samples_of_the_base(world: World) -> None:
    """The sampler switches the adapters off."""
    right = LocalSampler.sample

    def sample(*arguments, **options):
        with network_of.as_reference():
            return right(*arguments, **options)

    network_of = None
    taking = sample_prompts.draw_samples

    def take(model, *rest):
        nonlocal network_of
        network_of = model
        return taking(model, *rest)

    world.settings |= {"monitor.samples": 2, "monitor.sample_tokens": 8}
    world.options["learning_rate"] = 1e-2
    world.patch(LocalSampler, "sample", sample)
    world.patch(sample_prompts, "draw_samples", take)


def mean_of_packs(world: World) -> None:
    """The held-out loss forgets the last rows, as a mean over packs of unequal size does."""
    right = held_out.summarise

    def summary(records, *rest):
        return right(records, *rest) | {"loss": records["loss"][:-3].mean().item()}

    world.patch(held_out, "summarise", summary)


GRADIENT = "gradient"
FAULTS = (
    Fault("31", "the last micro-batch of a larger batch counts twice", GRADIENT, last_rows_twice),
    Fault(
        "31",
        "padding rows in the denominator from the fourth update on",
        GRADIENT,
        during(3, padding_counted),
    ),
    Fault(
        "new",
        "the gradient of the update before is not cleared",
        GRADIENT,
        during(2, gradient_kept),
    ),
    Fault(
        "39",
        "gradients are added up twice from the fourth update on",
        GRADIENT,
        during(3, summed_twice),
    ),
    Fault(
        "4",
        "the end token of chosen answers alone is masked",
        "other tokens than the answer's|differ from those of each alone|differ from the"
        " model's own",
        later(end_of_chosen_masked),
    ),
    Fault(
        "6",
        "tokens of long rows alone are not seen",
        "longest row|differ from",
        later(long_rows_cut),
    ),
    Fault("new", "the learning rate's schedule is stepped twice", "times as far", schedule_twice),
    Fault("new", "weight decay does nothing", "decay", no_decay),
    Fault("new", "each tensor is clipped by its own norm", "clip|times as far", clipped_apart),
    Fault("36", "a resumed run mixes the moments up", "moments|does not hold", moments_of_others),
    Fault("36", "a resumed run has another order of rows", "order", other_order_on_resume),
    Fault(
        "12",
        "answers change sides after three updates",
        "other (rows|text)",
        during(3, sides_swapped_later),
    ),
    Fault("30", "KTO's baseline is that of the batch before", "baseline", baseline_of_before),
    Fault(
        "23",
        "tied weights are trained apart",
        "tied|computes other logits|other model",
        later(untied, {"lora": False}),
    ),
    Fault("24", "adapters count double", "computes other logits|scal", later(scaled_twice)),
    Fault(
        "21",
        "a moving reference that never moves",
        "moving reference",
        following(lambda right, self, number, policy: None),
    ),
    Fault(
        "21",
        "a moving reference that moves at every update",
        "moving reference",
        following(lambda right, self, number, policy: right(self, 3, policy)),
    ),
    Fault(
        "19",
        "noise in the reference from the third update on",
        "must not move",
        during(2, noisy_reference),
    ),
    Fault("new", "samples are of the model without its adapters", "sample", samples_of_the_base),
    Fault("32", "the held-out loss is a mean over packs", "reported", mean_of_packs),
)
