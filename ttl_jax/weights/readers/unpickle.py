"""A reader of pickles that runs nothing: it knows the opcodes of plain data, and builds nothing else.

Python's own unpickler, however its classes are restricted, hashes any key, keeps a memo of any length and
writes into what it has found. Here a class is a name, a call is the caller's decision, and an opcode costs
time and memory in proportion to its bytes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

MAX_OPCODES = 2_000_000  # some 50 for a tensor of a checkpoint with its optimizer's state
MAX_INTEGER = 2**127
MARK = object()  # on the stack: the place where a list of items begins


@dataclass(frozen=True)
class Name:
    """A class or function that the file names; it is never looked up.

    Attributes:
        module: Its module.
        name: Its name there.
    """

    module: str
    name: str

    def __str__(self) -> str:
        """The dotted name, printable and of at most 100 characters."""
        return ascii(f"{self.module}.{self.name}"[:100])[1:-1]


class Other:
    """A value that weights do not need, such as a set; what is put into it is dropped."""


@dataclass
class Unpickler:
    """The state of reading one pickle.

    Attributes:
        named: Returns the value that stands for a class or function.
        call: Returns what such a value makes of its arguments.
        saved: Returns the value of a persistent id.
    """

    named: Callable[[Name], Any]
    call: Callable[[Any, Any], Any]
    saved: Callable[[Any], Any]
    stack: list[Any] = field(default_factory=list)
    memo: list[Any] = field(default_factory=list)

    def load(self, file: IO[bytes]) -> Any:
        """Read a pickle of dictionaries, lists, tuples, numbers, text and bytes; stay behind its end.

        Returns:
            The value. A dictionary's keys are text, integers too: a hostile file's may all have one hash.

        Raises:
            ValueError: an opcode that plain data have no use for, a key that is neither text nor an integer,
                more than `MAX_OPCODES`, or a damaged file.
        """
        for count, (opcode, value, _) in enumerate(pickletools.genops(file)):
            if opcode.name == "STOP":
                return self.stack.pop()
            if count >= MAX_OPCODES:
                raise ValueError(f"its pickle has more than {MAX_OPCODES} steps")
            if opcode.name not in _STEPS:
                raise ValueError(f"its pickle uses {opcode.name}, for which plain data have no use")
            _STEPS[opcode.name](self, value)
        raise ValueError("its pickle has no end")

    def push(self, value: Any) -> None:
        """Put a number, text or bytes on the stack."""
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise ValueError("its pickle holds a number of more than 127 bits")
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        """Take the last items off the stack, first one first."""
        items = self.stack[-count:] if count else []
        if len(items) < count:
            raise ValueError("its pickle takes what is not there")
        del self.stack[len(self.stack) - count :]
        return items

    def pop_to_mark(self) -> list[Any]:
        """Take the items behind the last mark off the stack, and the mark."""
        count = 0
        while self.stack[-1 - count] is not MARK:
            count += 1
        return self.pop(count + 1)[1:]

    def remember(self, index: int) -> None:
        """Number the top of the stack. Pickles count from 0 or from 1: a jump would ask for memory."""
        if not 0 <= index <= len(self.memo) + 1:
            raise ValueError(f"its pickle numbers a value {index} after {len(self.memo)} values")
        self.memo += [None] * (index + 1 - len(self.memo))
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        """Put a numbered value on the stack again."""
        self.stack.append(self.memo[index])

    def extend(self, items: list[Any]) -> None:
        """Add items to the list on the stack."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Other):
            raise ValueError("its pickle adds items to what is no list")

    def set_items(self, items: list[Any]) -> None:
        """Set keys and values, in turn, of the dictionary on the stack."""
        target = self.stack[-1]
        if isinstance(target, Other):
            return
        if not isinstance(target, dict):
            raise ValueError("its pickle sets keys of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing may take for ever: 30 tuples, each of the one before twice, are 365 bytes.
            if not isinstance(key, str | int):
                raise ValueError(f"its pickle has a {type(key).__name__} for a key, not text or an integer")
            target[str(key)] = value

    def dictionary(self, _: Any) -> None:
        """Make a dictionary of the items behind the mark."""
        items = self.pop_to_mark()
        self.stack.append({})
        self.set_items(items)

    def frozen_set(self, _: Any) -> None:
        """Make a set of the items behind the mark."""
        self.pop_to_mark()
        self.stack.append(Other())

    def name(self, written: str | None) -> None:
        """Name a class, by its argument ("module name") or by two texts on the stack."""
        parts = written.split(" ", 1) if written else self.pop(2)
        if not all(isinstance(part, str) for part in parts):
            raise ValueError("its pickle names a class by what is no text")
        self.stack.append(self.named(Name(*parts)))

    def reduce(self, _: Any) -> None:
        """Call what was named."""
        self.stack.append(self.call(*self.pop(2)))


_STEPS: dict[str, Callable[[Unpickler, Any], Any]] = {
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
         "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
         "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        Unpickler.push,
    ),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Unpickler.remember),
    "MEMOIZE": lambda self, _: self.remember(len(self.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Unpickler.recall),
    **dict.fromkeys(("PROTO", "FRAME"), lambda self, _: None),
    "NONE": lambda self, _: self.stack.append(None),
    "NEWTRUE": lambda self, _: self.stack.append(True),
    "NEWFALSE": lambda self, _: self.stack.append(False),
    "MARK": lambda self, _: self.stack.append(MARK),
    "EMPTY_DICT": lambda self, _: self.stack.append({}),
    "EMPTY_LIST": lambda self, _: self.stack.append([]),
    "EMPTY_SET": lambda self, _: self.stack.append(Other()),
    "EMPTY_TUPLE": lambda self, _: self.stack.append(()),
    "TUPLE1": lambda self, _: self.stack.append(tuple(self.pop(1))),
    "TUPLE2": lambda self, _: self.stack.append(tuple(self.pop(2))),
    "TUPLE3": lambda self, _: self.stack.append(tuple(self.pop(3))),
    "TUPLE": lambda self, _: self.stack.append(tuple(self.pop_to_mark())),
    "LIST": lambda self, _: self.stack.append(self.pop_to_mark()),
    "DICT": Unpickler.dictionary,
    "FROZENSET": Unpickler.frozen_set,
    "APPEND": lambda self, _: self.extend(self.pop(1)),
    "APPENDS": lambda self, _: self.extend(self.pop_to_mark()),
    "ADDITEMS": lambda self, _: self.extend(self.pop_to_mark()),
    "SETITEM": lambda self, _: self.set_items(self.pop(2)),
    "SETITEMS": lambda self, _: self.set_items(self.pop_to_mark()),
    "GLOBAL": Unpickler.name,
    "STACK_GLOBAL": Unpickler.name,
    "REDUCE": Unpickler.reduce,
    "NEWOBJ": Unpickler.reduce,
    "BUILD": lambda self, _: self.pop(1),  # attributes, as of an OrderedDict or a parameter: none is needed
    "BINPERSID": lambda self, _: self.stack.append(self.saved(self.pop(1)[0])),
}  # fmt: skip
