"""Sampling of patients: their label, their split, and the severity of their lesions.

Everything here is a function of (seed, modality, patient) alone, so a larger data set contains the
smaller one, patient by patient, with the same labels and splits.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ttl_jax.errors import UserError, nearest

MODALITIES = ("radiograph", "mri", "histology", "dermoscopy", "endoscopy")
TASKS = ("texture", "shape")
CLASS_NAMES = ("benign", "malignant")
_BLOCK = 20
# Of each class, in hands of five shuffled one by one: 60 / 15 / 25 in all, and five patients of a
# class are enough for it to be in every split.
_HANDS = (("train",) * 3 + ("val", "test"),) * 3 + (("train",) * 3 + ("test", "test"),)

# How far the classes' latent means lie apart at difficulty 0, in standard deviations of the latent,
# and how strongly a lesion stands out. Set so that a logistic regression on frozen ImageNet features
# (EfficientNet-Lite0, 64 px, about 400 training images) has an AUROC of 0.75 to 0.93 at difficulty 0.5.
SEPARATION = {
    ("radiograph", "texture"): 6.5,
    ("radiograph", "shape"): 14.0,
    ("mri", "texture"): 5.0,
    ("mri", "shape"): 12.0,
    ("histology", "texture"): 4.5,
    ("histology", "shape"): 12.0,
    ("dermoscopy", "texture"): 5.0,
    ("dermoscopy", "shape"): 12.0,
    ("endoscopy", "texture"): 6.0,
    ("endoscopy", "shape"): 12.0,
}
GRAIN = {"texture": 1.0, "shape": 0.3}


@dataclass(frozen=True)
class Phantom:
    """Identity of a data set: all that its pictures depend on, besides patient, image and size.

    Attributes:
        modality: One of MODALITIES.
        task: "texture" (the label is the grain of the lesion, its outline tells nothing) or "shape" (the
            label is the outline, the grain tells nothing).
        seed: Seed of every random choice.
        difficulty: 0 is easy; at 1 the classes no longer differ.
        positive_share: Share of malignant patients, in (0, 1).
    """

    modality: str
    task: str = "texture"
    seed: int = 0
    difficulty: float = 0.5
    positive_share: float = 0.3

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            hint = nearest(str(self.modality), MODALITIES)
            raise UserError(f"data.name: there is no phantom modality {self.modality!r}{hint}.")
        if self.task not in TASKS:
            hint = nearest(str(self.task), TASKS)
            raise UserError(f"data.phantom_task: there is no task {self.task!r}{hint}.")
        if not 0 <= self.difficulty <= 1:
            raise UserError(f"data.phantom_difficulty is {self.difficulty}, set it between 0 (easy) and 1.")
        if not 0 < self.positive_share < 1:
            raise UserError(f"data.phantom_positive_share is {self.positive_share}, set it between 0 and 1.")


def stream(phantom: Phantom, purpose: str, *numbers: int) -> np.random.Generator:
    """The random stream of one purpose: a function of its arguments, whatever was drawn before.

    Task and difficulty are left out on purpose: the same patients pose both tasks at any difficulty.
    """
    names = (zlib.crc32(phantom.modality.encode()), zlib.crc32(purpose.encode()))
    return np.random.Generator(np.random.SFC64([phantom.seed & (2**63 - 1), *names, *numbers]))


def labels(phantom: Phantom, patients: int, shifted: bool = False) -> np.ndarray:
    """Labels int32 (patients,), 1 = malignant: the positive share holds in every block of 20."""
    blocks = -(-patients // _BLOCK)
    order = [stream(phantom, "label", int(shifted), b).permutation(_BLOCK) for b in range(blocks)]
    turn = (np.arange(blocks)[:, None] * _BLOCK + np.array(order).reshape(blocks, -1)).ravel()
    # patient number `turn` is positive when turn * share steps over an integer
    share = phantom.positive_share
    steps = np.floor((turn + 1) * share + 1e-9) - np.floor(turn * share + 1e-9)
    return steps[:patients].astype(np.int32)


def splits(phantom: Phantom, patients: int, split_seed: int = 0) -> np.ndarray:
    """Split name (patients,) of each patient: 60 / 15 / 25 within each class of 20."""
    label = labels(phantom, patients)
    names = np.empty(patients, dtype="U5")
    for value in (0, 1):
        members = np.flatnonzero(label == value)
        for number, start in enumerate(range(0, len(members), len(_HANDS[0]))):
            chosen = members[start : start + len(_HANDS[0])]
            hand = np.array(_HANDS[number % len(_HANDS)])
            order = stream(phantom, "split", split_seed, value, number).permutation(len(hand))
            names[chosen] = hand[order][: len(chosen)]
    return names


def levels(
    phantom: Phantom, label: int, patient: np.random.Generator, image: np.random.Generator
) -> tuple[float, float]:
    """(granularity, lobulation), each in 0..1, of one image.

    A latent N(+-separation / 2, 1) a lesion, most of it the patient's, squashed into 0..1. The task
    ties one of the two to the label; the other gets an independent label of its own, so that both
    properties vary as much in either task and neither gives the other away.
    """
    share = phantom.positive_share
    other = int(patient.uniform() < share)
    drawn = {}
    for task in TASKS:
        side = label if task == phantom.task else other
        separation = SEPARATION[phantom.modality, task] * (1 - phantom.difficulty)
        # 0.8^2 + 0.6^2 = 1
        latent = (side - 0.5) * separation + 0.8 * patient.normal() + 0.6 * image.normal()
        drawn[task] = float(1 / (1 + np.exp(-latent)))
    return drawn["texture"], drawn["shape"]
