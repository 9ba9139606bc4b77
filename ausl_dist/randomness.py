"""Randomness without state: every draw is a pure function of the words that name it.

    random_stream(seed, epoch, clip_key, "crop").uniform(...)

gives the same numbers in whatever process, thread, batch position or order it is asked for; so
a resume has nothing to restore. Counter-based generator: Philox4x64-10 (Salmon et al., SC
2011).
"""

import hashlib

import numpy as np

Word = int | str


def stable_hash(*words: Word) -> int:
    """64-bit hash of the words, equal on every machine and Python (unlike `hash`)."""
    return int.from_bytes(_digest(words, 8), "little")


def random_stream(*words: Word) -> np.random.Generator:
    """A generator keyed by the words; 10 µs to make."""
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(_digest(words, 16), "little"))
    )


def _digest(words: tuple[Word, ...], size: int) -> bytes:
    # Type and length are part of what is hashed: (1, "2"), ("1", 2) and ("12",) must differ.
    text = "".join(f"{type(word).__name__}{len(str(word))}:{word}" for word in words)
    return hashlib.blake2b(text.encode(), digest_size=size).digest()
