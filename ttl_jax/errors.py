"""The one exception that means "the user must change something", and what others say in its words."""

from __future__ import annotations

import errno
import os
import re

LONGEST = 200  # characters of a word, or of quoted text, in a message
WHOLE = 1500  # of a message
CHOICES, SHOWN = 1000, 60  # that a misspelt word is compared with, and that a message names
_LONG = re.compile(  # in quotes, or a word; longer than LONGEST
    r"""(?<!\w)'(?:[^'\\]|\\.){200,}'(?!\w)|"(?:[^"\\]|\\.){200,}"|\S{201,}"""
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
_NUMBERS = (*_FULL, *_FORBIDDEN, *_MANY_OPEN, errno.ENOTDIR)
_TOLD = re.compile("(" + "|".join(re.escape(os.strerror(each)) for each in _NUMBERS) + ")")


class UserError(Exception):
    """A fault in a config, a file or a command that the user can mend.

    The message is one clear sentence: what is wrong, where (file, row, key) and how to mend it.
    The command line prints it without a traceback and exits with status 2. What the user typed stands in
    it as `readable` makes it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(readable(message))


class FaultsFoundError(Exception):
    """A check was made, and found what it looks for: exit status 1."""


def readable(text: str) -> str:
    """Text fit for a terminal or a log: control characters escaped, long words and quotations cut."""
    return _cut(escaped(_LONG.sub(lambda found: _cut(found[0], LONGEST), text)), WHOLE)


def escaped(text: str) -> str:
    """Text without control characters: all but the ends of lines stand as \\x1b and so on."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 3]}...{text[-end:]}"


def system_error(error: BaseException | None) -> OSError | None:
    """The OSError that an exception is, or that a library tells of in words or as a cause of its own."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        if found := _TOLD.search(str(error)):
            number = next(each for each in _NUMBERS if os.strerror(each) == found[1])
            return OSError(number, found[1])
        error = error.__cause__
    return None


def of_system(error: OSError, where: str = "") -> UserError:
    """Put an error of the system into a sentence that names the place and the remedy.

    Args:
        error: the error.
        where: the place, for an error that does not name it.
    """
    place = str(error.filename2 or error.filename or where or "the output")
    if error.errno in _FULL:
        why, remedy = "there is no room left", "free some, or name a folder on another disk"
    elif error.errno in _FORBIDDEN:
        why, remedy = "it may not be read or written", "change its rights, or name another folder"
    elif error.errno in _IN_THE_WAY:
        why, remedy = "a file stands where a folder is wanted, or the reverse", "name another folder"
    elif error.errno == errno.ENAMETOOLONG:
        why, remedy = "the name is too long", "name a shorter one"
    elif error.errno == errno.ENOENT:
        why, remedy = "it does not exist", "check the path"
    elif error.errno in _MANY_OPEN:
        why, remedy = "too many files are open", "raise the limit (ulimit -n)"
    else:
        why = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
        remedy = "check the disk and the path"
    return UserError(f"{place} cannot be used: {why}; {remedy}")


def nearest(word: str, choices: tuple[str, ...]) -> str:
    """Returns a hint ` (did you mean 'x'?)` for a misspelt word, or the choices if none is close."""
    import difflib

    close = difflib.get_close_matches(word[:LONGEST], choices[:CHOICES], n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    more = f" and {len(choices) - SHOWN:,} more" if len(choices) > SHOWN else ""
    return f" (choose from: {', '.join(choices[:SHOWN])}{more})"
