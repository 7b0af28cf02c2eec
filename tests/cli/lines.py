"""Lines as a person types them."""

import shlex


def split(line: str) -> list[str]:
    """The words of a shell's line; brackets with blanks in them stay apart, as in a shell."""
    return shlex.split(line)
