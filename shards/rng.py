"""The one source of randomness: a generator from checked coordinates, by hashing.

Adding coordinates would make neighbouring seeds share streams, and ``default_rng([1])`` equals ``default_rng([1, 0])``;
so all four coordinates are always given and hashed together.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

Thing = TypeVar("Thing")


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
    key = np.frombuffer(digest_coordinates(seed, epoch, position, purpose), "<u8")
    return np.random.Generator(np.random.Philox(_Key(key)))  # type: ignore[arg-type]  # its stub knows one kind only


def draw_uniform(rng: np.random.Generator, *ranges: tuple[float, float]) -> list[float]:
    """Draws a number from each range; the same as ``rng.uniform`` draws one after the other, in a fifth of the time."""
    shares = rng.random(len(ranges)).tolist()
    return [low + (high - low) * share for (low, high), share in zip(ranges, shares, strict=True)]


def draw_columns(rng: np.random.Generator, count: int, *ranges: tuple[float, float]) -> NDArray[np.float64]:
    """Draws for each of ``count`` things a number from each range: ``float64 (len(ranges), count, 1)``."""
    low, high = np.array(ranges).T[..., None]
    drawn: NDArray[np.float64] = low + (high - low) * rng.random((count, len(ranges))).T
    return drawn[..., None]


class _Key(ISeedSequence):
    """Gives Philox its key.

    ``Philox(key=...)`` starts the same stream, but asks the system for entropy that it never uses: three times as slow.
    """

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[np.uint64]:
        """The key, ``uint64 (2,)``, which is all that Philox asks for."""
        return self._words


class Dice:
    """A generator for a handful of draws, begun in a microsecond where NumPy's takes fifteen.

    Equal coordinates give equal draws on every machine. Its methods are those of NumPy's generator, as far as they go.
    """

    __slots__ = ("_block", "_digest", "_words")

    def __init__(self, seed: int, epoch: int, position: int, purpose: str) -> None:
        """Arguments and errors: see :func:`digest_coordinates`."""
        self._digest = digest_coordinates(seed, epoch, position, purpose)
        self._words = list(struct.unpack("<QQ", self._digest)[::-1])  # taken from the end
        self._block = 0

    def _word(self) -> int:
        """The next 64 random bits: two from the digest, the others from hashing it with a counter."""
        if not self._words:
            self._block += 1
            more = hashlib.blake2b(self._digest + struct.pack("<Q", self._block), digest_size=64).digest()
            self._words = list(struct.unpack("<8Q", more)[::-1])
        word: int = self._words.pop()
        return word

    def integers(self, low: int, high: int | None = None) -> int:
        """A whole number in [low, high), or in [0, low) where one argument is given; all equally likely.

        Raises:
            ValueError: there is no such number, or more than 2**64.

        Source: Lemire, "Fast Random Integer Generation in an Interval" (ACM TOMACS 29, 2019).
        """
        first, end = (0, low) if high is None else (low, high)
        count = end - first
        if not 1 <= count <= 2**64:
            raise ValueError(f"no whole number can be drawn from [{first}, {end})")
        product = self._word() * count
        if product % 2**64 < count:  # rarely: here some numbers could come up once more often than others
            while product % 2**64 < 2**64 % count:
                product = self._word() * count
        return first + (product >> 64)

    def random(self) -> float:
        """A number in [0, 1), a multiple of 2**-53."""
        return (self._word() >> 11) * 2.0**-53

    def permutation(self, things: Sequence[Thing]) -> list[Thing]:
        """The same things in an order of which all are equally likely."""
        mixed = list(things)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.integers(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed
