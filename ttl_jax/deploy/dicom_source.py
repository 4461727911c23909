"""Attributes that DICOM objects made from an image take over from it, and the identities that they get.

A derived object belongs to the patient and the study of its source, and says so in the source's own words
(PS3.3, C.7.1 and C.7.2). All else of the source stays behind: its equipment, its private attributes, the
words of its series.
"""

from __future__ import annotations

import json
import re
import uuid
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ttl_jax
from ttl_jax.data.images.decode import UnreadableImageError
from ttl_jax.data.sources.dicom_frame import parsed
from ttl_jax.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

MAKER = "ttl_jax"  # Manufacturer of what is made here
PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDsSequence", "OtherPatientNames",
    "PatientComments", "ReferencedPatientSequence", "ReferencedPatientPhotoSequence",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole",
    "ResponsibleOrganization", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "QualityControlSubject",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
)  # fmt: skip
STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "StudyDescription", "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "ReferencedStudySequence", "ProcedureCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    "PatientAge", "PatientSize", "PatientWeight", "PatientBodyMassIndex", "PatientSexNeutered",
    "PregnancyStatus", "MedicalAlerts", "Allergies", "SmokingStatus", "AdditionalPatientHistory",
    "AdmissionID", "ReasonForVisit", "Occupation",
    "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription",
)  # fmt: skip
# Always there, empty where the source has none (type 2).
_ALWAYS = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PICTURE = (
    "Modality", "Manufacturer", "InstanceNumber", "NumberOfFrames", "PixelSpacing", "ImageOrientationPatient",
    "PatientOrientation", "Laterality", "ImageLaterality", "BurnedInAnnotation", "RecognizableVisualFeatures",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    "SharedFunctionalGroupsSequence",
)  # fmt: skip


def need_extra(what: str, library: str = "highdicom") -> None:
    """Raise UserError unless the extra `dicom` is installed."""
    if find_spec(library) is None:
        raise UserError(f"{what} needs {library}: pip install 'ttl-jax[dicom]'")


def read_source(path: Path) -> Dataset:
    """Read what answers to an image refer to or take over.

    Raises:
        UnreadableImageError: no DICOM file, one that cannot be referred to, or an answer itself.
    """
    header = parsed(path, (*_IDENTITY, *PATIENT, *STUDY, *_PICTURE))
    for keyword in _IDENTITY:
        if not re.fullmatch(r"[0-9.]{1,64}", str(header.get(keyword) or "")):
            raise UnreadableImageError(f"has no valid {keyword}, by which an answer would refer to it")
    if header.get("Manufacturer") == MAKER:
        raise UnreadableImageError("is an answer of ttl_jax itself")
    return header


def derived_uid(*words: str) -> str:
    """A UID that the same words give again (PS3.5, B.2, of a name-based UUID of RFC 9562)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(words)).int}"


def reference(source: Dataset) -> Dataset:
    """Attributes that highdicom asks of an image that is referred to; patient and study come by `inherit`."""
    from pydicom import Dataset

    made = Dataset()
    for keyword in _ALWAYS:
        setattr(made, keyword, None)
    for keyword in _IDENTITY:
        setattr(made, keyword, str(source[keyword].value))
    return made


def inherit(made: Dataset, source: Dataset) -> None:
    """Take over patient and study in the source's own words, even faulty ones; text becomes UTF-8.

    Args:
        made: the new object.
        source: from `read_source`.
    """
    for keyword in (*PATIENT, *STUDY):
        if keyword in source:
            element = deepcopy(source[keyword])
            if element.VR == "SQ":
                for item in element.value:
                    item.remove_private_tags()
            made.add(element)
    made.SpecificCharacterSet = "ISO_IR 192"


def equipment(kind: str, *words: str, number: int, instance: int = 1) -> dict[str, Any]:
    """Keywords of highdicom's classes: who made the object, its series, and its identities.

    Args:
        kind: of object; one kind of one run and one source series is a series.
        words: what the instance is made from, beginning with the run and the source's series.
        number: of the series.
        instance: number of the instance.
    """
    return {
        "series_instance_uid": derived_uid(kind, *words[:2]),
        "sop_instance_uid": derived_uid(kind, *words),
        "series_number": number,
        "instance_number": instance,
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": ttl_jax.__version__,
        "series_description": f"{MAKER} {kind}, research use only",
        "content_qualification": "RESEARCH",
    }


def instance_number(source: Dataset) -> int:
    """The source's own number where it is one, else 1."""
    try:
        return max(1, int(source.get("InstanceNumber") or 1))
    except (TypeError, ValueError):
        return 1
