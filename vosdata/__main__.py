"""``python -m vosdata`` is the ``vosdata`` command."""

from vosdata.cli import main

main()
