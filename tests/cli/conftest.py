"""The command line in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_sparsity.cli.main import main


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Asserts that a command ends with one sentence and a code; returns the sentence."""

    def check(*words: str, code: int = 4) -> str:
        assert main(words) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = [line for line in captured.err.splitlines() if line.startswith("ERROR: ")]
        assert len(lines) == 1, captured.err
        assert "Traceback" not in captured.err
        return lines[0]

    return check
