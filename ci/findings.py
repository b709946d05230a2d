"""What is left for one release of ``python ci/findings.py``."""

from pathlib import Path

from pytest_sparsity.cli.main import moved

if __name__ == "__main__":
    docs = Path(__file__).parents[1] / "docs"
    moved("python ci/findings.py", "findings", f"--docs={docs}")
