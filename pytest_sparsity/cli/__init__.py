"""The command line ``pytest-sparsity``: one file per subcommand.

Each has ``SUMMARY``, ``add_arguments(parser)`` and ``run(given)``, which returns an exit code.
Heavy modules are imported within ``run`` only, so that ``--help`` answers at once.
"""
