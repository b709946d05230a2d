"""What is left for one release of ``python ci/train_vectors.py``.

Without ``--cache``, which took no value, it wrote into the package.
"""

import sys
from pathlib import Path

from pytest_sparsity.cli.main import moved

if __name__ == "__main__":
    cached = "--cache" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--cache"]
    shipped = Path(__file__).parents[1] / "pytest_sparsity" / "spon" / "shipped"
    where = () if cached else (f"--out={shipped}",)
    moved("python ci/train_vectors.py", "train", "vectors", *where)
