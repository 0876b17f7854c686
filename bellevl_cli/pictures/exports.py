"""Boxes for other programs: LabelMe, COCO and YOLO in one folder, which grows by a picture at a time.

    DIR/images/dog.jpg           the picture, upright, which all three mean
    DIR/labelme/dog.json
    DIR/annotations/instances.json   COCO: one file for all pictures
    DIR/labels/dog.txt, DIR/labels/classes.txt, DIR/data.yaml   YOLO

Many tools ignore that a photo was turned when it was taken, so a turned picture is saved upright. A picture that is
exported again replaces its own boxes. Knows no model.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bellevl.errors import PictureError

from .boxes import PlacedBox
from .saving import write_whole

if TYPE_CHECKING:
    from .asked import AskedPicture

#: A box without a label is of this class.
UNNAMED = "object"

#: Formats that every tool opens, with the ending they get. Others are saved anew.
COPIED = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp"}

#: The version of the file format, as the LabelMe of that version writes it.
LABELME_VERSION = "5.5.0"


@dataclass(frozen=True)
class Exported:
    """A picture in the folder: its file's name, its size, and its boxes in that size."""

    file: str
    size: tuple[int, int]
    boxes: Sequence[PlacedBox]

    @property
    def stem(self) -> str:
        return Path(self.file).stem


def parse_formats(text: str) -> tuple[str, ...]:
    """ "labelme,coco" -> the formats, each once. Raises PictureError."""
    names = [name.strip().lower() for name in text.replace("，", ",").replace("、", ",").split(",") if name.strip()]
    wrong = [name for name in names if name not in WRITERS]
    if wrong or not names:
        raise PictureError("picture.export", formats=", ".join(wrong) or '""')
    return tuple(dict.fromkeys(names))


def write(formats: Sequence[str], folder: Path, asked: AskedPicture, boxes: Sequence[PlacedBox]) -> list[Path]:
    """Writes `boxes` in each of `formats`, and the picture beside them; returns the files of boxes.

    The boxes are placed in the whole picture (`asked.uncut`). Raises PictureError for a COCO file that is none, OSError
    where nothing can be written.
    """
    exported = _picture_file(folder, asked, boxes)
    return [WRITERS[name](folder, exported) for name in formats]


def _picture_file(folder: Path, asked: AskedPicture, boxes: Sequence[PlacedBox]) -> Exported:
    """The picture in the folder, as its own file or saved upright, and its boxes there."""
    size, data, ending = _upright(asked)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    path = images / (_stem(asked) + ending)
    if path.exists() and path.read_bytes() != data:  # another picture of that name
        path = images / f"{_stem(asked)}-{hashlib.sha256(data).hexdigest()[:8]}{ending}"
    if not path.exists():
        write_whole(path, data)
    return Exported(path.name, size, [_scaled(box, asked.uncut.size, size) for box in boxes])


def _upright(asked: AskedPicture) -> tuple[tuple[int, int], bytes, str]:
    """(size, bytes, ending) of the picture that is exported."""
    picture = asked.uncut
    ending = COPIED.get(picture.format)
    if ending and picture.path is not None and picture.orientation == 1 and "frame" not in picture.notes:
        data = picture.path.read_bytes()
        if hashlib.sha256(data).hexdigest() == asked.sha256:  # it was not changed since
            return picture.size, data, ending
    ending, kind, how = (".jpg", "JPEG", {"quality": 95}) if _is_photo(picture.format) else (".png", "PNG", {})
    buffer = io.BytesIO()
    picture.image.save(buffer, kind, **how)
    return picture.image.size, buffer.getvalue(), ending


def _is_photo(kind: str) -> bool:
    return kind in ("JPEG", "MPO", "HEIF", "AVIF")


def _stem(asked: AskedPicture) -> str:
    path = asked.uncut.path
    return (path.stem[:80] if path is not None else "") or "picture"


def _scaled(box: PlacedBox, whole: tuple[int, int], size: tuple[int, int]) -> PlacedBox:
    """The box in the picture as it was saved: smaller than it was, if it is very large."""
    if whole == size:
        return box
    x1, y1, x2, y2 = box.xyxy_px
    across, down = size[0] / whole[0], size[1] / whole[1]
    x1, y1 = min(int(x1 * across), size[0] - 1), min(int(y1 * down), size[1] - 1)
    corners = (x1, y1, max(x1 + 1, round(x2 * across)), max(y1 + 1, round(y2 * down)))
    return replace(box, xyxy_px=corners)


