"""Cross-identity reconstruction: what a face does must be sayable with the faces of other
people.

    q_i, student, frame i of a clip ──▶ attention over embeddings of OTHER identities
        ──▶ r_i = their mean, to unit length
    r_i must find q_i among all frames of the clip: it has to carry what the face does, and cannot
    carry who it is

After the cross-identity half (CIR) of Li and Shan, IEEE TIP 32, 2023 (see `temporal_contrast`).
Fact of the paper: the signal, a dictionary kept in a memory bank, a momentum encoder. Our
decisions: the formulas, every number, masking by identity (not by video), gradient also through
the attention, no label-mined pairs, and that the teacher's embeddings of the present batch are
in the dictionary beside the bank, so that the loss exists from the first step.

    a_ik = softmax_k(q_i . M_k / tau_r) over entries of other identities;  r_i = normalise(sum_k
    a_ik M_k) loss = -mean_i log softmax_j(r_i . q_j / tau)[i]  +  pull (1 - mean_i r_i . q_i)

Ours beside the paper's: `embeds: deviation` takes the clip's mean off each embedding before it gets
unit length, so that what is sought among other people is what changes in a clip, and not who is
most alike. Without it, the reconstructions of a clip's frames stay nearly equal, and the loss at
chance, ln n, for hundreds of steps. `recognises: key` seeks the slow copy's embedding of the same
frame in the other view. Without it, a deviation finds itself by its pixels within 150 steps.

A clip for which there is no other identity anywhere is left out, never NaN. The bank is equal
on all ranks: embeddings of all ranks, in rank order, enter it after each step that was taken;
those of slots without a clip do not.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.batch import Needs, View
from ausl_dist.objectives.base import (
    BatchView,
    Loss,
    Objective,
    gather,
    in_float32,
    masked_mean,
)
from ausl_dist.objectives.layers import cross_entropy_of_rows, embed, feed, projector
from ausl_dist.objectives.temporal_contrast import STRONG, STRONG_KEY


class CrossIdentityReconstruction(Objective):
    """Reconstruct each frame's embedding from a bank of other identities' embeddings, and
    recognise it among its clip's frames.
    """

    needs_teacher = True
    taught: tuple[str, ...] = ("head",)
    bank: Tensor  # K E, unit length
    bank_identity: Tensor  # K int64
    bank_step: Tensor  # K int64: the step that wrote it; -1 where nothing was written yet
    bank_cursor: Tensor  # 1 int64: where the next embedding goes

    def __init__(
        self,
        *,
        feature_dim: int,
        frames: int = 8,
        stride: int = 3,
        bank_size: int = 16384,
        temperature: float = 0.1,
        attention_temperature: float = 0.07,
        pull: float = 0.0,
        embeds: Literal["frame", "deviation"] = "frame",
        recognises: Literal["query", "key"] = "query",
        gradient: Literal["query_and_attention", "query"] = "query_and_attention",
        hidden_dim: int = 512,
        embedding_dim: int = 128,
        teacher_momentum: float = 0.999,
        shared_head: str | None = None,
        view: View = STRONG,
        key_view: View = STRONG_KEY,
    ) -> None:
        super().__init__()
        if frames < 2 or stride < 1 or bank_size < frames:
            raise ValueError(
                "cross_identity_reconstruction: need frames >= 2, stride >= 1 and bank_size >= "
                "frames, "
                f"not frames={frames}, stride={stride}, bank_size={bank_size}"
            )
        if not (temperature > 0 and attention_temperature > 0):
            raise ValueError(
                "cross_identity_reconstruction: temperature and attention_temperature must be "
                "above 0"
            )
        _check_choices(embeds, recognises, gradient)
        self.embeds, self.recognises = embeds, recognises
        self.temperature, self.attention_temperature, self.pull, self.gradient = (
            temperature,
            attention_temperature,
            pull,
            gradient,
        )
        self.teacher_momentum = teacher_momentum
        self.view, self.key_view = view, key_view
        self.offsets = tuple(range(0, frames * stride, stride))
        # the objective whose projector, and its slow copy, embed here too
        self.shared_head = shared_head
        own = shared_head is None
        self.head = projector(feature_dim, hidden_dim, embedding_dim) if own else None
        self.taught = ("head",) if own else ()
        self.register_buffer("bank", torch.zeros(bank_size, embedding_dim))
        self.register_buffer("bank_identity", torch.zeros(bank_size, dtype=torch.int64))
        self.register_buffer("bank_step", torch.full((bank_size,), -1))
        self.register_buffer("bank_cursor", torch.zeros(1, dtype=torch.int64))
        self._staged: list[tuple[Tensor, Tensor, int]] = []

    def needs(self) -> Needs:
        return Needs(
            views={self.view: self.offsets, self.key_view: self.offsets}, identity=True
        )

    def forward(self, batch: BatchView) -> Loss:
        head: nn.Module | None = self.head
        if self.shared_head is not None:
            head = batch.shared_module(self.shared_head, "head")
        assert head is not None
        queries = self._embed(head, batch.pooled(self.view, self.offsets))  # B n E
        own_keys = self._keys(batch)
        keys, key_identity = self._of_all_ranks(own_keys, batch)
        # K+G E; renormalised: the bank may be held in 16 bits
        entries = torch.cat([F.normalize(self.bank.float(), dim=-1), keys])
        other = batch.identity[:, None] != torch.cat(
            [self.bank_identity, key_identity]
        )  # B K+G
        other &= torch.cat(
            [self.bank_step >= 0, torch.ones_like(key_identity, dtype=torch.bool)]
        )
        source = queries.detach() if self.gradient == "query" else queries
        with in_float32(queries):
            rebuilt = reconstruct(source, entries, other, self.attention_temperature)
            sought = own_keys if self.recognises == "key" else queries
            loss, found = recognition_loss(rebuilt, sought, self.temperature)  # B, B
            agreement = (rebuilt * queries).sum(-1).mean(1)
        usable = batch.weight * other.any(1)
        logs = {
            "accuracy": masked_mean(found, usable),
            "usable": batch.mean(other.any(1).float()),
            "bank_age_steps": self._age(batch.step),
        }
        self._staged.append((keys, key_identity, batch.step))
        return Loss(
            masked_mean(loss + self.pull * (1 - agreement), usable),
            logs,
            embedding=queries.detach().flatten(0, 1),
        )

    def after_step(self, taken: bool) -> None:
        staged, self._staged = self._staged, []
        for keys, identity, step in staged if taken else []:
            keys, identity = keys[-len(self.bank) :], identity[-len(self.bank) :]
            places = (self.bank_cursor + torch.arange(len(keys), device=keys.device)) % len(
                self.bank
            )
            self.bank[places] = keys.to(self.bank.dtype)
            self.bank_identity[places] = identity
            self.bank_step[places] = step
            self.bank_cursor.copy_((self.bank_cursor + len(keys)) % len(self.bank))

    def _embed(self, head: nn.Module, features: Tensor) -> Tensor:
        """Unit-length embeddings B n E of features B n D."""
        if self.embeds == "frame":
            return embed(head, features)
        with in_float32(features):
            embedded = feed(head, features).float()
            return F.normalize(embedded - embedded.mean(1, keepdim=True), dim=-1)

    @torch.no_grad()
    def _keys(self, batch: BatchView) -> Tensor:
        """The slow copy's embeddings B n E of the other view."""
        taught = (
            batch.teacher_module(self, "head")
            if self.shared_head is None
            else batch.shared_teacher_module(self.shared_head, "head")
        )
        return self._embed(taught, batch.teacher_pooled(self.key_view, self.offsets))

    @torch.no_grad()
    def _of_all_ranks(self, own_keys: Tensor, batch: BatchView) -> tuple[Tensor, Tensor]:
        """Keys G E of all ranks' clips that are there, and whose they are, G."""
        keys, valid = gather(own_keys), gather(batch.weight) > 0
        identity = gather(batch.identity)[valid].repeat_interleave(len(self.offsets))
        return keys[valid].flatten(0, 1), identity

    def _age(self, step: int) -> Tensor:
        written = self.bank_step >= 0
        return ((step - self.bank_step) * written).sum() / written.sum().clamp(min=1)


