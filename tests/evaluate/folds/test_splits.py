"""A subject on both sides of a split makes every score of it worthless; a fold named wrongly
makes it incomparable.
"""

import pytest

from ausl_dist.evaluate.datasets import bp4d, bp4d_plus, disfa
from ausl_dist.evaluate.folds import splits


@pytest.mark.parametrize(
    ("table", "everybody"),
    [
        (splits.BP4D, bp4d.SUBJECTS),
        (splits.DISFA, disfa.SUBJECTS),
        (splits.BP4D_PLUS, bp4d_plus.SUBJECTS),
    ],
)
def test_published_folds_share_nobody_and_hold_everybody(
    table: dict[str, tuple[str, ...]], everybody: tuple[str, ...]
) -> None:
    members = [name for fold in table.values() for name in fold]
    assert len(members) == len(set(members))
    assert set(members) == set(everybody)


def test_folds_have_their_published_sizes() -> None:
    assert [len(fold) for fold in splits.BP4D.values()] == [14, 14, 13]
    assert [len(fold) for fold in splits.DISFA.values()] == [9, 9, 9]
    assert [len(fold) for fold in splits.BP4D_PLUS.values()] == [35, 35, 35, 35]
    assert len(splits.BP4D_INTENSITY_TEST) == 20
    assert len(bp4d.SUBJECTS) == 41
    assert len(disfa.SUBJECTS) == 27
    assert "SN033" not in disfa.SUBJECTS  # a published list has it


def test_fold_numbers_of_other_code_bases_are_translated() -> None:
    assert splits.translate("ME-GraphAU", "1") == "P3"
    assert splits.translate("FG-Net", "0") == "P1"
    assert splits.translate("LibreFace", "0") == "P3"
    with pytest.raises(ValueError, match="ME-GraphAU 1/2/3"):
        splits.translate("ME-GraphAU", "0")


def test_a_stranger_among_the_subjects_and_an_empty_fold_are_told() -> None:
    with pytest.raises(ValueError, match="SN033"):
        splits.folds("disfa", [f"disfa:{name}" for name in (*disfa.SUBJECTS, "SN033")])
    with pytest.raises(ValueError, match="P2"):
        splits.folds(
            "disfa", [f"disfa:{name}" for name in (*splits.DISFA["P1"], *splits.DISFA["P3"])]
        )


def test_sets_without_a_published_split_are_dealt_by_name() -> None:
    names = [f"gft:{number:03d}" for number in range(10)]
    result = splits.folds("gft", names, count=3)
    assert sorted(name for _, members in result for name in members) == names
    assert result == splits.folds("gft", names[::-1], count=3)


def test_the_intensity_split_of_disfa_tests_its_nine_subjects_and_trains_on_the_others() -> (
    None
):
    present = [f"disfa:{name}" for name in disfa.SUBJECTS]
    ((name, members),) = splits.folds("disfa", present, split="ARL")
    assert name == "ARL"
    assert [member.removeprefix("disfa:SN0") for member in members] == [
        "02",
        "03",
        "04",
        "06",
        "07",
        "12",
        "13",
        "16",
        "23",
    ]
    assert len(set(present) - set(members)) == 18
    with pytest.raises(ValueError, match="usual, 3-fold, ARL"):
        splits.folds("disfa", present, split="arl")


def test_intensities_of_bp4d_are_tested_on_the_even_numbers() -> None:
    ((_, members),) = splits.folds("bp4d_intensity", [f"bp4d:{name}" for name in bp4d.SUBJECTS])
    assert all(int(member[-3:]) % 2 == 0 for member in members)
    assert len(members) == 20
