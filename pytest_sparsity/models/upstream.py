"""Calling transformers and the hub client: quietly, and with their failures as sentences."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from pytest_sparsity.core.errors import SparsityError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no log lines below errors inside; the user's settings after."""
    import huggingface_hub.utils
    import transformers.utils.logging

    hub: Any = huggingface_hub.utils
    hub_logging: Any = huggingface_hub.utils.logging
    logging: Any = transformers.utils.logging
    verbosity = logging.get_verbosity()
    bars, hub_bars = logging.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    hub_verbosity = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)  # it tells of every attempt
    logging.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        # The bar of the GGUF reader has no switch; it asks for sys.stderr when it starts.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()
        if hub_bars:
            hub.enable_progress_bars()


@contextlib.contextmanager
def failures_as(beginning: str, advice: str) -> Iterator[None]:
    """Turn any failure inside into one sentence: ``beginning: what they said; advice``.

    These libraries raise whatever the parser at hand raises for a damaged or foreign
    file, so every exception counts; the original stays attached as the cause.

    Raises:
        SparsityError: something inside failed.
    """
    try:
        yield
    except SparsityError:
        raise
    except Exception as error:
        raise SparsityError(f"{beginning}: {gist(error)}; {advice}") from error


def gist(error: Exception) -> str:
    """The first line of a message that may go on for pages, and the second if that explains it."""
    if isinstance(error, KeyError):  # whose message is the key alone
        return f"{error} was looked for and is not known there"
    lines = [" ".join(line.split()) for line in str(error).strip().splitlines()]
    said = lines[0] if lines else type(error).__name__
    if said.endswith(":") and len(lines) > 1:
        said = f"{said} {lines[1]}"
    said = said.partition(" For details look at ")[0]  # at a report that is not shown
    return said.rstrip(".") if len(said) <= 300 else said[:300] + " ..."
