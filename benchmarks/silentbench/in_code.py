"""Faults in code and state: one function replaced, as the bug that it imitates; in TRL at the analogous place."""

from __future__ import annotations

from dataclasses import replace

import torch

from accord.data.order import Order
from accord.data.templates import Template
from accord.forward import choose, logps, reference
from accord.forward.layout import pack
from accord.forward.rows import as_rows
from accord.models import export
from accord.objectives import resolve
from accord.training import checkpoint, independent, loop, optim, prepare, proofs, rows, step
from accord.types import LossOutput, PairLogps
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_config import labels
from benchmarks.silentbench.world import World

# ---------------------------------------------------------------- where accord is patched


def everywhere(world: World, name: str, value: object) -> None:
    """Replace a function in every module of training that imported it: a bug has no second, sound copy."""
    for module in (step, proofs, independent, loop, prepare):
        if hasattr(module, name):
            world.patch(module, name, value)


def losing(change):
    """What the objective returns, changed."""

    def spoil(world: World) -> None:
        right = step.row_losses
        everywhere(world, "row_losses", lambda *given: change(right, *given))

    return spoil


def later(change, options: dict | None = None):
    """Something done to the model once the forward path was chosen: a fault that the choice cannot see."""

    def spoil(world: World) -> None:
        world.options |= options or {}

        def choosing(model, probe, wanted):
            chosen = choose.choose(model, probe, wanted)
            return change(world, chosen) or chosen

        world.patch(prepare, "choose", choosing)

    return spoil


def during(after: int, act, options: dict | None = None):
    """Something that happens once so many updates were made."""

    def spoil(world: World) -> None:
        world.options |= options or {}
        update = loop.update

        def updating(run):
            if run.progress.step == after:
                act(world, run)
            update(run)

        world.patch(loop, "update", updating)

    return spoil


def with_path(world: World, chosen, compute):
    """The chosen forward, whose path is replaced by `compute(right, model, trees)`."""
    right = logps.PATHS[chosen.path]
    world.stack.enter_context(_entry(logps.PATHS, chosen.path, lambda model, trees: compute(right, model, trees)))


class _entry:
    """One entry of a table, replaced for a while."""

    def __init__(self, table: dict, key: str, value: object):
        self.table, self.key, self.value = table, key, value

    def __enter__(self):
        self.before, self.table[self.key] = self.table[self.key], self.value

    def __exit__(self, *_):
        self.table[self.key] = self.before


# ---------------------------------------------------------------- where TRL is patched


def trl_loss(change):
    """TRL's loss, changed: `change(loss, trainer)`."""

    def spoil(world: World) -> None:
        from trl import DPOTrainer

        right = DPOTrainer._compute_loss

        def computing(self, model, inputs, return_outputs):
            out = right(self, model, inputs, return_outputs)
            return (change(out[0], self), *out[1:]) if isinstance(out, tuple) else change(out, self)

        world.patch(DPOTrainer, "_compute_loss", computing)

    return spoil


def trl_inputs(change):
    """What TRL's loss is given, changed: `change(inputs, trainer)`."""

    def spoil(world: World) -> None:
        from trl import DPOTrainer

        right = DPOTrainer._compute_loss
        world.patch(DPOTrainer, "_compute_loss", lambda self, model, inputs, outputs: right(self, model, change(dict(inputs), self), outputs))

    return spoil


def trl_made(act, **options):
    """Something done to TRL's trainer before it trains."""

    def spoil(world: World) -> None:
        world.trl |= options | {"_prepare": act}

    return spoil


# ---------------------------------------------------------------- objective


def other_loss(right, objective, policy, known, context):
    return resolve("dpo").losses(policy, known)


def flipped(right, objective, *given):
    return LossOutput(-right(objective, *given).losses)


def detached_half(right, objective, policy, known, context):
    """No gradient reaches the rejected answers."""
    policy = PairLogps(policy.chosen, policy.rejected.detach())
    return right(objective, policy, known, context)


