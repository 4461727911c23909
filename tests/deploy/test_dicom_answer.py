"""Reports and overlays: what they say, what they refer to, what they take over, and what is refused."""

import csv
import json
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

import ttl_jax
from ttl_jax.analysis.overlay import overlay
from ttl_jax.cli import main
from ttl_jax.data.images.decode import Geometry, UnreadableImageError, fit
from ttl_jax.deploy import prediction_table
from ttl_jax.deploy.dicom_answer import DicomAnswerer
from ttl_jax.deploy.dicom_folder import AnswerFolder
from ttl_jax.deploy.dicom_node import Node
from ttl_jax.deploy.dicom_overlay import captioned, on_source, secondary_capture
from ttl_jax.deploy.dicom_report import Author
from ttl_jax.deploy.dicom_source import PATIENT, STUDY, inherit, read_source
from ttl_jax.deploy.explain import Explainer
from ttl_jax.deploy.predict import ensemble
from ttl_jax.errors import UserError
from ttl_jax.training.run import train

sr = pytest.importorskip("highdicom.sr")

from ..data.dicom_files import make_dicom  # noqa: E402
from .dicom_standard import faults  # noqa: E402

CT = "1.2.840.10008.5.1.4.1.1.2"
SECRETS = {
    "InstitutionName": "St Secret's", "OperatorsName": "Operator^Olga", "StationName": "STATION9",
    "SeriesDescription": "lung of Wilhelmina", "DeviceSerialNumber": "SN-4711", "ProtocolName": "PROTO-X",
}  # fmt: skip

TAKEN = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate",
    "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "StudyInstanceUID",
)  # fmt: skip
MOMENTS = (
    "InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime", "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture", "ContributingEquipmentSequence",
)  # fmt: skip


def slice_of(seed, **more):
    """A slice of a CT with a bright disk, of a patient whose file says too much."""
    rows, columns = np.mgrid[:48, :40]
    disk = (rows - 20) ** 2 + (columns - 12) ** 2 < 60
    pixels = np.random.default_rng(seed).integers(0, 60, (48, 40)) + 900 * disk
    made = make_dicom(
        pixels.astype(np.int16), SOPClassUID=CT, SeriesInstanceUID="1.2.3.4", Modality="CT",
        InstanceNumber=17, PixelSpacing=[0.5, 0.5], ImageOrientationPatient=[1, 0, 0, 0, 0.8, -0.6],
        RescaleSlope=1, RescaleIntercept=-500, AccessionNumber="A-1", StudyDate="20260102",
        ReferringPhysicianName="Ref^Rita", StudyDescription="Chest", PatientSex="F", PatientAge="075Y",
        LossyImageCompression="01", **SECRETS, **more,
    )  # fmt: skip
    made.file_meta.MediaStorageSOPClassUID = CT
    block = made.private_block(0x0009, "SECRET INC", create=True)
    block.add_new(1, "LO", "private word")
    item = Dataset()
    item.PatientID, item.TypeOfPatientID = "other-1", "TEXT"
    item.private_block(0x0009, "SECRET INC", create=True).add_new(1, "LO", "private word")
    made.OtherPatientIDsSequence = [item]
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    slice_of(0).save_as(folder / "a.dcm", enforce_file_format=True)
    shutil.copy(get_testdata_file("CT_small.dcm"), folder / "b.dcm")
    shutil.copy(get_testdata_file("examples_rgb_color.dcm"), folder / "c.dcm")
    frames = np.random.default_rng(1).integers(0, 255, (3, 30, 30)).astype(np.uint8)
    several = make_dicom(frames, NumberOfFrames=3, SeriesInstanceUID="1.2.3.5")
    kind = "1.2.840.10008.5.1.4.1.1.7.2"  # Multi-frame Grayscale Byte Secondary Capture
    several.SOPClassUID = several.file_meta.MediaStorageSOPClassUID = kind
    several.save_as(folder / "d.dcm", enforce_file_format=True)
    (folder / "e.dcm").write_bytes(b"no image")
    Image.fromarray(np.full((9, 9, 3), 80, np.uint8)).save(folder / "f.png")
    make_dicom(frames[0]).save_as(folder / "g.dcm", enforce_file_format=True)  # no SeriesInstanceUID
    return folder


