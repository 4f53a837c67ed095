"""The ``vosdata`` command. One file per command; nothing heavy is imported before a command runs.

Exit status: 0 only on success, 2 for a wrong call, 130 when interrupted, 1 for anything else. Errors are one line on
standard error.
"""

import sys


def main() -> None:
    """Entry point of the ``vosdata`` command."""
    from vosdata.cli.app import run

    status = run(sys.argv[1:])
    if sys.stdout is not None:  # as where a service manager or ``>&-`` has closed it
        sys.stdout.flush()
    sys.exit(status)
