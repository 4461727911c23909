"""Any prepared TFDS data set, by name, through random access and without TensorFlow.

`tfds.data_source` reads ArrayRecord files (made with file_format="array_record"); images come as the
bytes that were stored and are decoded as any other file's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.images.decode import UnreadableImageError, read_stream, reason
from ttl_jax.data.sources.label_columns import check_known
from ttl_jax.data.sources.listing import SPLIT_ALIASES, Listing, make_listing
from ttl_jax.errors import UserError, nearest

if TYPE_CHECKING:
    from PIL.Image import Image

PREFIX = "tfds/"


@dataclass(frozen=True)
class TfdsImage:
    """One image of a TFDS data source, as a Picture.

    Attributes:
        source: Data source of one split, with random access to its records.
        index: Number of the record.
        feature: Name of the image feature in the record.
    """

    source: Any
    index: int
    feature: str

    def read(self) -> Image:
        """The image as "L", "RGB" or "RGBA".

        Raises:
            UnreadableImageError: a damaged record or image.
        """
        try:
            content = self.source[self.index][self.feature]
        except Exception as error:  # array_record raises RuntimeError, IndexError and ValueError
            raise UnreadableImageError(f"is damaged ({reason(error)})") from None
        return read_stream(io.BytesIO(content))


def read_tfds(config: DataConfig) -> Listing:
    """List the records of `tfds/NAME[/CONFIG][:VERSION]`, as prepared under `config.path`.

    Splits called train, validation and test are kept; others are left out and named. Labels are a
    ClassLabel, an integer, or several 0/1 features with commas between them.

    Args:
        config: Reads name, path (TFDS' data_dir, "" for its default), image, label and group.

    Raises:
        UserError: TFDS is not installed, no such data set there, or features of another kind.
    """
    name = config.name.removeprefix(PREFIX)
    builder, features, parts = _builder(config, name)
    known = tuple(features)
    names = tuple(part.strip() for part in config.label.split(",") if part.strip())
    for field, wanted in (("image", config.image), *(("label", item) for item in names),
                          *((("group", config.group),) if config.group else ())):  # fmt: skip
        if wanted not in known:
            raise UserError(f"TFDS data set {name!r} has no feature {wanted!r} for data.{field}"
                            f"{nearest(wanted, known)}")  # fmt: skip
    used = [part for part in parts if part.lower() in SPLIT_ALIASES]
    if not used:
        raise UserError(f"TFDS data set {name!r} has the splits {', '.join(parts)} and no train among them")
    others = [part for part in parts if part not in used]
    if others:
        print(f"TFDS {name}: left out the splits {', '.join(others)}", flush=True)
    images: list[TfdsImage] = []
    values: list[list[Any]] = []
    ids, groups, splits = [], [], []
    for part in used:
        source = _records(builder, name, part, config.image)
        for index in range(len(source)):
            record = source[index]
            images.append(TfdsImage(source, index, config.image))
            values.append([record[item] for item in names])
            ids.append(f"{part}/{index:08d}")
            groups.append(_text(record[config.group]) if config.group else ids[-1])
            splits.append(SPLIT_ALIASES[part.lower()])
    labels, class_names = _labels(name, names, values, features)
    listing = make_listing(
        f"TFDS {name}",
        images,
        [f"TFDS {name}, {item}" for item in ids],
        ids,
        labels,
        class_names,
        groups=groups,
        # One split only is no split: TFDS calls all data "train" where the owner has none.
        splits=splits if len(used) > 1 else None,
    )
    return replace(listing, splits_from=f"the splits of TFDS {name}", numbered=not config.group)


def _builder(config: DataConfig, name: str) -> tuple[Any, Any, Any]:
    """Return TFDS' builder of a prepared data set, its features and its splits."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"data.name={config.name} needs TFDS ({error}): pip install tensorflow-datasets"
        ) from None
    try:
        builder = tfds.builder(name, data_dir=config.path or None)
        return builder, builder.info.features, builder.info.splits
    except Exception as error:  # TFDS raises several kinds, and its text helps
        raise UserError(
            f"TFDS has no data set {name!r} in data.path={config.path!r} ({reason(error)}); set data.path to "
            "its data_dir"
        ) from None


def _records(builder: Any, name: str, part: str, image: str) -> Any:
    """Return the records of a split, read at random; images stay encoded."""
    import tensorflow_datasets as tfds

    try:
        return builder.as_data_source(part, decoders={image: tfds.decode.SkipDecoding()})
    except Exception as error:
        raise UserError(
            f"TFDS data set {name!r} cannot be read at random ({reason(error)}); prepare it with "
            "file_format='array_record'"
        ) from None


def _labels(
    name: str, names: tuple[str, ...], values: list[list[Any]], features: Any
) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        table = np.array(values, np.float64).reshape(len(values), -1)
    except (TypeError, ValueError):
        raise UserError(
            f"the labels {', '.join(names)} of TFDS {name} are no numbers; name a class label"
        ) from None
    if table.shape[1] == 1:
        numbers = table[:, 0].astype(np.int32)
        if (table[:, 0] != numbers).any() or numbers.min(initial=0) < 0:
            raise UserError(
                f"label {names[0]!r} of TFDS {name} is no class number from 0 on; some are negative"
            )
        given = getattr(features[names[0]], "names", None)
        classes = tuple(given) if given else tuple(str(value) for value in range(int(numbers.max()) + 1))
        return numbers, classes
    # -1 is CheXpert's uncertain, in TFDS too
    labels = np.where(table < 0, np.nan, table).astype(np.float32)
    columns = (
        names if len(names) == table.shape[1] else tuple(f"{names[0]}{at}" for at in range(table.shape[1]))
    )
    check_known(columns, labels)
    return labels, columns


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
