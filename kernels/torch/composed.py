"""What kernels made of torch operators promise, and what they do not."""

from __future__ import annotations

from typing import Any

#: The bits depend on the number of threads, and which weights are read is up to torch: most
#: operators read all of them.
COMPOSED: dict[str, Any] = {"backend": "torch", "deterministic": False, "skips": False}
