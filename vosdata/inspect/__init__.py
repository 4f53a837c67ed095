"""Says what something holds: shard sets, records, checkpoints, dataset folders, single files. Reads, never writes.

``inspect`` looks at a path and returns facts: small values that print as text and as JSON.
"""

from vosdata.inspect.facts import Facts
from vosdata.inspect.paths import inspect

__all__ = ["Facts", "inspect"]
