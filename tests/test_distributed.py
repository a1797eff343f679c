"""Who computes what, and what a world of processes agrees on: dealt evenly, gathered in order,
refused together.
"""

import os
import signal
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training.worlds import GONE, in_world

from accord.distributed.device import take_device
from accord.distributed.world import (
    ALONE,
    World,
    balance_by_tokens,
    join_world,
    patience,
    restore_order,
)
from accord.environment.settings import ranks
from accord.runs.signals import Stop
from accord.types import Interrupted, PeerLost, Refused, UsageError


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 9))
def test_every_row_goes_to_one_rank(weights, size):
    shares = balance_by_tokens(weights, size)
    assert len(shares) == size and sorted(i for share in shares for i in share) == list(
        range(len(weights))
    )
    assert all(share == sorted(share) for share in shares)
    sums = [sum(weights[i] for i in share) for share in shares]
    # no rank could be relieved by moving a row
    assert max(sums) - min(sums) <= max(weights, default=0)


def test_deal_by_hand():
    """7 · 5+1 · 4+3: the heaviest first, each to the rank with the least so far."""
    assert balance_by_tokens([3, 5, 7, 1, 4], 3) == [[2], [1, 3], [0, 4]]
    assert balance_by_tokens([3, 5, 7, 1, 4], 1) == [[0, 1, 2, 3, 4]]
    assert balance_by_tokens([2], 3) == [[0], [], []]


def test_tables_come_back_in_order():
    """A rank without rows has no columns."""
    pieces = [{"row": torch.tensor([12, 10])}, {}, {"row": torch.tensor([11])}]
    assert restore_order(pieces, [2, 0, 1])["row"].tolist() == [10, 11, 12]
    assert restore_order([{}], []) == {}


@pytest.mark.parametrize("rows", [[10, 11], [10, 11, 12, 12]])
def test_rows_that_did_not_come_back_are_missed(rows):
    """A micro-batch that is lost would leave its rows out of the gradient; one that comes twice
    would double them.
    """
    with pytest.raises(
        Refused, match=f"dealt 3 rows, and {len(rows)} came back \\(row\\): a micro-batch was lost"
    ):
        restore_order([{"row": torch.tensor(rows)}], [2, 0, 1])


def test_company_in_lockstep_only():
    """Where weights are sharded, a rank with fewer passes makes idle ones; elsewhere it is done
    earlier.
    """
    dealt = [["a", "b", "c"], ["d"]]
    assert World(1, 2).passes(dealt) == ["d"]
    assert World(1, 2, sharded=True).passes(dealt) == ["d", None, None]


def test_alone_does_everything_itself():
    """No message, no copy: the very objects come back."""
    table, tensor = {"x": torch.ones(2)}, torch.ones(3)
    assert ALONE.gather_or_raise(lambda: table)[0] is table and ALONE.from_first(table) is table
    assert ALONE.on_first(lambda: tensor) is tensor and ALONE.agree(lambda: tensor) is tensor
    ALONE.sum([tensor])
    assert tensor.tolist() == [1, 1, 1] and ALONE.gather(3) == [3]