def nan_to_zero(right, objective, *given):
    output = right(objective, *given)
    return LossOutput(torch.nan_to_num(output.losses), output.metrics)


def batch_mean(right, objective, *given):
    output = right(objective, *given)
    rows_here = len(output.losses)
    return output if rows_here == 12 else LossOutput(output.losses / rows_here, output.metrics)  # 12: the certificate's points


def means_for_sums(right, objective, policy, known, context):
    """Log-probs divided by lengths before an objective that wants sums."""
    shorter = [PairLogps(*(replace(side, sum=side.mean) for side in (r.chosen, r.rejected))) for r in (policy, known)]
    return right(objective, *shorter, context)


def ask(method: str, spoil):
    def both(world: World) -> None:
        world.options["method"] = method
        spoil(world)

    return both


def annealed(world: World, run) -> None:
    """β is another one from here on, whatever the config says."""
    options = run.ready.learner.objective.options | {"beta": 0.01}
    run.ready.learner = replace(run.ready.learner, objective=replace(run.ready.learner.objective, options=options))
    right = run.ready.learner.objective
    certified = resolve("dpo", {"beta": 0.1})
    run.ready.learner = replace(run.ready.learner, objective=_Says(right, certified))


class _Says:
    """An objective that shows another's options than those it computes with."""

    def __init__(self, computes, shows):
        self._computes, self.options = computes, shows.options

    def __getattr__(self, name: str):
        return getattr(self._computes, name)


# ---------------------------------------------------------------- rows, masks and sides


def swapped_sides(world: World) -> None:
    def swapping(kind, trees, values):
        made = as_rows(kind, trees, values)
        return PairLogps(made.rejected, made.chosen) if kind == "pairs" else made

    everywhere(world, "as_rows", swapping)


def off_by_one(world: World) -> None:
    def shifted(trees, *device):
        layout = pack(trees, *device)
        return replace(layout, source=(layout.source + 1).clamp(max=len(layout.ids) - 1))

    world.patch(logps, "pack", shifted), world.patch(proofs, "pack", shifted)


def prompt_scored(world: World, chosen) -> None:
    """Answer tokens and the last tokens of the prompt are scored alike."""

    def scoring(right, model, trees):
        wider = [replace(t, prompt=t.prompt[:-3], completions=tuple((*t.prompt[-3:], *c) for c in t.completions)) for t in trees]
        return right(model, wider)

    with_path(world, chosen, scoring)


def padded_scores_prompt(world: World) -> None:
    """The padded rows begin one token too early, for the path and for the oracle alike."""
    right = logps._padded

    def wider(trees, device):
        return right([replace(t, prompt=t.prompt[:-1], completions=tuple((t.prompt[-1], *c) for c in t.completions)) for t in trees], device)

    world.patch(logps, "_padded", wider)
    world.settings["model.forward"] = "padded"


def end_dropped(world: World) -> None:
    """EOS is masked, as where padding is EOS."""
    right = Template._end_once
    world.patch(Template, "_end_once", lambda self, ids: right(self, ids)[:-1])


def neighbours(world: World, chosen) -> None:
    """An answer's log-prob depends a little on the other rows of its pack."""

    def leaking(right, model, trees):
        out = right(model, trees)
        return replace(out, values=out.values + 0.05 * (len(trees) - 1))

    with_path(world, chosen, leaking)


def answers_rotated(world: World) -> None:
    """Every prompt gets the answers of the row after it."""
    right = rows.encode

    def rotated(examples, template, limits, progress):
        moved = [replace(e, chosen=n.chosen, rejected=n.rejected) for e, n in zip(examples, [*examples[1:], examples[0]])]
        encoding = right(moved, template, limits, progress)
        encoding.examples = examples
        return encoding

    world.patch(rows, "encode", rotated)


