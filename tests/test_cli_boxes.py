"""Boxes of answers: hidden in the text, placed in the person's picture, written for other programs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Bellevl
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bellevl.errors import PictureError
from bellevl.grounding import Box
from bellevl_cli.pictures import exports
from bellevl_cli.pictures.answer_boxes import answer_boxes
from bellevl_cli.pictures.asked import AskedPicture, open_asked
from bellevl_cli.pictures.boxes import BoxText, box_records, place, read_boxes
from bellevl_cli.pictures.drawing import draw_boxes
from bellevl_cli.pictures.saving import checked_target, write_whole

ANSWER = "好的，<ref>狗</ref><box>(100,200),(300,400)</box>和<ref>猫</ref><box>(500,500),(1000,1000)</box>。"


# ---- in the text


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_markup_is_hidden_while_it_streams(size: int) -> None:
    """Piece by piece the reader sees 狗[1], never a part of a tag, and the boxes are there at the end."""
    text = BoxText()
    shown = ""
    for at in range(0, len(ANSWER), size):
        shown += text.push(ANSWER[at : at + size])
        assert "<" not in shown and "(" not in shown
    shown += text.flush()
    assert shown == "好的，狗[1]和猫[2]。"
    assert [(box.label, box.norm) for box in text.boxes] == [
        ("狗", (100, 200, 300, 400)),
        ("猫", (500, 500, 1000, 1000)),
    ]


def test_raw_keeps_the_markup() -> None:
    """Raw text goes by as it is; its boxes are found all the same."""
    text = BoxText(raw=True)
    assert "".join(text.push(c) for c in ANSWER) + text.flush() == ANSWER
    assert len(text.boxes) == 2


def test_bad_boxes_are_listed() -> None:
    """A box that makes no sense is listed, cleaned of escape sequences, and does not stop the others."""
    text = read_boxes("<box>(1,2),(x,\x1b[31m4)</box><ref>a\x1b[0mb</ref><box>(1,2),(3,4)</box>")
    assert text.bad_boxes == ["<box>(1,2),(x,4)</box>"]
    assert [box.label for box in text.boxes] == ["ab"]


# ---- in the picture


def test_boxes_in_pixels_of_the_picture() -> None:
    """Thousandths become pixels of the upright picture as in the published code."""
    assert box_records(read_boxes(ANSWER).boxes, (1920, 1080)) == [
        {"label": "狗", "xyxy_px": [192, 216, 576, 432], "xyxy_1000": [100, 200, 300, 400]},
        {"label": "猫", "xyxy_px": [960, 540, 1920, 1080], "xyxy_1000": [500, 500, 1000, 1000]},
    ]


def test_boxes_of_a_piece_lie_in_the_whole() -> None:
    """Boxes of a piece are moved and scaled to where the piece was."""
    assert box_records([Box("a", (0, 0, 500, 1000))], (800, 600), (400, 300, 800, 600)) == [
        {"label": "a", "xyxy_px": [400, 300, 600, 600], "xyxy_1000": [500, 500, 750, 1000]}
    ]


thousandth = st.integers(0, 1000)


@settings(max_examples=200, deadline=None)
@given(st.tuples(thousandth, thousandth, thousandth, thousandth), st.tuples(st.integers(1, 5000), st.integers(1, 5000)))
def test_boxes_are_never_empty_or_outside(norm: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    """Whatever the model says: inside the picture, x1 < x2 and y1 < y2."""
    x1, y1, x2, y2 = place([Box("", norm)], size)[0].xyxy_px
    assert 0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]


# ---- into files


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo with a Chinese name, stored lying on its side: upright it is 40 × 60."""
    path = tmp_path / "我的 照片.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), (200, 30, 30)).save(path, exif=exif)
    return path


def test_drawn_picture_is_upright_and_whole(photo: Path, tmp_path: Path) -> None:
    """The drawing has the size that the person sees, and no file is left half written."""
    picture = open_asked(str(photo)).picture
    path = draw_boxes(picture, [Box("狗", (100, 100, 900, 900))], tmp_path / "框.png")
    assert Image.open(path).size == (40, 60)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["我的 照片.jpg", "框.png"]