# ---- the formats


def _write_labelme(folder: Path, exported: Exported) -> Path:
    shapes: list[dict[str, Any]] = [
        {
            "label": box.label or UNNAMED,
            "points": [[float(box.xyxy_px[0]), float(box.xyxy_px[1])], [float(box.xyxy_px[2]), float(box.xyxy_px[3])]],
            "group_id": None,
            "description": "",
            "shape_type": "rectangle",
            "flags": {},
            "mask": None,
        }
        for box in exported.boxes
    ]
    record: dict[str, Any] = {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": f"../images/{exported.file}",
        "imageData": None,
        "imageHeight": exported.size[1],
        "imageWidth": exported.size[0],
    }
    return _write_json(folder / "labelme" / f"{exported.stem}.json", record)


def _write_coco(folder: Path, exported: Exported) -> Path:
    path = folder / "annotations" / "instances.json"
    data = _read_coco(path)
    images, categories = data["images"], data["categories"]
    image = next((image for image in images if image["file_name"] == exported.file), None)
    if image is None:
        image = {"id": _next_id(images), "file_name": exported.file}
        images.append(image)
    image |= {"width": exported.size[0], "height": exported.size[1]}
    kept = [a for a in data["annotations"] if a["image_id"] != image["id"]]
    data["annotations"] = kept
    for box in exported.boxes:
        kept.append(_coco_annotation(box, _next_id(kept), image["id"], _category(categories, box.label or UNNAMED)))
    return _write_json(path, data)


def _read_coco(path: Path) -> dict[str, Any]:
    """What is in the COCO file already. Raises PictureError for another file of that name."""
    data: Any = {"info": {"description": "boxes found by bellevl"}, "licenses": []}
    if path.exists():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise PictureError("picture.coco", path=path, reason=error) from error
    wanted = {"images": {"id", "file_name"}, "annotations": {"id", "image_id"}, "categories": {"id", "name"}}
    for name, keys in wanted.items():
        rows = data.setdefault(name, []) if _is_dict(data) else None
        if not isinstance(rows, list) or not all(_is_dict(row) and keys <= set(row) for row in rows):
            raise PictureError("picture.coco", path=path, reason=f"not a list of {name}")
    return dict(data)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _category(categories: list[dict[str, Any]], label: str) -> int:
    """The category's id; a new label is a new category."""
    for category in categories:
        if category["name"] == label:
            return int(category["id"])
    categories.append({"id": _next_id(categories), "name": label, "supercategory": ""})
    return int(categories[-1]["id"])


def _coco_annotation(box: PlacedBox, id: int, image: int, category: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box.xyxy_px
    return {
        "id": id,
        "image_id": image,
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "segmentation": [],
        "iscrowd": 0,
    }


def _next_id(rows: list[dict[str, Any]]) -> int:
    return 1 + max((int(row["id"]) for row in rows), default=0)


def _write_yolo(folder: Path, exported: Exported) -> Path:
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    known = labels / "classes.txt"
    names = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    names += [name for name in dict.fromkeys(box.label or UNNAMED for box in exported.boxes) if name not in names]
    lines = [_yolo_line(box, names.index(box.label or UNNAMED), exported.size) for box in exported.boxes]
    path = labels / f"{exported.stem}.txt"
    write_whole(known, "".join(f"{name}\n" for name in names).encode())
    write_whole(path, "".join(lines).encode())
    rows = "".join(f"  {n}: {json.dumps(name, ensure_ascii=False)}\n" for n, name in enumerate(names))
    names_yaml = f"names:\n{rows}" if names else "names: {}\n"
    write_whole(folder / "data.yaml", f"train: images\nval: images\n{names_yaml}".encode())
    return path


def _yolo_line(box: PlacedBox, number: int, size: tuple[int, int]) -> str:
    """Class, centre, width and height, as parts of the picture's."""
    x1, y1, x2, y2 = box.xyxy_px
    width, height = size
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{number} " + " ".join(f"{value:.6f}" for value in values) + "\n"


def _write_json(path: Path, record: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode())
    return path


WRITERS: dict[str, Callable[[Path, Exported], Path]] = {
    "labelme": _write_labelme,
    "coco": _write_coco,
    "yolo": _write_yolo,
}
