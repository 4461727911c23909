"""The one exception that means "the user must change something"."""


class UserError(Exception):
    """A fault in a config, a file or a command that the user can mend.

    The message is one clear sentence: what is wrong, where (file, row, key) and how to mend it.
    The command line prints it without a traceback and exits with status 2.
    """


def nearest(word: str, choices: tuple[str, ...]) -> str:
    """Returns a hint ` (did you mean 'x'?)` for a misspelt word, or the choices if none is close."""
    import difflib

    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (choose from: {', '.join(choices)})"
