"""A busy machine is no hang: time in which others had the processors does not count."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_pool import kernel

from pytest_sparsity.checking.pool import Pool
from pytest_sparsity.core import starvation
from pytest_sparsity.core.starvation import Starvation


def tell(proc: Path, process: int, waited: float, children: str = "", thread: int = 0) -> None:
    """What Linux would tell of a thread that has waited for so many seconds."""
    folder = proc / str(process) / "task" / str(thread or process)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schedstat").write_text(f"123 {round(waited * 1e9)} 7\n")
    (folder / "children").write_text(children)


def test_the_thread_that_waited_longest_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starvation, "_EVERY", 0.0)
    tell(tmp_path, 1, 10.0)
    tell(tmp_path, 1, 3.0, thread=2)
    found = Starvation(1, tmp_path)
    assert found.since() == 0.0
    tell(tmp_path, 1, 10.5)
    tell(tmp_path, 1, 5.0, children="8 ", thread=2)
    assert found.since() == pytest.approx(2.0)
    tell(tmp_path, 8, 0.25)  # a compiler, of which nobody knew before
    assert found.since() == pytest.approx(0.25)
    (tmp_path / "8" / "task" / "8" / "schedstat").unlink()
    assert found.since() == 0.0


def test_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starvation, "_EVERY", 0.0)
    assert Starvation(1, tmp_path).since() == 0.0
    tell(tmp_path, 1, 1.0)
    (tmp_path / "1" / "task" / "1" / "schedstat").write_text("")
    assert Starvation(1, tmp_path).since() == 0.0


def test_a_worker_that_does_not_get_to_run_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Starvation, "since", lambda self: 1e9)
    with Pool(case_limit=0, first_limit=0) as pool:
        assert pool.run_check(kernel("right"), "fuzz", 3, 0).status == "passed"
