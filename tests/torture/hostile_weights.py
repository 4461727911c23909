"""Files of weights made to run code, to take all memory or to be read for ever; none is damaged."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

FIXTURES = Path(__file__).parents[1] / "weights" / "fixtures"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def as_zip(data_pkl, storages=(), stored=True):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", data_pkl)
        for key, content in storages:
            archive.writestr(f"x/data/{key}", content)
    return made.getvalue()


def as_legacy(content, storages=()):
    start = b"".join(pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, {"little_endian": True}))
    rest = pickle.dumps([key for key, _ in storages], 2)
    return start + content + rest + b"".join(struct.pack("<q", len(data) // 4) + data for _, data in storages)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(values):
    return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"


def storage(key=b"V0\n", length=b"I10\n", kind=b"FloatStorage"):
    return b"(Vstorage\nctorch\n" + kind + b"\n" + key + b"Vcpu\n" + length + b"tQ"


def tensor(store=None, offset=b"I0\n", size=None, stride=None):
    size, stride = size or numbers([10]), stride or numbers([1])
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + (store or storage()) + offset + size + stride + b"I00\n"
        b"ccollections\nOrderedDict\n)RtR"
    )


def state(*tensors):
    """A state dict of these tensors."""
    return b"(d" + b"".join(b"Vw%d\n" % n + one + b"s" for n, one in enumerate(tensors)) + b"."


def doubled(depth, leaf=b"I1\n"):
    """A tuple of the same tuple twice, so deep: its hash takes 2**depth steps."""
    return leaf + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(depth))


TEN = [("0", np.arange(10, dtype=np.float32).tobytes())]
CALLS = [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "call"),
    ("subprocess", "getoutput"),
    ("builtins", "eval"), ("builtins", "exec"), ("__builtin__", "eval"), ("builtins", "compile"),
    ("builtins", "getattr"), ("builtins", "__import__"), ("builtins", "open"), ("builtins", "bytearray"),
    ("torch.storage", "_load_from_bytes"), ("torch", "load"), ("torch.hub", "load"), ("torch.jit", "load"),
    ("torch.serialization", "load"), ("torch._utils", "_rebuild_wrapper_subclass"), ("numpy", "load"),
    ("numpy.core.multiarray", "_reconstruct"), ("pickle", "loads"), ("_pickle", "loads"),
    ("runpy", "run_path"),
    ("importlib", "import_module"), ("ctypes", "CDLL"), ("functools", "partial"), ("operator", "attrgetter"),
    ("operator", "methodcaller"), ("shutil", "rmtree"), ("pathlib", "Path"), ("socket", "create_connection"),
    ("webbrowser", "open"), ("code", "interact"), ("timeit", "timeit"), ("pdb", "run"), ("bdb", "Bdb"),
    ("collections", "Counter"), ("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"),
    ("types", "CodeType"),
    ("types", "FunctionType"), ("ttl_jax.weights.readers.torch_pickle", "np.load"),
    ("torch", "FloatStorage.from_file"),
    ("", ""), ("a" * 100_000, "b"), ("os\x1b[2J", "system"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
]  # fmt: skip


def code(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Calls of functions that run, open or load something, by every opcode that can name one."""
    canary = os.environ["TTL_JAX_FUZZ_CANARY"].encode()
    for module, name in CALLS:
        module, name = module.encode(), name.encode()
        run = b"(Vtouch " + canary + b"\nt"
        ways = {
            "reduce": b"c" + module + b"\n" + name + b"\n" + run + b"R",
            "stack": b"\x80\x04" + text(module.decode()) + text(name.decode()) + b"\x93" + run + b"R",
            "newobj": b"c" + module + b"\n" + name + b"\n" + run + b"\x81",
            "inst": run[:-1] + b"i" + module + b"\n" + name + b"\n",
            "obj": b"(c" + module + b"\n" + name + b"\n" + run[1:-1] + b"o",
            "build": b"c" + module + b"\n" + name + b"\n}Vx\nI1\nsb",
        }
        for way in rng.sample(sorted(ways), 4):
            value = ways[way]
            place = rng.randrange(4)
            content = (
                value + b"." if place == 0
                else state(tensor())[:-1] + b"Vx\n" + value + b"s." if place == 1
                else b"(dVstate_dict\n" + value + b"s." if place == 2
                else state(tensor(size=value))
            )  # fmt: skip
            yield f"code-{way}.pth", rng.choice((as_zip, as_legacy, lambda body, _: body))(content, TEN)


