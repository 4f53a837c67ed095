"""Shard sets in other tools' forms, and back: :mod:`vosdata.export.job` writes, :mod:`vosdata.export.rebuild` reads."""
