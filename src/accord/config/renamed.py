"""Config keys that had another name in a former version.

In a recipe or after --set, an old name is an error that gives the new one. A run of the former
version can continue: its config.yaml and its checkpoints are read with the new names.
"""

from __future__ import annotations

from collections.abc import Mapping

# old path -> new path, in the same section
RENAMED = {
    "rollouts.k": "rollouts.num_generations",
    "rollouts.passes": "rollouts.num_iterations",
    "rollouts.held_out_k": "rollouts.num_generations_eval",
    "train.clip": "train.max_grad_norm",
}


def rename_keys(raw: Mapping) -> dict:
    """Give a config's sections their current names; the order of keys stays."""
    return {
        section: (
            {_new(f"{section}.{key}").rpartition(".")[2]: value for key, value in node.items()}
            if isinstance(node, Mapping)
            else node
        )
        for section, node in raw.items()
    }


def rename_paths(flat: Mapping[str, object]) -> dict[str, object]:
    """Rename the keys of a config that maps paths to values; otherwise like `rename_keys`."""
    return {_new(path): value for path, value in flat.items()}


def _new(path: str) -> str:
    return RENAMED.get(path, path)
