"""The order of things as pure integer functions: a keyed permutation and a weighted interleave.

Neither holds a list of what it orders, so a billion records cost no more than a thousand, and any place of the order
can be asked for at once: that is what makes resuming free and keeps ranks and threads out of the order.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, isqrt, lcm

import numpy as np
from numpy.typing import NDArray

MAX_PERIOD = 2**16
"""Largest common denominator of weights. It bounds the table of an interleave (6 bytes per entry)."""

_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_NUM_ROUNDS = 16  # with 8, some orders of five things come up visibly more often than others


def _mix(value: int) -> int:
    """Scatters 64 bits so that each input bit sways each output bit (the finaliser of SplitMix64)."""
    value &= _WORD
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _WORD
    return value ^ (value >> 31)


def scatter(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The same scattering of bits for many values at once; a bijection, so different values stay different."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=256)  # a stream asks for the same few keys, those of its sets, again and again
def _round_keys(key: int) -> tuple[tuple[int, int], ...]:
    """The keys of the turns, in pairs."""
    keys = [_mix(key + _GOLDEN * turn) for turn in range(1, _NUM_ROUNDS + 1)]
    return tuple(zip(keys[::2], keys[1::2], strict=True))


def permute(index: int, length: int, key: int) -> int:
    """Where a keyed permutation of ``range(length)`` sends one index, in constant memory.

    A Feistel network over a grid of about sqrt(length) x sqrt(length) cells, in which the two coordinates take turns to
    shift each other by a keyed hash. Each turn can be undone, so the network is a bijection of the grid; where it leads
    outside ``range(length)`` it is applied again until it does not (cycle walking), which keeps it a bijection. The
    grid has fewer than sqrt(length) cells too many, so walking is rare.

    Args:
        index: 0 <= index < length.
        length: how many indices there are, 1 <= length <= 2**64.
        key: selects the permutation, 0 <= key < 2**64.

    Returns:
        The image of the index, 0 <= image < length.

    Raises:
        ValueError: an argument lies outside its range.

    Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002), methods 2 and 3.
    """
    if not 1 <= length <= 2**64:
        raise ValueError(f"length must lie in [1, 2**64], got {length}")
    if not 0 <= index < length:
        raise ValueError(f"index must lie in [0, {length}), got {index}")
    if not 0 <= key < 2**64:
        raise ValueError(f"key must lie in [0, 2**64), got {key}")
    rows = isqrt(length - 1) + 1
    columns = -(-length // rows)
    round_keys = _round_keys(key)
    while True:
        row, column = divmod(index, columns)
        for even_key, odd_key in round_keys:
            row = (row + _mix(even_key + _GOLDEN * column)) % rows
            column = (column + _mix(odd_key + _GOLDEN * row)) % columns
        index = row * columns + column
        if index < length:
            return index


def exact_shares(weights: Sequence[float | Fraction]) -> tuple[int, ...]:
    """Turns weights into whole numbers in the same proportion, with a sum of at most ``MAX_PERIOD``.

    Each weight's part of the whole is read as the nearest fraction with a denominator up to ``MAX_PERIOD``, so 0.1
    means one tenth and 0.333333333 one third. Where these fractions have no common denominator that small, the parts
    are rounded to multiples of 1 / ``MAX_PERIOD`` (largest remainders first, none to zero).

    Args:
        weights: positive, finite; they need not sum to 1.

    Returns:
        One positive integer per weight; their sum is the period of the interleave.

    Raises:
        ValueError: no weight, too many, or one that is not positive and finite.
    """
    if not 1 <= len(weights) <= MAX_PERIOD:
        raise ValueError(f"expected 1 to {MAX_PERIOD} weights, got {len(weights)}")
    for weight in weights:
        if not 0 < weight < float("inf"):
            raise ValueError(f"a weight must be positive and finite, got {weight}; leave out what is not to be drawn")
    exact = [Fraction(weight) for weight in weights]
    parts = [weight / sum(exact) for weight in exact]
    near = [part.limit_denominator(MAX_PERIOD) for part in parts]
    denominator = lcm(*(part.denominator for part in near))
    if sum(near) == 1 and denominator <= MAX_PERIOD and all(near):
        return tuple(int(part * denominator) for part in near)
    return round_shares(parts, MAX_PERIOD)


def round_shares(parts: Sequence[Fraction], period: int) -> tuple[int, ...]:
    """Rounds parts of 1 to positive multiples of 1 / ``period`` that sum to 1; largest remainders go up.

    Returns:
        One positive integer per part, in lowest terms: their sum divides ``period``.

    Raises:
        ValueError: there are more parts than the period has places.
    """
    spare = period - len(parts)  # one for each is set aside, so that nothing rounds to zero
    if spare < 0:
        raise ValueError(f"at most {period} weights can change gradually, got {len(parts)}")
    floors = [int(part * spare) for part in parts]
    remainders = [part * spare - floor for part, floor in zip(parts, floors, strict=True)]
    order = sorted(range(len(parts)), key=lambda item: (-remainders[item], item))
    raised = set(order[: spare - sum(floors)])
    shares = [1 + floor + (item in raised) for item, floor in enumerate(floors)]
    divisor = gcd(*shares)
    return tuple(share // divisor for share in shares)


class Interleave:
    """An endless sequence of choices among K items in which each item is never far from its share.

    After any number n of choices, each item has been chosen within 1 of n times its share of the whole. One period of
    the sequence is computed once and kept as a table; asking for a place is arithmetic.

    Source: Tijdeman, "The chairman assignment problem" (Discrete Mathematics 32, 1980): the algorithm keeps every item
    within 1 - 1/(2K - 2), the best bound there is.
    """

    __slots__ = ("_choices", "_ranks", "period", "shares")

    def __init__(self, shares: Sequence[int]) -> None:
        """Computes one period.

        Args:
            shares: one positive integer per item; at most ``MAX_PERIOD`` in sum (see :func:`exact_shares`).

        Raises:
            ValueError: a share is not positive, or the sum is 0 or too large.
        """
        if not shares or min(shares) < 1 or sum(shares) > MAX_PERIOD:
            raise ValueError(f"shares must be positive integers that sum to at most {MAX_PERIOD}, got {list(shares)}")
        self.shares = tuple(shares)
        """Choices of each item in one period."""
        self.period = sum(shares)
        """Number of choices after which the sequence repeats."""
        self._choices = _assign_period(self.shares)
        self._ranks = np.zeros(self.period, np.int32)
        for item in range(len(shares)):
            chosen = np.flatnonzero(self._choices == item)
            self._ranks[chosen] = np.arange(len(chosen))

    def counts(self, num_choices: int) -> tuple[int, ...]:
        """How often each item is among the first ``num_choices`` choices.

        Raises:
            ValueError: the number is negative.
        """
        if num_choices < 0:
            raise ValueError(f"num_choices must not be negative, got {num_choices}")
        periods, within = divmod(num_choices, self.period)
        begun = np.bincount(self._choices[:within], minlength=len(self.shares)).tolist()
        return tuple(periods * share + more for share, more in zip(self.shares, begun, strict=True))

    def locate(self, place: int) -> tuple[int, int]:
        """Says what is chosen at a place, and how often that item was chosen before.

        Args:
            place: number of choices before this one, 0 or more.

        Returns:
            ``(item, earlier)``: the chosen item and the number of earlier places that chose the same item.

        Raises:
            ValueError: the place is negative.
        """
        if place < 0:
            raise ValueError(f"place must not be negative, got {place}")
        periods, within = divmod(place, self.period)
        item = int(self._choices[within])
        return item, periods * self.shares[item] + int(self._ranks[within])


def _assign_period(shares: tuple[int, ...]) -> NDArray[np.uint16]:
    """Tijdeman's assignment over one period, in integers.

    With P the period, w the share and x the choices so far of an item, its debt at step n is d = n w - P x. Items with
    d / P >= 1 / (2K - 2) may be chosen; the one whose debt would soonest pass (1 - 1 / (2K - 2)) is.

    Returns:
        ``uint16 (P,)``, the item of each place.
    """
    num_items, period = len(shares), sum(shares)
    choices = np.zeros(period, np.uint16)
    if num_items == 1:
        return choices
    scale = 2 * num_items - 2
    limit = period * (scale - 1)
    debts = [0] * num_items  # scaled by `scale`, so that everything stays an integer
    steps = [scale * share for share in shares]
    for place in range(period):
        best, best_slack = -1, 0
        for item in range(num_items):
            debts[item] += steps[item]
            slack = limit - debts[item]
            if debts[item] >= period and (best < 0 or slack * shares[best] < best_slack * shares[item]):
                best, best_slack = item, slack
        choices[place] = best
        debts[best] -= scale * period
    return choices
