"""Models of families that are built in other ways than Llama."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # built_families