@pytest.mark.parametrize(
    "told, expected",
    [
        ({}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "node1"}, (3, 8)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, (0, 1)),
    ],
)
def test_what_torchrun_says(told, expected, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert ranks() == expected


# ---------------------------------------------------------------- processes


def nested(world) -> bool:
    """Inside, the world is joined already."""
    with join_world() as inner:
        return inner is world


def everything():
    """One of each exchange, from a world of three."""
    with join_world() as world:
        answers = world.gather_or_raise(lambda: {"rank": torch.tensor([world.rank] * world.rank)})
        total = [torch.full((2, 2), float(world.rank + 1)), torch.arange(3.0)]
        world.sum(total)
        sent = world.from_first(
            {"a": torch.tensor([1.5, float("nan")]), "b": torch.arange(4).view(2, 2)}
            if world.first
            else {}
        )
        return {
            "together": [a["rank"].tolist() for a in answers],
            "gather": world.gather(f"I am {world.rank}"),
            "first": world.on_first(lambda: {"written by": world.rank}),
            "agree": world.agree(lambda: world.rank * 10),
            "blocks": [
                world.share_out(n, lambda own: [f"{world.rank}: {i}" for i in own]) for n in (5, 1)
            ],
            "nested": nested(world),
            "sum": [t.tolist() for t in total],
            "sent": [str(sent["a"].tolist()), sent["b"].tolist()],
        }


def test_every_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr("accord.distributed.world.BUCKET", 5)  # the two tensors go in two messages
    answers = in_world(3, tmp_path, everything)
    assert [a.pop("agree") for a in answers] == [0, 10, 20]
    assert (
        answers
        == [
            {
                "together": [[], [1], [2, 2]],
                "gather": ["I am 0", "I am 1", "I am 2"],
                "first": {"written by": 0},
                "blocks": [["0: 0", "1: 1", "1: 2", "2: 3", "2: 4"], ["2: 0"]],
                "nested": True,
                "sum": [[[6.0, 6.0], [6.0, 6.0]], [0.0, 3.0, 6.0]],
                "sent": ["[1.5, nan]", [[0, 1], [2, 3]]],
            }
        ]
        * 3
    )


def failing(kind):
    """Rank 1 fails, one level further in than the others wait."""
    with join_world() as world:

        def work():
            if world.rank == 1:
                raise kind("the tokens are wrong")
            world.agree(lambda: None)

        world.agree(work)


@pytest.mark.parametrize(
    "kind, name",
    [(Refused, "Refused"), (Interrupted, "Interrupted"), (ZeroDivisionError, "PeerLost")],
)
def test_one_rank_fails_for_all(kind, name, tmp_path):
    """In the words and of the class of the one that failed; a bug on one rank is a lost peer for
    the others.
    """
    answers = in_world(3, tmp_path, failing, kind)
    for rank in (0, 2):
        assert answers[rank]["error"] == name and answers[rank]["on_all_ranks"]
        assert (
            answers[rank]["says"].startswith("rank 1 of 3 (")
            and "the tokens are wrong" in answers[rank]["says"]
        )
    if kind is ZeroDivisionError:
        assert answers[1] == 1  # its own traceback
    else:
        assert answers[1] == {
            "error": name,
            "says": "the tokens are wrong",
            "code": kind.code,
            "on_all_ranks": True,
        }


def dying(who):
    with join_world() as world:
        world.gather(0)
        if world.rank in who:
            os.kill(os.getpid(), signal.SIGKILL)
        world.gather(1)


@pytest.mark.parametrize("who", [[1], [0], [0, 2]])
def test_who_is_gone(who, tmp_path):
    """Survivors name the ranks that died; the first of them says it for all."""
    answers = in_world(3, tmp_path, dying, who)
    left = [r for r in range(3) if r not in who]
    assert all(answers[r] == GONE for r in who)
    for r in left:
        assert answers[r]["error"] == "PeerLost" and answers[r]["code"] == 75
        assert [f"rank {n} of 3 (" in answers[r]["says"] for n in range(3)] == [
            n in who for n in range(3)
        ]
        assert answers[r]["on_all_ranks"] == (r != left[0])


class Silent:
    """A store behind a cable that is cut: no call comes back."""

    def set(self, key, value):
        threading.Event().wait(60)


class Known:
    """A store at which only some ranks have left their mark."""

    def __init__(self, alive):
        self.alive = {f"alive/{rank}" for rank in alive}

    def set(self, key, value):
        self.alive.add(key)

    def check(self, keys):
        return set(keys) <= self.alive


def test_a_store_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("accord.distributed.world.ROLL_CALL", 0.0)
    monkeypatch.setattr("accord.distributed.world.NO_ANSWER", 0.2)
    error = World(1, 3, ("a", "b", "c"), store=Silent())._lost()
    assert "lost the machine that the ranks met on" in str(error) and not error.on_all_ranks
    error = World(1, 3, ("a", "b", "c"), store=Known([2]))._lost()
    assert "lost rank 0 of 3 (a):" in str(error) and not error.on_all_ranks


@pytest.mark.parametrize(
    "says, lost",
    [
        ("[../gloo/transport/tcp/pair.cc:537] Connection closed by peer [10.0.0.2]:1234", True),
        ("Timed out waiting 20000ms for recv operation to complete", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_a_pass_that_breaks_off_is_a_lost_rank(says, lost, monkeypatch):
    """Sharded weights are gathered by torch's own exchanges, whose errors are RuntimeErrors."""
    monkeypatch.setattr("accord.distributed.world.ROLL_CALL", 0.0)
    world = World(0, 2, ("a", "b"), store=Known([]))
    with pytest.raises(PeerLost if lost else RuntimeError), world.noticing_losses():
        raise RuntimeError(says)
    with pytest.raises(RuntimeError, match="gloo|Timed|mat1"), ALONE.noticing_losses():
        raise RuntimeError(says)


@pytest.mark.parametrize("given, seconds", [(None, 1800), ("600", 600)])
def test_patience(given, seconds, monkeypatch):
    monkeypatch.delenv("ACCORD_PATIENCE", raising=False)
    if given:
        monkeypatch.setenv("ACCORD_PATIENCE", given)
    assert patience().total_seconds() == seconds


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "ten"])
def test_patience_is_a_number_of_seconds(given, monkeypatch):
    monkeypatch.setenv("ACCORD_PATIENCE", given)
    with pytest.raises(UsageError, match=f"ACCORD_PATIENCE={given}: expected whole seconds"):
        patience()


def test_a_device_for_each_rank(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    take_device(World(5, 8), "auto")
    assert taken == [1]
    with pytest.raises(UsageError, match="names one device"):
        take_device(World(5, 8), "cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="4 processes on a machine with 2 GPUs"):
        take_device(World(6, 8), "auto")
    take_device(ALONE, "cuda:0")


@pytest.mark.parametrize(
    "given, expected",
    [(None, 3), ("1", 3), ("5", None)],
    ids=["none", "torchrun's 1", "the user's"],
)
def test_cores_are_shared(given, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    take_device(World(0, 4), "cpu")
    assert chosen == ([expected] if expected else [])


@pytest.mark.parametrize("size, second, exits", [("1", 15, True), ("2", 15, False), ("2", 2, True)])
def test_told_twice_to_stop(size, second, exits, monkeypatch):
    """Slurm signals every process and torchrun passes its own on: two SIGTERMs are one wish. A
    second Ctrl-C is not.
    """
    for name, value in {"RANK": "0", "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    stop = Stop()
    stop._handle(15, None)
    stop._handle(second, None)
    assert codes == ([128 + second] if exits else []) and stop.signal is not None