def predicted(run, images, out, *more):
    assert main(["ttl_jax", "predict", str(run), str(images), f"--out={out}", *more]) == 0
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def answers(finished, images, tmp_path_factory):
    """The table of the command, and the folder that it wrote to."""
    folder = tmp_path_factory.mktemp("answers")
    rows = predicted(finished[0].workdir, images, folder / "x.csv", f"--dicom_out={folder / 'out'}")
    return rows, folder / "out"


@pytest.fixture(scope="module")
def run(finished):
    return ttl_jax.load(finished[0].workdir)


def test_every_dicom_file_has_a_report_and_an_overlay_and_others_a_reason(answers):
    rows, out = answers
    assert [row["dicom_error"] for row in rows] == [
        "", "", "", "", "", "", "", "is not a DICOM file, and gets no report and no overlay",
        "has no valid SeriesInstanceUID, by which an answer would refer to it",
    ]  # fmt: skip
    assert [bool(row["report"] and row["overlay"]) for row in rows] == [True] * 6 + [False] * 3
    assert "DICM" in rows[6]["error"] and rows[7]["class"] and rows[8]["class"]
    assert len({row["report"] for row in rows[3:6]}) == 1 and len({row["overlay"] for row in rows[3:6]}) == 3
    named = {row[kind] for row in rows[:6] for kind in ("report", "overlay")}
    assert {path.name for path in out.iterdir()} == named and len(named) == 10
    record = json.loads((out.parent / "x.csv.json").read_text())
    assert (record["objects"], record["unanswered"], record["unreadable"]) == (10, 2, 1)


def test_the_report_says_what_the_table_says(answers, images, run):
    rows, out = answers
    for row in rows[:3]:
        source = pydicom.dcmread(row["id"])
        report = sr.srread(out / row["report"])
        assert isinstance(report, sr.ComprehensiveSR) and report.ContentQualification == "RESEARCH"
        assert (report.StudyInstanceUID, report.VerificationFlag) == (source.StudyInstanceUID, "UNVERIFIED")
        (group,) = report.content.get_image_measurement_groups()
        (image,) = group.source_images
        assert (image.referenced_sop_class_uid, image.referenced_sop_instance_uid) == (
            source.SOPClassUID,
            source.SOPInstanceUID,
        )
        measured = {each.name.meaning: each for each in group.get_measurements()}
        at = run.signature.thresholds["bright"]["sensitivity 0.90"]
        assert measured["Threshold of bright"].value == pytest.approx(at)
        for name in ("dark", "bright"):
            each = measured[f"Probability of {name}"]
            assert np.float32(each.value) == np.float32(row[f"p_{name}"])
            assert (each.unit.value, each.unit.scheme_designator) == ("1", "UCUM")
        said = {each.name.meaning: each.value.meaning for each in group.get_qualitative_evaluations()}
        assert said == {
            "Most probable class": row["class"],
            "Decision at the threshold": row["decision"],
            "Intended use": "Research use only, not for diagnosis",
        }
        text = [str(item.get("TextValue", "")) for item in group[0].ContentSequence]
        assert ttl_jax.__version__ in text and any("truncated(3)" in each for each in text)
        digest = prediction_table.weights_digest(run.variables)
        assert any(each.startswith(f"run {digest}: resnet18") for each in text)
        (study,) = report.CurrentRequestedProcedureEvidenceSequence
        (series,) = study.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == source.SeriesInstanceUID != report.SeriesInstanceUID


def test_a_file_of_several_frames_has_one_report_with_a_group_for_each(answers):
    rows, out = answers
    report = sr.srread(out / rows[3]["report"])
    groups = report.content.get_image_measurement_groups()
    assert [group.source_images[0].referenced_frame_numbers for group in groups] == [[1], [2], [3]]
    for number, (group, row) in enumerate(zip(groups, rows[3:6], strict=True), 1):
        value = next(each for each in group.get_measurements() if each.name.meaning == "Probability of dark")
        assert np.float32(value.value) == np.float32(row["p_dark"])
        (item,) = pydicom.dcmread(out / row["overlay"]).SourceImageSequence
        assert (item.ReferencedFrameNumber, item.ReferencedSOPInstanceUID) == (
            number,
            pydicom.dcmread(row["id"].partition("#")[0]).SOPInstanceUID,
        )


