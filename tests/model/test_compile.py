"""torch.compile takes the joint model as it is: custom gradients, draws by NumPy, stored state.
BatchView with tracing and without generated code, which is the GPU's own.
"""

import pytest
import torch

from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.model.joint import JointModel, build_model
from tests.support.tiny import IMAGE_SIZE, LAYER_NORM, make_batch

PLACE = "ausl_dist.objectives."
OBJECTIVES = {
    # draws by NumPy what it hides
    "roi_inpainting": {"_target_": f"{PLACE}roi_inpainting.RoiInpainting"},
    # turns the gradient round
    "identity_adversary": {"_target_": f"{PLACE}identity_adversary.IdentityAdversary"},
    # motion that the loader has measured
    "single_image_flow": {"_target_": f"{PLACE}single_image_flow.SingleImageFlow", "gap": 2},
}


def make(compiled: bool) -> JointModel:
    torch.manual_seed(0)
    backbone = BackboneSettings(LAYER_NORM, image_size=IMAGE_SIZE)
    # the balance measures gradients by a function of its own
    model = build_model(backbone, OBJECTIVES, dict.fromkeys(OBJECTIVES, 1.0), balance_decay=0.9)
    if compiled:
        model.compile(backend="aot_eager")
    return model


def steps(model: JointModel) -> tuple[list[float], torch.Tensor]:
    """Losses of three steps, and a weight of the backbone after them."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    losses = []
    for step in range(3):
        torch.manual_seed(step)
        loss = model(make_batch(model.plan, 4, step=step)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_step(True)
        losses.append(float(loss.detach()))
    return losses, next(model.backbone.parameters()).detach()


@pytest.mark.timeout(900)
def test_a_compiled_joint_model_takes_the_steps_of_the_plain_one() -> None:
    (plain, weight), (compiled, other) = steps(make(False)), steps(make(True))
    torch.testing.assert_close(
        torch.tensor(compiled), torch.tensor(plain), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(other, weight, rtol=1e-3, atol=1e-5)
