"""Similarity along a real run: against itself, against its start."""

import numpy as np
import pytest

from ttl_jax.analysis.feature_similarity import compare
from ttl_jax.config import default_config, set_fields
from ttl_jax.errors import UserError
from ttl_jax.training.build import load_run
from ttl_jax.training.run import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = default_config()
    set_fields(
        config,
        {
            "model.name": "resnet18", "model.weights": "none", "data.name": "phantom/radiograph",
            "data.image_size": 32, "data.phantom_patients": 20, "strategy": "truncated(2)",
            "total_steps": 3, "optimizer.lr": 3e-2, "report": False, "data.augment": "none",
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    return folder, train(config, folder)


def test_a_run_is_built_again_from_its_folder(trained):
    folder, result = trained
    loaded = load_run(folder)
    images = np.zeros((2, 32, 32, 3), np.uint8)
    mine = loaded.network.apply(loaded.best, loaded.preprocessing.normalise(images))
    theirs = result.model.apply(result.variables, loaded.preprocessing.normalise(images))
    np.testing.assert_array_equal(mine, theirs)
    assert not np.array_equal(
        loaded.start["params"]["head"]["kernel"], loaded.best["params"]["head"]["kernel"]
    )


def test_a_run_is_like_itself_and_unlike_its_start(trained):
    folder, _ = trained
    same = compare("cka", folder, str(folder), 16)
    assert [row["unit"] for row in same] == ["stem", "stage1/block1"]
    assert all(row["cka"] == 1.0 for row in same)
    moved = compare("cka", folder, "pretrained", 16)
    assert all(row["random features"] < row["cka"] <= 1.0 for row in moved)
    assert moved[-1]["cka"] < 1.0 and moved[0]["examples"] > 16


def test_too_few_examples_are_said_in_the_row(trained):
    folder, _ = trained
    (row, *_) = compare("pwcca", folder, "pretrained", 2)  # 32 positions, 64 channels
    assert row["pwcca"] == "too few examples"


def test_a_folder_without_a_finished_run_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="has no config.json"):
        compare("cka", tmp_path, "pretrained", 16)
