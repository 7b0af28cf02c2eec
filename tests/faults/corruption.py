"""300 random harms to the files of a finished run: each must be refused by name, and mended by rebuild=true.

    python tests/faults/corruption.py [trials]

prints one line of a Markdown table. A harm flips bits of one byte, cuts a tail off or removes a file of a teacher, its
soft targets, a student or a baseline; half of the harmed artifacts are looked for in the store, the others opened by
their path. Every twentieth trial runs the whole command, without and with rebuild=true.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from running import TINY, harm, inside

from kd_cli.errors import ArtifactError
from kd_cli.store.artifacts import Store, open_artifact, read_artifact


def main(trials: int) -> None:
    draw, started, seen, mended = random.Random(0), time.perf_counter(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        assert inside("distill", *TINY, cwd=here).status == 0
        root = here / "outputs"
        folders = sorted(path.parent for path in root.glob("*/*/manifest.json"))
        manifests = {folder: read_artifact(folder).manifest for folder in folders}
        files = [path for folder in manifests for path in sorted(folder.iterdir())]
        store = Store(root)
        for trial in range(trials):
            path = files[trial % len(files)]
            about, content = manifests[path.parent], path.read_bytes()
            kind = harm(path, draw)
            seen[kind] += 1
            with pytest.raises(ArtifactError) as refusal:
                store.find(about["kind"], about["identity"]) if trial % 2 else open_artifact(path.parent)
            assert path.name in str(refusal.value), (trial, kind, path)
            if trial % 20 == 0:
                refused = inside("distill", *TINY, cwd=here)
                assert (refused.status, refused.out, "Traceback" in refused.err) == (1, "", False), refused.err
                assert str(path.parent) in refused.err, refused.err
                assert path.name in refused.err, refused.err
                assert "rebuild=true" in refused.err, refused.err
                anew = inside("distill", *TINY, "rebuild=true", cwd=here)
                assert anew.status == 0, anew.err
                assert open_artifact(path.parent).manifest["identity"] == about["identity"]
                mended += 1
                manifests[path.parent] = read_artifact(path.parent).manifest
            else:
                path.write_bytes(content)
    harms = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))
    took = time.perf_counter() - started
    print("| what | trials | outcome | time |\n|---|---|---|---|")
    print(
        f"| corruption | {trials} trials over {len(files)} files of {len(manifests)} artifacts ({harms}) | "
        f"0 unnoticed, 0 tracebacks, {mended} of {mended} mended by rebuild=true | {took:.0f} s |"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
