"""Names of files and folders that mean something to Hydra: kd quotes them for it."""

from pathlib import Path

import pytest

from kd_cli.cli.spelling import gathered, spelt
from kd_cli.cli.typed import swept, unreadable

NAMES = (
    "epoch=4-step=90.ckpt", "data (1)", "a[1].pt", "{b}.pt", "[c] d.pt", "it's e.pt", '"f".pt', "g#h.pt", "i&j.pt",
    "k,l.pt", "${m}.pt", "null", "1e3", "\u00fcn\u00ef.pt", "choice(1)", "a\\\\b.pt", "'n'", "o~p", "q;r$s",
)  # fmt: skip
KEYS = ("teacher.path", "dataset.root", "output_dir", "student.train.start_from", "+dataset.root", "images", "path")


def value_of(word: str) -> object:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_there_is_itself(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("x")
    for key in KEYS:
        (word,) = spelt(f"{key}={name}")
        assert not unreadable(word), word
        assert str(value_of(word)) == name, word


@pytest.mark.parametrize("name", ["[o] {p}", "{q}(r)", "s (t)", "u=v"])
def test_a_folder_that_is_to_be_made_may_have_any_name(name: str) -> None:
    assert str(value_of(spelt(f"output_dir={name}")[0])) == name


def test_what_is_no_name_stays_what_it_is() -> None:
    for word in ("teacher.path=a,b", "dataset.root=${oc.env:HOME}", "teacher.path='a b'", "images=[a.png]"):
        assert spelt(word) == [word]
    for word in ("transfer.labels=0.1", "transfer.labels=none", "teacher.classes=[a,b]", "teacher.model.weights=null"):
        assert spelt(word) == [word]
    assert swept("teacher.path=a,b") == ["a", "b"]
    assert spelt("images=a (1).png,b.png") == ["images=['a (1).png','b.png']"]
    assert spelt("images=[a (1).png,b=c.png]") == ["images=['a (1).png','b=c.png']"]


def test_files_behind_the_words_of_predict_are_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b (1).png", "x=y.png"):
        Path(name).write_text("x")
    words = ["path=run", "a.png", "b (1).png", "x=y.png", "format=json"]
    assert gathered("predict", words) == ["path=run", "format=json", "images=['a.png','b (1).png','x=y.png']"]
    for left in (["a.png"], ["path=run", "images=c.png", "a.png"], ["path=run", "missing.png"]):
        assert gathered("predict", left) == left
    assert gathered("evaluate", words) == words
