"""What is said of the papers is so: every setting on objectives/PAPERS.md, and every formula
and number that is called the authors'.

Numbers stand here as they were read in the authors' code, not as ours have them.
"""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

from ausl_dist.model.objective_settings import build_objective
from ausl_dist.objectives.action_units import ActionUnits, dice_loss
from ausl_dist.objectives.layers import ConvGRU
from ausl_dist.objectives.predictive_coding import dense_contrast
from ausl_dist.objectives.temporal_ranking import ranking_loss
from launch.compose import compose

ROOMS = Path(__file__).parents[2] / "ausl_dist" / "objectives"
PAGE = (ROOMS / "PAPERS.md").read_text()
SECTIONS = re.findall(r"^## `experiment=(\w+)`(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"`((?:\w+\.)*\w+)=([^`]+)`")


def composed(experiment: str) -> dict[str, Any]:
    found = compose([f"experiment={experiment}", "data.corpora.main.url=s3://bucket/corpus"])
    return {**found.run, "cluster": found.cluster}


@pytest.mark.parametrize(("experiment", "text"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_every_setting_on_the_page_is_the_runs(experiment: str, text: str) -> None:
    run = composed(experiment)
    settings = [pair for pair in SETTING.findall(text) if pair[0] != "experiment"]
    assert len(settings) >= 4
    for path, said in settings:
        value: Any = run
        for part in path.split("."):
            value = value[part]
        told = yaml.safe_load(said)
        told = float(told) if isinstance(value, float) else told  # yaml takes 1e-5 for a word
        assert value == told, path


def test_what_is_called_the_authors_code_has_a_section_and_a_test_of_its_numbers() -> None:
    readme = (ROOMS / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    claimed = {row.split("`")[1] for row in rows if "authors' code" in row}
    assert claimed == {"temporal_ranking", "predictive_coding"}


def test_temporal_ranking_is_the_authors() -> None:
    run = composed("temporal_ranking")
    own = run["objectives"]["temporal_ranking"]
    assert (own["n_far"], own["margin"], own["embedding_dim"]) == (10, 0.03, 256)
    assert (own["spacing"], own["batch_norm"], own["crop"]) == (1, "per_role", "per_frame")
    view = own["view"]
    assert (view["centre"], view["crop"]) == (224 / 256, [213 / 256] * 2)
    changed = (
        "flip",
        "rotation",
        "brightness",
        "contrast",
        "saturation",
        "hue",
        "grey",
        "blur",
    )
    assert [view[name] for name in changed] == [0] * 8
    optimizer = run["optimizer"]
    assert (optimizer["kind"], optimizer["learning_rate"], optimizer["momentum"]) == (
        "sgd",
        1e-3,
        0.9,
    )
    assert (optimizer["weight_decay"], optimizer["clip_norm"]) == (0, None)
    assert (optimizer["schedule"], optimizer["warmup_steps"]) == ("constant", 0)
    assert run["data"]["lanes"] * run["data"]["clips_per_lane"] == 48
    assert run["cluster"]["ranks"] == 2
    assert (run["backbone"]["name"], run["data"]["image_size"]) == ("resnet18", 256)
    objective = build_objective(own, feature_dim=512)
    frames = [offsets for _, offsets in objective.roles]  # type: ignore[attr-defined]
    assert frames == [(0,), (1,), tuple(range(2, 12))]
    assert isinstance(objective.embed, torch.nn.Linear)
    assert objective.embed.bias is not None


def test_the_ranking_loss_is_the_authors() -> None:
    embeddings = F.normalize(torch.randn(5, 12, 256, generator=torch.manual_seed(0)), dim=-1)
    embeddings[:, 1:] = F.normalize(embeddings[:, :1] + 0.1 * embeddings[:, 1:], dim=-1)
    total = 0.0
    for clip in embeddings.tolist():
        distance = [
            sum((a - b) ** 2 for a, b in zip(clip[0], x, strict=True)) for x in clip[1:]
        ]
        total += sum(max(0.0, distance[i - 1] - distance[i] + 0.03) for i in range(1, 11))
    squared = (embeddings[:, :1] - embeddings[:, 1:]).square().sum(-1)
    assert float(ranking_loss(squared, 0.03).mean()) == pytest.approx(total / 5, rel=1e-4)


