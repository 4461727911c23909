"""The DICOM node: images sent over loopback, answers at a peer, and what it survives."""

import os
import socket

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

import ttl_jax
from ttl_jax.deploy.dicom_answer import DicomAnswerer
from ttl_jax.deploy.dicom_node import Peer, start
from ttl_jax.deploy.predict import ensemble
from ttl_jax.errors import UserError

pynetdicom = pytest.importorskip("pynetdicom")

from ..data.dicom_files import make_dicom  # noqa: E402
from .dicom_standard import faults  # noqa: E402

evt = pynetdicom.evt


@pytest.fixture(scope="module")
def run(finished):
    return ttl_jax.load(finished[0].workdir)


@pytest.fixture(scope="module")
def answerer(run):
    return DicomAnswerer(ensemble([run]))


@pytest.fixture
def archive():
    """A peer that takes what it is sent: (AETITLE@host:port, what came)."""
    came = []

    def take(event):
        made = event.dataset
        made.file_meta = event.file_meta
        came.append(made)
        return 0x0000

    entity = pynetdicom.AE("ARCHIVE")
    entity.supported_contexts = pynetdicom.StoragePresentationContexts
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    yield f"ARCHIVE@127.0.0.1:{server.server_address[1]}", came
    server.shutdown()


@pytest.fixture
def serve(answerer):
    nodes, said = [], []

    def serve(**more):
        nodes.append(start(answerer, 0, log=said.append, **more))
        nodes[-1].said = said
        return nodes[-1]

    yield serve
    for node in nodes:
        node.stop()


def send(node, *objects):
    """The statuses that the node answers, None where the association broke; one association for all."""
    entity = pynetdicom.AE("SCANNER")
    for each in objects:
        entity.add_requested_context(each.SOPClassUID, each.file_meta.TransferSyntaxUID)
    link = entity.associate("127.0.0.1", node.port)
    assert link.is_established
    statuses = [link.send_c_store(each) for each in objects if link.is_established]
    if link.is_established:
        link.release()
    return [each.get("Status") for each in statuses], statuses


def test_an_image_comes_back_as_a_report_and_an_overlay(serve, archive, tmp_path, monkeypatch):
    peer, came = archive
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    node = serve(out=str(tmp_path / "out"), send_to=peer)
    shown = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    made = make_dicom(pixels, SeriesInstanceUID="1.2.3")
    assert send(node, shown, made)[0] == [0, 0]
    assert [each.Modality for each in came] == ["SR", "OT", "SR", "OT"]
    for source, report, overlay in ((shown, *came[:2]), (made, *came[2:])):
        (study,) = report.CurrentRequestedProcedureEvidenceSequence
        (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert overlay.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert report.StudyInstanceUID == overlay.StudyInstanceUID == source.StudyInstanceUID
        assert len({report.SeriesInstanceUID, overlay.SeriesInstanceUID, source.SeriesInstanceUID}) == 3
        assert faults(report) == faults(overlay) == []
    written = {path.stem: pydicom.dcmread(path) for path in (tmp_path / "out").iterdir()}
    assert set(written) == {each.SOPInstanceUID for each in came}
    assert os.listdir(tmp_path / "temporary") == []  # no image is kept
    uids = [each.SOPInstanceUID for each in came]
    assert send(node, shown)[0] == [0] and [each.SOPInstanceUID for each in came[4:]] == uids[:2]
    assert node.counts == {"answered": 3, "passed over": 0, "refused": 0, "not delivered": 0}


def test_what_cannot_be_answered_has_a_status_and_the_node_goes_on(serve, archive):
    peer, came = archive
    node = serve(send_to=peer)
    good = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    plan = pydicom.dcmread(get_testdata_file("rtplan.dcm"))
    cut = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    cut.PixelData = cut.PixelData[:100]
    huge = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    huge.Rows = huge.Columns = 60000
    lost = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    lost.StudyInstanceUID = ""
    long = make_dicom(np.zeros((65, 8, 8), np.uint8), NumberOfFrames=65, SeriesInstanceUID="1.2.3")
    statuses, answers = send(node, plan, cut, huge, lost, long, good)
    assert statuses == [0xC000] * 5 + [0] and len(came) == 2
    assert [str(each.get("ErrorComment", ""))[:20] for each in answers[:1]] == ["holds no image"]
    assert node.counts["refused"] == 5 and "holds no image" in node.said[0]
    assert "60000 x 60000" in node.said[2] and "no valid StudyInstanceUID" in node.said[3]
    assert "has 65 frames" in node.said[4]
    before = list(came)
    assert send(node, *before)[0] == [0, 0] and node.counts["passed over"] == 2 and came == before
    with socket.create_connection(("127.0.0.1", node.port)) as link:
        link.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)))
    assert send(node, good)[0] == [0]


def test_an_object_above_the_limit_breaks_its_association_alone(serve, tmp_path):
    node = serve(out=str(tmp_path), max_bytes=60_000)
    good = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    large = make_dicom(np.zeros((500, 500), np.uint8), SeriesInstanceUID="1.2.3")
    assert send(node, good)[0] == [0] and len(list(tmp_path.iterdir())) == 2
    assert send(node, large)[0] == [None]
    assert "more than 60000 bytes" in node.said[-1]
    assert send(node, good, good)[0] == [0, 0]


def test_an_answer_that_goes_nowhere_is_a_failure(serve, archive):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    node = serve(send_to=f"GONE@127.0.0.1:{port}")
    good = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    assert send(node, good)[0] == [0xA700] and node.counts["not delivered"] == 1
    assert "does not take associations" in node.said[-1]


def test_it_listens_at_loopback_and_says_what_is_missing(serve, run, tmp_path):
    node = serve(out=str(tmp_path))
    assert node._server.server_address[0] == "127.0.0.1"
    with pytest.raises(UserError, match="cannot listen at 127.0.0.1"):
        start(run, node.port, out=str(tmp_path))
    with pytest.raises(UserError, match="no place for its answers"):
        start(run, 0)
    for text in ("PACS", "PACS@host", "@host:1", "A" * 17 + "@host:104", "PACS@host:0", "PACS@host:70000"):
        with pytest.raises(UserError, match="not written as AETITLE@host:port"):
            Peer.parse(text)
    assert Peer.parse("MY PACS@[::1]:104") == Peer("MY PACS", "::1", 104)
