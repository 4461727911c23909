"""The server of finished runs: what it answers, and what it refuses."""

import asyncio
import base64
import io
import json
import re
import shutil
import socket
import sys
import zlib
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from starlette import testclient

import ttl_jax
from ttl_jax.cli import main
from ttl_jax.commands.serve import joined
from ttl_jax.deploy import serve
from ttl_jax.deploy.answerer import Answerer, Batcher, Limits, Question
from ttl_jax.deploy.predict import Asked, ensemble
from ttl_jax.errors import UserError
from ttl_jax.evaluation.out_of_distribution import nearest
from ttl_jax.training.records.training_features import load_training_features

HOME = "http://127.0.0.1:8000"
TOKEN = "0123456789abcdef"


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


def pixels_of(seed, shape=(40, 30, 3)):
    drawn = np.random.default_rng(seed).integers(0, 120, shape) + 100 * (seed % 2)
    return drawn.astype(np.uint8)


def client_of(answerer, access=None, **options):
    application = serve.Service(answerer).application(access or serve.Access())
    return testclient.TestClient(application, base_url=HOME, **options)


@pytest.fixture(scope="module")
def joint(finished):
    return ensemble([ttl_jax.load(finished[0].workdir)], Asked(coverage=0.9, distance=True))


@pytest.fixture(scope="module")
def answerer(joint):
    return Answerer(joint, Limits(bytes=300_000, frames=3, batch=4))


@pytest.fixture(scope="module")
def client(answerer):
    with client_of(answerer) as client:
        yield client


@pytest.fixture(scope="module")
def described(client):
    return client.get("/openapi.json").json()


def checked(described, name, held):
    """An answer, checked against its schema of the description."""
    root = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    jsonschema.Draft202012Validator(root).validate(held)
    return held


def refused(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json" and list(answer.json()) == ["error"]
    return answer.json()["error"]


def test_the_answer_is_that_of_the_command_predict(client, described, joint, tmp_path):
    run = joint.runs[0]
    path = tmp_path / "a.png"
    path.write_bytes(encoded(pixels_of(3)))
    words = (str(run.folder), str(path), f"--out={tmp_path}/x.jsonl", "--set=0.9", "--ood")
    assert main(["ttl_jax", "predict", *words]) == 0
    row = json.loads((tmp_path / "x.jsonl").read_text())
    body = {"file": ("../../etc/passwd", path.read_bytes(), "image/png")}
    for answer in (
        client.post("/predict", content=path.read_bytes(), headers={"Content-Type": "image/png"}),
        client.post("/predict", files=body),
    ):
        (said,) = checked(described, "Answers", answer.json())["images"]
        assert said["probabilities"] == pytest.approx(
            {"dark": row["p_dark"], "bright": row["p_bright"]}, abs=1e-6
        )
        assert (said["classes"], said["decision"]) == ([row["class"]], [row["decision"]])
        assert "|".join(said["set"]) == row["set"] and said["ood"] == pytest.approx(row["ood"], abs=1e-4)
    known = load_training_features(run.folder)
    places, far = nearest(known.features, run.features(run.preprocess([str(path)])), 10)
    assert [each["id"] for each in said["nearest"]] == [str(known.ids[place]) for place in places[0]]
    np.testing.assert_allclose([each["distance"] for each in said["nearest"]], far[0], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("JPEG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True})]
)
def test_kinds_of_images_are_told_by_their_content(client, joint, tmp_path, kind, options):
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(encoded(pixels_of(1), kind, **options))
    (wanted,) = joint.runs[0].predict([str(path)], calibrated=True)
    said = client.post("/predict", content=path.read_bytes()).json()["images"]
    np.testing.assert_allclose(list(said[0]["probabilities"].values()), wanted, atol=1e-6)


def test_dicom_has_an_answer_for_each_frame(client, described, joint, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset

    def dicom(frames):
        made = pydicom.Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        made.file_meta.MediaStorageSOPClassUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        made.Rows, made.Columns, made.NumberOfFrames, made.SamplesPerPixel = 20, 24, frames, 1
        made.PhotometricInterpretation, made.PixelRepresentation = "MONOCHROME2", 0
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit = 7
        made.PixelData = pixels_of(5, (frames, 20, 24)).tobytes()
        made["PixelData"].VR = "OB"
        made.save_as(tmp_path / f"{frames}.dcm", enforce_file_format=True)
        return tmp_path / f"{frames}.dcm"

    path = dicom(3)
    wanted = joint.runs[0].predict([str(path)], calibrated=True)
    held = client.post("/predict?pictures=true", content=path.read_bytes()).json()
    said = checked(described, "Answers", held)["images"]
    np.testing.assert_allclose([each["probabilities"]["bright"] for each in said], wanted[:, 1], atol=1e-6)
    sentence = refused(client.post("/predict", content=dicom(4).read_bytes()), 422)
    assert sentence == "the file holds 4 frames, and at most 3 are read at once"
    deflated = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    assert refused(client.post("/predict", content=deflated), 422).startswith("the file ")


def test_pictures_are_those_of_the_command_explain(client, joint):
    content = encoded(pixels_of(3))
    (said,) = client.post("/predict?pictures=true", content=content).json()["images"]
    run = joint.runs[0]
    image = np.asarray(Image.open(io.BytesIO(content)))[None]
    explained = run.explain(image)
    (found,) = said["maps"]
    assert found["class"] == run.class_names[explained.classes[0]] == said["classes"][0]
    assert found["unit"] == explained.units["grad_cam"] and found["run"] == run.folder.name
    from ttl_jax.deploy.explain import draw

    for picture, wanted in (
        (said["picture"], draw(explained.images[0])),
        (found["picture"], draw(explained.images[0], explained.maps["grad_cam"][0])),
    ):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))))
        np.testing.assert_allclose(shown.astype(int), np.asarray(wanted).astype(int), atol=2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is not an image that PIL can read"),
        (b"<svg onload=alert(1)>", "the file is not an image that PIL can read"),
        (b"\x80\x04\x95cos\nsystem\n", "the file is not an image that PIL can read"),
        (encoded(pixels_of(0))[:200], "the file cannot be decoded"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 64, "the file "),
    ],
)
def test_a_broken_file_is_one_sentence(client, content, sentence):
    assert refused(client.post("/predict", content=content), 422).startswith(sentence)


