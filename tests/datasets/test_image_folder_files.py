"""What is found in a folder of images: undecodable files, links, hidden files, what may not be read."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from image_files import draw, load_folder
from PIL import Image

from kd_cli.datasets.cifar import cifar10, cifar100
from kd_cli.datasets.image_folder import image_folder
from kd_cli.datasets.mnist import fashion_mnist, mnist
from kd_cli.errors import DataError


def test_undecodable_images_are_all_listed_by_path(tree):
    whole_file = (tree / "train/cat/a.png").read_bytes()
    (tree / "train/cat/a.png").write_bytes(whole_file[: len(whole_file) // 2])
    (tree / "test/dog/text.png").write_text("this is no image")
    (tree / "test/cat/empty.jpg").write_bytes(b"")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    first, *lines = str(refusal.value).splitlines()
    assert first == "3 image(s) cannot be decoded; mend or remove them:"
    paths = [tree / "train/cat/a.png", tree / "test/cat/empty.jpg", tree / "test/dog/text.png"]
    assert [line.partition(": ")[0].strip() for line in lines] == [str(path) for path in paths]


def test_an_image_with_damaged_exif_is_listed_too(tree):
    path = tree / "train/cat/turned.jpg"
    Image.new("RGB", (8, 8)).save(path)
    entries = struct.pack("<HHI4s", 0x0112, 3, 1, b"\6\0\0\0") + struct.pack("<HHI4s", 0x0128, 2, 1, b"A\0\0\0")
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + bytes(4)  # a unit that is a letter
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert f"\n  {path}: " in str(refusal.value)


@pytest.mark.parametrize("name", ["test/bird/x.png", "test/loose.png", "train/loose.png", "transfer/bird/x.png"])
def test_an_image_in_no_class_of_the_training_split_is_refused(tree, name):
    path = draw(tree / name, 1)
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    hint = " Without labels nothing can be tested on: rename test/ to transfer/, and dataset.test=0.2 sets some apart."
    expected = f"{path} is in no class of {tree / 'train'} (cat, dog)."
    assert str(refusal.value) == expected + hint * (name == "test/loose.png")


def test_a_class_folder_may_be_a_link_and_links_may_lead_back(tree):
    (tree / "train" / "cat").rename(tree / "cats")
    (tree / "train" / "cat").symlink_to(tree / "cats", target_is_directory=True)
    (tree / "cats" / "again").symlink_to(tree / "cats", target_is_directory=True)
    (tree / "cats" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "train" / "dog" / "linked.png").symlink_to(tree / "cats" / "a.png")
    listed = [name.removeprefix("train/") for name in load_folder(tree, duplicates="allow").train.samples.names]
    cats = [name for name in listed if name.startswith("cat/") and "up" not in name]
    assert cats == ["cat/a.png", "cat/b.png"], "each real folder once"
    assert "dog/linked.png" in listed


HIDDEN = ["._a.png", ".hidden/x.png", "__MACOSX/x.png", "@eaDir/x.png", ".ipynb_checkpoints/x.png", "Thumbs.db"]


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("where", ["train", "train/cat", "test/dog", "transfer", "."])
def test_what_systems_and_tools_leave_is_nobodys(tree, where, name, caplog):
    draw(tree / "transfer/loose.png", 33)
    first = load_folder(tree)
    (tree / where / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / where / name).write_bytes(b"whatever")
    caplog.clear()
    second = load_folder(tree)
    assert (second.classes, second.fingerprint) == (first.classes, first.fingerprint)
    assert name not in caplog.text


def test_a_class_without_images_is_refused_by_name(tree):
    for name in ("fox", "yak", "__pycache__"):
        (tree / "train" / name).mkdir()
    (tree / "train/yak/photo.psd").write_bytes(b"x")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    start, _, end = str(refusal.value).partition(" (")
    assert start == f"{tree / 'train'} must hold images"
    assert end.endswith(") of every class, got none of: fox, yak. Fill these folders, or remove them.")


def test_a_class_without_test_images_is_told(tree, caplog):
    load_folder(tree)
    assert "holds no images of" not in caplog.text
    (tree / "test/dog/e.bmp").unlink()
    load_folder(tree)
    assert f"{tree / 'test'} holds no images of: dog" in caplog.text


def test_a_link_to_nowhere_and_a_pipe_are_listed(tree):
    (tree / "train/cat/gone.png").symlink_to(tree / "nowhere.png")
    os.mkfifo(tree / "train/dog/pipe.png")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == (
        "2 image(s) cannot be decoded; mend or remove them:\n"
        f"  {tree}/train/cat/gone.png: cannot be read (No such file or directory)\n"
        f"  {tree}/train/dog/pipe.png: no plain file"
    )


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".pbm", ".PNM"])
def test_the_less_common_names_of_images(tree, suffix):
    image = Image.fromarray(np.random.default_rng(5).integers(0, 256, (9, 9), dtype=np.uint8))
    image.save(tree / f"train/cat/z{suffix}", "JPEG" if suffix.lower().startswith(".j") else "PPM")
    assert [Path(path).name for path in load_folder(tree).train.samples.paths][2] == f"z{suffix}"


def test_files_that_are_no_images_are_told(tree, caplog):
    for name in ("train/dog/x.psd", "test/cat/y", "train/read me.md"):
        (tree / name).write_bytes(b"x")
    load_folder(tree)
    told = ", ".join(str(tree / name) for name in ("train/cat/notes.txt", "train/dog/x.psd", "train/read me.md"))
    assert f"4 file(s) below {tree} are no images by their names and are left out: {told}" in caplog.text


def test_folders_and_files_that_may_not_be_read_are_named(tree, unprivileged):
    tree.chmod(0o755)
    (tree / "train/cat/a.png").chmod(0)
    with unprivileged(tree), pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == (
        "1 image(s) cannot be decoded; mend or remove them:\n"
        f"  {tree}/train/cat/a.png: cannot be read (Permission denied)"
    )
    (tree / "train/dog/deep").chmod(0)
    with unprivileged(tree), pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == f"1 folder(s) cannot be read:\n  {tree}/train/dog/deep: Permission denied"
    (tree / "train").chmod(0)
    with unprivileged(tree), pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == f"{tree}/train cannot be read: Permission denied."
    (tree / "train").chmod(0o444)  # its names can be listed, and nothing in it can be entered
    with unprivileged(tree), pytest.raises(DataError, match=rf"^{tree}/train/cat cannot be read: Permission denied\.$"):
        load_folder(tree)


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10, cifar100, image_folder])
def test_a_root_that_may_not_be_entered_is_named(tmp_path, load, unprivileged):
    (tmp_path / "closed").mkdir(mode=0)
    with (
        unprivileged(tmp_path),
        pytest.raises(DataError, match=rf"^{tmp_path}/closed(/.*)? cannot be read: Permission denied\.$"),
    ):
        load(str(tmp_path / "closed"))


def test_links_that_lead_nowhere_are_refused(tree):
    (tree / "train" / "dog" / "more").symlink_to(tree / "unmounted")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == f"1 link(s) lead nowhere; mend or remove them:\n  {tree}/train/dog/more"
    (tree / "train" / "dog" / "more").rename(tree / "train" / "fox")
    with pytest.raises(DataError, match=rf"^1 link\(s\) lead nowhere; mend or remove them:\n  {tree}/train/fox$"):
        load_folder(tree)
