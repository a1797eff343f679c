"""The identity of a run: what a checkpoint, and every rank, must have in common with it."""

from __future__ import annotations

from collections.abc import Sequence

from accord.config.renamed import rename_paths
from accord.config.schema import Config
from accord.distributed.world import World
from accord.environment.digests import flatten
from accord.types import Refused


def require_one_run(world: World, identity: dict) -> None:
    """Check that every rank has come to the same data, weights and settings; another file on one
    machine would go unnoticed.

    Raises:
      Refused: on every rank, naming the one that differs from the first, and in what.
    """
    first, *others = world.gather(identity)
    for rank, other in enumerate(others, 1):
        if lines := differences(first, other, "on the first rank", "here"):
            said = "\n".join(f"  {line}" for line in lines)
            error = Refused(f"{world.name(rank)} would train another run than the first:\n{said}")
            error.on_all_ranks = True
            raise error


IDENTITY = {
    "train_data": "the training data",
    "held_out_data": "the held-out data",
    "initial_weights": "the starting model",
    "tokenizer": "the tokenizer or its chat template",
    "reference": "the reference",
    "forward": "the forward path",
    "train_tokens": "the tokens of the training rows",
    "held_out_tokens": "the tokens of the held-out rows",
    "trees": "the number of usable rows",
    "order": "the order of the rows",
    "rewards": "what rewards answers",
    "objective": "the code of the objective",
    "asked": "the sample prompts",
}


# a field that the older record does not know, at a value that does nothing
UNSET: tuple = (None, "", False, [], {})
# what runs did before there was a field for it
FORMERLY = {"train.optimizer": "adamw"}
# Digests of tokens, and the digests that name what the tokens were made from.
TOKENS = {
    "train_tokens": ("train_data", "tokenizer"),
    "held_out_tokens": ("held_out_data", "tokenizer"),
}
OTHER_TOKENS = (
    "though file, tokenizer and template are the same: another version of transformers, tokenizers"
    " or accord, or a template that prints the date"
)


def has_tokens(identity: dict) -> bool:
    """Tell whether an identity has digests of tokens: runs of accord 0.1 have none."""
    return all(key in identity for key in TOKENS)


def sums_changed(identity: dict) -> bool:
    """Tell whether an identity is of an accord that added log-probs in float32."""
    return "sums" not in identity


def differences(one: dict, other: dict, when: str, where: str) -> list[str]:
    """List what differs between two identities, one per line; `when` and `where` name the two.

    Digests of tokens are compared where both have them; see `has_tokens`.
    """
    known = [
        key for key in IDENTITY if key not in TOKENS or (has_tokens(one) and has_tokens(other))
    ]
    differing = [key for key in known if one.get(key) != other.get(key)]
    lines = [
        f"{IDENTITY[key]}{_cause(key, differing)}: {when} {str(one.get(key))[:16]}, {where}"
        f" {str(other.get(key))[:16]}"
        for key in differing
    ]
    then, now = ({**FORMERLY, **rename_paths(each.get("config", {}))} for each in (one, other))
    paths = [*then, *(path for path in now if path not in then)]
    return lines + [
        f"{p}: {when} {then.get(p)}, {where} {now.get(p)}"
        for p in paths
        if then.get(p) != now.get(p) and not (p not in then and now[p] in UNSET)
    ]


def _cause(key: str, differing: Sequence[str]) -> str:
    """Say what made the tokens differ, if nothing that they are made from does."""
    made_from = TOKENS.get(key)
    return f", {OTHER_TOKENS}" if made_from and not set(made_from) & set(differing) else ""


def trajectory(config: Config) -> dict[str, object]:
    """Return the fields that the weights and the records of a run depend on, by path.

    The places of files are not among them: their contents have fingerprints. Neither is how the
    work is shared, which changes no more than roundings, nor what is computed twice to save memory,
    which changes nothing.
    """
    fields = config.model_dump(
        mode="json",
        exclude={
            "output": True,
            "checkpoint": True,
            "allow": True,
            "monitor": {"trackers", "audit_rows"},
        },
    )
    places = {
        "model": ("name", "adapter", "device"),
        # the day shows in the tokens, if the template writes it
        "data": ("train", "held_out", "template_date"),
        "train": ("parallel", "recompute"),
    }
    for section, names in places.items():
        for name in names:
            del fields[section][name]
    if fields["rollouts"] is not None:
        del fields["rollouts"]["reward_models"]
        if fields["rollouts"]["sampler"] is not None:  # its address and its patience may change
            fields["rollouts"]["sampler"] = "server"
    return flatten(fields) | _weights(config)


def _weights(config: Config) -> dict[str, object]:
    """Return how several files are mixed; nothing for one file that is taken as it is."""
    files = [each.model_dump(mode="json", exclude={"path"}) for each in config.data.train_files]
    return {"data.weights": files} if files else {}
