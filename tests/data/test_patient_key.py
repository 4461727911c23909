"""The key of hashed ids: made once, in whatever folder, and kept for the user alone."""

import hashlib

import pytest

from ttl_jax.data import patient_key


@pytest.mark.parametrize("there", [True, False])
def test_a_key_is_made_once_and_the_first_stays(tmp_path, monkeypatch, capsys, there):
    monkeypatch.delenv(patient_key.KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = patient_key.key_file()
    if there:
        path.parent.mkdir()
    found = patient_key.hashed("p1")
    key = path.read_bytes()
    assert len(bytes.fromhex(key.decode())) == 32 and path.stat().st_mode & 0o777 == 0o600
    assert found == hashlib.blake2b(b"p1", digest_size=10, key=key).hexdigest()
    patient_key._make_key(path)  # another process, to which none was there
    assert path.read_bytes() == key and list(path.parent.iterdir()) == [path]
    assert capsys.readouterr().out.count(str(path)) == 1