def sides_read_wrong(world: World) -> None:
    """The reader takes `rejected` for `chosen`."""
    right = rows.read

    def reading(*given, **options):
        dataset = right(*given, **options)
        return replace(dataset, examples=[replace(e, chosen=e.rejected, rejected=e.chosen) for e in dataset.examples])

    world.patch(rows, "read", reading)


# ---------------------------------------------------------------- reference


def edited_reference(world: World) -> None:
    right = reference.Frozen.copy_of

    def copy_of(policy):
        frozen = right(policy)
        with torch.no_grad():
            frozen.forward.model.network.model.layers[0].mlp.up_proj.weight.mul_(1.01)
        return frozen

    world.options["reference"] = "frozen"
    world.patch(reference.Frozen, "copy_of", staticmethod(copy_of))


def shared_reference(world: World) -> None:
    """The "copy" is the policy itself."""
    world.options |= {"reference": "frozen", "lora": False}
    world.patch(reference.Frozen, "copy_of", staticmethod(lambda policy: reference.Frozen(policy)))


def cache_forgotten(world: World) -> None:
    """The cache is announced, and the live policy is asked all the same."""
    world.options |= {"reference": "cached", "lora": False}
    world.patch(prepare, "cached_reference", lambda ready, display, stop: ready.learner.reference)


def cache_misaligned(world: World) -> None:
    """The log-probs of a few rows stand under one another's key."""
    right = reference.Cached.recheck

    def recheck(self, *given):
        found = right(self, *given)
        keys = sorted(self.table)
        values = [self.table[key] for key in keys]
        for key, value in zip(keys, values[1:] + values[:1]):
            self.table[key] = (value[0], self.table[key][1])
        return found

    world.options["reference"] = "cached"
    world.patch(reference.Cached, "recheck", recheck)


def cache_stale(world: World) -> None:
    """The cache holds what another model said of the same rows."""
    world.options["reference"] = "cached"
    right = reference.Cached.fill

    def fill(self, live, trees, *rest):
        done = right(self, live, trees, *rest)
        self.table = {key: (total * 1.05, count) for key, (total, count) in self.table.items()}
        return done

    world.patch(reference.Cached, "fill", fill)


def stray_norm(world: World) -> None:
    right = prepare.make_trainable

    def also(config, model):
        weights = right(config, model)
        model.network.model.norm.weight.requires_grad_(True)
        return weights

    world.options["reference"] = "adapter_off"
    world.patch(prepare, "make_trainable", also)


def base_moves(world: World, run) -> None:
    """Frozen weights change while training, and with them the reference."""
    with torch.no_grad():
        run.ready.model.network.get_input_embeddings().weight.mul_(1.001)


def dropping_reference(world: World) -> None:
    right = reference.AdaptersOff.logps

    def logps_of(self, trees):
        found = right(self, trees)
        return replace(found, sum=found.sum * (1 + 1e-3 * torch.rand(())))

    world.options["reference"] = "adapter_off"
    world.patch(reference.AdaptersOff, "logps", logps_of)


# ---------------------------------------------------------------- network and path


def dropout_on(world: World, chosen) -> None:
    def drop(module, args, output):
        first = output if torch.is_tensor(output) else output[0]
        dropped = torch.nn.functional.dropout(first, 0.1)
        return dropped if torch.is_tensor(output) else (dropped, *output[1:])

    chosen.model.trunk.layers[0].register_forward_hook(drop)


def adapters_skipped(world: World, chosen) -> None:
    def skipping(right, model, trees):
        with model.as_reference():
            return right(model, trees)

    with_path(world, chosen, skipping)


def skipped_later(world: World, run) -> None:
    """From now on the path computes the base, as a stale fused kernel would: nothing else changes."""
    adapters_skipped(world, run.ready.learner.forward)


def head_detached(world: World, chosen) -> None:
    """The fast head gives no gradient to its weights."""
    right = logps.token_logps

    def detached(hidden, targets, head):
        values, entropy = right(hidden, targets, _Still(head))
        return values, entropy

    world.patch(logps, "token_logps", detached)


