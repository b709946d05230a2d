"""What ``pytest-sparsity list`` can list, one file per kind."""
