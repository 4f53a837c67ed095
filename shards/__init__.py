"""The waist of vosdata: record types, codecs, writer, reader, index, order, errors and randomness.

Producers (``synth``, the dataset packers) and the consumer (the stream) meet only at a stored record, so everything
they share lives here. This package imports numpy, pyarrow and codecs, never torch and nothing from the other rooms.
"""
