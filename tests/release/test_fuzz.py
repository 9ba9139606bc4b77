"""A bundle and a config that somebody else made: used, or refused with a sentence, in bounded
time and memory, whatever stands in them.

AUSL_SLOW=1 reads 20,000 of each, else a few. The network of most is `small_conv`, which is
built in milliseconds; `resnet10t` is one of timm's.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ausl_dist
from ausl_dist.files import read_json, write_json
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.verify import (
    MAX_BUNDLE_BYTES,
    SUMS_NAME,
    BundleError,
    verify,
    write_sums,
)
from ausl_dist.train.settings import load_settings
from tests.support.fuzz import MAX_BYTES, bounded, fuzz, inputs, patience, peak, reset_peak
from tests.support.run_folders import TINY, checkpoint_of, make_run

HUGE = 10**400
UNITS = {"units": [1, 12], "context": "gru"}
pytestmark = patience
Change = Callable[[dict[str, Any]], object]


def bundle_of(network: str, folder: Path) -> Path:
    """A new bundle with this network and a head over time, without models of faces, whose
    megabytes would be hashed for each input.
    """
    torch.set_num_threads(1)
    run = make_run(folder, name=network, action_units=UNITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUSL_MODELS", str(folder))
        write_bundle(run, folder / "bundle", checkpoint=checkpoint_of(run))
    return folder / "bundle"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_run(tmp_path_factory.mktemp("fuzz"), action_units=UNITS)


@pytest.fixture
def bundle(run: Path, tmp_path: Path) -> Path:
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    return tmp_path / "bundle"


@pytest.mark.parametrize(("network", "count"), [("small_conv", inputs(40)), (TINY, 10)])
def test_changed_files_of_a_bundle_are_used_or_refused(
    network: str, count: int, tmp_path: Path
) -> None:
    bundle = bundle_of(network, tmp_path)
    names = ("config.json", "preprocessing.json", "record.json", "corpus.json", "head.json")
    files = [bundle / name for name in (*names, SUMS_NAME)]
    sums = (bundle / SUMS_NAME).read_bytes()

    def read() -> None:
        if (bundle / SUMS_NAME).read_bytes() == sums:
            write_sums(bundle)  # as somebody would who changed the other file on purpose
        try:
            ausl_dist.load_backbone(bundle)
        finally:
            (bundle / SUMS_NAME).write_bytes(sums)

    read()  # what torch and timm keep for themselves is no input's fault
    for _ in fuzz(files, read, count):
        pass


@pytest.mark.parametrize("name", ["head.safetensors", "model.safetensors"])
def test_changed_headers_of_tensors_are_used_or_refused(name: str, tmp_path: Path) -> None:
    bundle = bundle_of("small_conv", tmp_path)
    chance, whole = np.random.default_rng(0), (bundle / name).read_bytes()
    for _ in bounded(inputs(5)):
        data = bytearray(whole)
        for place in chance.integers(0, 1024, chance.integers(1, 4)):
            data[place] = chance.integers(0, 256)
        (bundle / name).write_bytes(data)
        write_sums(bundle)
        with contextlib.suppress(BundleError):
            ausl_dist.load_backbone(bundle)


def test_a_changed_config_of_a_run_is_used_or_refused(run: Path) -> None:
    for _ in fuzz([run / "config.yaml"], lambda: load_settings(run), inputs(200)):
        pass


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda it: it["ausl_dist"]["backbone"].update(image_size=1 << 20)),
        ("config.json", lambda it: it["ausl_dist"]["backbone"].update(image_size=HUGE)),
        (
            "config.json",
            lambda it: it["ausl_dist"]["backbone"].update(weights="/x.safetensors"),
        ),
        ("config.json", lambda it: it["ausl_dist"].pop("backbone")),
        (
            "config.json",
            lambda it: it["ausl_dist"]["backbone"].update(readout={"cells": 1 << 40}),
        ),
        ("preprocessing.json", lambda it: it.update(image_size=1 << 20)),
        ("preprocessing.json", lambda it: it.update(image_size=64)),
        ("preprocessing.json", lambda it: it.update(fps=HUGE)),
        ("preprocessing.json", lambda it: it.update(fps=-1.0)),
        ("preprocessing.json", lambda it: it.update(view=1e-9)),
        ("preprocessing.json", lambda it: it.update(stride=0)),
        ("preprocessing.json", lambda it: it.update(pixel_std=[0.0, 1.0, 1.0])),
        ("preprocessing.json", lambda it: it.update(pixel_mean=[float("nan"), 1.0, 1.0])),
        ("head.json", lambda it: it.update(action_units=[1, 1])),
        ("head.json", lambda it: it.update(action_units=[1, HUGE])),
        ("head.json", lambda it: it["context"].update(frames=1 << 40)),
        ("record.json", lambda it: it.update(step=1 << 63)),
        ("record.json", lambda it: it.pop("run")),
    ],
)
def test_settings_of_a_bundle_have_bounds(bundle: Path, name: str, change: Change) -> None:
    value = read_json(bundle / name)
    change(value)
    (bundle / name).write_text(json.dumps(value))
    write_sums(bundle)
    with pytest.raises(BundleError):
        ausl_dist.load_backbone(bundle)


@pytest.mark.parametrize("network", ["vit_giant_patch14_reg4_dinov2", "convnextv2_huge"])
def test_a_network_much_larger_than_its_weights_is_not_built(
    bundle: Path, network: str
) -> None:
    config = read_json(bundle / "config.json")
    config["ausl_dist"]["backbone"]["name"] = network  # 4.5 and 2.6 GB
    write_json(bundle / "config.json", config)
    write_sums(bundle)
    reset_peak()
    before = peak()
    with pytest.raises(BundleError, match="smaller"):
        ausl_dist.load_backbone(bundle)
    assert peak() - before < MAX_BYTES


@pytest.mark.parametrize("name", ["config.json", "record.json", "corpus.json", "head.json"])
@pytest.mark.parametrize("value", [[], 1, "text", None])
def test_a_file_of_a_bundle_that_is_no_object_is_refused(
    bundle: Path, name: str, value: object
) -> None:
    write_json(bundle / name, value)
    write_sums(bundle)
    with pytest.raises(BundleError, match=name):
        ausl_dist.load_backbone(bundle)


def test_a_bundle_of_terabytes_is_refused_before_it_is_hashed(tmp_path: Path) -> None:
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(MAX_BUNDLE_BYTES + 1)  # takes no room
    (tmp_path / SUMS_NAME).write_text(f"{'0' * 64}  model.safetensors\n")
    with pytest.raises(BundleError, match="holds"):
        verify(tmp_path)


def test_a_file_named_twice_is_refused(bundle: Path) -> None:
    lines = (bundle / SUMS_NAME).read_text()
    (bundle / SUMS_NAME).write_text(lines + lines.splitlines(keepends=True)[0])
    with pytest.raises(BundleError, match="twice"):
        verify(bundle)


def test_a_wide_recurrent_head_takes_no_memory_before_it_is_refused(bundle: Path) -> None:
    tensors = load_file(bundle / "head.safetensors")
    tensors["weight"] = torch.zeros(len(tensors["weight"]), 1 << 20)  # its gates: 80 TB
    save_file(tensors, bundle / "head.safetensors")
    write_sums(bundle)
    with pytest.raises(BundleError, match="recurrent"):
        ausl_dist.load_backbone(bundle)
