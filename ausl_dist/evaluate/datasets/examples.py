"""Small trees in exactly the formats of the data sets, made of faces whose labels are known:
for tests, and for users to look at.

    faces by subject (frames, intensities) ──write_tree("disfa", folder, faces)──▶ folder as DISFA is

None of these data sets may be passed on, so nobody can ship an example of one; these trees hold
no byte of them.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast
from xml.sax.saxutils import escape

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.datasets import (
    aff_wild2,
    bp4d,
    bp4d_plus,
    ck_plus,
    disfa,
    emotionet,
    gft,
)
from ausl_dist.files import write_atomically

# packed: column 5 is AU 6
BP4D_PLUS_HEADER = (0, 1, 2, 4, 5, 6, 7, *range(9, 21), 22, 23, 24)
SHEET_NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
DISFA_FPS = 20
FPS = 25


@dataclass(frozen=True)
class LabelledFaces:
    """Frames of one face with its true intensities."""

    frames: NDArray[np.uint8]  # T H W 3, RGB
    intensities: NDArray[np.int8]  # T K, 0-5
    action_units: tuple[int, ...]

    def of(self, units: Sequence[int]) -> NDArray[np.int8]:
        """Intensities of these units [T, len(units)]; 0 for a unit that the face does not move."""
        columns = [
            self.intensities[:, self.action_units.index(u)]
            if u in self.action_units
            else self.intensities[:, 0] * 0
            for u in units
        ]
        return np.stack(columns, 1)

    def present(self, units: Sequence[int], positive_from: int = 2) -> NDArray[np.int8]:
        return (self.of(units) >= positive_from).astype(np.int8)


Faces = Mapping[str, LabelledFaces]  # by subject, named as in the data set


def rendered_faces(
    subjects: Sequence[str], *, frames: int = 30, size: int = 256, seed: int = 0
) -> dict[str, LabelledFaces]:
    """One clip of the rendered world for each subject, each another identity."""
    from ausl_dist.world.head import (
        BuiltinHead,  # here: building a head takes a second, and drawn faces need none
    )
    from ausl_dist.world.render import World

    world = World(BuiltinHead(), size=size, fps=FPS, seconds=frames / FPS, seed=seed)
    clips = [world.clip(identity, 0) for identity in range(len(subjects))]
    faces = [
        LabelledFaces(
            clip.frames(), np.rint(clip.intensities).astype(np.int8), world.head.action_units
        )
        for clip in clips
    ]
    return dict(zip(subjects, faces, strict=True))


def write_tree(data_set: str, folder: Path, faces: Faces) -> None:
    """Write the tree of a data set; subjects must be named as there (SN001, F001, …)."""
    if data_set not in _WRITERS:
        raise ValueError(
            f"no example of {data_set!r} can be written; known: {', '.join(_WRITERS)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for subject, face in faces.items():
        _WRITERS[data_set](folder, subject, face)
    if data_set == "emotionet":
        _write_emotionet_table(folder, faces)


def _bp4d(folder: Path, subject: str, face: LabelledFaces) -> None:
    # Only a coded segment is listed, its second frame is occluded, its last unknown for AU 1;
    # tasks differ in the padding of pictures.
    for task, padding in (("T1", 4), ("T2", 3)):
        for number, frame in enumerate(face.frames, 1):
            _write_image(folder / subject / task / f"{number:0{padding}d}.jpg", frame)
        lines = [",".join(str(column) for column in range(100))]
        labels = face.present(bp4d.UNITS)
        for number in range(2, len(labels)):
            row = [0] * 100
            row[0] = number
            for unit, value in zip(bp4d.UNITS, labels[number - 1], strict=True):
                row[unit] = int(value)
            row[1] = 9 if number == len(labels) - 1 else row[1]
            row[-1] = int(number == 3)
            lines.append(",".join(map(str, row)))
        _write_lines(folder / "AUCoding" / "AU_OCC" / f"{subject}_{task}.csv", lines)


def _bp4d_intensity(folder: Path, subject: str, face: LabelledFaces) -> None:
    for number, frame in enumerate(face.frames, 1):
        _write_image(folder / subject / "T1" / f"{number:04d}.jpg", frame)
    for column, unit in enumerate(bp4d.INTENSITY_UNITS):
        values = face.of(bp4d.INTENSITY_UNITS)[:, column].tolist()
        lines = [f"{number},{value}" for number, value in enumerate([*values[:-1], 9], 1)]
        _write_lines(
            folder
            / "AU Intensity Codes3.0"
            / f"AU{unit:02d}"
            / f"{subject}_T1_AU{unit:02d}.csv",
            lines,
        )


def _bp4d_plus(folder: Path, subject: str, face: LabelledFaces) -> None:
    _write_video(folder / f"{subject}_T1.mp4", face.frames, "mpeg4", FPS)
    labels = dict(zip(bp4d_plus.UNITS, face.present(bp4d_plus.UNITS).T, strict=True))
    lines = [",".join(map(str, BP4D_PLUS_HEADER))]
    for row in range(len(face.frames)):
        # Units that are not evaluated are all 1: a reader that counts columns instead of
        # reading names shows at once.
        cells = [
            int(labels[unit][row]) if unit in labels else 1 for unit in BP4D_PLUS_HEADER[1:]
        ]
        lines.append(",".join(map(str, [row + 1, *cells])))
    _write_lines(folder / "AUCoding" / "AU_OCC" / f"{subject}_T1.csv", lines)


def _disfa(folder: Path, subject: str, face: LabelledFaces) -> None:
    for side in ("Left", "Right"):
        frames = face.frames if side == "Left" else face.frames[:, :, ::-1]
        _write_video(
            folder / f"Videos_{side}Camera" / f"{side}Video{subject}_comp.avi",
            frames,
            "mjpeg",
            DISFA_FPS,
        )
    for column, unit in enumerate(disfa.UNITS):
        lines = [
            f"{number},{value}"
            for number, value in enumerate(face.of(disfa.UNITS)[:, column].tolist(), 1)
        ]
        _write_lines(folder / "ActionUnit_Labels" / subject / f"{subject}_au{unit}.txt", lines)


def _disfa_plus(folder: Path, subject: str, face: LabelledFaces) -> None:
    trial = "A1_AU1_TrailNo_1"
    for number, frame in enumerate(face.frames):
        _write_image(folder / "Images" / subject / trial / f"{number:03d}.jpg", frame)
    for column, unit in enumerate(disfa.UNITS):
        values = face.of(disfa.UNITS)[:, column].tolist()
        lines = [
            "# DISFA+ labels",
            "#",
            *(f"{number:03d}.jpg  {value}" for number, value in enumerate(values)),
        ]
        _write_lines(folder / "Labels" / subject / trial / f"AU{unit}.txt", lines)


def _gft(folder: Path, subject: str, face: LabelledFaces) -> None:
    _write_video(folder / "video" / f"{subject}.mp4", face.frames, "mpeg4", FPS)
    labels = face.present(gft.UNITS).tolist()
    lines = [",".join(["Frame", *(f"AU{unit:02d}" for unit in gft.UNITS)])]
    lines += [",".join(map(str, [number, *row])) for number, row in enumerate(labels, 1)]
    _write_lines(folder / "AU_occur" / f"{subject}.csv", lines)


def _aff_wild2(folder: Path, subject: str, face: LabelledFaces) -> None:
    # Subjects with an even number of letters lie in the validation set. Every fifth picture has
    # no face, so no file.
    part = aff_wild2.PARTS[len(subject) % 2]
    for number, frame in enumerate(face.frames, 1):
        if number % 5:
            _write_image(
                folder / "cropped_aligned" / subject / f"{number:05d}.jpg",
                cv2.resize(frame, (112, 112)),
            )
    lines = [",".join(f"AU{unit}" for unit in aff_wild2.UNITS)]
    lines += [",".join(map(str, row)) for row in face.present(aff_wild2.UNITS).tolist()]
    lines[2] = ",".join(["-1"] * len(aff_wild2.UNITS))
    _write_lines(folder / "AU_Detection_Challenge" / part / f"{subject}.txt", lines)


def _ck_plus(folder: Path, subject: str, face: LabelledFaces) -> None:
    peak = int(face.of(ck_plus.UNITS).sum(1).argmax())
    stem = f"{subject}_001_{peak + 1:08d}"
    for number in range(peak + 1):
        _write_image(
            folder
            / "cohn-kanade-images"
            / subject
            / "001"
            / f"{subject}_001_{number + 1:08d}.png",
            face.frames[number],
        )
    present = [
        unit
        for unit, value in zip(
            ck_plus.UNITS, face.of(ck_plus.UNITS)[peak].tolist(), strict=True
        )
        if value >= 2
    ]
    _write_lines(
        folder / "FACS" / subject / "001" / f"{stem}_facs.txt",
        [f"   {unit:.7e}   {0:.7e}" for unit in present],
    )


def _emotionet(folder: Path, subject: str, face: LabelledFaces) -> None:
    _write_image(folder / "images" / f"{subject}.jpg", face.frames[len(face.frames) // 2])


def _write_emotionet_table(folder: Path, faces: Faces) -> None:
    rows = [["URL", *(f"'AU {unit}'" for unit in emotionet.UNITS)]]
    for subject, face in faces.items():
        values = face.present(emotionet.UNITS)[len(face.frames) // 2].tolist()
        rows.append(
            [f"http://example.org/photos/{subject}.jpg", *map(str, [*values[:-1], 999])]
        )
    rows.append(["http://example.org/gone/lost.jpg", *["0"] * len(emotionet.UNITS)])
    cells = "".join("<row>" + "".join(_cell(value) for value in row) + "</row>" for row in rows)
    sheet = f'<worksheet xmlns="{SHEET_NAMESPACE}"><sheetData>{cells}</sheetData></worksheet>'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    write_atomically(folder / "emotionet_facs_24600.xlsx", buffer.getvalue())


def _cell(value: str) -> str:
    return (
        f"<c><v>{value}</v></c>"
        if value.isdigit()
        else f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    )


_WRITERS: dict[str, Callable[[Path, str, LabelledFaces], None]] = {
    "bp4d": _bp4d,
    "bp4d_intensity": _bp4d_intensity,
    "bp4d_plus": _bp4d_plus,
    "disfa": _disfa,
    "disfa_plus": _disfa_plus,
    "gft": _gft,
    "aff_wild2": _aff_wild2,
    "ck_plus": _ck_plus,
    "emotionet": _emotionet,
}


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_atomically(path, "\n".join(lines) + "\n")


def _write_image(path: Path, frame: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written, data = cv2.imencode(
        path.suffix, np.ascontiguousarray(frame[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 95]
    )
    if not written:
        raise OSError(f"{path} could not be encoded")
    write_atomically(path, data.tobytes())


def _write_video(path: Path, frames: NDArray[np.uint8], codec: str, fps: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=Fraction(fps)))
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 20_000_000
        for frame in frames:
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                )
            )
        container.mux(stream.encode(None))
