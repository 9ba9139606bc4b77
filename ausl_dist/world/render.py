"""From a head to frames: the world of talking faces, in which everything about a frame is
known.

    world = World(BuiltinHead(), size=128, seconds=2.0, seed=0)
    clip = world.clip(identity=7, number=0)
    clip.frame(t)            H W 3 uint8 RGB, aligned as alignment_to_template aligns it
    clip.landmarks           T 68 2, crop pixels
    clip.intensities         T K, 0 to 5, columns world.head.action_units
    clip.flow(t, 3)          where each pixel of frame t is in frame t + 3, and whether it can be
                             seen there

Everything is a pure function of (head, size, fps, seconds, seed, identity, number). A frame is
made in five steps:

1. the points of the face, moved by action units, turned with the head and seen by the camera;
2. the alignment of the true landmarks, smoothed over time as for real video, after which the
   crop is rendered as such: nothing is warped;
3. triangles to pixels (raster.py);
4. skin, with the folds of the moment, under the light; the background behind it;
5. lens and sensor.
"""

import functools
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.landmarks import CROP_SIZE, alignment_to_template, apply_affine
from ausl_dist.randomness import random_stream
from ausl_dist.world.head import HeadModel, PosedFace
from ausl_dist.world.motion import MAX_INTENSITY, Motion, draw_motion
from ausl_dist.world.raster import Hits, rasterise
from ausl_dist.world.scene import BACKGROUND_SIZE, Scene, draw_scene, noise_tile, rotation
from ausl_dist.world.sides import SidedHead

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

NOISE_SHIFTS = 128  # pixels by which the sensor's noise may lie elsewhere in the next frame
# smaller frames are rendered at this size, at most twice their own, and averaged: edges between
# pixels count
FINE_SIZE = 192
ALIGNMENT_SIGMA = 1.0  # frames
MIN_BLUR = 0.3  # pixels
HIDING_DEPTH = 3.0  # mm; nearer things hide, but a pixel's worth of slope does not
REMAP_WIDTH = 256  # pixels are sampled in rows of this length, whatever their places
HEAD_PIVOT = np.array([0.0, 60.0, -10.0], np.float32)  # mm; a head turns on its neck


@dataclass(frozen=True)
class Flow:
    """Where the pixels of one frame are in another."""

    motion: Floats  # H W 2, pixels right and down
    visible: NDArray[np.bool_]  # H W: the point can be seen in the other frame


@dataclass(frozen=True)
class Pose:
    """The face of one frame, projected."""

    points: Floats  # V 3, mm, in front of the camera
    pixels: Floats  # V 2, of the picture that is rasterised
    background: Array  # 2 3: from pixels of the background to those of the picture
    hits: Hits


class World:
    """A seed's worth of identities and clips of one head."""

    def __init__(
        self,
        head: HeadModel,
        *,
        size: int = CROP_SIZE,
        fps: float = 25.0,
        seconds: float = 2.0,
        seed: int = 0,
        one_sided: float = 0.0,
    ) -> None:
        """`one_sided` is the chance of a unit with sides to show on one of them in a clip; 0
        knows no sides.
        """
        if not 32 <= size <= 1024 or size % 2:
            raise ValueError(f"world: size must be even and lie in 32..1024, not {size}")
        if not (fps > 0 and 0 < round(seconds * fps) <= 4096):
            raise ValueError(
                f"world: seconds times fps must give 1 to 4096 frames, not {seconds} s at {fps}/s"
            )
        if not 0 <= one_sided <= 1:
            raise ValueError(f"world: one_sided must lie in [0, 1], not {one_sided}")
        self.sided = SidedHead(head) if one_sided else None
        self.head: HeadModel = self.sided or head
        self.size, self.fps, self.seed, self.one_sided = size, float(fps), seed, one_sided
        self.num_frames = round(seconds * fps)
        self.noise = noise_tile(random_stream(seed, "world noise"), NOISE_SHIFTS + size)
        self.face = functools.lru_cache(maxsize=2)(self._face)

    def _face(self, identity: int) -> PosedFace:
        return self.head.face(random_stream(self.seed, "world face", self.head.name, identity))

    def clip(self, identity: int, number: int) -> "RenderedClip":
        """The clip of that number of an identity."""
        words = (self.seed, "world clip", self.head.name, identity, number)
        drawn = self.sided.drawn if self.sided else self.head.action_units
        motion = draw_motion(drawn, self.num_frames, self.fps, random_stream(*words, "motion"))
        if self.sided:
            sides = random_stream(*words, "sides")
            halves = self.sided.movements(motion.intensities, self.one_sided, sides)
            motion = replace(motion, intensities=halves)
        grain = random_stream(*words, "noise").integers(0, NOISE_SHIFTS, (self.num_frames, 2))
        return RenderedClip(
            self, self.face(identity), motion, draw_scene(random_stream(*words, "scene")), grain
        )


