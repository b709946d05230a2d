"""What runs measured, one line each, and at which of them something changed.

On the command line: ``python -m pytest_sparsity.history FILE [--png OUT]``.
"""
