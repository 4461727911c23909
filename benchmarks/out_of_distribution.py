"""How well distances to the training data tell other images apart: AUROC, method by method, on the phantom.

    python -m ttl_jax bench out_of_distribution [--modalities=mri,histology] [--strategies=linear_probe,full]
        [--epochs=4] [--patients=120] [--out=runs/ood]

One run of EfficientNet-Lite0 (64 px) a modality and strategy. Its test images against those of the other four
modalities, and against its own modality at the other hospital ("shifted"). "knn k": distance to the k-th
nearest training image on features of length one; "mahalanobis": to the nearest class mean (Lee et al. 2018),
covariances shrunk (Ledoit & Wolf); "relative": less the distance to the mean of all (Ren et al. 2021);
"confidence": one less the highest probability. "beyond": the share of test images, and of the others, at the
95th percentile of validation or more, by the method that the package has.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import jax
import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from ttl_jax import data
from ttl_jax.config import data_config, default_config, set_fields
from ttl_jax.data.phantom import MODALITIES
from ttl_jax.evaluation import out_of_distribution as ood
from ttl_jax.system.compilation_cache import set_up_jax
from ttl_jax.training.predictor import logits_of, make_predict
from ttl_jax.training.records.training_features import load_training_features

DEFAULTS = {"modalities": ",".join(MODALITIES), "strategies": "linear_probe,full", "epochs": "4",
            "patients": "120", "out": "runs/ood"}  # fmt: skip
NEIGHBOURS = (1, 5, 10, 50)


def config_of(modality: str, strategy: str, given: dict[str, str]):  # noqa: ANN201
    """The run's config."""
    config = default_config()
    set_fields(config, {
        "model.name": "efficientnet_lite0", "strategy": strategy, "data.name": f"phantom/{modality}",
        "data.image_size": 64, "data.phantom_patients": int(given["patients"]),
        "total_epochs": float(given["epochs"]),
        "optimizer.lr": 2e-3 if strategy == "linear_probe" else 1e-3, "report": False, "loggers": (),
    })  # fmt: skip
    return config


def scores(kept: np.ndarray, labels: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    """Every method's score, the higher the farther."""
    found = {f"knn {k}": ood.nearest(kept, features, k)[1][:, -1] for k in NEIGHBOURS}
    values, other = kept.astype(np.float64), features.astype(np.float64)
    means = np.stack([values[labels == place].mean(axis=0) for place in np.unique(labels)])

    def distance(fitted: LedoitWolf, centre: np.ndarray) -> np.ndarray:
        gap = other - centre
        return np.einsum("nd,de,ne->n", gap, fitted.precision_, gap)

    within = LedoitWolf(assume_centered=True).fit(values - means[labels])
    whole = LedoitWolf(assume_centered=True).fit(values - values.mean(axis=0))
    own = np.min([distance(within, mean) for mean in means], axis=0)
    return found | {"mahalanobis": own, "relative": own - distance(whole, values.mean(axis=0))}


def main(arguments: list[str]) -> None:
    """Train, and print the table."""
    from ttl_jax.training.run import train

    set_up_jax()
    given = DEFAULTS | dict(word.lstrip("-").split("=", 1) for word in arguments)
    names = [*(f"knn {k}" for k in NEIGHBOURS), "mahalanobis", "relative", "confidence"]
    print("| trained on | strategy | against | " + " | ".join(names) + " | beyond: test | others |")
    print("|---" * (len(names) + 5) + "|")
    every: dict[str, list[float]] = {}
    for modality in given["modalities"].split(","):
        for strategy in given["strategies"].split(","):
            config = config_of(modality, strategy, given)
            with contextlib.redirect_stdout(io.StringIO()):
                result = train(config, Path(given["out"]) / f"{modality}-{strategy}")
            kept = load_training_features(result.workdir)
            featurize = make_predict(result.model.pooled(), result.signature.normalisation.normalise)

            def seen(split):  # noqa: ANN001, ANN202
                features = logits_of(featurize, result.variables, data.eval_batches(split, 64))  # noqa: B023
                images = split.images.read(np.arange(len(split)))
                confidence = 1 - result.predict(images).max(axis=1)  # noqa: B023
                found = scores(kept.features, kept.labels, features)  # noqa: B023
                return found | {"confidence": confidence}, ood.distance(kept.features, features)  # noqa: B023

            sets = data.load(data_config(config.data))
            test, away = seen(sets["test"])
            others = {"shifted": sets["shifted"]}
            for other in MODALITIES:
                if other != modality:
                    others[other] = data.load(data_config(config_of(other, strategy, given).data))["test"]
            groups = sets["val"].groups
            for name, split in others.items():
                found, far = seen(split)
                line = []
                for method in names:
                    truth = np.repeat([0, 1], [len(test[method]), len(found[method])])
                    line.append(roc_auc_score(truth, np.concatenate([test[method], found[method]])))
                    every.setdefault(
                        f"{'shifted' if name == 'shifted' else 'modalities'} {method}", []
                    ).append(line[-1])
                beyond = [
                    (ood.percentile(each, kept.validation, groups) >= 95).mean() for each in (away, far)
                ]
                print(f"| {modality} | {strategy} | {name} | " + " | ".join(f"{value:.3f}" for value in line)
                      + f" | {beyond[0]:.3f} | {beyond[1]:.3f} |", flush=True)  # fmt: skip
    for name, values in every.items():
        print(f"{name}: mean {np.mean(values):.4f}, lowest {np.min(values):.4f}")
    jax.clear_caches()
