"""The digest of a file of weights, whatever it says about itself."""

import hashlib
from pathlib import Path

IN_TORCH = {"format": "pt"}  # what transformers and others want a file of a network's weights to say
LARGEST_HEADER = 1 << 24  # bytes


def digest_of_tensors(path: Path) -> str | None:
    """SHA-256 of a file that says IN_TORCH as it would be without: so files were before they said it, and what stands
    in identities is to stay the same. None for any other file.
    """
    said = b'{"__metadata__":{"format":"pt"},'
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER or not (header := file.read(length)).startswith(said):
            return None
        plain = b"{" + header[len(said) :].rstrip(b" ")
        plain += b" " * (-len(plain) % 8)
        sha = hashlib.sha256(len(plain).to_bytes(8, "little") + plain)
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()
