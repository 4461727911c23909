"""Bundles: what is broken is passed over and said, what was done is there."""

import json
import shutil
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.training.progress import Progress
from ttl_jax.training.records.bundle import fault
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.state import TrainState


def tree(value):
    return {"params": {"a": jnp.full((64, 3), float(value)), "b": jnp.arange(3) + value}, "batch_stats": {}}


@pytest.fixture
def folder(tmp_path):
    """Three saved states; the best weights are those of steps 2 and 6."""
    kept = Checkpoints(tmp_path)
    for step, best in ((2, 2), (4, 2), (6, 6)):
        if best == step:
            kept.save_best(step, tree(step))
        kept.save_last(tree(step), asdict(Progress(step=step, digest="d", best=0.5, best_step=best)))
    kept.close()
    return tmp_path


def resumed(folder):
    kept = Checkpoints(folder)
    progress = kept.progress()
    state = kept.restore_last(tree(0), "d") if progress else None
    best = kept.restore_best(tree(0), progress["best_step"])[0] if progress else None
    kept.close()
    return progress, state, best


def largest(bundle):
    files = [path for path in bundle.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_the_newest_two_states_are_kept_and_the_newest_is_used(folder):
    assert sorted(path.name for path in (folder / "checkpoints" / "last").iterdir()) == ["1", "2"]
    progress, state, best = resumed(folder)
    assert progress["step"] == 6
    np.testing.assert_array_equal(state["params"]["a"], np.full((64, 3), 6.0))
    np.testing.assert_array_equal(best["params"]["b"], np.arange(3) + 6)


@pytest.mark.parametrize("harm", ["flipped bit", "truncated", "never finished", "file gone", "manifest cut"])
def test_a_broken_newest_bundle_gives_way_to_the_one_before(folder, harm, capsys):
    bundle = folder / "checkpoints" / "last" / "2"
    if harm == "flipped bit":
        flip(largest(bundle))
    elif harm == "truncated":
        truncate(largest(bundle))
    elif harm == "never finished":
        (bundle / "manifest.json").unlink()
    elif harm == "file gone":
        largest(bundle).unlink()
    else:
        (bundle / "manifest.json").write_text((bundle / "manifest.json").read_text()[:-5])
    progress, state, best = resumed(folder)
    assert progress["step"] == 4 and float(state["params"]["a"][0, 0]) == 4
    np.testing.assert_array_equal(best["params"]["b"], np.arange(3) + 2)
    said = capsys.readouterr().out
    assert "checkpoint 2 is broken (" in said and "the one before it, 1, is used" in said
    # What came after the step resumed from is made again.
    assert not (folder / "checkpoints" / "best" / "6").exists() and not bundle.exists()


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("name, number", [("last", "2"), ("best", "6")])
def test_every_file_of_a_bundle_damaged_in_every_way_is_found(folder, tmp_path_factory, name, number, capsys):
    """The state before is used, whose step is 4, and it is said."""
    other = Checkpoints(tmp_path_factory.mktemp("other"))
    wide = {"params": {"a": jnp.ones((32, 6)), "b": jnp.arange(5)}, "batch_stats": {}}
    other.save_best(6, wide)
    for _ in range(3):
        other.save_last(wide, asdict(Progress(step=6, digest="d", best=0.5, best_step=6)))
    other.close()
    bundle, swapped = (place / "checkpoints" / name / number for place in (folder, other._folder.parent))
    others = sorted(path for path in swapped.rglob("*") if path.is_file())
    ways = {
        "cut": truncate, "emptied": lambda path: path.write_bytes(b""), "flipped": flip, "zeroed": zero,
        "removed": lambda path: path.unlink(),
        "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
        "of other shapes": lambda path: path.write_bytes(twin(path).read_bytes()),
    }  # fmt: skip

    def twin(path):
        """The file of the same name, or kind, of the other checkpoint."""
        alike = [each for each in others if each.parent.name == path.parent.name or each.parent == swapped]
        return next((each for each in alike if each.name == path.name), alike[0])

    names = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    count = 0
    for file in names:
        for way, harm in ways.items():
            place = tmp_path_factory.mktemp("harmed")
            shutil.copytree(folder / "checkpoints", place / "checkpoints")
            path = place / "checkpoints" / name / number / file
            before = path.read_bytes()
            harm(path)
            if path.exists() and path.read_bytes() == before:
                continue
            kept = Checkpoints(place, writes=False)
            progress = kept.progress()
            kept.close()
            said = capsys.readouterr().out
            assert progress["step"] == 4, (file, way)
            assert "checkpoint 2 is broken (" in said and "the one before it, 1, is used" in said, (file, way)
            count += 1
    assert count >= 5 * len(names) >= 40


@pytest.mark.parametrize("kind", ["start", "soup"])
def test_a_state_whose_weights_for_an_average_are_broken_is_not_resumed_from(tmp_path, kind, capsys):
    kept = Checkpoints(tmp_path)
    for step in (2, 4):
        if kind == "soup":
            kept.save_ingredient(step, tree(step), 3)
        elif step == 4:
            kept.save_start(step, tree(step))
        kept.save_last(tree(step), asdict(Progress(step=step, digest="d")))
    kept.close()
    flip(largest(tmp_path / "checkpoints" / kind / "4"))
    kept = Checkpoints(tmp_path)
    assert kept.progress()["step"] == 2
    kept.close()
    assert "checkpoint 1 is broken (" in (said := capsys.readouterr().out) and "the bytes of" in said
    assert not (tmp_path / "checkpoints" / kind / "4").exists()


def test_weights_at_the_start_of_a_phase_that_are_gone_are_an_error(folder):
    kept = Checkpoints(folder)
    with pytest.raises(UserError, match="it is not there"):
        kept.restore_start(tree(0))
    kept.close()


def test_a_sealed_checkpoint_of_other_shapes_is_refused(tmp_path):
    """As another network's, put there whole: its hashes are right."""
    wide = {"params": {"a": jnp.ones((32, 6)), "b": jnp.arange(5)}, "batch_stats": {}}
    kept = Checkpoints(tmp_path)
    kept.save_best(2, wide)
    kept.save_last(wide, asdict(Progress(step=2, digest="d", best=0.5, best_step=2)))
    kept.close()
    kept = Checkpoints(tmp_path)
    assert kept.progress()["step"] == 2
    with pytest.raises(UserError, match="other shapes|other parts"):
        kept.restore_last(tree(0), "d")
    with pytest.raises(UserError, match="other shapes|other parts"):
        kept.restore_best(tree(0), 2)
    kept.close()


def test_a_state_whose_best_weights_are_broken_is_not_resumed_from(folder, capsys):
    flip(largest(folder / "checkpoints" / "best" / "6"))
    progress, _, best = resumed(folder)
    assert progress["step"] == 4 and float(best["params"]["a"][0, 0]) == 2
    assert "its best weights: the bytes of" in capsys.readouterr().out


def test_with_nothing_whole_the_run_starts_anew_and_says_so(folder, capsys):
    for number in ("1", "2"):
        flip(largest(folder / "checkpoints" / "last" / number))
    assert resumed(folder)[0] is None
    assert "the run starts anew" in capsys.readouterr().out


def test_another_label_tree_is_refused(folder):
    kept = Checkpoints(folder)
    with pytest.raises(UserError, match="another label tree"):
        kept.restore_last(tree(0), "other")
    kept.close()


def test_a_state_of_other_parts_is_refused(folder):
    kept = Checkpoints(folder)
    digest = kept.progress()["digest"]
    with pytest.raises(UserError, match="another version of ttl_jax, whose states have other parts"):
        kept.restore_last({**tree(0), "ages": np.zeros(2, np.int32)}, digest)
    kept.close()


@pytest.mark.parametrize("updates", [{}, np.arange(3, dtype=np.int32)])
def test_a_part_that_older_bundles_lack_is_on_disk_where_it_holds_something(tmp_path, updates):
    state = TrainState({"a": jnp.ones(2)}, {}, (), jnp.int32(4), updates=updates)
    kept = Checkpoints(tmp_path)
    kept.save_last(state, asdict(Progress(step=4, digest="d")))
    kept.close()
    said = next((tmp_path / "checkpoints" / "last").glob("*/state/_METADATA")).read_text()
    assert ("updates" in said) == (len(updates) > 0) and "multipliers" in said
    kept = Checkpoints(tmp_path)
    assert kept.progress()["step"] == 4
    found = kept.restore_last(state, "d")
    kept.close()
    jax.tree.map(np.testing.assert_array_equal, found, state)


def test_a_saved_copy_does_not_see_later_changes_in_place(tmp_path):
    kept = Checkpoints(tmp_path)
    values = np.zeros(100_000, np.float32)
    kept.save_best(1, {"params": {"a": values}, "batch_stats": {}})
    values += 1  # as a donated buffer would be written to
    kept.wait()
    assert fault(tmp_path / "checkpoints" / "best" / "1") is None
    best, step = kept.restore_best({"params": {"a": values}, "batch_stats": {}})
    kept.close()
    assert step == 1 and float(np.abs(best["params"]["a"]).max()) == 0
    files = json.loads((tmp_path / "checkpoints" / "best" / "1" / "manifest.json").read_text())["files"]
    assert all(len(digest) == 64 for _, digest in files.values())


def test_the_best_weights_are_written_with_the_state_that_names_them(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save_best(2, tree(2))
    kept.save_best(4, tree(4))  # before any state knew of step 2
    assert not (tmp_path / "checkpoints" / "best").exists()
    kept.save_last(tree(5), asdict(Progress(step=5, digest="d", best=0.5, best_step=4)))
    kept.close()
    assert [path.name for path in (tmp_path / "checkpoints" / "best").iterdir()] == ["4"]
    np.testing.assert_array_equal(resumed(tmp_path)[2]["params"]["b"], np.arange(3) + 4)


@pytest.mark.parametrize("share, affordable", [(1.0, True), (1e-9, False)])
def test_saving_takes_no_more_than_its_share_of_the_time(tmp_path, share, affordable):
    kept = Checkpoints(tmp_path, share=share)
    assert kept.affordable(), "nothing was saved yet"
    kept.save_last(tree(2), asdict(Progress(step=2, digest="d")))
    kept.wait()
    assert kept.affordable() == affordable
    kept.close()