def test_bombs_are_refused_before_they_are_inflated(client):
    header = bytearray(encoded(np.zeros((2, 2), np.uint8)))
    header[16:24] = (50_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    assert "too many pixels" in refused(client.post("/predict", content=bytes(header)), 422)


def test_large_slow_and_odd_requests(client, answerer):
    large = b"x" * 300_001
    assert refused(client.post("/predict", content=large), 413) == "a request may hold 300,000 bytes"
    assert "300,000" in refused(client.post("/predict", content=(each for each in [large])), 413)  # no length
    assert "pictures" in refused(client.post("/predict?pictures=maybe"), 400)
    assert "pictures" in refused(client.post("/predict?path=/etc/passwd", content=b"x"), 400)
    assert "file" in refused(client.post("/predict", files={"image": ("a", b"x")}), 400)
    two = [("file", ("a", b"x")), ("file", ("b", b"y"))]
    assert "Too many files" in refused(client.post("/predict", files=two), 400)
    form = {"Content-Type": "multipart/form-data"}
    assert "boundary" in refused(client.post("/predict", content=b"x", headers=form), 400)
    assert refused(client.get("/predict"), 405) and refused(client.get("/../x"), 404)

    service = serve.Service(answerer)
    service.held = answerer.limits.requests
    with testclient.TestClient(service.application(serve.Access()), base_url=HOME) as busy:
        answer = busy.post("/predict", content=b"x")
        assert "ask again" in refused(answer, 429) and answer.headers["retry-after"] == "1"


def test_a_slow_request_is_ended(joint, answerer):
    slow = Service = serve.Service(answerer)
    slow.limits = Limits(seconds=0.05)

    async def never():
        await asyncio.sleep(10)

    request = serve.Request({"type": "http", "headers": [], "query_string": b"", "method": "POST"}, never)
    with pytest.raises(serve.HTTPException) as error:
        asyncio.run(Service.predict(request))
    assert error.value.status_code == 408 and slow.held == 0


def test_other_names_and_other_sites_are_refused(client):
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[", "localhost@evil.example"):
        answer = client.post("/predict", content=encoded(pixels_of(0)), headers={"Host": host})
        assert "name" in refused(answer, 421), host
    for host in ("localhost:1", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert client.get("/model", headers={"Host": host}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8001", "http://[", ""):
        refused(client.post("/predict", content=b"x", headers={"Origin": origin}), 403)
    assert client.get("/model", headers={"Origin": HOME}).status_code == 200


def test_a_token_is_wanted_for_all_but_the_page(answerer):
    with client_of(answerer, serve.Access(token=TOKEN)) as client:
        assert client.get("/").status_code == 200
        for given in (None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff"):
            headers = {} if given is None else {"Authorization": given.encode("latin-1")}
            answer = client.get("/model", headers=headers)
            assert "token" in refused(answer, 401) and answer.headers["www-authenticate"] == "Bearer"
            refused(client.post("/predict", content=b"x", headers=headers), 401)
        assert client.get("/model", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_only_this_machine_without_a_flag_and_a_token():
    for host, token, public in (
        ("0.0.0.0", "", False), ("0.0.0.0", TOKEN, False), ("0.0.0.0", "", True), ("::", TOKEN, False),
        ("192.168.1.1", TOKEN, False), ("some.host", "", True),
    ):  # fmt: skip
        with pytest.raises(UserError, match="--public and --token"):
            serve.access_of(host, token, public)
    with pytest.raises(UserError, match="16 or more"):
        serve.access_of("127.0.0.1", "short", False)
    assert serve.access_of("127.0.0.1", "", False) == serve.Access()
    assert serve.access_of("localhost", TOKEN, False).token == TOKEN
    assert "127.0.0.9" in serve.access_of("127.0.0.9", "", False).hosts
    access = serve.access_of("0.0.0.0", TOKEN, True, ["Reading-Room"])
    assert "reading-room" in access.hosts and socket.gethostname().lower() in access.hosts


def test_the_page_fetches_nothing_and_its_policy_holds(client):
    answer = client.get("/")
    page, policy = answer.text, answer.headers["content-security-policy"]
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!openapi\.json|data:)", page) and "url(" not in page
    assert "innerHTML" not in page and "unsafe" not in policy and policy.startswith("default-src 'none'")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(serve.hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "frame-ancestors 'none'" in policy
    assert (
        answer.headers["x-content-type-options"] == "nosniff"
        and answer.headers["cache-control"] == "no-store"
    )
    assert serve.NOTICE in page


def test_the_model_says_what_made_it(client, described, joint):
    held = checked(described, "Model", client.get("/model").json())
    (run,) = held["runs"]
    assert (run["network"], run["cut"], run["image"]) == ("resnet18", "3", [32, 32, 3])
    assert run["strategy"] == joint.runs[0].signature.network.strategy
    assert (held["positive_class"], held["set"]["coverage"]) == ("bright", 0.9)
    assert held["thresholds"] == dict(joint.threshold) and held["notice"] == serve.NOTICE


def test_questions_are_answered_together_and_each_gets_its_own():
    seen = []

    def answer(questions):
        seen.append(sum(len(each.images[0]) for each in questions))
        if any((each.images[0] == 255).any() for each in questions):
            raise ValueError("the network failed")
        return [[{"sum": float(row.sum())} for row in each.images[0]] for each in questions]

    async def ask():
        batcher = Batcher(answer, 4, 0.02)
        task = asyncio.create_task(batcher.run())
        images = [np.full((1 + number % 2, 2, 2, 3), number, np.uint8) for number in range(9)]
        rows = await asyncio.gather(*(batcher(Question([each], False)) for each in images))
        with pytest.raises(ValueError):
            await batcher(Question([np.full((1, 2, 2, 3), 255, np.uint8)], False))
        alone = await batcher(Question([images[1]], False))
        task.cancel()
        return rows, alone

    rows, alone = asyncio.run(ask())
    assert rows == [[{"sum": 12.0 * number}] * (1 + number % 2) for number in range(9)]
    assert alone == rows[1] and max(seen) > 2 and max(seen) <= 5 and len(seen) < 9


def test_a_batch_gives_each_image_what_it_gets_alone(answerer):
    read = [answerer.read(encoded(pixels_of(seed)), False) for seed in range(5)]
    together = answerer.answer(read)
    for each, rows in zip(read, together, strict=True):
        (alone,) = answerer.answer([each])
        assert rows[0]["probabilities"] == pytest.approx(alone[0]["probabilities"], abs=1e-6)


def test_several_runs_are_an_ensemble_with_a_map_each(finished, described, tmp_path, capsys):
    run, other = ttl_jax.load(finished[0].workdir), tmp_path / "other"
    shutil.copytree(run.folder, other)
    with np.load(other / "predictions" / "val.npz") as file:
        arrays = dict(file)
    np.savez(other / "predictions" / "val.npz", **arrays | {"id": arrays["id"][::-1]})  # other images
    runs, asked = [run, ttl_jax.load(other)], Asked(threshold="0.5", coverage=0.9, distance=True)
    with pytest.raises(UserError, match="validated on different images"):
        joined(runs, asked, insists=True)
    joint = joined(runs, asked, insists=False)
    assert joint.sets is None and "there are no prediction sets" in capsys.readouterr().out
    answerer = Answerer(joint, Limits(batch=2))
    ((said,),) = answerer.answer([answerer.read(encoded(pixels_of(2)), True)])
    checked(described, "Answer", said)
    checked(described, "Model", answerer.about())
    assert [each["run"] for each in said["maps"]] == ["run", "other"] and said["sd"] == 0
    assert said["probabilities"] == pytest.approx(
        dict(zip(run.class_names, run.predict(pixels_of(2)[None], calibrated=True)[0], strict=True)), abs=1e-6
    )


def test_what_the_command_refuses(finished, capsys, monkeypatch):
    folder = str(finished[0].workdir)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "uvicorn", None)
        assert main(["ttl_jax", "serve", folder]) == 2
        assert "serve needs uvicorn: pip install 'ttl-jax[serve]'" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, sentence in (
            ([folder, "--host=0.0.0.0"], "--public and --token=TOKEN"),
            ([folder, f"--port={port}"], "cannot be had"),
            ([folder, "--frames=0"], "--frames=0 must be 1 or more"),
            ([folder, "--set=some", "--port=0"], "--set=some is no share"),
            ([str(Path(folder).parent), "--port=0"], "not the folder of a finished run"),
        ):
            assert main(["ttl_jax", "serve", *words]) == 2
            said = capsys.readouterr().err
            assert sentence in said and said.count("\n") == 1