def _check_choices(embeds: str, recognises: str, gradient: str) -> None:
    if gradient not in ("query_and_attention", "query"):
        raise ValueError(
            "cross_identity_reconstruction: gradient must be query_and_attention or query"
        )
    if embeds not in ("frame", "deviation") or recognises not in ("query", "key"):
        raise ValueError(
            "cross_identity_reconstruction: embeds must be frame or deviation, recognises query "
            "or key"
        )
    if recognises == "key" and gradient == "query":
        raise ValueError(
            "cross_identity_reconstruction: recognises=key leaves gradient=query none to take: "
            "set gradient=query_and_attention"
        )


def reconstruct(
    queries: Tensor, entries: Tensor, allowed: Tensor, temperature: float
) -> Tensor:
    """Attend from queries B n E to the entries M E that are allowed for each clip, B M; returns
    unit vectors B n E, zeros where none is.
    """
    scores = (queries @ entries.T / temperature).masked_fill(~allowed[:, None], -torch.inf)
    # a row of -inf alone would give NaN, and NaN its gradient
    scores = scores.where(allowed.any(1)[:, None, None], 0.0)
    attention = scores.softmax(-1) * allowed[:, None]
    return F.normalize(attention @ entries, dim=-1)


def recognition_loss(
    rebuilt: Tensor, sought: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """How badly each reconstruction B n E finds its own frame among those of the clip, `sought`,
    B n E: loss B, and the share found B.
    """
    logits = rebuilt @ sought.transpose(1, 2) / temperature  # B n n
    target = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    loss = cross_entropy_of_rows(logits, target).mean(1)
    return loss, (logits.argmax(-1) == target).float().mean(1).detach()
