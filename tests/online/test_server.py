"""Runs whose answers a server draws: the same rewards, versions that are who they say, and every
fault named.
"""

import pytest
from online.stand_in import standing_in
from training.helpers import run

SMALL = {
    "rollouts.rewards": ["length"],
    "rollouts.num_generations": 2,
    "rollouts.max_new_tokens": 5,
    "monitor.samples": 0,
}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "train.txt"
    file.write_text("".join(f"say something about the cat number {n}\n" for n in range(8)))
    return file


@pytest.fixture
def server(tiny_folder):
    with standing_in(tiny_folder) as state:
        yield state


def settings(server, **more):
    fields = {"server": server.address, "attempts": 3, "timeout": 30.0, "workers": 4} | more
    return SMALL | {"rollouts.sampler": fields}


def trained(tiny_folder, prompts, output, fields, **changes):
    return run(
        tiny_folder,
        str(prompts),
        output,
        method="grpo",
        set=fields | changes.pop("set", {}),
        **{"steps": 3, "batch_size": 2} | changes,
    )


def test_a_run(tiny_folder, prompts, server, tmp_path):
    result = trained(tiny_folder, prompts, tmp_path / "run", settings(server))