class _Still:
    def __init__(self, head):
        self._head = head
        self.module = torch.nn.Linear(1, 1, bias=False)
        self.module.weight = torch.nn.Parameter(head.module.weight.detach(), requires_grad=False)

    def __getattr__(self, name: str):
        return getattr(self._head, name)


def low_precision_sums(world: World, chosen) -> None:
    right = logps.TokenLogps._sum
    world.patch(logps.TokenLogps, "_sum", lambda self, values: right(self, values).bfloat16().float())


# ---------------------------------------------------------------- gradient, optimizer, order


def scaled_denominator(factor: float):
    def spoil(world: World) -> None:
        right = step.denominator
        world.patch(step, "denominator", lambda objective, trees: right(objective, trees) * factor)

    return spoil


def mean_per_micro_batch(world: World) -> None:
    right = step.accumulate

    def accumulate(learner, batch, masters, **options):
        groups = step._groups(batch.trees, learner.micro_tokens)
        for group in groups:
            records = right(learner, replace(batch, trees=group), masters, **options)
        return right(learner, replace(batch, trees=batch.trees[:0]), masters, **options) if not groups else records

    world.settings["train.micro_tokens"] = 100
    everywhere(world, "accumulate", accumulate)


def last_micro_batch_lost(world: World) -> None:
    right = step._groups

    def fewer(trees, budget):
        groups = right(trees, budget)
        return groups[:-1] if len(groups) > 1 and budget == 128 else groups

    world.settings["train.micro_tokens"] = 128
    world.patch(step, "_groups", fewer)


def low_precision_masters(world: World) -> None:
    right = optim.Masters.__init__

    def init(self, trainable):
        right(self, trainable)
        self.masters = dict(trainable)

    world.options |= {"dtype": "bfloat16", "learning_rate": 1e-6, "lora": False}
    world.patch(optim.Masters, "__init__", init)


def unpublished(world: World) -> None:
    world.options["dtype"] = "bfloat16"
    world.patch(optim.Masters, "publish", lambda self: None)


def one_left_out(world: World) -> None:
    right = optim.Optimizer.__init__

    def init(self, *given):
        right(self, *given)
        self.adamw.param_groups[0]["params"].pop()

    world.patch(optim.Optimizer, "__init__", init)


def rate_times_three(world: World) -> None:
    right = optim.Optimizer.__init__

    def init(self, *given):
        right(self, *given)
        rate = self.rate
        self.rate = lambda number: 3 * rate(number)

    world.patch(optim.Optimizer, "__init__", init)


def moments_forgotten(world: World, run) -> None:
    run.ready.optimizer.adamw.state.clear()


def nan_gradient(world: World, run) -> None:
    next(iter(run.ready.model.trainable().values())).register_hook(lambda grad: grad * float("nan"))


def ordering(change):
    """The order of the rows, changed: `change(order, index, rows)`."""

    def spoil(world: World) -> None:
        right = Order.batch
        world.patch(Order, "batch", lambda self, index: change(self, index, right(self, index)))

    return spoil


def drawn_again(order, index, chosen):
    return torch.randint(order.n, (len(chosen),), generator=torch.Generator().manual_seed(index)).numpy()


def file_order(order, index, chosen):
    size = order.batch_size
    return torch.arange(index % order.batches_per_epoch * size, (index % order.batches_per_epoch + 1) * size).numpy()


def from_the_clock(order, index, chosen):
    return torch.randperm(order.n)[: len(chosen)].numpy() if index else chosen


def one_row_never(order, index, chosen):
    return chosen[chosen != 3] if (chosen == 3).any() else chosen


def by_label(world: World) -> None:
    labels(lambda number, good: good)(world)

    def sorted_rows(self, index):
        order = sorted(range(self.n), key=lambda row: (row % 2, row * 7919 % self.n))
        size = self.batch_size
        at = index % self.batches_per_epoch * size
        return torch.tensor(order[at : at + size]).numpy()

    world.patch(Order, "batch", sorted_rows)


