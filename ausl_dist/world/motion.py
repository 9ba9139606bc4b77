"""How a face moves in one clip: action units as episodes, head and eyes as movements that come
and go.

    (action units, frames, fps, stream) ──▶ Motion: intensities, head pose, gaze        pure in its arguments

Action units rise, stay and fall again in episodes of about a second, alone or in the
combinations in which they are seen; on top of that some clips talk, and all blink. Head, camera
and light go out and return several times within a clip and never drift across it: from a drift,
frames could be ranked by time without a look at the face.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

MAX_INTENSITY = 5.0

# Combinations and how often they start, relative to one another. One is left out for a head
# that lacks a unit of it.
COMBINATIONS: Sequence[tuple[tuple[int, ...], float]] = (
    ((6, 12), 3), ((12,), 1.5), ((6, 12, 25), 2), ((6, 12, 25, 26), 1), ((6,), 1.5), ((7, 12), 1),
    ((1, 2), 3), ((1,), 2), ((2,), 2), ((1, 2, 5), 1.5), ((1, 2, 5, 25, 26), 1.5), ((5,), 1.5),
    ((1, 4), 2), ((1, 4, 15), 1.5), ((1, 4, 15, 17), 1), ((4,), 2), ((4, 7), 2), ((4, 5, 7, 23), 1),
    ((4, 7, 24), 1), ((7,), 1.5), ((9,), 2), ((4, 9), 1), ((9, 10, 25), 1), ((10,), 2),
    ((10, 25), 1), ((14,), 3.5), ((15,), 2), ((15, 17), 2), ((17,), 2), ((17, 24), 1), ((18,), 2.5),
    ((20,), 2), ((20, 25), 1.5), ((1, 2, 4, 5, 20, 25), 1), ((23,), 4), ((24,), 2.5), ((25,), 2),
    ((25, 26), 3), ((43,), 2), ((16, 25), 2), ((22, 25), 2), ((25, 27), 1.5), ((28,), 2),
)  # fmt: skip

# Of two that pull the same skin in opposite ways the first holds the second back.
OPPOSED = (
    (43, 5),
    (12, 15),
    (12, 18),
    (20, 18),
    (26, 24),
    (26, 23),
    (25, 24),
    (25, 23),
    (26, 17),
    (27, 24),
    (27, 23),
    (28, 25),
)

EPISODES_PER_SECOND = 1.3
TALKING = 0.2  # share of clips
BLINKS_PER_SECOND = 0.3
MOVEMENT_SECONDS = (0.4, 1.0)  # one coming and going of head, camera or light


@dataclass(frozen=True)
class Motion:
    """T frames of a face's movement."""

    intensities: Floats  # T K, 0 to 5
    angles: Floats  # T 3, radians: yaw, pitch, roll of the head
    shift: Floats  # T 3, mm: head against camera
    gaze: Floats  # T 2, radians: yaw, pitch of the eyes in the head
    light: Floats  # T, factor about 1


def draw_motion(
    action_units: tuple[int, ...], frames: int, fps: float, stream: np.random.Generator
) -> Motion:
    """Draw the movement of one clip."""
    seconds = np.arange(frames) / fps
    length = frames / fps
    resting = np.clip(stream.normal(0, 1, 3), -2, 2) * np.radians([9.0, 5.0, 5.0])
    turning = np.column_stack(
        [come_and_go(stream, seconds, length) for _ in range(3)]
    ) * np.radians([2.6, 2.0, 2.0])
    shift = np.column_stack([come_and_go(stream, seconds, length) for _ in range(3)]) * [
        3.0,
        2.5,
        8.0,
    ]
    return Motion(
        intensities=draw_intensities(action_units, seconds, stream).astype(np.float32),
        angles=(resting + turning * stream.uniform(0.3, 1.2)).astype(np.float32),
        shift=(shift * stream.uniform(0.3, 1.2)).astype(np.float32),
        gaze=_gaze(seconds, stream).astype(np.float32),
        light=(1 + 0.02 * come_and_go(stream, seconds, length)).astype(np.float32),
    )


