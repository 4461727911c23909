"""Every file of configs/ gives a config that its command accepts."""

import runpy
from pathlib import Path

import pytest

from ttl_jax.compare.config import check as check_comparison
from ttl_jax.search import subject as study
from ttl_jax.training.run import check as check_run

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_accepted(path):
    config = runpy.run_path(str(path))["get_config"]()
    check_run(config)
    if "compare" in config:
        check_comparison(config)
    if "search" in config and config.search.kind == "all":
        with config.unlocked():
            config.search.kind, config.search.seeds = "ttl", 1
    if "search" in config:
        assert study.read(config).points
    assert f"--config={path.stem}" in path.read_text()  # its head says how it is called


def test_the_comparison_study_takes_the_cells_of_the_strategies_study():
    from ttl_jax.compare.cells import Setting, cell_config, tuning_cell

    one, other = (
        runpy.run_path(str(path))["get_config"]()
        for path in CONFIGS
        if path.stem in ("comparison_study", "strategies_study")
    )
    setting = Setting("brain_tumor_mri", "efficientnet_lite0", "lp_ft")
    made = [cell_config(config, tuning_cell(config, setting, 1e-3)).to_dict() for config in (one, other)]
    assert made[0] == made[1]
