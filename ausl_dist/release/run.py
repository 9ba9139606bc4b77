"""What a run folder says of itself, read for a release: settings, record, the checkpoint to
release, the corpora behind it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file
from torch import Tensor

from ausl_dist.files import as_ours, json_object, read_json
from ausl_dist.json_lines import read_log_lines
from ausl_dist.release.choose import choose_checkpoint
from ausl_dist.run_folder import (
    BACKBONE_FILE,
    LEDGER_FILE,
    OBJECTIVES_FILE,
    RECORD_FILE,
    STATE_FILE,
    TEACHER_FILE,
    step_of,
)
from ausl_dist.train.settings import RunSettings, load_settings

TEACHER_PREFIX = "backbone."  # then net.NAME or readout.NAME
STATEMENT_NAME = "corpus.json"
MAX_STATEMENT_BYTES = 64 << 20

Weights = Literal["student", "teacher"]


@dataclass(frozen=True)
class OpenedRun:
    """A run folder, opened at one checkpoint."""

    folder: Path
    settings: RunSettings
    record: Mapping[str, Any]
    checkpoint: Path
    chosen: str  # why this checkpoint
    weights: Weights

    @property
    def step(self) -> int:
        """Optimizer steps behind the weights."""
        return step_of(self.checkpoint)

    def read_weights(self) -> dict[str, Tensor]:
        """The tensors of the backbone (see `Backbone.weights`), of the student or of its
        teacher.
        """
        if self.weights == "student":
            return load_file(self.checkpoint / BACKBONE_FILE)
        path = self.checkpoint / TEACHER_FILE
        if not path.is_file():
            raise ValueError(
                f"{self.checkpoint} holds no teacher: none of the run's objectives has one; "
                "release the student"
            )
        tensors = load_file(path)
        return {
            name.removeprefix(TEACHER_PREFIX).removeprefix("net."): tensor
            for name, tensor in tensors.items()
            if name.startswith(TEACHER_PREFIX)
        }

    def read_objectives(self) -> dict[str, Tensor]:
        """The trained weights of the objectives, as OBJECTIVE.NAME; none in a checkpoint
        without them.
        """
        path = self.checkpoint / OBJECTIVES_FILE
        return load_file(path) if path.is_file() else {}

    def data_summary(self) -> dict[str, Any]:
        """Which order dealt the data, and how many clips were missing by reason, up to the
        checkpoint.

        A step that was done twice, after a resume, counts once.
        """
        state, ledger = self.checkpoint / STATE_FILE, self.folder / LEDGER_FILE
        with as_ours(ledger):
            missing = self._missing_clips(ledger)
        version = None
        if state.is_file():
            with as_ours(state):
                version = read_json(state)["order_version"]
        return {"order_version": version, "missing_clips": missing}

    def _missing_clips(self, ledger: Path) -> dict[str, int]:
        lines = [line for line in read_log_lines(ledger) if line["step"] < self.step]
        slots = {
            (line["step"], line["corpus"], line["place"], line["clip"]): line["reason"]
            for line in lines
        }
        return dict(sorted(Counter(slots.values()).items()))


def open_run(
    folder: Path, checkpoint: Path | str = "newest", weights: Weights = "student"
) -> OpenedRun:
    """Open a run folder at its "newest" complete checkpoint, its "best", or the one given;
    ValueError says what is missing.
    """
    settings = load_settings(folder)
    record = read_json(folder / RECORD_FILE) if (folder / RECORD_FILE).is_file() else {}
    if not isinstance(record, dict):
        raise ValueError(f"{folder / RECORD_FILE} is no JSON object")
    chosen = choose_checkpoint(folder, checkpoint)
    if not (chosen.folder / BACKBONE_FILE).is_file():
        raise ValueError(
            f"{chosen.folder} holds no {BACKBONE_FILE}: it is not a complete checkpoint of ours"
        )
    return OpenedRun(folder, settings, record, chosen.folder, chosen.reason, weights)


def read_statements(
    run: OpenedRun, known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """The statement (corpus.json) of each corpus of the run, by its name in the run's config;
    `known` ones are not fetched.
    """
    from ausl_dist.shards import storage

    unknown = set(known) - set(run.settings.data.corpora)
    if unknown:
        raise ValueError(
            f"the run has no corpus {sorted(unknown)}; "
            f"it was trained on {sorted(run.settings.data.corpora)}"
        )
    statements = dict(known)
    for name, source in run.settings.data.corpora.items():
        if name in known:
            continue
        address = storage.join(source.url, STATEMENT_NAME)
        if not storage.exists(address):
            raise ValueError(
                f"the corpus statement {address} is not there; give a copy with --corpus "
                f"{name}=corpus.json"
            )
        statements[name] = parse_statement(
            storage.read_bytes(address, MAX_STATEMENT_BYTES), address
        )
    return statements


def parse_statement(data: bytes, where: str) -> dict[str, Any]:
    """Parse corpus.json, which must say how its faces were found and aligned."""
    statement = json_object(data, where)
    if not {"detector", "alignment", "fps"} <= statement.keys():
        raise ValueError(
            f"{where} is no corpus statement: it must name detector, alignment and fps"
        )
    return statement
