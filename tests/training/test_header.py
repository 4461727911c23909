"""What a run prints before its first step."""

from ttl_jax import weights
from ttl_jax.config import run_config, set_fields
from ttl_jax.strategies import bind, parse
from ttl_jax.training.records.header import print_header


def test_the_table_names_each_phase_once_at_its_first_row(config, make_split, capsys):
    set_fields(config, {"strategy": "lp_ft", "data.augment": "none"})
    variables = weights.initialise("resnet18", 2)
    phases = bind(parse("lp_ft"), variables["params"], "resnet18")
    sets = {name: make_split(name, 8, 0) for name in ("train", "val")}
    print_header(run_config(config), sets, phases, (30, 70), variables)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert [row[:3] for row in rows] == [
        ["probe", "30", "freeze"], ["train", rows[1][1], rows[1][2]], ["finetune", "70", "train"],
    ]  # fmt: skip
