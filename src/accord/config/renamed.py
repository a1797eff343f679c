"""Keys of a config that had another name in a former version.

In a recipe or behind --set an old name is an error that says the new one. A run's folder of the
former version goes on: its config.yaml and its checkpoints are read with the new names.
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
    """Give a config's sections the names of today; the order of keys stays."""
    return {
        section: (
            {_new(f"{section}.{key}").rpartition(".")[2]: value for key, value in node.items()}
            if isinstance(node, Mapping)
            else node
        )
        for section, node in raw.items()
    }


def rename_paths(flat: Mapping[str, object]) -> dict[str, object]:
    """As `rename_keys`, for a config that is a mapping from paths to values."""
    return {_new(path): value for path, value in flat.items()}


def _new(path: str) -> str:
    return RENAMED.get(path, path)
