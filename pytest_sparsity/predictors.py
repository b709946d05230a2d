"""What is left for one release of ``python -m pytest_sparsity.predictors``."""

from pytest_sparsity.cli.main import moved

if __name__ == "__main__":
    moved("python -m pytest_sparsity.predictors", "train", "predictors")