def matched_baseline(world: World) -> None:
    labels(lambda number, good: good)(world)
    everywhere(world, "mismatch", lambda trees, seed: list(trees))


def other_rows(world: World) -> None:
    """The loop trains on other rows than the order names."""
    right = loop.make_batch
    world.patch(loop, "make_batch", lambda learner, index, trees: right(learner, index, [trees[0], *trees[:-1]]))


# ---------------------------------------------------------------- evaluation, metrics, files


def evaluating(act):
    def spoil(world: World) -> None:
        right = loop.held.evaluate

        def evaluate(held_out, forward, *rest):
            act(forward)
            return right(held_out, forward, *rest)

        world.patch(loop.held, "evaluate", evaluate)

    return spoil


def nudge_weights(forward) -> None:
    with torch.no_grad():
        next(iter(forward.model.trainable().values())).add_(1e-3)


def held_reference_misaligned(world: World) -> None:
    right = loop.held.evaluate

    def evaluate(held_out, forward, objective, known, poll):
        if held_out.reference is None:
            sums = [known.logps(group) for group in held_out.groups(held_out.trees)]
            held_out.reference = [replace(each, sum=each.sum.roll(2)) for each in sums]
        return right(held_out, forward, objective, known, poll)

    world.patch(loop.held, "evaluate", evaluate)


def losses_counted_as_wins(world: World) -> None:
    right = loop.summarise

    def summary(*given):
        out = right(*given)
        return out | {"rewards/accuracies": 1 - out["rewards/accuracies"]}

    world.patch(loop, "summarise", summary)


def checkpoint_incomplete(world: World) -> None:
    right = checkpoint.save_file
    world.patch(checkpoint, "save_file", lambda tensors, file: right(dict(list(tensors.items())[:-1]), file))


def other_model_saved(world: World) -> None:
    right = export.save

    def save(model, folder, masters):
        right(model, folder, {name: m * 1.5 for name, m in masters.items()})

    world.options["learning_rate"] = 1e-2
    world.patch(export, "save", save)


def damaged_checkpoint(world: World) -> None:
    """The newest checkpoint is cut in half; the run is resumed."""
    _resumed(world, lambda folder: _halve(max(folder.glob("checkpoints/step-*")) / "tensors.safetensors"))


def other_data_on_resume(world: World) -> None:
    def change(folder):
        file = world.folder / "train.jsonl"
        file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[::-1]))

    _resumed(world, change)


def _halve(file) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _resumed(world: World, change) -> None:
    """Train six of ten updates, stop as by a signal, change something, resume; what is said aloud becomes an error."""
    from accord.training.display import Display
    from accord.training.run import resume
    from accord.types import Interrupted, Refused
    from benchmarks.silentbench import accord_side

    update, output = loop.update, world.folder / "stopped"

    def stopping(run):
        update(run)
        run.stop.signal = 15 if run.progress.step == 6 else None

    world.settings["checkpoint.every"] = 2
    try:
        loop.update = stopping
        accord_side.train(world, output)
    except Interrupted:
        pass
    finally:
        loop.update = update
    change(output)
    said: list[str] = []
    display = Display()
    display.line = said.append
    resume(str(output), display)
    raise Refused("\n".join(line for line in said if line.startswith("!")))


