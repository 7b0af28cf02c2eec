"""How files lie in folders as people have them, and what that says: which split and which class each file is of.

`train/<class>/…` with `test/`, `validation/` and `transfer/` beside, under the names in use for them; the classes
straight below the root; or any files whose class a table or a pattern says. Files are known by the endings of their
names, so that images and sounds are laid out alike.
"""

import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kd_cli.data.folder import files_below, visible
from kd_cli.data.samples import UNLABELLED
from kd_cli.data.splits import same_form
from kd_cli.errors import DataError, Phrase
from kd_cli.screen import as_utf8

PARTS = ("train", "validation", "transfer", "test")
NAMES = re.compile(
    r"(?:(?P<train>train|training)|(?P<validation>val|valid|validation|dev)|(?P<test>test|testing)"
    r"|(?P<transfer>transfer))(?:[ _.-]?(?:set|data|split|images|files))?",
    re.IGNORECASE,
)
DEEPEST = 5  # folders that hold nothing but one folder, as archives unpack
SHOWN = 10  # names in a message
ROOT = ".dataset.root"
CLASS_EACH = "Lay it out as train/<class>/<{noun}> or <class>/<{noun}>, or give another {{}}=<folder>."


class File(NamedTuple):
    """A file, by its path below the root with `/`, and the number of its class, −1 where it has none."""

    path: Path
    name: str
    label: int


@dataclass(frozen=True)
class Kind:
    """What files are looked for: what a message calls them, and the endings of their names, as in `.png`."""

    noun: str
    endings: frozenset[str]

    @property
    def shown(self) -> str:
        """As a message names them."""
        return f"{self.noun}s ({', '.join(sorted(self.endings))})"


@dataclass
class Layout:
    """The classes, and the files of each part that was found; `train` is never missing. `places` are the parts'
    folders, `others` the files that are not of the kind, `beside` what else lies in the root, and is not used.
    """

    root: Path
    classes: list[str]
    parts: dict[str, list[File]]
    places: dict[str, Path] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def without_class(self, part: str) -> list[str]:
        """Return the names of the classes that a part has no file of."""
        filled = {file.label for file in self.parts[part]}
        return [name for number, name in enumerate(self.classes) if number not in filled]


def part_of(name: str) -> str | None:
    """Return the part of a data set that a name like `Train`, `val` or `test_set` is in use for, None for others."""
    found = NAMES.fullmatch(name.strip())
    return next(part for part, text in found.groupdict().items() if text) if found else None


def lay_out(root: str, kind: Kind) -> Layout:
    """Return what lies below `root`, its folders naming parts and classes. DataError for what has no such order."""
    base = _base(root, kind)
    places = part_folders(base)
    layout = Layout(Path(root), [], {}, places)
    if "train" not in places and (given := [part for part in ("validation", "test") if part in places]):
        got = Phrase(f"{root!r}, where there is {places[given[0]].name}/ and no train/")
        hint = CLASS_EACH.format(noun=kind.noun)
        raise DataError.must(ROOT, f"a folder of {kind.noun}s", got, hint, ROOT)
    train = places.get("train", base)
    taken = {_first_below(base, place) for place in places.values()}
    straight = train == base
    skipped: Set[str] = taken if straight else frozenset()
    folders = [name for name in visible(train) if (train / name).is_dir() and name not in skipped]
    if not folders:
        raise _no_classes(train)
    layout.classes += _classes(train, folders)
    if straight:
        layout.parts["train"] = _files(layout, "train", base, kind, skipped)
    else:
        layout.beside += [name + "/" * (base / name).is_dir() for name in visible(base) if name not in taken]
    for part, place in places.items():
        layout.parts[part] = _files(layout, part, place, kind)
    return checked(layout, kind)


def checked(layout: Layout, kind: Kind) -> Layout:
    """Return the layout, its parts in their order; DataError where a part holds no files, or training none of some
    class.
    """
    layout.parts = {part: layout.parts[part] for part in PARTS if layout.parts.get(part) or part in layout.places}
    train = layout.places.get("train", layout.root)
    for part, files in layout.parts.items():
        if not files and part in ("train", "test"):
            raise DataError(f"{layout.places.get(part, layout.root)} holds no {kind.shown}.")
    if empty := layout.without_class("train"):
        raise DataError(
            f"{train} must hold {kind.shown} of every class, got none of: {', '.join(empty)}. Fill these folders, or "
            "remove them."
        )
    layout.parts = {part: files for part, files in layout.parts.items() if files}
    return layout


def part_folders(base: Path) -> dict[str, Path]:
    """Return the folders of the parts, by the names in use for them. DataError where two are of one part."""
    found: dict[str, Path] = {}
    for name in visible(base):
        part = part_of(name)
        if part is None or not (base / name).is_dir():
            continue
        if part in found:
            both = f"{found[part].name}/ and {name}/"
            raise DataError(f"{base} must hold one folder for each split, got {both}. Rename or remove one of them.")
        found[part] = base / name
    return {part: _inner(found[part]) for part in PARTS if part in found}


