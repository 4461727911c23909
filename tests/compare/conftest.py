"""Small comparisons, and cells' folders as finished runs leave them."""

import json

import pytest

from ttl_jax.compare import cells, default_config
from ttl_jax.config import set_fields


@pytest.fixture
def config():
    """Two strategies on 16-pixel phantoms, seconds a cell."""
    settings = default_config()
    set_fields(
        settings,
        {
            "model.name": "resnet18", "model.weights": "none", "data.image_size": 16,
            "data.phantom_patients": 24, "data.phantom_images_per_patient": 1,
            "total_steps": 2, "compare.models": ("resnet18",), "compare.seeds": (0, 1),
            "compare.lrs": (1e-3, 1e-2), "compare.strategies": ("linear_probe",),
        },
    )  # fmt: skip
    return settings


@pytest.fixture
def finish(tmp_path, config):
    """finish(cell, auroc): leaves a cell's folder as its finished run does."""

    def leave(cell, auroc=0.5, **more):
        place = cells.folder(tmp_path, cell)
        (place / "checkpoints" / "last").mkdir(parents=True, exist_ok=True)
        (place / "checkpoints" / "best").mkdir(exist_ok=True)
        scores = {"auroc": auroc, "loss": 1 - (auroc or 0), "auprc": 0.5, "prevalence": 0.5, "accuracy": 0.5,
                  "balanced_accuracy": 0.5, "f1_macro": 0.5, "ece": 0.1, "brier": 0.2}  # fmt: skip
        result = {"val": scores, "seconds": 2.0, "params": 10, "trainable_params": 5,
                  "flops_per_step": 3.0, "steps": 2, **more}  # fmt: skip
        if cell.final:
            result["test"] = scores
        (place / "result.json").write_text(json.dumps(result))
        (place / "config.json").write_text(
            json.dumps({"config": cells.cell_config(config, cell).to_dict()}, default=list)
        )

    return leave
