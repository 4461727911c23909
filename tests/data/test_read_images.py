"""The images that a user names, one by one."""

import numpy as np
from PIL import Image

from ttl_jax.data.read_images import list_images


def test_a_table_s_other_cells_go_with_each_image(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "t.csv").write_text("age,file,site\n63,a.png,north\n,b.png,south\n")
    found = list(list_images(str(tmp_path / "t.csv"), image="file"))
    assert [(entry.name, entry.source) for entry in found] == [
        (name, tmp_path / name) for name in ("a.png", "b.png")
    ]
    assert [dict(entry.columns) for entry in found] == [
        {"age": "63", "site": "north"}, {"age": "", "site": "south"},
    ]  # fmt: skip
