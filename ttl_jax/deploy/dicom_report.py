"""The answer about an image as a DICOM structured report (PS3.16, TID 1500 Measurement Report)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ttl_jax
from ttl_jax.deploy.dicom_source import (
    MAKER,
    derived_uid,
    equipment,
    inherit,
    instance_number,
    reference,
)
from ttl_jax.deploy.predict import JOINED, Ensemble
from ttl_jax.deploy.prediction_table import PredictionTable, deciding

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept
    from pydicom import Dataset

SERIES = 9001
SCHEME = "99TTLJAX"
RESEARCH = "Research use only, not for diagnosis"
NONE = "none reaches it"
# Cells of a row that are named values, and those that are numbers: how a reader reads their column's name.
_NAMED = {
    "class": "Most probable class",
    "decision": "Decision at the threshold",
    "set": "Prediction set",
    "abstain": "Left to a reader",
}
_NUMBERED = {
    "ood": "Percentile of the distance to training images",
    "mutual_information": "Mutual information of the runs, nats",
    "sd": "Standard deviation over the runs",
}


@dataclass(frozen=True)
class Author:
    """Who says it.

    Attributes:
        joint: the runs.
        digests: of the weights of each run.
        key: digest of all that decides about what is said of an image.
    """

    joint: Ensemble
    digests: tuple[str, ...]
    key: str

    @classmethod
    def of(cls, joint: Ensemble, method: str) -> Author:
        """The author that these runs are, with maps by this method."""
        known = deciding(joint, (), PredictionTable(""))
        runs = [{name: value for name, value in each.items() if name != "run"} for each in known["runs"]]
        content = json.dumps([known | {"runs": runs}, method, ttl_jax.__version__], sort_keys=True)
        key = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
        return cls(joint, tuple(each["weights"] for each in runs), key)

    @property
    def names(self) -> str:
        """Networks and strategies, each once."""
        each = (f"{run.signature.network.name} {run.signature.network.strategy}" for run in self.joint.runs)
        return ", ".join(dict.fromkeys(each))


def structured_report(
    author: Author,
    sources: Sequence[Dataset],
    rows: Sequence[Mapping[str, Any]],
    frames: Sequence[int | None],
) -> Dataset:
    """Make the report of a file, or of the files of a series that are one volume.

    Args:
        author: who says it.
        sources: headers of the files.
        rows: of `predict`, one for each image that was seen.
        frames: the frame that each row is about, from 0; None is the whole file, or all files.
    """
    from highdicom import sr
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from pydicom.sr.codedict import codes

    first = sources[0]
    words = author.key, str(first.SeriesInstanceUID), *(str(each.SOPInstanceUID) for each in sources)
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", author.key),
        name=MAKER,
        manufacturer_name=MAKER,
        model_name=author.names,
        serial_number=" ".join(author.digests),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, observer)
        ),
        procedure_reported=_procedure(first),
        imaging_measurements=[
            _group(author, row, frame, sources, (*words, str(frame)))
            for row, frame in zip(rows, frames, strict=True)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    made = sr.ComprehensiveSR(
        evidence=[reference(each) for each in sources],
        content=content,
        is_complete=True,
        coding_schemes=[
            CodingSchemeIdentificationItem(SCHEME, name="ttl_jax", responsible_organization="ttl_jax")
        ],
        **equipment("report", *words, number=SERIES, instance=instance_number(first)),
    )
    inherit(made, first)
    return made


def _group(
    author: Author,
    row: Mapping[str, Any],
    frame: int | None,
    sources: Sequence[Dataset],
    words: tuple[str, ...],
) -> Any:
    """TID 1501 of one row."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    joint, unit = author.joint, codes.UCUM.NoUnits
    method = code("calibrated-mean" if len(joint.runs) > 1 else "calibrated", _method(joint))
    measured = [
        sr.Measurement(code(f"p_{name}", f"Probability of {name}"), row[f"p_{name}"], unit, method=method)
        for name in joint.class_names
    ]
    measured += [
        sr.Measurement(code(f"threshold {name}", f"Threshold of {name}"), float(at), unit)
        for name, at in joint.threshold.items()
        if at <= 1
    ]
    measured += [
        sr.Measurement(code(name, said), row[name], codes.UCUM.Percent if name == "ood" else unit)
        for name, said in _NUMBERED.items()
        if name in row
    ]
    evaluations = [
        sr.QualitativeEvaluation(code(name, said), code(value, value))
        for name, said in _NAMED.items()
        if name in row
        for value in _values(row[name], joint.class_names)
    ]
    evaluations.append(sr.QualitativeEvaluation(code("use", "Intended use"), code("research", RESEARCH)))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            derived_uid("tracking", *words), "image" if frame is None else f"frame {frame + 1}"
        ),
        algorithm_id=_algorithm(author),
        measurements=measured,
        qualitative_evaluations=evaluations,
        source_images=[
            sr.SourceImageForMeasurementGroup(
                each.SOPClassUID, each.SOPInstanceUID, None if frame is None else [frame + 1]
            )
            for each in sources
        ],
    )


def _algorithm(author: Author) -> Any:
    """TID 4019: name, version, and what decides about the numbers."""
    from highdicom import sr

    said = [RESEARCH]
    for run, digest in zip(author.joint.runs, author.digests, strict=True):
        known = run.signature
        said.append(
            f"run {digest}: {known.network.name}, {known.network.strategy}, {known.geometry.size} px, "
            f"views {known.tta}, temperature {known.temperature:.4g}, trained by ttl_jax {known.version}"
        )
    return sr.AlgorithmIdentification(
        name=f"{MAKER} {author.names}", version=ttl_jax.__version__, parameters=said, manufacturer=MAKER
    )


def code(value: str, meaning: str) -> CodedConcept:
    """A code of our own scheme, the same for the same value; a long meaning is cut to 64 characters."""
    from highdicom.sr import CodedConcept

    text = "".join(each if each.isprintable() and each != "\\" else " " for each in meaning).strip()
    text = text if len(text) <= 64 else f"{text[:61]}..."
    return CodedConcept(hashlib.blake2b(value.encode(), digest_size=8).hexdigest(), SCHEME, text or "-")


def _method(joint: Ensemble) -> str:
    kind = "Sigmoid" if joint.task == "multilabel" else "Softmax"
    return f"{kind} at the temperature of validation" + ", mean of runs" * (len(joint.runs) > 1)


def _values(cell: str, names: Sequence[str]) -> list[str]:
    """The classes that a cell names; one that is no list of classes is one value."""
    found, rest = list[str](), cell
    for name in names:
        if rest == name or rest.startswith(name + JOINED):
            found, rest = [*found, name], rest[len(name) + 1 :]
    return found if found and not rest else [cell or NONE]


def _procedure(source: Dataset) -> Any:
    """Code of the procedure, by the modality (CID 100)."""
    from pydicom.sr.codedict import codes

    known = {
        "CT": codes.LN.CTUnspecifiedBodyRegion,
        "MR": codes.LN.MRIUnspecifiedBodyRegion,
        "PT": codes.LN.PETUnspecifiedBodyRegion,
        "NM": codes.LN.NMUnspecifiedBodyRegion,
        "CR": codes.LN.XRUnspecifiedBodyRegion,
        "DX": codes.LN.XRUnspecifiedBodyRegion,
    }
    return known.get(str(source.get("Modality")), codes.SCT.ImagingProcedure)
