"""Labelled data sets by name: `DATA_SETS["disfa"].read(root)`."""

from ausl_dist.evaluate.datasets import (
    aff_wild2,
    bp4d,
    bp4d_plus,
    ck_plus,
    disfa,
    disfa_plus,
    emotionet,
    gft,
)
from ausl_dist.evaluate.datasets.base import DataSet, Recording

DATA_SETS: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        bp4d.OCCURRENCE,
        bp4d.INTENSITY,
        bp4d_plus.DATA_SET,
        disfa.DATA_SET,
        disfa_plus.DATA_SET,
        gft.DATA_SET,
        emotionet.DATA_SET,
        aff_wild2.DATA_SET,
        ck_plus.DATA_SET,
    )
}

__all__ = ["DATA_SETS", "DataSet", "Recording", "find_data_set"]


def find_data_set(name: str) -> DataSet:
    """The data set of this name; ValueError that lists the known ones."""
    if name not in DATA_SETS:
        raise ValueError(f"data={name!r} is not known; known: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]