def test_targets_that_are_refused(photo: Path, tmp_path: Path) -> None:
    """An ending that is no picture's, a folder that is not there and the picture itself are told beforehand."""
    picture = open_asked(str(photo)).picture
    link = tmp_path / "link.jpg"
    os.link(photo, link)
    for path, message in [
        (tmp_path / "x.gif", "picture.ending"),
        (tmp_path / "none" / "x.png", "picture.no_folder"),
        (photo, "picture.own_file"),
        (link, "picture.own_file"),
    ]:
        with pytest.raises(PictureError) as error:
            checked_target(path, picture)
        assert error.value.message == message


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing fails, the file is as it was, the error names it, and nothing else lies about."""
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(self: Path, data: bytes) -> int:
        Path.touch(self)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as error:
        write_whole(path, b"new")
    assert error.value.filename == str(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# ---- for other programs


def exported(folder: Path, picture: Path | AskedPicture, boxes: list[Box]) -> AskedPicture:
    asked = picture if isinstance(picture, AskedPicture) else open_asked(str(picture))
    exports.write(("labelme", "coco", "yolo"), folder, asked, place(boxes, asked.uncut.size))
    return asked


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


DOG = Box("狗", (250, 500, 750, 1000))


def test_labelme_file(photo: Path, tmp_path: Path) -> None:
    """LabelMe: corners in pixels of the picture that imagePath leads to from the file itself."""
    exported(tmp_path / "out", photo, [DOG, Box("", (0, 0, 100, 100))])
    path = tmp_path / "out" / "labelme" / "我的 照片.json"
    record = read(path)
    assert set(record) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    with Image.open(path.parent / record["imagePath"]) as image:
        assert image.size == (record["imageWidth"], record["imageHeight"]) == (40, 60)
        assert image.getexif().get(0x0112, 1) == 1
    assert [shape["label"] for shape in record["shapes"]] == ["狗", "object"]
    assert record["shapes"][0]["points"] == [[10.0, 30.0], [30.0, 60.0]]
    assert record["shapes"][0]["shape_type"] == "rectangle"


def test_coco_file_grows(photo: Path, picture: Path, tmp_path: Path) -> None:
    """COCO: one file for all pictures, ids that refer to each other; a picture again replaces its own boxes only."""
    out = tmp_path / "out"
    exported(out, photo, [DOG, DOG])
    exported(out, picture, [Box("猫", (0, 0, 1000, 1000)), DOG])
    exported(out, photo, [DOG])
    data = read(out / "annotations" / "instances.json")
    images = {row["id"]: row for row in data["images"]}
    categories = {row["id"]: row["name"] for row in data["categories"]}
    assert sorted(row["file_name"] for row in images.values()) == ["我的 照片.jpg", "红色 方块.png"]
    found = [(images[a["image_id"]]["file_name"], categories[a["category_id"]], a["bbox"]) for a in data["annotations"]]
    assert sorted(found) == [
        ("我的 照片.jpg", "狗", [10, 30, 20, 30]),
        ("红色 方块.png", "狗", [15, 20, 30, 20]),
        ("红色 方块.png", "猫", [0, 0, 60, 40]),
    ]
    assert len({a["id"] for a in data["annotations"]}) == 3
    assert all(a["area"] == a["bbox"][2] * a["bbox"][3] and a["iscrowd"] == 0 for a in data["annotations"])


def test_coco_opens_in_pycocotools(photo: Path, tmp_path: Path) -> None:
    """The reference reader of COCO finds the picture's boxes by category."""
    coco = pytest.importorskip("pycocotools.coco")
    exported(tmp_path, photo, [DOG])
    data = coco.COCO(str(tmp_path / "annotations" / "instances.json"))
    found = data.loadAnns(data.getAnnIds(catIds=data.getCatIds(catNms=["狗"])))
    assert [a["bbox"] for a in found] == [[10, 30, 20, 30]]