def test_the_overlay_is_the_source_under_its_map(answers, images, run):
    rows, out = answers
    made, source = pydicom.dcmread(out / rows[0]["overlay"]), pydicom.dcmread(images / "a.dcm")
    values = source.pixel_array.astype(float)
    plain = np.rint(255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)[..., None].repeat(3, -1)
    times = 6  # the longer side of 48 px becomes 256 or more
    shown = made.pixel_array
    assert shown.shape[1] == 256 and (shown[: 48 * times, 40 * times :] == 0).all()
    shown = shown[: 48 * times, : 40 * times]
    assert (shown == shown[::times, ::times].repeat(times, 0).repeat(times, 1)).all()
    seen = run.preprocess(images / "a.dcm")
    heat = Explainer(run)(seen, rows[0]["class"]).maps["grad_cam"][0]
    large = on_source(np.maximum(heat, 0) / heat.max(), run.signature.geometry, (48, 40), (48, 40))
    small = shown[::times, ::times].astype(int)
    assert np.abs(small - plain).max() > 50
    assert np.abs(small - overlay(plain, large)).max() <= 2
    said = rows[0]["class"]
    lines = (
        "Research use only, not for diagnosis",
        f"Grad-CAM for {said}, {float(rows[0][f'p_{said}']):.2f}",
        f"ttl_jax {ttl_jax.__version__}, run {prediction_table.weights_digest(run.variables)}",
    )
    band = made.pixel_array[48 * times :]
    assert (band == captioned(np.zeros((48 * times, 240, 3), np.uint8), lines)[48 * times :]).all()
    assert 0.02 < (band.max(-1) > 128).mean() < 0.5  # there is text
    assert [float(each) for each in made.PixelSpacing] == pytest.approx([0.5 / times] * 2, rel=1e-5)
    assert list(made.PatientOrientation) == ["L", "PF"] and made.LossyImageCompression == "01"
    assert (made.InstanceNumber, made.StudyInstanceUID) == (17, source.StudyInstanceUID)


