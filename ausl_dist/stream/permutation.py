"""A keyed permutation of 0 .. n-1 that is computed, not stored: any of its values costs the
same few microseconds.

A table would be the obvious way, but a corpus of a billion clips would need gigabytes of it,
and a generator's `shuffle` may change with the version of NumPy, and with it the order of every
running job. This is integer arithmetic alone.

Generalised Feistel network over a rectangle of about sqrt(n) x sqrt(n) cells, cycle-walking
over the few cells past n (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA
2002); the round function is SplitMix64's mixer (Steele et al., OOPSLA 2014).
"""

import math

import numpy as np
from numpy.typing import NDArray

from ausl_dist.randomness import Word, stable_hash

ROUNDS = 8  # fewer leave a measurable bias in permutations of a handful
_MASK = (1 << 64) - 1
_M1, _M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Permutation:
    """A permutation of range(size) named by `words`; equal words give the same one on every
    machine.
    """

    def __init__(self, size: int, *words: Word) -> None:
        if not 1 <= size < 1 << 62:
            raise ValueError(f"a permutation needs a size in 1..2^62, not {size}")
        self.size = size
        self._rows = math.isqrt(size - 1) + 1
        self._columns = -(-size // self._rows)
        self._key = stable_hash(*words)
        self._round_keys = [
            _mix(self._key + 0x9E3779B97F4A7C15 * (number + 1)) for number in range(ROUNDS)
        ]

    def __call__(self, position: int) -> int:
        """Where `position` goes; both in 0 .. size-1."""
        if not 0 <= position < self.size:
            raise IndexError(f"position {position} is outside of a permutation of {self.size}")
        while True:
            position = self._once(position)
            if position < self.size:
                return position

    def many(self, positions: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The same for an array of positions."""
        result = self._once_many(positions)
        while len(outside := np.flatnonzero(result >= self.size)):
            result[outside] = self._once_many(result[outside])
        return result

    def _once(self, cell: int) -> int:
        row, column = divmod(cell, self._columns)
        for number in range(0, ROUNDS, 2):
            row = (row + _mix(column + self._round_keys[number])) % self._rows
            column = (column + _mix(row + self._round_keys[number + 1])) % self._columns
        return row * self._columns + column

    def _once_many(self, cells: NDArray[np.uint64]) -> NDArray[np.uint64]:
        rows, columns = np.uint64(self._rows), np.uint64(self._columns)
        row, column = np.divmod(cells.astype(np.uint64, copy=False), columns)
        for number in range(0, ROUNDS, 2):
            row = _add_modulo(
                row, _mix_many(column + np.uint64(self._round_keys[number])), rows
            )
            column = _add_modulo(
                column, _mix_many(row + np.uint64(self._round_keys[number + 1])), columns
            )
        return row * columns + column


def _add_modulo(
    values: NDArray[np.uint64], mixed: NDArray[np.uint64], modulus: np.uint64
) -> NDArray[np.uint64]:
    # Reduced before adding: the sum of two 64-bit numbers would wrap, which Python's integers
    # in `_once` do not.
    total: NDArray[np.uint64] = (values + mixed % modulus) % modulus
    return total


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * _M1) & _MASK
    value = ((value ^ (value >> 27)) * _M2) & _MASK
    return value ^ (value >> 31)


def _mix_many(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_M1)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_M2)
    return value ^ (value >> np.uint64(31))