def pickles(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Pickles of a few bytes that ask for time or memory."""
    bombs = {}
    for depth in (20, 28, 60, 200):
        deep = doubled(depth)
        bombs |= {
            f"key-{depth}": b"(d" + deep + b"I1\ns.",
            f"items-{depth}": b"}(" + deep + b"I1\nu.",
            f"storage-{depth}": state(tensor(storage(key=deep))),
            f"ordered-{depth}": b"ccollections\nOrderedDict\n((l(" + deep + b"I1\ntatR.",
            f"set-{depth}": b"cbuiltins\nset\n((l" + deep + b"atR.",
            f"frozen-{depth}": b"\x80\x04(" + deep + b"\x91.",
            f"size-{depth}": state(tensor(size=deep)),
            f"length-{depth}": state(tensor(storage(length=deep))),
            f"name-{depth}": b"(d" + deep + tensor() + b"s.",
            f"class-{depth}": deep + text("x") + b"\x93.",
        }
    for power in range(8, 32, 2):
        index = struct.pack("<I", (1 << power) + rng.randrange(1 << power))
        bombs |= {
            f"memo-{power}": b"I1\nr" + index + b".",
            f"put-{power}": b"I1\np%d\n." % (1 << (2 * power)),
        }
    for opcode, form in (
        (b"X", "<I"), (b"T", "<I"), (b"B", "<I"), (b"\x8b", "<I"), (b"\x8d", "<Q"), (b"\x8e", "<Q"),
        (b"\x96", "<Q"),
        (b"\x95", "<Q"),
    ):  # fmt: skip
        for power in (28, 30, 31, 40, 62):
            if power < struct.calcsize(form) * 8 - 1 or power == 31:
                size = (1 << power) - 1 - rng.randrange(99)
                bombs[f"long-{opcode.hex()}-{power}"] = opcode + struct.pack(form, size) + b"x" * 50 + b"."
    bombs |= {
        "lists": b"]" * 300_000 + b"a" * 299_999 + b".",
        "tuples": b")" + b"\x85" * 300_000 + b".",
        "steps": b"(" + b"N" * 3_000_000 + b"t.",
        "itself": b"}q\x00Vmodel\nh\x00s.",
        "wrappers": b"(dVmodel\n" * 50_000 + b"}" + b"s" * 50_000 + b".",
        "digits": b"L" + b"9" * 100_000 + b"L\n.",
        "short digits": b"(" + b"L" + b"9" * 4000 + b"L\nt.",
        "bytes as sizes": state(tensor(size=b"ctorch\nSize\n(C\xff" + b"x" * 255 + b"tR")),
        "many sizes": b"(B" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"q\x000"
        + b"ctorch\nSize\nh\x00\x85R" * 5000 + b"t.",
        "pairs again": b"(l(Va\nI1\ntaq\x000" + b"ccollections\nOrderedDict\nh\x00\x85R0" * 50_000 + b"N.",
        "no end": b"(d", "no mark": b"u.", "no value": b".", "no memo": b"h\x05.",
        "marks": b"(" * 100_000 + b".",
        "extension": b"\x82\x01.", "persistent": b"Pos.system\n.", "keys of one hash": b"(d" + b"".join(
            b"\x8a\x10" + ((2**61 - 1) * n).to_bytes(16, "little") + b"Ns" for n in range(1, 60_000)) + b".",
    }  # fmt: skip
    for name, content in bombs.items():
        yield f"pickle-{name}.pth", as_zip(content, TEN)
        yield f"legacy-{name}.pth", as_legacy(content, TEN)


def tensors(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Tensors that are larger than their numbers, or lie elsewhere."""
    far = 2**31 - 1, 2**40, 2**63 - 1, 2**64, 2**120, -1, -(2**63), 0
    for number in range(60):
        rank = rng.choice((1, 2, 3, 5, 33, 64))
        size = [rng.choice((*far, 1, 1, 2, 10)) for _ in range(rank)]
        stride = [rng.choice((0, 0, 1, 2, *far)) for _ in range(rank)]
        offset = rng.choice((0, 0, 1, 9, 10, *far))
        content = state(tensor(offset=b"I%d\n" % offset, size=numbers(size), stride=numbers(stride)))
        yield f"tensor-{number}.pth", rng.choice((as_zip, as_legacy))(content, TEN)
    for length in far:
        content = state(tensor(storage(length=b"L%dL\n" % length)))
        yield f"length-{length}.pth", as_zip(content, TEN)
        yield f"legacy-length-{length}.pth", as_legacy(content, TEN)
    for wrong in (b"Vtext\n", b"F1.5\n", b"I01\n", b"N", b"(I1\nI2\nt", b"}", b"(lI1\na", tensor()):
        for place in ("offset", "size", "stride"):
            yield f"type-{place}.pth", as_zip(state(tensor(**{place: wrong})), TEN)
    big = np.zeros(2_000_000, np.float32).tobytes()
    whole = [("0", big)]
    long = storage(length=b"I2000000\n")
    for views in (5, 100, 1000):
        shifted = [tensor(long, b"I%d\n" % n, numbers([1_999_000]), numbers([1])) for n in range(views)]
        yield f"views-{views}.pth", as_zip(state(*shifted), whole)
        yield f"legacy-views-{views}.pth", as_legacy(state(*shifted), whole)
        tied = state(*[tensor(long, size=numbers([2_000_000])) for _ in range(views)])
        yield f"tied-{views}.pth", as_zip(tied, whole)
        steps = state(tensor(long, size=numbers([2_000_000]), stride=numbers([0])), *([tensor(long)] * views))
        yield f"steps-{views}.pth", as_zip(steps, whole)
    halves = storage(length=b"I4000000\n", kind=b"HalfStorage")
    yield (
        "halves.pth",
        as_zip(state(*[tensor(halves, b"I%d\n" % n, numbers([3_000_000])) for n in range(8)]), whole),
    )


def zips(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Zip files of torch's layout that deflate, lie, or lie on themselves."""
    for power in range(16, 27, 2):
        zeros = bytes(1 << power)
        wide = storage(length=b"I%d\n" % (len(zeros) // 4))
        yield (
            f"deflated-storage-{power}.pth",
            as_zip(state(tensor(wide, size=numbers([1 << (power - 2)]))), [("0", zeros)], stored=False),
        )
        inside = b"(B" + struct.pack("<I", len(zeros)) + zeros + b"t."
        yield f"deflated-pickle-{power}.pth", as_zip(inside, stored=False)
    plain = as_zip(state(tensor()), TEN)
    for field, width in ((14, 4), (18, 4), (22, 4), (8, 2), (6, 2), (26, 2)):  # of the local header
        for value in (0, 1, 8, 2 ** (8 * width) - 1):
            for place in [n for n in range(len(plain)) if plain.startswith(b"PK\x03\x04", n)]:
                changed = bytearray(plain)
                changed[place + field : place + field + width] = value.to_bytes(width, "little")
                yield f"local-{field}-{value}.pth", bytes(changed)
    for field, width in ((10, 2), (16, 4), (20, 4), (24, 4), (42, 4), (8, 2)):  # of the directory
        for value in (0, 1, 8, 2 ** (8 * width) - 1):
            for place in [n for n in range(len(plain)) if plain.startswith(b"PK\x01\x02", n)]:
                changed = bytearray(plain)
                changed[place + field : place + field + width] = value.to_bytes(width, "little")
                yield f"directory-{field}-{value}.pth", bytes(changed)
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"x/data/{number}", b"")
        archive.writestr("x/data.pkl", state(tensor()))
    yield "members.pth", many.getvalue()
    # Members on each other: 400 entries of the directory name one member of 4 MB.
    body = state(
        *[tensor(storage(b"V%d\n" % n, b"I1000000\n"), size=numbers([1_000_000])) for n in range(400)]
    )
    one = as_zip(body, [("0", bytes(4_000_000))])
    start = one.index(b"PK\x01\x02")
    entries = one[start : one.index(b"PK\x05\x06")]
    first, last = entries[: entries.rindex(b"PK\x01\x02")], entries[entries.rindex(b"PK\x01\x02") :]
    copies = b"".join(
        last[:28] + struct.pack("<H", len(name)) + last[30:46] + name
        for name in (f"x/data/{n}".encode() for n in range(400))
    )
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 401, 401, len(first + copies), start, 0)
    yield "overlap.pth", one[:start] + first + copies + tail


def h5(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """HDF5 files whose numbers are elsewhere, nowhere, or far more than their bytes."""
    secret = "/etc/passwd"

    def made(fill):
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            fill(file)
        return content.getvalue()

    def property_list(**chosen):
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        for name, value in chosen.items():
            getattr(made, f"set_{name}")(*value)
        return made

    def low_level(file, shape, properties, kind=h5py.h5t.NATIVE_FLOAT):
        return h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple(shape), properties)

    def virtual(source, count):
        layout = h5py.VirtualLayout((count,), "f4")
        layout[:] = h5py.VirtualSource(source, "w", shape=(count,))
        return layout

    def cycle(file):
        inner = file.create_group("a").create_group("b")
        inner["up"] = file["a"]
        file["a/w"] = np.ones(3, "f4")

    def lying(file):
        for number in range(25):
            file.create_dataset(f"w{number}", (10**6,), "f4", compression="gzip", chunks=(10**6,))[:] = 0

    yield "plain.h5", made(lambda file: file.create_dataset("w/kernel:0", data=np.ones((3, 4), "f4")))
    for number in range(20):
        size = rng.choice((16, 1000, 2800))
        offset = rng.randrange(100)
        yield (
            f"external-{number}.h5",
            made(
                lambda file, size=size, offset=offset: low_level(
                    file,
                    (size,),
                    property_list(external=(secret.encode(), offset, size)),
                    h5py.h5t.NATIVE_UINT8,
                )
            ),
        )
    for target in (secret, "other.h5", ".", "/dev/zero"):
        yield (
            "external-link.h5",
            made(lambda file, t=target: file.__setitem__("w", h5py.ExternalLink(t, "/w"))),
        )
        yield "virtual.h5", made(lambda file, t=target: file.create_virtual_dataset("w", virtual(t, 100)))
        yield (
            "virtual-fill.h5",
            made(lambda file, t=target: file.create_virtual_dataset("w", virtual(t, 10**9), fillvalue=1.0)),
        )
    for target in ("/", "/w", "/a/b/c", "../x"):
        yield "soft-link.h5", made(lambda file, t=target: file.__setitem__("w", h5py.SoftLink(t)))
    for power in (4, 10, 20, 26, 30, 34, 40):
        count = 1 << power
        yield f"unwritten-{power}.h5", made(lambda file, n=count: file.create_dataset("w", (n,), "f4"))
        yield (
            f"fill-{power}.h5",
            made(lambda file, n=count: file.create_dataset("w", (n,), "f4", fillvalue=7.0)),
        )
        chunk = min(count, 1 << 20)
        yield (
            f"chunks-{power}.h5",
            made(
                lambda file, n=count, c=chunk: file.create_dataset(
                    "w", (n,), "f4", chunks=(c,), compression="gzip"
                )
            ),
        )

        def first(file, n=count, c=chunk):
            file.create_dataset("w", (n,), "f4", chunks=(c,), compression="gzip")[: min(n, 10)] = 1

        yield f"first-{power}.h5", made(first)
    for power in (16, 20, 22, 24):
        yield (
            f"gzip-{power}.h5",
            made(
                lambda file, n=1 << power: file.create_dataset(
                    "w", data=np.zeros(n, "f4"), compression="gzip", chunks=(n,)
                )
            ),
        )
        yield (
            f"lzf-{power}.h5",
            made(
                lambda file, n=1 << power: file.create_dataset("w", data=np.zeros(n, "f4"), compression="lzf")
            ),
        )

        def wide_chunk(file, n=1 << power):
            file.create_dataset("w", (3,), "f4", maxshape=(None,), chunks=(n,), compression="gzip")[:] = 1

        yield f"wide-{power}.h5", made(wide_chunk)
    yield "cycle.h5", made(cycle)
    yield "lying.h5", made(lying)
    yield "text.h5", made(lambda file: file.create_dataset("w", data=["a", "b"], dtype=h5py.string_dtype()))
    yield (
        "compound.h5",
        made(lambda file: file.create_dataset("w", data=np.zeros(3, [("a", "f4"), ("b", "i4")]))),
    )
    yield "reference.h5", made(lambda file: file.create_dataset("w", data=[file.ref], dtype=h5py.ref_dtype))
    yield "ragged.h5", made(lambda file: file.create_dataset("w", (2,), h5py.vlen_dtype("f4")))
    yield "empty.h5", made(lambda file: file.create_dataset("w", data=h5py.Empty("f4")))
    yield "no-arrays.h5", made(lambda file: file.create_group("a"))
    yield "groups.h5", made(lambda file: [file.create_group(f"g{n}") for n in range(2000)])
    yield "deep.h5", made(lambda file: file.create_group("/".join("a" * 2000)))
    yield "zero.h5", made(lambda file: file.create_dataset("w", (0, 10**9), "f4"))
    yield "name.h5", made(lambda file: file.create_dataset("\x1b[2J" + "n" * 50_000, (5,), "f4"))


def npz(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Arrays that claim more than their bytes, or are objects."""
    claims = [
        ((1 << 40,), "<f4"), ((1 << 31, 4), "<f8"), ((0, 1 << 40), "<f4"), ((-1,), "<f4"), ((10,), "|O"),
        ((10,), "<U0"),
        ((1 << 62,), "|V0"), ((10,), "<f16"), ((10,), "nonsense"), ((2,) * 40, "<f4"), ((1.5,), "<f4"),
        ((), "<f4"),
        ((10, True), "<f4"), ((10,), "<M8[ns]"), ((10,), "|S100000000"), ((10**30,), "<f4"),
    ]  # fmt: skip
    for shape, kind in claims:
        for version in (1, 2, 3, 9):
            header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
            form = "<H" if version == 1 else "<I"
            array = b"\x93NUMPY" + bytes((version, 0)) + struct.pack(form, len(header)) + header + bytes(40)
            made = io.BytesIO()
            with zipfile.ZipFile(
                made, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            ) as archive:
                archive.writestr("w.npy", array)
            yield f"claim-v{version}.npz", made.getvalue()
    for power in (16, 20, 24, 27):
        made = io.BytesIO()
        np.savez_compressed(made, w=np.zeros(1 << power, np.uint8))
        yield f"bomb-{power}.npz", made.getvalue()
    made = io.BytesIO()
    np.savez(made, w=np.array([{"a": 1}], dtype=object))
    yield "objects.npz", made.getvalue()
    for header in (b"{" * 60_000, b"(" * 9000, b"[" * 200, b"__import__('os').system('true')", b"\xff" * 100):
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("w.npy", array)
        yield "header.npz", made.getvalue()


def safetensors(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Headers that lie."""

    def made(header, data=bytes(40), length=None):
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(header) if length is None else length) + header + data

    def one(**change):
        return {"w": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40], **change}}

    for length in (0, 1, 2**31, 2**40, 2**62, 2**64 - 1, 99_999_999):
        yield "length.safetensors", made(one(), length=length)
    for change in (
        {"shape": [2**62]}, {"shape": [2**63]}, {"shape": [2**64]}, {"shape": [-1]}, {"shape": [0, 2**62]},
        {"shape": 1},
        {"shape": [1.5]}, {"shape": [1] * 100 + [10]}, {"dtype": "F31"}, {"dtype": "BF16"}, {"dtype": 5},
        {"data_offsets": [0, 2**62]}, {"data_offsets": [40, 0]}, {"data_offsets": [1, 41]},
        {"data_offsets": [0]},
        {"data_offsets": [-8, 32]}, {"dtype": "F8_E4M3", "shape": [40]}, {"dtype": "I64", "shape": [5]},
        {"shape": []},
    ):  # fmt: skip
        yield "change.safetensors", made(one(**change))
    tensors = {f"w{n}": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]} for n in range(1000)}
    yield "overlap.safetensors", made(tensors)
    yield "deep.safetensors", made(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "lists.safetensors", made(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    yield (
        "twice.safetensors",
        made(b'{"w":{"dtype":"F32","shape":[10],"data_offsets":[0,40]},' * 2 + b'"z":1}'),
    )
    yield "metadata.safetensors", made({"__metadata__": {"a": "b" * 10**6}, **one()})
    yield "no-json.safetensors", made(b"\xff\xfe" * 40)
    yield "names.safetensors", made({"\x1b[2J" + "n" * 10**5: one()["w"]})


def hostile(seed: int, most: int = 1 << 40) -> Iterator[tuple[str, str, bytes]]:
    """Yield (kind, name, bytes) of every file of at most so many bytes.

    The seed chooses where things stand in the files and what they ask for.
    """
    count = itertools.count()
    for make in (code, pickles, tensors, zips, h5, npz, safetensors):
        for name, content in make(random.Random(f"{seed} {make.__name__}")):
            if len(content) <= most:
                yield f"hostile {make.__name__}", f"weights-{next(count)}-{name}", content


def honest() -> dict[str, bytes]:
    """Small files of weights of every format, to be damaged."""
    files = {name: (FIXTURES / name).read_bytes() for name in ("small.pth", "legacy.pth", "checkpoint.pth")}
    rng = np.random.default_rng(0)
    arrays = {"a/kernel:0": rng.normal(size=(3, 4)).astype("f4"), "b": rng.normal(size=300).astype("f2")}
    for name, options in (
        ("plain.h5", {}),
        ("gzip.h5", {"compression": "gzip", "chunks": True, "shuffle": True}),
    ):
        made = io.BytesIO()
        with h5py.File(made, "w", libver=rng.choice(("earliest", "latest"))) as file:
            for key, value in arrays.items():
                file.create_dataset(key, data=value, **options)
            file.attrs["layer_names"] = ["a", "b"]
        files[name] = made.getvalue()
    for name, write in (("stored.npz", np.savez), ("deflated.npz", np.savez_compressed)):
        made = io.BytesIO()
        write(made, **arrays)
        files[name] = made.getvalue()
    from safetensors.numpy import save

    files["plain.safetensors"] = save(arrays)
    return files
