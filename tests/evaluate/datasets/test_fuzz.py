"""Whatever stands in a label file of a data set is read, or ends in one sentence, in little
memory.

AUSL_SLOW=1 reads 20,000 inputs, else a few hundred.
"""

from pathlib import Path

import pytest

from ausl_dist.corpus.labels import LabelTables
from ausl_dist.evaluate.datasets import DATA_SETS
from ausl_dist.evaluate.datasets.examples import write_tree
from ausl_dist.evaluate.datasets.lists import read_list
from tests.evaluate.datasets.test_readers import NAMES
from tests.support.drawn_faces import drawn_faces
from tests.support.fuzz import fuzz, inputs, patience
from tests.support.tables import OPENFACE_HEADER, openface_row

pytestmark = patience
LABEL_SUFFIXES = (".csv", ".txt", ".xlsx")
LISTS = {
    "x_img_path_fold1.txt": "F001/T1/0001.jpg\nF002/T1/0002.jpg\n",
    "y_path.txt": "F001/T1/0001.jpg\nF002/T1/0002.jpg\n",
    "z.csv": "image_path,au1,au2\nF001/T1/0001.jpg,1,0\nF002/T1/0002.jpg,0,1\n",
    "w.json": '{"img_path": "F001/T1/0001.jpg", "AUs": [1, 12, 999]}\n',
}
BESIDE = {"x_label_fold1.txt": "1 0 1 0 0 0 0 0 0 0 0 0\n0 0 1 0 0 0 0 0 0 0 0 1\n"}
TABLES = {
    "frames": "frame,AU1,AU12\n0,1,5\n2,0,9\n3,,-1\n",
    "sources": "source,frame,AU1\na.mp4,0,1\na,2,4\nb.mp4,0,1\n",
    "rows": "AU1,AU2\n0,1\n-1,-1\n1,1\n",
    "openface": "\n".join(
        [OPENFACE_HEADER, openface_row(1, {"AU01_r": 2.5}), openface_row(2, {})]
    ),
}
KINDS = len(NAMES) + len(LISTS) + len(TABLES)
COUNT = inputs(400) // KINDS + 1


@pytest.mark.parametrize("name", NAMES)
def test_any_label_file_of_a_data_set_is_read_or_refused(name: str, tmp_path: Path) -> None:
    write_tree(name, tmp_path, drawn_faces(NAMES[name][:1], frames=4))
    files = [path for path in sorted(tmp_path.rglob("*")) if path.suffix in LABEL_SUFFIXES]
    assert files
    assert DATA_SETS[name].read(tmp_path)
    assert sum(1 for _ in fuzz(files, lambda: DATA_SETS[name].read(tmp_path), COUNT)) == COUNT


@pytest.mark.parametrize("name", LISTS)
def test_any_list_is_read_or_refused(name: str, tmp_path: Path) -> None:
    for file, text in {name: LISTS[name], **BESIDE}.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "y_AUoccur.txt").write_text(BESIDE["x_label_fold1.txt"])
    files = [path for path in sorted(tmp_path.iterdir()) if path.name[0] == name[0]]

    def read() -> object:
        return read_list(tmp_path / name, "bp4d", tmp_path)

    read()
    assert sum(1 for _ in fuzz(files, read, COUNT)) == COUNT


@pytest.mark.parametrize("name", TABLES)
def test_any_table_of_labels_is_read_or_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TABLES[name])

    def read() -> None:
        labels = LabelTables(tmp_path, ["a.mp4", "b.mp4"]).of("a.mp4")
        assert labels.rows([0, 1, 2]).shape == (3, len(labels.units))
        labels.check("a.mp4", 3)

    read()
    assert sum(1 for _ in fuzz([path], read, COUNT)) == COUNT
