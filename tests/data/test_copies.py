import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ttl_jax.data.splits.copies import Copies, find_copies, merge_groups


def pairs(*links: tuple[int, int]) -> Copies:
    first, second = np.array(links, np.int64).reshape(-1, 2).T
    return Copies(first, second, np.ones(len(links)), np.ones(len(links), bool), np.zeros(len(links), bool))


def test_groups_that_share_a_copy_become_one():
    groups = np.array(["p3", "p1", "p1", "p2", "p4", "p0"])
    merged = merge_groups(groups, pairs((0, 1), (2, 3)))
    assert merged.tolist() == ["p1", "p1", "p1", "p1", "p4", "p0"]
    assert merge_groups(groups, pairs()).tolist() == groups.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.data())
def test_merged_groups_are_the_transitive_closure(count, data):
    places = st.integers(0, count - 1)
    groups = np.array([f"g{data.draw(st.integers(0, 12))}" for _ in range(count)])
    links = [tuple(sorted(link)) for link in data.draw(st.lists(st.tuples(places, places), max_size=20))]
    merged = merge_groups(groups, pairs(*links))
    parent = list(range(count))  # union by hand

    def join(one: int, other: int) -> None:
        old, new = parent[one], parent[other]
        for place in range(count):
            if parent[place] == old:
                parent[place] = new

    for one in range(count):
        for other in range(count):
            if groups[one] == groups[other]:
                join(one, other)
    for one, other in links:
        join(one, other)
    same = merged[:, None] == merged[None, :]
    assert np.array_equal(same, np.equal.outer(parent, parent))
    for place in range(count):  # a joined group goes by its first name
        assert merged[place] == min(groups[same[place]])


def test_modes_say_what_counts_as_a_copy():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    near = np.clip(one.astype(int) + rng.integers(-2, 3, one.shape), 0, 255).astype(np.uint8)
    thumbnails = np.stack([one, rng.integers(0, 256, (32, 32), dtype=np.uint8), one, near])
    hashes = [b"a", b"b", b"a", b"c"]
    contents = np.zeros((4, 64, 64), np.uint8)

    def found(mode):
        copies = find_copies(hashes, thumbnails, contents, mode, 0.97)
        return list(
            zip(copies.first.tolist(), copies.second.tolist(), copies.same_pixels.tolist(), strict=True)
        )

    assert found("ignore") == []
    assert found("exact") == [(0, 2, True)]
    assert found("near") == [(0, 2, True), (0, 3, False)]
