"""An audit computes in one thread: small problems lose by more of them."""

from __future__ import annotations

from threadpoolctl import threadpool_info, threadpool_limits

from accord.auditing import run
from accord.environment.threads import one_thread
from tests.auditing.rows import clean, write


def threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info()}


def test_the_checks_compute_in_one_thread(tmp_path, monkeypatch):
    seen = []
    judge = run.labels.noise
    monkeypatch.setattr(run.labels, "noise", lambda *a: seen.append(threads()) or judge(*a))
    with threadpool_limits(2):
        run.audit(write(tmp_path / "rows.jsonl", clean(60)))
        assert 2 in threads()
    assert seen == [{1}]


def test_an_error_gives_the_threads_back():
    with threadpool_limits(2):
        try:
            with one_thread():
                assert threads() == {1}
                raise ValueError
        except ValueError:
            assert threads() == {2}
