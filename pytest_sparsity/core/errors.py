"""The one exception a user of this package is meant to read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class SparsityError(Exception):
    """Something the user can mend: a bad option, a missing model, a damaged file.

    The message is one clear sentence that names the option, argument or file, the
    value found and the fix.  The plugin shows it without a traceback; everything that
    is *not* a ``SparsityError`` is a defect of this package and keeps its traceback.
    """


class NotWritten(SparsityError):
    """A result that cannot be written where it should go."""


@contextlib.contextmanager
def blaming(option: str) -> Iterator[None]:
    """Put ``option`` in front of the sentence of whatever goes wrong inside."""
    try:
        yield
    except SparsityError as error:
        raise SparsityError(f"{option}: {error}") from error


class SparsityWarning(UserWarning):
    """Something was found wrong and mended: a damaged cache entry, a truncated record."""