class RenderedClip:
    """One clip of one identity: nothing is rendered before it is asked for."""

    def __init__(
        self,
        world: World,
        face: PosedFace,
        motion: Motion,
        scene: Scene,
        grain: NDArray[np.int64],
    ) -> None:
        self.world, self.face, self.motion, self.scene = world, face, motion, scene
        self._grain = grain  # T 2: which part of the noise lies over each frame
        self._fine_size = max(world.size, min(2 * world.size, FINE_SIZE))
        self._rotations = np.stack([rotation(*angles) for angles in motion.angles]).astype(
            np.float32
        )
        seen = np.stack(
            [
                self._project(self._points(t, world.head.mesh.landmarks))
                for t in range(len(self))
            ]
        )
        self._alignments = smooth_alignments(seen)
        crops = scale_pixels(self._alignments, world.size / CROP_SIZE)
        self.landmarks: Floats = apply_affine(crops, seen.astype(np.float64)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.motion.intensities)

    @property
    def intensities(self) -> Floats:
        """T K, 0 to 5, columns world.head.action_units."""
        sided = self.world.sided
        return sided.labels(self.motion.intensities) if sided else self.motion.intensities

    def frames(self) -> NDArray[np.uint8]:
        """All frames, T H W 3."""
        return np.stack([self.frame(t) for t in range(len(self))])

    def frame(self, t: int) -> NDArray[np.uint8]:
        """Render frame t: H W 3, RGB."""
        size, side, scene = self.world.size, self._fine_size, self.scene
        pose = self._pose(t, side)
        shade, shine = self._light(pose.points, t)
        lit, glint = pose.hits.interpolate(shade), pose.hits.interpolate(shine)
        colours = cv2.split(self._sample(self._contract(t), pose.hits))
        parts = [
            colour.ravel() * (lit * np.float32(tint)) + glint
            for colour, tint in zip(colours, scene.tint, strict=True)
        ]
        parts.append(
            np.ones_like(lit)
        )  # the fourth channel: how much of the pixel the head covers
        fine = pose.hits.spread(np.stack(parts, 1), side).reshape(side, side, 4)
        head = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
        background = scale_pixels(pose.background, size / side)
        picture = cv2.warpAffine(
            scene.background,
            background,
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        uncovered = (1 - head[:, :, 3:]) * self.motion.light[t]
        return self._expose(head[:, :, :3] + uncovered * picture, t)

    def flow(self, t: int, dt: int) -> Flow:
        """Motion of every pixel of frame t until frame t + dt, true by construction."""
        size = self.world.size
        here, there = self._pose(t, size), self._pose(t + dt, size)
        rows, columns = np.mgrid[:size, :size].astype(np.float64)
        start = np.stack([columns, rows], -1).reshape(-1, 2)
        target = apply_affine(
            there.background,
            apply_affine(
                np.asarray(cv2.invertAffineTransform(here.background), np.float64), start
            ),
        )
        target[here.hits.pixels] = np.stack(
            [here.hits.interpolate(there.pixels[:, axis]) for axis in range(2)], 1
        )
        at = np.rint(target).astype(np.int64)
        inside = ((at >= 0) & (at < size)).all(1)
        at = np.where(inside, at[:, 1] * size + at[:, 0], 0)
        # What was seen of the head is hidden where something of another layer, or nearer, is
        # seen later; backgrounds hide nothing.
        layer, depth = self._seen(here.hits, there.points)
        later_layer, later_depth = self._seen(there.hits, there.points)
        visible = (
            inside & (layer == later_layer[at]) & (depth >= later_depth[at] - HIDING_DEPTH)
        )
        motion = (target - start).astype(np.float32)
        return Flow(motion.reshape(size, size, 2), visible.reshape(size, size))

    def _seen(self, hits: Hits, points: Floats) -> tuple[Floats, Floats]:
        """Layer and depth of what each pixel sees, with the vertices at `points`; -1 and 0 for
        the background.
        """
        layers = self.world.head.mesh.layers.take(hits.triangles).astype(np.float32)
        picture = hits.spread(
            np.stack([layers + 1, hits.interpolate(points[:, 2])], 1), self.world.size
        )
        return picture[:, 0] - 1, picture[:, 1]

    def _points(self, t: int, vertices: NDArray[np.int64] | slice = slice(None)) -> Floats:
        """Vertices [N, 3] of frame t in camera coordinates (mm, origin at the middle of the
        head at rest).
        """
        face = self.face
        weights = self.motion.intensities[t] / np.float32(MAX_INTENSITY)
        active = np.flatnonzero(weights)
        points = face.points[vertices] + np.tensordot(
            weights[active], face.units[active][:, vertices], 1
        )
        if isinstance(vertices, slice):
            self._look(points, t)
        turned: Floats = (
            (points - HEAD_PIVOT) @ self._rotations[t].T + HEAD_PIVOT + self.motion.shift[t]
        )
        return turned

    def _look(self, points: Floats, t: int) -> None:
        mesh = self.world.head.mesh
        yaw, pitch = self.motion.gaze[t]
        turn = rotation(yaw, pitch).astype(np.float32)
        for eye in mesh.eyes:
            centre = points[eye].mean(0)
            centre[2] = points[eye, 2].max() - mesh.eye_radius
            points[eye] = (points[eye] - centre) @ turn.T + centre

    def _project(self, points: Floats) -> Floats:
        """Camera pixels [N, 2] of points [N, 3]; the optical axis passes through (0, 0)."""
        scene = self.scene
        projected: Floats = points[:, :2] * (
            np.float32(scene.focus * scene.distance)
            / (np.float32(scene.distance) - points[:, 2:])
        )
        return projected

    def _pose(self, t: int, side: int) -> Pose:
        """Frame t as triangles in a picture of that side."""
        if not 0 <= t < len(self):
            raise IndexError(f"frame {t} of a clip of {len(self)} frames")
        mesh = self.world.head.mesh
        points = self._points(t)
        alignment = scale_pixels(self._alignments[t], side / CROP_SIZE)
        pixels = apply_affine(alignment, self._project(points)).astype(np.float32)
        hits = rasterise(pixels, points[:, 2], mesh.triangles, mesh.layers, side)
        # background pixels are camera pixels
        camera = np.array([[1.0, 0, -BACKGROUND_SIZE / 2], [0, 1, -BACKGROUND_SIZE / 2]])
        background = np.column_stack(
            [
                alignment[:, :2] @ camera[:, :2],
                alignment[:, :2] @ camera[:, 2] + alignment[:, 2],
            ]
        )
        return Pose(points, pixels, background, hits)

    def _light(self, points: Floats, t: int) -> tuple[Floats, Floats]:
        """Light falling on each vertex, and light it mirrors to the camera: [V] each."""
        scene = self.scene
        normals = vertex_normals(points, self.world.head.mesh.triangles)
        facing = normals @ scene.light.astype(np.float32)
        halfway = scene.light + np.array([0, 0, 1])
        glint = np.clip(normals @ (halfway / np.linalg.norm(halfway)).astype(np.float32), 0, 1)
        level = np.float32(self.motion.light[t])
        shade = level * (
            np.float32(scene.ambient)
            + np.float32(scene.key) * np.clip(0.75 * facing + 0.25, 0, None)
        )
        return shade, level * np.float32(scene.shine) * glint**16

    def _contract(self, t: int) -> NDArray[np.uint8]:
        """The atlas with the folds that the action units of frame t make."""
        atlas = self.face.atlas.copy()
        for fold, intensity in zip(
            self.world.head.mesh.folds, self.motion.intensities[t], strict=True
        ):
            if fold is not None and intensity > 0:
                height, width = fold.darkening.shape
                part = atlas[fold.top : fold.top + height, fold.left : fold.left + width]
                kept = (
                    1
                    - np.float32(self.face.fold_depth * intensity / MAX_INTENSITY)
                    * fold.darkening
                )
                part[:] = np.clip(part * kept[:, :, None], 0, 255)
        return atlas

    def _sample(self, atlas: NDArray[np.uint8], hits: Hits) -> NDArray[np.uint8]:
        """Colours [P, 1, 3] of the covered pixels."""
        count = len(hits.pixels)
        rows = -(-count // REMAP_WIDTH)
        texels = np.zeros((2, rows * REMAP_WIDTH), np.float32)
        for axis in range(2):
            texels[axis, :count] = hits.interpolate(self.world.head.mesh.texels[:, axis])
        across, down = texels.reshape(2, rows, REMAP_WIDTH)
        colours = np.asarray(cv2.remap(atlas, across, down, cv2.INTER_LINEAR), np.uint8)
        return colours.reshape(-1, 1, 3)[:count]

    def _expose(self, picture: Floats, t: int) -> NDArray[np.uint8]:
        """Lens, sensor and camera settings: float picture to uint8 frame."""
        scene, size = self.scene, self.world.size
        sigma = scene.blur * size
        if sigma > MIN_BLUR:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)
        down, right = self._grain[t]
        grain = self.world.noise[down : down + size, right : right + size]
        exposed = (
            (picture - 128) * np.float32(scene.contrast) + np.float32(scene.noise) * grain + 128
        )
        return np.clip(exposed, 0, 255).astype(np.uint8)


def flow(clip: RenderedClip, t: int, dt: int) -> Flow:
    """True dense motion from frame t to frame t + dt of a clip."""
    return clip.flow(t, dt)


def smooth_alignments(landmarks: Floats) -> Array:
    """Matrices [T, 2, 3] to the 256-pixel crop for landmarks [T, 68, 2] of one face, averaged
    over neighbouring frames.

    Similarity transforms are closed under weighted means, and the mean follows the head as long
    as it moves little in a frame.
    """
    exact = np.stack([alignment_to_template(points.astype(np.float64)) for points in landmarks])
    steps = np.arange(-4, 5)
    weights = np.exp(-0.5 * (steps / ALIGNMENT_SIGMA) ** 2)
    padded = np.pad(exact, ((4, 4), (0, 0), (0, 0)), "reflect" if len(exact) > 4 else "edge")
    return np.tensordot(
        weights / weights.sum(),
        np.stack([padded[4 + s : len(exact) + 4 + s] for s in steps]),
        1,
    )


def scale_pixels(matrix: Array, times: float) -> Array:
    """A matrix [..., 2, 3] to pixels of a picture, made to lead to those of a picture `times`
    as large; pixel centres lie at integers.
    """
    scaled: Array = matrix * times
    scaled[..., 2] += 0.5 * times - 0.5
    return scaled


def vertex_normals(points: Floats, triangles: NDArray[np.int32]) -> Floats:
    """Unit normals [V, 3] of a mesh, pointing out of its front."""
    a, b, c = (points.take(triangles[:, i], 0) for i in range(3))
    u, v = b - a, c - a
    faces = np.stack(
        [
            u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1],
            u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2],
            u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0],
        ]
    )
    corners = triangles.T.ravel()
    sums = np.stack(
        [np.bincount(corners, np.tile(component, 3), len(points)) for component in faces], 1
    )
    normals: Floats = (sums / (np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9)).astype(
        np.float32
    )
    return normals