def test_yolo_files(photo: Path, picture: Path, tmp_path: Path) -> None:
    """YOLO: class, centre and size as parts of the picture; classes keep their numbers from picture to picture."""
    out = tmp_path / "out"
    exported(out, photo, [DOG])
    exported(out, picture, [Box('猫"', (0, 0, 1000, 1000)), DOG])
    exported(out, open_asked(str(picture)), [])
    assert (out / "labels" / "我的 照片.txt").read_text() == "0 0.500000 0.750000 0.500000 0.500000\n"
    assert (out / "labels" / "红色 方块.txt").read_text() == ""
    assert (out / "labels" / "classes.txt").read_text(encoding="utf-8") == '狗\n猫"\n'
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))
    assert data == {"train": "images", "val": "images", "names": {0: "狗", 1: '猫"'}}
    for label in (out / "labels").glob("*.txt"):
        assert label.name == "classes.txt" or list((out / "images").glob(f"{label.stem}.*"))


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    """Another picture with the same name gets a name of its own; the same picture again does not."""
    for folder, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (20, 20), colour).save(tmp_path / folder / "x.png")
        for _ in range(2):
            exported(tmp_path / "out", tmp_path / folder / "x.png", [DOG])
    assert len(list((tmp_path / "out" / "images").iterdir())) == 2
    assert len(read(tmp_path / "out" / "annotations" / "instances.json")["images"]) == 2


def test_other_files_are_not_written_over(photo: Path, tmp_path: Path) -> None:
    """A COCO file that is none is refused and stays as it is."""
    path = tmp_path / "annotations" / "instances.json"
    path.parent.mkdir()
    for text in ("[]", "not json", '{"images": 3}', '{"images": [{"id": 1}]}'):
        path.write_text(text)
        with pytest.raises(PictureError) as error:
            exported(tmp_path, photo, [DOG])
        assert error.value.message == "picture.coco" and path.read_text() == text


@pytest.mark.parametrize("text", ["", "labelme,voc", "png"])
def test_unknown_formats(text: str) -> None:
    """A format that there is not is named."""
    with pytest.raises(PictureError):
        exports.parse_formats(text)
    assert exports.parse_formats("YOLO， coco,yolo") == ("yolo", "coco")


# ---- bellevl draw


def test_draw_reads_an_answer(bellevl: Bellevl, picture: Path, tmp_path: Path) -> None:
    """`bellevl draw` takes markup or --json from a pipe, writes picture and exports, and says so on stderr."""
    done = bellevl(
        "draw", picture, "-o", tmp_path / "框 出.png", "--boxes", "coco,yolo", "--boxes-dir", tmp_path / "d",
        input=ANSWER.encode(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"")
    assert "框 出.png (2 个框)" in done.stderr.decode()
    assert Image.open(tmp_path / "框 出.png").size == (60, 40)
    assert len(read(tmp_path / "d" / "annotations" / "instances.json")["annotations"]) == 2


def test_draw_without_boxes(bellevl: Bellevl, picture: Path, tmp_path: Path) -> None:
    """An answer without boxes is no failure: the picture is written, and it is said."""
    done = bellevl("draw", picture, "-o", tmp_path / "x.png", input="一只狗".encode())
    assert done.returncode == 0 and "回答中没有坐标" in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["-o", "x.doc"], ".png"), ([], "--boxes"), (["--boxes", "voc"], "labelme"), (["-o", "无/x.png"], "没有目录")],
)
def test_draw_used_wrongly(bellevl: Bellevl, picture: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    """A wrong ending, format or folder, and nothing to draw to, are usage errors before anything is written."""
    done = bellevl("draw", picture, *arguments, input=ANSWER.encode(), cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr.decode()
    assert not list(tmp_path.glob("*.png"))


def test_boxes_of_the_json_record() -> None:
    """Pixels count where the picture has the record's size, else the thousandths do; nonsense is refused."""
    row = {"label": "狗", "xyxy_px": [11, 10, 31, 20], "xyxy_1000": [100, 100, 300, 200]}
    record = json.dumps({"image": {"size": [100, 100]}, "boxes": [row]})
    assert answer_boxes(record, (100, 100), None)[0].xyxy_px == (11, 10, 31, 20)
    assert answer_boxes(record, (1000, 200), None)[0].xyxy_px == (100, 20, 300, 40)
    for wrong in ("{}", '{"boxes": 3}', '{"boxes": [{"label": "a"}]}', '{"boxes"'):
        with pytest.raises(PictureError) as error:
            answer_boxes(wrong, (10, 10), None)
        assert error.value.message == "picture.boxes_file"


def test_export_of_the_clipboard_s_picture(tmp_path: Path) -> None:
    """A picture without a file is saved beside its boxes."""
    image = Image.new("RGB", (30, 20), "red")
    from bellevl.image import open_picture

    asked = AskedPicture(open_picture(image), "剪贴板", hashlib.sha256(b"").hexdigest())
    exported(tmp_path, asked, [DOG])
    assert Image.open(tmp_path / "images" / "picture.png").size == (30, 20)
