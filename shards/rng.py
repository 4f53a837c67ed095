"""The one source of randomness: a generator from checked coordinates, by hashing.

Adding coordinates would make neighbouring seeds share streams, and ``default_rng([1])`` equals ``default_rng([1, 0])``;
so all four coordinates are always given and hashed together.
"""

import hashlib
import struct

import numpy as np


def digest_coordinates(seed: int, epoch: int, position: int, purpose: str) -> bytes:
    """Hashes the coordinates of a random draw to 16 bytes.

    Args:
        seed: the user's seed, 0 <= seed < 2**64.
        epoch: which epoch, 0 <= epoch < 2**64 (0 where there is none).
        position: place in the epoch, or index of a scene, 0 <= position < 2**64.
        purpose: what the draw is for, such as ``"snippet"``; two purposes never share a stream.

    Raises:
        ValueError: a coordinate is negative or does not fit 64 bits.
    """
    for label, value in (("seed", seed), ("epoch", epoch), ("position", position)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{label} must lie in [0, 2**64), got {value}")
    packed = struct.pack("<QQQ", seed, epoch, position) + purpose.encode()
    return hashlib.blake2b(packed, digest_size=16).digest()


def generator(seed: int, epoch: int, position: int, purpose: str) -> np.random.Generator:
    """Returns the random generator of one draw; equal coordinates give equal streams on every machine.

    Args: see :func:`digest_coordinates`.

    Raises:
        ValueError: a coordinate is negative or does not fit 64 bits.
    """
    key = int.from_bytes(digest_coordinates(seed, epoch, position, purpose), "little")
    return np.random.Generator(np.random.Philox(key=key))
