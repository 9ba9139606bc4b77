"""A bundle must come back from a hub as it went there, for us and for plain timm."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import ausl_dist
from ausl_dist.model.backbones import import_timm
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.hub import check_repository, push
from ausl_dist.release.verify import BundleError
from tests.support import hub_server
from tests.support.run_folders import SIZE, checkpoint_of, make_run

NAME = "faces/tiny"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    from huggingface_hub import constants

    torch.set_num_threads(1)
    with hub_server.serve() as hub:
        # the client reads HF_ENDPOINT at its first import
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        yield hub


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    run = make_run(tmp_path)
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    return tmp_path / "bundle"


def test_what_was_pushed_is_loaded_by_us_and_by_timm(hub: hub_server.Hub, bundle: Path) -> None:
    hub.files[NAME] = {
        "exports/of-an-older-release.onnx": b"old",
        ".gitattributes": b"hub's own",
    }
    address = push(bundle, NAME)
    local = ausl_dist.load_backbone(bundle)
    assert address.startswith(f"{hub.address}/{NAME}/commit/")
    assert hub.commits == [f"tiny-7-{local.info.identity[:12]}"]
    sent = {
        path.relative_to(bundle).as_posix(): path.read_bytes()
        for path in bundle.rglob("*")
        if path.is_file()
    }
    assert hub.files[NAME] == {**sent, ".gitattributes": b"hub's own"}
    fetched = ausl_dist.load_backbone(f"hf-hub:{NAME}")
    assert fetched.info.identity == local.info.identity
    images = torch.randn(2, 3, SIZE, SIZE)
    net = import_timm().create_model(f"hf-hub:{NAME}", pretrained=True).eval()
    with torch.inference_mode():
        assert torch.equal(net(images), local(images))


def test_a_new_repository_is_private_and_a_second_release_replaces_the_first(
    hub: hub_server.Hub, bundle: Path
) -> None:
    push(bundle, NAME)
    assert hub.private == {NAME: True}
    push(bundle, NAME)
    assert len(hub.commits) == 2
    assert ausl_dist.load_backbone(f"hf-hub:{NAME}").info.name == "tiny"


def test_a_hub_that_refuses_is_answered_with_how_to_log_in(
    hub: hub_server.Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(ValueError, match="HF_TOKEN"):
        push(bundle, NAME)
    assert hub.files == {}


def test_a_changed_bundle_is_not_pushed(hub: hub_server.Hub, bundle: Path) -> None:
    (bundle / "README.md").write_text("better than it is")
    with pytest.raises(BundleError, match="differs from what was released"):
        push(bundle, NAME)
    assert hub.files == {}


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "https://hub/a/b", "/tiny"])
def test_a_name_that_is_no_repository_is_refused_before_any_work(name: str) -> None:
    with pytest.raises(ValueError, match="ORG/NAME"):
        check_repository(name)


def test_who_is_not_logged_in_is_told_so_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ausl_dist.release import hub

    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(ValueError, match="nobody is logged in"):
        check_repository(NAME)