def test_pixels_differ_only_where_the_map_is(images):
    source = read_source(images / "a.dcm")
    for size, times in (((60, 100), 3), ((200, 300), 1), ((1500, 3000), 2048 / 3000)):
        plain = np.random.default_rng(0).integers(0, 200, (*size, 3)).astype(np.uint8)
        heat = np.zeros(size, np.float32)
        inside = slice(size[0] // 4, size[0] // 2), slice(size[1] // 4, size[1] // 2)
        heat[inside] = 1
        made = secondary_capture(source, ("key", "series", "image"), plain, heat, ("a caption",), None)
        high, wide = (round(side * times) for side in size)
        shown = made.pixel_array[:high, :wide]
        if times < 1:
            plain = np.asarray(Image.fromarray(plain).resize((wide, high), Image.Resampling.BOX))
            heat = np.asarray(Image.fromarray(heat).resize((wide, high), Image.Resampling.BOX))
        else:
            plain, heat = (each.repeat(times, 0).repeat(times, 1) for each in (plain, heat))
        assert (shown == plain)[heat == 0].all() and not (shown == plain)[heat == 1].all(-1).any()
        assert [float(each) for each in made.PixelSpacing] == pytest.approx([0.5 / times] * 2, rel=1e-5)


def test_objects_are_as_the_standard_asks(answers):
    out = answers[1]
    for path in out.iterdir():
        assert faults(pydicom.dcmread(path)) == []
        if shutil.which("dciodvfy"):
            said = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr
            assert "Error" not in said
    (report, *_) = (path for path in sorted(out.iterdir()) if pydicom.dcmread(path).Modality == "SR")
    broken = pydicom.dcmread(report)
    del broken.SeriesNumber, broken.Manufacturer
    broken.InstitutionAddress, broken.RescaleType = "here", "HU"
    assert len(faults(broken)) >= 2  # the check can fail


def test_patient_and_study_are_taken_over_and_nothing_else(answers, images):
    rows, out = answers
    source = pydicom.dcmread(images / "a.dcm")
    for kind in ("report", "overlay"):
        content = (out / rows[0][kind]).read_bytes()
        made = pydicom.dcmread(out / rows[0][kind])
        for keyword in TAKEN:
            assert made[keyword].value == source[keyword].value
        assert made.OtherPatientIDsSequence[0].PatientID == "other-1"
        for word in [*SECRETS.values(), "private word", "SECRET INC"]:
            assert word.encode() not in content
        private = []
        made.walk(lambda _, each, private=private: private.append(each) if each.tag.is_private else None)
        assert private == []
        alike = {each.keyword for each in made if each.keyword in source and each == source[each.keyword]}
        picture = {"LossyImageCompression", "InstanceNumber", "PixelRepresentation", "PatientOrientation"}
        assert alike <= {*PATIENT, *STUDY} | picture


def test_the_lists_of_attributes_are_the_standards():
    from highdicom._standard_utils import get_module_attribute_map

    tables = get_module_attribute_map()
    for ours, modules in (
        (PATIENT, ("patient", "clinical-trial-subject")),
        (STUDY, ("general-study", "patient-study", "clinical-trial-study")),
    ):
        root = [each for module in modules for each in tables[module] if not each["path"]]
        assert set(ours) <= {each["keyword"] for each in root}
        assert {each["keyword"] for each in root if each["type"] in ("1", "2")} - {
            "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
            "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialTimePointID",
        } <= set(ours)  # fmt: skip


def test_the_same_run_and_source_give_the_same_objects(answers, finished, images, tmp_path, capsys):
    rows, out = answers
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = predicted(finished[0].workdir, images, tmp_path / "y.csv", f"--dicom_out={out}")
    assert [row["report"] for row in again] == [row["report"] for row in rows]
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before  # not written twice
    fresh = tmp_path / "fresh"
    predicted(finished[0].workdir, images, tmp_path / "z.csv", f"--dicom-out={fresh}")
    for name in before:
        one, two = (pydicom.dcmread(folder / name) for folder in (out, fresh))
        for each in (one, two):
            for keyword in MOMENTS:
                if keyword in each:
                    del each[keyword]
        assert one == two
    other = predicted(
        finished[0].workdir, images, tmp_path / "t.csv", f"--dicom_out={fresh}", "--threshold=0.7"
    )
    assert not {row["report"] for row in other if row["report"]} & set(before)  # they say something else
    next(fresh.glob("*.dcm")).unlink()
    for path in list(fresh.glob("*.dcm"))[:12]:
        path.unlink()
    capsys.readouterr()
    words = ["ttl_jax", "predict", str(finished[0].workdir), str(images), f"--out={tmp_path / 'z.csv'}"]
    assert main([*words, f"--dicom_out={fresh}"]) == 2
    assert "lacks files that" in capsys.readouterr().err


def test_a_stopped_command_goes_on(answers, finished, images, tmp_path, monkeypatch):
    rows, out = answers
    monkeypatch.setattr(prediction_table, "PART_ROWS", 2)
    add, seen = AnswerFolder.add, []

    def stops(self, source, own):
        seen.append(source)
        if len(seen) == 4:
            raise KeyboardInterrupt
        add(self, source, own)

    monkeypatch.setattr(AnswerFolder, "add", stops)
    run = ttl_jax.load(finished[0].workdir)
    folder = AnswerFolder(DicomAnswerer(ensemble([run])), str(tmp_path / "out"))
    table = prediction_table.PredictionTable(str(tmp_path / "x.csv"), answers=folder)
    given = ensemble([run]), [str(images)], table, 2
    with pytest.raises(KeyboardInterrupt):
        prediction_table.predict_table(*given)
    assert 0 < len(folder) < 10
    record = prediction_table.predict_table(*given)
    assert (record["objects"], record["unanswered"]) == (10, 2)
    assert {path.name for path in folder.path.iterdir()} == {path.name for path in out.iterdir()}


@pytest.mark.parametrize("size", [(48, 40), (40, 90)])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_map_comes_back_to_where_the_network_saw_it(resize, size):
    geometry = Geometry(32, resize)
    rows, columns = np.mgrid[: size[0], : size[1]]
    middle = 0.45 * size[0], 0.55 * size[1]
    blob = np.exp(-((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2) / 60)
    seen = fit(Image.fromarray((255 * blob).astype(np.uint8)), geometry)[..., 0]
    for times in (1, 3):  # the source at its own size
        back = on_source(seen / 255, geometry, size, tuple(times * side for side in size))
        place = np.unravel_index(back.argmax(), back.shape)
        assert np.abs((np.array(place) + 0.5) / times - middle).max() < 2
        if times == 1:
            inside = back > 0
            assert np.corrcoef(back[inside], blob[inside])[0, 1] > 0.97
    short = min(size)
    cut = [(side - short) // 2 if resize == "crop" else 0 for side in size]
    ones = on_source(np.ones((7, 7)), geometry, size, size)
    kept = ones[cut[0] : cut[0] + short if cut[0] else None, cut[1] : cut[1] + short if cut[1] else None]
    assert (kept == 1).all() and ones.sum() == kept.size


def test_names_in_other_alphabets_and_faulty_values_are_kept(tmp_path, run):
    made = slice_of(2, SpecificCharacterSet=["", "ISO 2022 IR 87"])
    made.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    content = (tmp_path / "a.dcm").read_bytes().replace(b"20260102", b"2026ABCD").replace(b"075Y", b"??? ")
    (tmp_path / "a.dcm").write_bytes(content)
    row = {"p_dark": 0.25, "p_bright": 0.75, "class": "bright"}
    answer = DicomAnswerer(ensemble([run]))(tmp_path / "a.dcm", [row])
    for _, make in answer.objects:
        make().save_as(tmp_path / "b.dcm", enforce_file_format=True)
        read = pydicom.dcmread(tmp_path / "b.dcm")
        assert read.PatientName.ideographic == "山田^太郎" and read.PatientName.phonetic == "やまだ^たろう"
        assert (read.StudyDate, read.PatientAge) == ("2026ABCD", "???")


def test_what_is_refused(tmp_path, run, images, capsys):
    answerer = DicomAnswerer(ensemble([run]))
    row = {"p_dark": 0.25, "p_bright": 0.75, "class": "bright"}
    with pytest.raises(UnreadableImageError, match="has 65 frames; files of up to 64"):
        answerer(images / "d.dcm", [row] * 65)
    with pytest.raises(UnreadableImageError, match="has changed since"):
        answerer(images / "d.dcm", [row])
    answerer(images / "a.dcm", [row]).overlays[0][1]().save_as(tmp_path / "own.dcm", enforce_file_format=True)
    with pytest.raises(UnreadableImageError, match="is an answer of ttl_jax itself"):
        answerer(tmp_path / "own.dcm", [row])
    with pytest.raises(UserError, match="lies within the images"):
        AnswerFolder(answerer, str(images / "out"), [str(images)])
    (tmp_path / "file").write_text("")
    for folder, why in ((tmp_path / "file", "cannot be made"), ("gs://bucket/x", "lies in a bucket")):
        with pytest.raises(UserError, match=why):
            AnswerFolder(answerer, str(folder))
    rows = [dict(row), dict(row), {"error": "is damaged"}]
    AnswerFolder(answerer, str(tmp_path / "out")).add(images / "d.dcm", rows)
    assert rows[0]["dicom_error"].startswith("has frames that cannot be read, 1 of 3") and rows[2] == {
        "error": "is damaged"
    }
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_extra_the_error_names_it(finished, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ttl_jax.deploy.dicom_source.find_spec", lambda name: None)
    words = ["ttl_jax", "predict", str(finished[0].workdir), str(images), f"--out={tmp_path / 'x.csv'}"]
    assert main([*words, f"--dicom_out={tmp_path / 'out'}"]) == 2
    assert "pip install 'ttl-jax[dicom]'" in capsys.readouterr().err


def test_several_runs_say_how_far_they_disagree(run, images, tmp_path):
    joint = ensemble([run, run])
    row = {"p_dark": 0.25, "p_bright": 0.75, "class": "bright", "decision": "", "mutual_information": 0.01,
           "sd": 0.1, "ood": 97.0, "abstain": "yes", "set": "dark|bright"}  # fmt: skip
    answer = DicomAnswerer(joint)(images / "a.dcm", [row])
    assert answer.report[0] != DicomAnswerer(ensemble([run]))(images / "a.dcm", [row]).report[0]
    report = sr.ComprehensiveSR.from_dataset(answer.report[1]())
    (group,) = report.content.get_image_measurement_groups()
    units = {each.name.meaning: (each.value, each.unit.value) for each in group.get_measurements()}
    assert units["Percentile of the distance to training images"] == (97.0, "%")
    assert units["Standard deviation over the runs"] == (0.1, "1")
    said = [(each.name.meaning, each.value.meaning) for each in group.get_qualitative_evaluations()]
    assert ("Left to a reader", "yes") in said and ("Decision at the threshold", "none reaches it") in said
    assert [value for name, value in said if name == "Prediction set"] == ["dark", "bright"]
    assert answer.overlays[0][1]().Rows > 256
    flipped = ensemble([ttl_jax.load(run.folder, tta="flip")])
    assert Author.of(flipped, "grad_cam").key != Author.of(ensemble([run]), "grad_cam").key


def test_a_series_is_one_volume(make_config, make_sets, tmp_path):
    fields = {"model__name": "resnet18_3d", "strategy": "truncated(2)", "data__depth": 4, "total_steps": 2}
    result = train(make_config(**fields), tmp_path / "run", make_sets(shape=(4, 32, 32, 3)))
    folder = tmp_path / "series"
    folder.mkdir()
    for number in range(6):
        made = slice_of(number, ImagePositionPatient=[0, 0, 3 * number], StudyInstanceUID="1.2.9")
        made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        made.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    rows = predicted(result.workdir, folder, tmp_path / "x.csv", f"--dicom_out={tmp_path / 'out'}")
    assert len(rows) == 1 and not rows[0]["dicom_error"]
    report = sr.srread(tmp_path / "out" / rows[0]["report"])
    (group,) = report.content.get_image_measurement_groups()
    uids = [pydicom.dcmread(folder / f"{number}.dcm").SOPInstanceUID for number in range(6)]
    assert {each.referenced_sop_instance_uid for each in group.source_images} == set(uids)
    made = pydicom.dcmread(tmp_path / "out" / rows[0]["overlay"])
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID in uids and faults(made) == []
    (folder / "0.dcm").rename(folder / "9.dcm")
    (tmp_path / "t.csv").write_text(f"image\n{folder}\n")
    again = predicted(
        result.workdir, tmp_path / "t.csv", tmp_path / "y.csv", f"--dicom_out={tmp_path / 'out'}"
    )
    assert again[0]["report"] == rows[0]["report"]  # whatever the files are called
    node = Node(DicomAnswerer(ensemble([ttl_jax.load(result.workdir)])), None, None, print, 1)
    with pytest.raises(UnreadableImageError, match="is one slice, and this network takes volumes"):
        node.answer(folder / "1.dcm")
    frames = np.random.default_rng(0).integers(0, 255, (5, 30, 30)).astype(np.uint8)
    make_dicom(frames, NumberOfFrames=5, SeriesInstanceUID="1.2.8").save_as(
        folder / "several.dcm", enforce_file_format=True
    )
    report, overlay = node.answer(folder / "several.dcm")
    assert 1 <= overlay.SourceImageSequence[0].ReferencedFrameNumber <= 5
    (group,) = sr.ComprehensiveSR.from_dataset(report).content.get_image_measurement_groups()
    assert group.source_images[0].referenced_frame_numbers is None  # all of them


def test_a_source_is_read_without_its_pixels(images):
    source = read_source(images / "a.dcm")
    assert "PixelData" not in source and "InstitutionName" not in source
    made = Dataset()
    inherit(made, source)
    assert made.PatientName == "Featherstone^Wilhelmina" and "SeriesInstanceUID" not in made
