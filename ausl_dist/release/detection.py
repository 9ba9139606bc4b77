"""The two detection models inside a bundle, so that a consumer needs nothing but the bundle to
go from a video to features.

They are copied where they are at hand when the bundle is made, and found there by `preprocess`.
Both licences allow it and want their text, or its place, to go along.
"""

from pathlib import Path

from ausl_dist.faces.models import DETECTOR, LANDMARKER, MODELS, find_model
from ausl_dist.files import write_atomically

MODELS_NAME = "models"
NOTICE = f"""# The detection models in this folder

`{DETECTOR.file}`: YuNet, from OpenCV Zoo ({DETECTOR.url}), under the MIT licence:

> Copyright (c) 2020 Shiqi Yu
>
> Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
> "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
> distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
> the following conditions:
>
> The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.
>
> THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
> MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR
> ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH
> THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

`{LANDMARKER.file}`: MediaPipe Face Landmarker by Google ({LANDMARKER.url}), unchanged, under the Apache licence 2.0:
http://www.apache.org/licenses/LICENSE-2.0
"""


def carry_models(folder: Path, place: Path | None) -> bool:
    """Copy both models from `place`, or where they usually are, into the bundle; False where
    they are not there.

    Raises FileNotFoundError where `place` is given and lacks one, and ValueError for a file
    that is not the pinned model.
    """
    try:
        paths = [find_model(model, place) for model in MODELS]
    except FileNotFoundError:
        if place is not None:
            raise
        return False
    for path in paths:
        write_atomically(folder / MODELS_NAME / path.name, path.read_bytes())
    write_atomically(folder / MODELS_NAME / "LICENCES.md", NOTICE)
    return True


def model_files() -> set[str]:
    """The paths of both models inside a bundle."""
    return {f"{MODELS_NAME}/{model.file}" for model in MODELS}