def _inner(place: Path) -> Path:
    """A part's folder, or the one of the same part that is all it holds: `test_set/test_set/`."""
    inside = visible(place)
    same = len(inside) == 1 and part_of(inside[0]) == part_of(place.name) and (place / inside[0]).is_dir()
    return place / inside[0] if same else place


def _base(root: str, kind: Kind) -> Path:
    """The folder that holds the parts or classes: `root`, or the only one in it, as archives unpack."""
    base = Path(root)
    if not base.is_dir():
        got = Phrase(f"{root!r}, which is {'no folder' if base.exists() else 'not there'}")
        raise DataError.must(ROOT, f"a folder of {kind.noun}s", got, CLASS_EACH.format(noun=kind.noun), ROOT)
    for _ in range(DEEPEST):
        inside = visible(base)
        folders = [name for name in inside if (base / name).is_dir()]
        if len(folders) != 1 or part_of(folders[0]):
            break
        if any(Path(name).suffix.lower() in kind.endings for name in inside):
            break
        base = base / folders[0]
    return base


def _first_below(base: Path, place: Path) -> str:
    return place.relative_to(base).parts[0]


def _no_classes(train: Path) -> DataError:
    tables = [name for name in visible(train) if name.lower().endswith((".csv", ".tsv", ".jsonl", ".parquet"))]
    hint = "Put each class into a folder of its own, or name a table of names and labels: {}="
    said = f"{train} must hold one folder for each class, got none."
    return DataError(said, f"{hint}{(tables or ['<file>'])[0]}.", ".dataset.labels")


def _classes(train: Path, folders: list[str]) -> list[str]:
    """The classes' names, in the one form of Unicode in which they are compared."""
    found: dict[str, str] = {}
    for name in folders:
        form = same_form(as_utf8(name))
        if form in found:
            both = f"{found[form]!a} and {name!a}"
            raise DataError(f"{train} must hold one folder for each class, got {both}, which read alike. Join them.")
        found[form] = name
    return sorted(found)


def _files(layout: Layout, part: str, folder: Path, kind: Kind, skipped: Set[str] = frozenset()) -> list[File]:
    """The files below a part's folder, sorted; those straight in `transfer/` are unlabelled. The rest is added to
    `others`.
    """
    found = []
    numbers = {name: number for number, name in enumerate(layout.classes)}
    for name in visible(folder):
        if name in skipped:
            continue
        listing = files_below(folder / name, kind.endings)
        layout.others += listing.others
        label = numbers.get(same_form(as_utf8(name))) if (folder / name).is_dir() else None
        if label is None and not (folder / name).is_dir() and part == "transfer":
            label = UNLABELLED
        if label is None and listing.wanted:
            raise _stray(listing.wanted[0], layout, part, folder)
        found += [File(path, below(layout.root, path), label) for path in listing.wanted if label is not None]
    return found


def _stray(path: Path, layout: Layout, part: str, folder: Path) -> DataError:
    train = layout.places.get("train", layout.root)
    said = f"{path} is in no class of {train} ({', '.join(layout.classes)})."
    loose = part in ("test", "validation") and path.parent == folder
    hint = f"Without labels nothing can be tested on: rename {folder.name}/ to transfer/, and {{}}=0.2 sets some apart."
    return DataError(said, hint, ".dataset.test") if loose else DataError(said)


def below(root: Path, path: Path) -> str:
    """Return a file's path below the root, with `/` on every system."""
    return path.relative_to(root).as_posix()


def laid_out_by(
    root: str, kind: Kind, class_of: Callable[[list[File]], dict[str, tuple[str, str | None]]], said: str
) -> Layout:
    """Return what lies below `root`, the class of each file by its name as `class_of` says, with its part where it says
    one: otherwise its folder's, else training. Files that it does not know are left out, and counted among `beside`.
    """
    base = _base(root, kind)
    listing = files_below(base, kind.endings)
    places = part_folders(base)
    files = [File(path, below(Path(root), path), UNLABELLED) for path in listing.wanted]
    known = class_of(files)
    classes = in_order({name for name, _ in known.values()})
    numbers = {name: number for number, name in enumerate(classes)}
    parts: dict[str, list[File]] = {"train": []}
    unknown = 0
    for file in files:
        folder = next((part for part, place in places.items() if file.path.is_relative_to(place)), "train")
        if file.name in known:
            name, part = known[file.name]
            parts.setdefault(part or folder, []).append(file._replace(label=numbers[name]))
        elif folder == "transfer":
            parts.setdefault("transfer", []).append(file)
        else:
            unknown += 1
    beside = [f"{unknown} {kind.noun}(s) {said}"] if unknown else []
    return checked(Layout(Path(root), classes, parts, {}, listing.others, beside), kind)


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Return the first of some names."""
    return between.join([*names[:SHOWN], *(["…"] if len(names) > SHOWN else [])])


def in_order(names: set[str]) -> list[str]:
    """Classes by their names; where all are whole numbers, by those."""
    numeric = all(re.fullmatch(r"-?[0-9]+", name) for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numeric else sorted(names)
