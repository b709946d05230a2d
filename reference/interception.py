"""Sees every operation of torch that is done in a ``with`` block of this thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Interception(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Subclasses say in :meth:`operation` what is done in place of an operation."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch wraps the method below so that its first call imports torch._dynamo: a second.
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.operation(func, args, kwargs or {})

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operation; inside, operations are not intercepted.

        Args:
            func: the overload of ``torch.ops`` that was called.
            args: by position.
            kwargs: by name.
        """
        raise NotImplementedError
