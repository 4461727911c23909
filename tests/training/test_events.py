"""Lines of metrics.jsonl: what is none is passed over."""

import json

from ttl_jax.training.records.events import read_events


def test_whole_events_are_read_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert list(read_events(path)) == []
    events = [{"step": 1, "loss": 0.5}, {"step": 2, "split": "val"}]
    odd = ["[1, 2]", "null", "1e999", '{"step": "y"}']
    bad = [*odd, '{"loss": 1}', "[" * 100_000, "\ufffd", '{"step": 3, "lo']
    lines = [json.dumps(events[0]), *bad[:4], json.dumps(events[1]), *bad[4:]]
    path.write_bytes("\n".join(lines).encode() + b"\xff\xfe")
    assert [event for _, event in read_events(path)] == events