def come_and_go(stream: np.random.Generator, seconds: Array, length: float) -> Array:
    """A movement [T] of variance about 1 that ends where it began: a few waves of a whole
    number of cycles in the clip.
    """
    fewest, most = (max(1, round(length / period)) for period in reversed(MOVEMENT_SECONDS))
    total = np.zeros(len(seconds))
    for cycles in stream.integers(fewest, most + 1, 3):
        total += stream.normal(0, 0.8) * np.sin(
            2 * np.pi * (cycles * seconds / length + stream.random())
        )
    return total


def draw_intensities(
    action_units: tuple[int, ...], seconds: Array, stream: np.random.Generator
) -> Array:
    """Intensities [T, K] over time, 0 to 5."""
    column = {unit: index for index, unit in enumerate(action_units)}
    known = [
        (units, often) for units, often in COMBINATIONS if all(unit in column for unit in units)
    ]
    often = np.array([weight for _, weight in known])
    levels = np.zeros((len(seconds), len(action_units)))
    length = seconds[-1] + 1e-3
    for _ in range(stream.poisson(EPISODES_PER_SECOND * (length + 1.5))):
        units, _ = known[stream.choice(len(known), p=often / often.sum())]
        start, strength, hold = (
            stream.uniform(-1.5, length),
            stream.uniform(2.0, 5.0),
            stream.uniform(0.1, 1.2),
        )
        for unit in units:
            apex = float(np.clip(strength + stream.normal(0, 0.7), 1, MAX_INTENSITY))
            episode = _episode(
                seconds,
                start + stream.normal(0, 0.06),
                stream.uniform(0.25, 0.7),
                hold,
                stream.uniform(0.3, 0.8),
            )
            levels[:, column[unit]] = np.maximum(levels[:, column[unit]], apex * episode)
    if stream.random() < TALKING:
        _talk(levels, column, seconds, stream)
    if 43 in column:
        for start in stream.uniform(
            -0.2, length, stream.poisson(BLINKS_PER_SECOND * (length + 0.2))
        ):
            levels[:, column[43]] = np.maximum(
                levels[:, column[43]], MAX_INTENSITY * _episode(seconds, start, 0.1, 0.06, 0.16)
            )
    for holder, held in OPPOSED:
        if holder in column and held in column:
            levels[:, column[held]] *= 1 - levels[:, column[holder]] / MAX_INTENSITY
    return levels


def _episode(seconds: Array, start: float, onset: float, hold: float, offset: float) -> Array:
    """0, smoothly up to 1, hold, smoothly down to 0."""
    rise = np.clip((seconds - start) / onset, 0, 1)
    fall = np.clip((start + onset + hold + offset - seconds) / offset, 0, 1)
    level = np.minimum(rise, fall)
    smooth: Array = level * level * (3 - 2 * level)
    return smooth


def _talk(
    levels: Array, column: dict[int, int], seconds: Array, stream: np.random.Generator
) -> None:
    """Syllables, three to five a second: lips part, the jaw drops a little, now and then the
    lips are rounded.
    """
    when = -0.2
    while when < seconds[-1]:
        shape = {
            25: stream.uniform(1, 3.5),
            26: stream.uniform(0, 2.5),
            18: stream.uniform(1, 3) if stream.random() < 0.3 else 0.0,
        }
        syllable = _episode(seconds, when, 0.1, stream.uniform(0, 0.06), 0.1)
        for unit, strength in shape.items():
            if unit in column:
                levels[:, column[unit]] = np.maximum(
                    levels[:, column[unit]], strength * syllable
                )
        when += stream.uniform(0.2, 0.33) + (
            stream.uniform(0.2, 0.6) if stream.random() < 0.12 else 0
        )


def _gaze(seconds: Array, stream: np.random.Generator) -> Array:
    """Fixations with quick jumps between them: T 2, radians."""
    gaze = np.zeros((len(seconds), 2))
    when, target = -1.0, np.zeros(2)
    while when < seconds[-1]:
        before, target = target, stream.normal(0, 1, 2) * np.radians([5.0, 3.0])
        jump = np.clip((seconds - when) / 0.05, 0, 1)[:, None]
        gaze = np.where(seconds[:, None] >= when, before + (target - before) * jump, gaze)
        when += stream.uniform(0.3, 1.5)
    return gaze
