"""``python -m pytest_sparsity``: the command line."""

from pytest_sparsity.cli.main import console

if __name__ == "__main__":
    console()
