"""The exit codes of the plugin and of the command line, each with one meaning."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a run of pytest with this plugin, or of ``pytest-sparsity``, ended.

    Codes 0 to 6 are those of :class:`pytest.ExitCode` and mean what they mean there; pytest is not
    imported for them.  Ours begin at 10, since pytest has added some.
    """

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """A code and what it means, as the tables in ``--help`` and ``docs/`` say it."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = (
        0,
        "nothing failed; inconclusive and suspect cells, cells without budget and what the gate "
        "cannot compare are skips",
    )
    FAILED = (
        1,
        "a budget or a check failed, or something regressed, by itself or for the run as a whole; "
        "with `--sparsity-strict` also any skip of a sparsity test",
    )
    INTERRUPTED = (2, "interrupted, by Ctrl-C or SIGTERM; what was measured is kept")
    INTERNAL_ERROR = (3, "pytest or this package broke, or was killed: nothing is known")
    USAGE = (
        4,
        "an option, model, corpus, task, budgets file, report, baseline or history cannot be "
        "used; one sentence says why",
    )
    NOTHING = (
        5,
        "no sparse cell was measured, no kernel checked, nothing compared by the gate or by "
        "`compare`, or nothing stored",
    )
    WARNINGS = (6, "more warnings than pytest's `--max-warnings` allows")
    UNDECIDED = (
        10,
        "the data do not decide (`pytest-sparsity gate --strict` and `compare --strict`), or parts "
        "of what `device` does are left",
    )
    NOT_WRITTEN = (11, "a result, summary, baseline or history could not be written")
    BROKEN_PIPE = (141, "the reader of the output left, as `head` does")
