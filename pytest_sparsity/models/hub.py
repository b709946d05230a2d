"""Files of a repository on the model hub, or one sentence within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress
from pytest_sparsity.models.upstream import failures_as, gist, quiet

#: For which the hub is waited for, before what is in the client's cache must do.
_SECONDS = 5.0


def fetch(
    wanted: str,
    name: str,
    patterns: Sequence[str],
    *,
    ignored: Sequence[str] = (),
    otherwise: str,
    progress: Progress,
) -> Path:
    """The folder, in the hub client's own cache, of those files of a repository.

    The hub is asked for the repository once, without the client's own five attempts of up to half a
    minute, so that a name that is not there, or no network, is told at once.

    Args:
        wanted: ``"org/name"``.
        name: what was asked for with ``--sparsity-model``, for messages.
        patterns: globs of the files.
        ignored: globs of files that are not fetched, although ``patterns`` have them.
        otherwise: what the user can do instead, for messages.
        progress: shows the fetch.

    Raises:
        SparsityError: there is no such repository, its terms were not accepted, or there is no
            connection and it is not in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    begin = f"--sparsity-model {name}"
    advice = f"check the name, connect to the network once, or {otherwise}"
    with (
        quiet(),
        failures_as(f"{begin} is not to be had from the hub", advice),
        progress(f"fetch {wanted} from the model hub", unit="step") as task,
    ):
        missing = _unreachable(wanted, begin, otherwise)
        try:
            folder = snapshot_download(
                wanted,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignored),
                local_files_only=bool(missing),
            )
        except GatedRepoError as error:
            raise SparsityError(
                f"{begin} is gated: its terms must be accepted; accept them on the model's page, "
                f"log in with `hf auth login` (or set HF_TOKEN), and run again, or {otherwise}"
            ) from error
        except LocalEntryNotFoundError as error:
            raise SparsityError(
                f"{begin} is no local folder, nor in the cache of the hub's client, and there is "
                f"no connection to the hub ({missing or gist(error)}); {advice}"
            ) from error
        task.advance()
    return Path(folder)


def _unreachable(wanted: str, begin: str, otherwise: str) -> str:
    """Why the hub does not answer; empty if it has the repository.

    Raises:
        SparsityError: it answers that it has not.
        HfHubHTTPError: it answers something else.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        HfApi().model_info(wanted, timeout=_SECONDS)
    except GatedRepoError:
        return ""  # its files are what is gated
    except RepositoryNotFoundError as error:
        raise SparsityError(
            f"{begin}: the hub has no model {wanted}, or does not show it to you; check the name, "
            f"log in with `hf auth login` if it is private, or {otherwise}"
        ) from error
    except (HfHubHTTPError, HFValidationError):
        raise
    except Exception as error:  # of whatever carries the client's requests, which has changed
        return gist(error)
    return ""
