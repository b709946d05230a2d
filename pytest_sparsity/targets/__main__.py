"""What is left for one release of ``python -m pytest_sparsity.targets``."""

import sys

from pytest_sparsity.cli.main import moved

if __name__ == "__main__":
    listed = "--list" in sys.argv
    sys.argv[1:] = [] if listed else sys.argv[1:]
    moved("python -m pytest_sparsity.targets", *(("list", "targets") if listed else ("targets",)))