def test_dense_predictive_coding_is_the_authors() -> None:
    run = composed("predictive_coding_block")
    own = run["objectives"]["predictive_coding"]
    assert (own["blocks"], own["block_frames"], own["predicted"], own["stride"]) == (8, 5, 3, 3)
    assert (own["width"], own["dropout"], own["negatives"]) == (256, 0.1, "rank")
    view = own["view"]
    assert (view["per_frame"], view["colour_per_frame"], view["flip"]) == (False, True, 0.5)
    assert [view[name] for name in ("brightness", "contrast", "saturation")] == [0.5] * 3
    assert (view["hue"] / 360, view["grey"]) == (0.25, 0.5)
    least, most = view["crop"]
    assert (least / most) ** 2 == pytest.approx(0.5, abs=0.01)
    optimizer = run["optimizer"]
    assert (optimizer["kind"], optimizer["learning_rate"], optimizer["weight_decay"]) == (
        "adam",
        1e-3,
        1e-5,
    )
    assert (optimizer["betas"], optimizer["clip_norm"]) == ([0.9, 0.999], None)
    assert optimizer["schedule"] == "constant"
    assert (run["backbone"]["name"], run["data"]["image_size"]) == ("resnet18_2d3d", 128)
    assert run["data"]["lanes"] * run["data"]["clips_per_lane"] == 128
    objective: Any = build_objective(own, feature_dim=256)
    assert isinstance(objective.reduce, torch.nn.Identity)
    shapes = [tuple(p.shape) for p in objective.predict.parameters()]
    assert shapes == [(256, 256, 1, 1), (256,)] * 2
    assert all(gate.weight.shape == (256, 512, 1, 1) for gate in objective.aggregate.gates)


def test_the_loss_of_dense_predictive_coding_is_the_authors() -> None:
    generator = torch.manual_seed(0)
    clips, steps, places, width = 2, 3, 4, 8
    guess = torch.randn(clips, steps, places, width, generator=generator)
    truth = torch.randn(clips, steps, places, width, generator=generator)
    keys = truth.flatten(0, 2).tolist()
    total = 0.0
    for row, query in enumerate(guess.flatten(0, 2).tolist()):
        products = [sum(a * b for a, b in zip(query, key, strict=True)) for key in keys]
        total += math.log(sum(map(math.exp, products))) - products[row]
    loss, _ = dense_contrast(guess, truth, torch.ones(clips, dtype=torch.bool))
    assert float(loss.mean()) == pytest.approx(total / len(keys), rel=1e-5)


def test_the_conv_gru_is_the_authors() -> None:
    gru = ConvGRU(3, 3, dropout=0.0)
    x, h = torch.randn(1, 3, 1, 1), torch.randn(1, 3, 1, 1)
    w_u, w_r, w_h = (gate.weight[:, :, 0, 0].detach() for gate in gru.gates)  # type: ignore[index, operator]
    assert all(not gate.bias.any() for gate in gru.gates)  # type: ignore[operator]
    a, b = x[0, :, 0, 0], h[0, :, 0, 0]
    u, r = (torch.sigmoid(w @ torch.cat([a, b])) for w in (w_u, w_r))
    n = torch.tanh(w_h @ torch.cat([a, r * b]))
    torch.testing.assert_close(gru(x, h)[0, :, 0, 0].detach(), (1 - u) * b + u * n)


def test_the_loss_of_labels_is_jaa_nets() -> None:
    rates = (0.2, 0.5, 0.1)
    own = ActionUnits(feature_dim=4, units=(1, 2, 4), positive_from=1, positive_rates=rates)
    inverse = [1 / rate for rate in rates]
    weight = [3 * each / sum(inverse) for each in inverse]
    logits = torch.tensor([[0.3, -1.0, 2.0], [-0.2, 0.4, -3.0]])
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    values, guess = own._errors(logits[:, None, :, None], truth[:, None])
    crossed = dices = 0.0
    for unit in range(3):
        p = [1 / (1 + math.exp(-float(x))) for x in logits[:, unit]]
        y = truth[:, unit].tolist()
        terms = [-math.log(a if b else 1 - a) for a, b in zip(p, y, strict=True)]
        crossed += weight[unit] * sum(terms)
        overlap = 2 * sum(a * b for a, b in zip(p, y, strict=True)) + 1
        size = sum(a * a for a in p) + sum(b * b for b in y) + 1
        dices += weight[unit] * (1 - overlap / size)
    assert float(values.mean()) == pytest.approx(crossed / 6, rel=1e-5)
    known = torch.ones(2, 1, 3)
    dice = dice_loss(guess, truth[:, None], known, own.unit_weight)
    assert float(dice) == pytest.approx(dices / 3, rel=1e-5)
