"""What a person can type or a disk can do to a file, as Hypothesis strategies, and what must hold of any of it."""

import gzip
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import strategies as st
from PIL import Image
from running import Outcome, inside

from kd_cli.cli import schema
from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.spelling import spelt
from kd_cli.datasets.image_folder import image_folder
from kd_cli.datasets.mnist import mnist
from kd_cli.errors import KdError

GROUPS = ("dataset", "teacher", "student", "objective", "experiment", "model@student.model", "model@teacher.model",
          "augment@transfer.augment", "optimizer@student.train.optimizer", "scheduler@teacher.train.scheduler",
          "hydra/launcher", "hydra/sweeper", "hydra/output", "hydra")  # fmt: skip
KEYS = ("temperature", "soft_weight", "hard_weight", "seed", "baseline", "device", "compile", "precision", "output_dir",
        "trusted_modules", "sweep", "sweep.name", "resume", "targets", "targets.dtype", "targets.top_k",
        "targets.temperatures", "transfer", "transfer.labels", "transfer.views", "transfer.seed", "transfer.augment",
        "student.model", "student.model.widths", "student.train", "student.train.epochs", "student.train.optimizer.lr",
        "student.model._target_", "teacher.seed", "teacher.train.batch_size", "dataset.validation", "dataset.root",
        "dataset._target_", "objective._target_")  # fmt: skip
ODD = ("", "0", "-1", "1e400", "-1e-400", "nan", "inf", "9" * 400, "0x10", "1_000", "true", "null", "None", "???",
       "[]", "{}", "[1,", "{a:1", "{a:{b:[1,{c:2}]}}", "[[[[]]]]", "''", "'", '"', '"a', "\\", "a b", "a,b", "4,4.0",
       "range(3)", "range(1000000000)", "choice(1,2)", "glob(*)", "interval(0,1)", "int(x)", "str(1)", "float(a)",
       "shuffle([1,2])", "sort(3,1)", "extend_list(1)", "${seed}", "${nope}", "${temperature}", "${", "}", "$", "${}",
       "${oc.env:NOPE}", "${oc.env:HOME}", "${oc.eval:1}", "${kd_hex:}", "${kd_job:1}", "${now:%Y}", "${hydra:run.dir}",
       "${.}", "${..seed}", "${seed}${seed}",
       "é", "日本語", "💥", "\u202e", "\u0000", "\ud800", "\n", "a\nb", "\t", "#", "=", "==",
       "a=b", "/", "../..", "~", "@", "!", "%", "%s", "{}{}", "-", "--", "*", "x" * 5000, "[" * 60 + "]" * 60,
       "mlp_64", "mlp_1200", "digits", "mnist", "teacher/mlp_1200", "[mlp_64,mlp_30]", "basic", "kd", "none", "cpu",
       "cuda", "16-mixed", "torch.nn.Linear", "os.system", "kd_cli.nope")  # fmt: skip

real = st.sampled_from(KEYS + GROUPS)
keys = st.one_of(real, real, real, real, st.builds("{}.{}".format, real, st.text(max_size=6)), st.text(max_size=12))
odd = st.sampled_from(ODD)
plausible = st.one_of(st.integers(-2, 20).map(str), st.floats(-1, 50).map(str))
values = st.one_of(odd, odd, plausible, plausible, st.text(max_size=20), st.integers().map(str), st.floats().map(str),
                   st.lists(odd, max_size=3).map(",".join))  # fmt: skip
signs, equals = st.sampled_from(["", "", "", "", "+", "++", "~"]), st.sampled_from(["=", "=", "=", "=", "", "=="])
overrides = st.builds("{}{}{}{}".format, signs, keys, equals, values).filter(lambda word: not word.startswith("-"))
command_lines = st.lists(overrides, min_size=1, max_size=2)


def config_of(words: list[str], folder: Path) -> str:
    """Composes and checks `kd distill <words>`: a config or one message, or else an AssertionError. Returns which."""
    done = inside("distill", "--cfg", "job", *words, cwd=folder)
    clean(done)
    assert list(folder.iterdir()) == [], "showing a config makes no file"
    if done.status:
        return "refused"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS.absolute()), version_base="1.3"):
        try:
            typed = [w for word in words for w in spelt(word)]  # as kd hands them to Hydra
            schema.check("distill", compose("distill", overrides=[w for w in typed if "=" in w or w.startswith("~")]))
        except KdError:
            return "refused by its schema"
    return "accepted"