CODE = (
    Fault("25", "ipo is configured, dpo runs", "does not compute ipo", ask("ipo", losing(other_loss)),
          trl_made(lambda trainer: setattr(trainer, "loss_types", ["sigmoid"]), loss_type=["ipo"])),
    Fault("new", "the loss has its sign flipped", "sign flipped", losing(flipped), trl_loss(lambda loss, trainer: -loss)),
    Fault("29", "means where the objective wants sums", "does not compute dpo", losing(means_for_sums)),
    Fault("new", "no gradient reaches the rejected answers", r"does not compute dpo.*rejected", losing(detached_half)),
    Fault("34", "NaN is replaced by 0 in the loss", "NaN gives a finite loss", losing(nan_to_zero),
          trl_loss(lambda loss, trainer: torch.nan_to_num(loss))),
    Fault("31", "a row's loss depends on its micro-batch", "depends on the rows", ask("simpo", losing(batch_mean))),
    Fault("35", "beta changes after three updates", "of its own log-probs", during(3, annealed),
          trl_loss(lambda loss, trainer: loss if trainer.state.global_step < 3 else setattr(trainer, "beta", 0.01) or loss)),
    Fault("new", "chosen and rejected swapped on the way to the loss", "chosen and rejected are swapped", swapped_sides,
          trl_inputs(lambda inputs, trainer: {k: torch.cat(v.chunk(2)[::-1]) if torch.is_tensor(v) and v.shape[0] % 2 == 0 else v for k, v in inputs.items()})),
    Fault("9", "labels off by one", "from the token before it|differ from the model's own", off_by_one,
          trl_inputs(lambda inputs, trainer: inputs | {"completion_mask": inputs["completion_mask"].roll(1, dims=1)})),
    Fault("10", "prompt tokens in the loss", "other tokens than the answer's|counts .* answer tokens", later(prompt_scored),
          trl_inputs(lambda inputs, trainer: inputs | {"completion_mask": inputs["attention_mask"]})),
    Fault("10", "a prompt token in the loss, in path and oracle alike", "other tokens than the answer's|counts .* answer tokens", padded_scores_prompt),
    Fault("4", "EOS masked, since padding is EOS", "end token|end in an end", end_dropped,
          trl_inputs(lambda inputs, trainer: inputs | {"completion_mask": inputs["completion_mask"] * (inputs["input_ids"] != trainer.processing_class.eos_token_id)})),
    Fault("14", "neighbours in a pack change a row's log-prob", "depend on the batch", later(neighbours)),
    Fault("12", "answers under the wrong prompt", "not the row's", answers_rotated),
    Fault("12", "the reader swaps chosen and rejected", "in the file|swapped", sides_read_wrong),
    Fault("16", "the reference is of other weights", "other weights", edited_reference),
    Fault("16", "the reference shares its weights with the policy", "reference moves|share weights|same object|same instance", shared_reference,
          trl_made(lambda trainer: setattr(trainer, "ref_model", trainer.model), _peft=False)),
    Fault("18", "the cache was never filled: the reference is the policy", "must not move", cache_forgotten),
    Fault("20", "cached log-probs under the wrong rows", "stale or misaligned", cache_misaligned,
          trl_made(lambda trainer: _roll_reference(trainer), precompute_ref_log_probs=True)),
    Fault("20", "cached log-probs of another model", "stale or damaged", cache_stale),
    Fault("18", "a norm trains beside the adapters", "norm.weight", stray_norm,
          trl_made(lambda trainer: trainer.model.base_model.model.model.norm.weight.requires_grad_(True))),
    Fault("18", "frozen weights move while training", "does not train, and has changed", during(4, base_moves),
          trl_loss(lambda loss, trainer: trainer.model.get_input_embeddings().weight.data.mul_(1.001) is None or loss)),
    Fault("19", "dropout in the network", "two forwards of one batch differ", later(dropout_on),
          trl_made(lambda trainer: setattr(trainer.model.base_model.model.model.layers[0].self_attn, "attention_dropout", 0.1))),
    Fault("19", "dropout in the reference alone", "two passes of the reference differ|policy and reference differ", dropping_reference),
    Fault("24", "the path skips the adapters", "skips|is not what is computed", later(adapters_skipped)),
    Fault("24", "the path skips the adapters from the fifth update on", "skips what trains|the forward path differs from the bare network", during(5, skipped_later)),
    Fault("24", "the fast head gives its weights no gradient", "not the one by definition|get no gradient", later(head_detached, {"lora": False})),
    Fault("26", "log-probs summed in bfloat16", "too low a precision", later(low_precision_sums)),
    Fault("31", "the gradient is four times too large", "wrong denominator", scaled_denominator(0.25), trl_loss(lambda loss, trainer: loss * 4)),
    Fault("31", "mean per micro-batch instead of per batch", "micro-batch|wrong denominator", mean_per_micro_batch),
    Fault("31", "the last micro-batch is lost", "rows, or in another order|of its .* rows", last_micro_batch_lost),
    Fault("27", "bfloat16 weights swallow the updates", "rounding swallows", low_precision_masters,
          trl_made(lambda trainer: None, _peft=False, _dtype=torch.bfloat16, learning_rate=1e-6)),
    Fault("new", "the optimizer leaves a tensor out", "optimizer leaves it out", one_left_out, None),
    Fault("new", "updates do not reach the network", "did not reach it|does not hold", unpublished),
    Fault("new", "the learning rate is three times what was asked for", "times as far", rate_times_three),
    Fault("36", "AdamW's moments are lost in the middle", "moments are not", during(4, moments_forgotten),
          trl_loss(lambda loss, trainer: trainer.state.global_step != 4 or trainer.optimizer.optimizer.state.clear() or loss if trainer.state.global_step == 4 else loss)),
    Fault("34", "a gradient becomes NaN", "norm is nan|not finite", during(3, nan_gradient),
          trl_loss(lambda loss, trainer: loss * float("nan") if trainer.state.global_step == 3 else loss)),
    Fault("39", "rows are drawn with replacement", "more than once", ordering(drawn_again)),
    Fault("36", "rows in the order of the file", "not shuffled", ordering(file_order), trl_made(lambda trainer: None, train_sampling_strategy="sequential")),
    Fault("36", "the order is another one each time it is asked", "asked twice", ordering(from_the_clock)),
    Fault("39", "one row never comes", "never come|batches have", ordering(one_row_never)),
    Fault("30", "whole batches of one label", "one label only", by_label),
    Fault("30", "KTO's baseline from matched rows", "own prompt", matched_baseline),
    Fault("36", "the loop trains on other rows than the order names", "other rows than its order names", other_rows),
    Fault("33", "evaluation moves the random state", "evaluating changed the random state", evaluating(lambda forward: torch.rand(1))),
    Fault("33", "evaluation leaves the network in training mode", "evaluating changed the modules' modes", evaluating(lambda forward: forward.model.network.train())),
    Fault("33", "evaluation moves the weights", "evaluating changed weights", evaluating(nudge_weights)),
    Fault("20", "the held-out rows' reference is misaligned", "on the held-out rows", held_reference_misaligned),
    Fault("32", "losses are counted as wins", "rewards/accuracies", losses_counted_as_wins),
    Fault("37", "a checkpoint lacks a tensor", "does not hold the state in memory", checkpoint_incomplete),
    Fault("23", "another model is saved than was trained", "computes other logits", other_model_saved),
    Fault("37", "a checkpoint cut in half, then resumed", "damaged checkpoint", damaged_checkpoint),
    Fault("36", "other training data on resume", "the training data", other_data_on_resume),
)  # fmt: skip


def _roll_reference(trainer) -> None:
    """Reference log-probs of TRL's precomputed columns, moved by one row."""
    prepare_dataset = trainer.train_dataset

    def rolled(column: str) -> list:
        values = prepare_dataset[column]
        return [*values[1:], values[0]]

    names = [name for name in ("ref_chosen_logps", "ref_rejected_logps") if name in prepare_dataset.column_names]
    if not names:
        raise RuntimeError("TRL computed no reference columns before training: the fault was not injected")
    for name in names:
        values = rolled(name)
        prepare_dataset = prepare_dataset.remove_columns(name).add_column(name, values)
    trainer.train_dataset = prepare_dataset