def clean(done: Outcome) -> None:
    """One message without a traceback, or none and status 0."""
    told = done.err.strip()
    assert "Traceback" not in told, told
    assert "hydra.cc" not in told, told
    assert "HYDRA_FULL_ERROR" not in told, told
    assert done.status in (0, 1, 2), done
    assert done.status == 0 or told, "a refusal says why"
    assert done.status == 0 or len(told.splitlines()) <= 10, told


damages = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("flip"), st.floats(0, 1)),
    st.tuples(st.just("put"), st.binary(max_size=30)),
    st.tuples(st.just("head"), st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("gone"), st.none()),
    st.tuples(st.just("folder"), st.none()),
    st.tuples(st.just("put"), st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(
        inner, max_size=3) | st.dictionaries(st.sampled_from(["files", "classes", "model", "status", "bytes", "sha256",
                                                              "identity", "_target_", "logits"]), inner),
        max_leaves=8).map(lambda value: json.dumps(value).encode())),
)  # fmt: skip


def damage(path: Path, how: str, what: object) -> None:
    """Does to a file what a crash, a bad disk or a careless hand does."""
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: int(len(content) * what)])  # type: ignore[operator]
    elif how == "flip" and content:
        at = min(int(len(content) * what), len(content) - 1)  # type: ignore[operator]
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    elif how == "put":
        path.write_bytes(what)  # type: ignore[arg-type]
    elif how == "head":
        path.write_bytes(what + content[len(what) :])  # type: ignore[operator,arg-type]
    elif how in ("gone", "folder"):
        path.unlink()
        if how == "folder":
            path.mkdir()


def idx_file(path: Path, *shape: int) -> None:
    """An IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    path.write_bytes(header + bytes(k % 10 for k in range(math.prod(shape))))


def mnist_files(root: Path, packed: bool) -> list[Path]:
    """A tiny MNIST."""
    for part, n in (("train", 20), ("t10k", 10)):
        idx_file(root / f"{part}-images-idx3-ubyte", n, 4, 4)
        idx_file(root / f"{part}-labels-idx1-ubyte", n)
    if packed:
        for path in list(root.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
            path.unlink()
    return sorted(root.iterdir())


def image_files(root: Path) -> list[Path]:
    """A tiny folder of images, PNG and JPEG."""
    for k, name in enumerate(("train/a/0.png", "train/b/1.jpg", "test/a/2.jpg", "test/b/3.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (7, 6), (40 * k, 9, 200)).save(root / name)
    return sorted(path for path in root.rglob("*") if path.is_file())


def data_of(kind: str, which: int, how: str, what: object, root: Path) -> str:
    """Reads a data set, one of whose files is damaged: a data set, or one KdError."""
    files = image_files(root) if kind == "folder" else mnist_files(root, packed=kind == "gzipped")
    damage(files[which % len(files)], how, what)
    try:
        if kind == "folder":
            image_folder(str(root), size=6, workers=0)
        else:
            mnist(str(root), download=False)
    except KdError:
        return "refused"
    return "accepted"


def artifact_of(made: Path, which: int, how: str, what: object, root: Path, words: Sequence[str]) -> str:
    """Runs `kd evaluate` and `kd distill <words>` on a copy of what was made, one of whose files is damaged.

    Once the damaged artifact is removed, the same command must complete.
    """
    shutil.copytree(made / "outputs", root / "outputs", ignore=shutil.ignore_patterns("runs", ".locks"))
    files = sorted(path for path in (root / "outputs").rglob("*") if path.is_file())
    broken = files[which % len(files)]
    damage(broken, how, what)
    if broken.parent.parent.name in ("students", "teachers"):
        clean(inside("evaluate", f"path={broken.parent}", "format=json", cwd=root))
    done = inside("distill", *words, cwd=root)
    clean(done)
    if done.status == 0:
        return "accepted"
    shutil.rmtree(broken.parent)
    again = inside("distill", *words, cwd=root)
    assert again.status == 0, again.err
    return "refused"
