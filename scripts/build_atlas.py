"""Rebuild the picture world's drawing material from unpacked packages.

It reads the SVG drawings of three emoji styles (and OpenMoji, kept apart for tests) and the Noto fonts,
and writes one WebP sheet a style and subset fonts. It knows the world's names, not how scenes are drawn.
Build-only requirements: cairosvg (with libcairo2) and fonttools.

Usage: build_atlas.py --noto DIR --twemoji DIR --fluent DIR --openmoji DIR --fonts DIR [DIR ...]
where each DIR is the unpacked `package` folder of, in this order, the npm packages @iconify-json/noto,
@twemoji/svg, fluentui-emoji and openmoji; the font folders are those of Debian's fonts-noto-cjk and
fonts-noto-core.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from bellevl.nano.world import names

ROOT = Path(__file__).resolve().parent.parent
ATLAS = ROOT / "bellevl" / "nano" / "world" / "atlas"
HELD_OUT = ROOT / "tests" / "data" / "openmoji"
CELL = 128  # pixels of one sprite
COLUMNS = 10
MARGIN = 2  # transparent pixels around each sprite, so that neighbours never bleed


def render_svg(svg: str | bytes) -> Image.Image:
    """Draw an SVG at four times the cell, crop it to its ink and fit it into one cell."""
    import cairosvg

    data = svg.encode() if isinstance(svg, str) else svg
    png = cairosvg.svg2png(bytestring=data, output_width=4 * CELL, output_height=4 * CELL)
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    ink = picture.getchannel("A").point(lambda a: 255 if a > 12 else 0).getbbox()
    if ink is None:
        raise SystemExit("an SVG rendered to nothing")
    picture = picture.crop(ink)
    scale = (CELL - 2 * MARGIN) / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def noto_svg(folder: Path) -> Callable[[names.Emoji], str]:
    icons = json.loads((folder / "icons.json").read_text())
    chars = json.loads((folder / "chars.json").read_text())

    def read(emoji: names.Emoji) -> str:
        name = chars.get(emoji.code) or chars[emoji.code + "-fe0f"]
        icon = icons["icons"][icons.get("aliases", {}).get(name, {}).get("parent", name)]
        size = icon.get("width", icons.get("width", 128))
        head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        return f'{head}viewBox="0 0 {size} {size}">{icon["body"]}</svg>'

    return read


def file_svg(folder: Path, naming: Callable[[names.Emoji], str]) -> Callable[[names.Emoji], bytes]:
    return lambda emoji: (folder / f"{naming(emoji)}.svg").read_bytes()


def openmoji_svg(folder: Path) -> Callable[[names.Emoji], bytes]:
    def read(emoji: names.Emoji) -> bytes:
        stem = emoji.code.upper().zfill(4)
        path = folder / f"{stem}.svg"
        return (path if path.exists() else folder / f"{stem}-FE0F.svg").read_bytes()

    return read


def write_sheet(path: Path, read: Callable[[names.Emoji], str | bytes]) -> None:
    """Draw all emoji of one style into a grid of cells, in the order of the class ids."""
    rows = -(-len(names.EMOJI) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for index, emoji in enumerate(names.EMOJI):
        sprite = render_svg(read(emoji))
        x = index % COLUMNS * CELL + (CELL - sprite.width) // 2
        y = index // COLUMNS * CELL + (CELL - sprite.height) // 2
        sheet.paste(sprite, (x, y))
    sheet.save(path, "WEBP", quality=88, alpha_quality=95, method=6)
    print(path, path.stat().st_size)


def subset_font(source: Path, number: int, characters: str, target: Path) -> None:
    """Keep only the given characters of one face (`number` within a collection) of a font file."""
    from fontTools import subset

    options = subset.Options(
        font_number=number, hinting=False, layout_features=[], drop_tables=["GSUB", "GPOS", "vhea", "vmtx"]
    )
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]  # keep copyright and licence
    font = subset.load_font(str(source), options)
    worker = subset.Subsetter(options)
    worker.populate(text=characters)
    worker.subset(font)
    subset.save_font(font, str(target), options)
    print(target, target.stat().st_size)


def write_fonts(folders: list[Path]) -> None:
    ascii_text = "".join(map(chr, range(32, 127)))
    chinese = "".join(sorted(set("".join(names.CHINESE_WORDS)))) + ascii_text
    jobs = {
        "cjk-sans.otf": ("NotoSansCJK-Regular.ttc", 2, chinese),  # face 2 of the collection: Simplified Chinese
        "cjk-serif-bold.otf": ("NotoSerifCJK-Bold.ttc", 2, chinese),
        "latin-sans-bold.ttf": ("NotoSans-Bold.ttf", -1, ascii_text),
        "latin-serif.ttf": ("NotoSerif-Regular.ttf", -1, ascii_text),
        "latin-italic.ttf": ("NotoSans-Italic.ttf", -1, ascii_text),
    }
    for target, (source, number, text) in jobs.items():
        found = next((f / source for f in folders if (f / source).exists()), None)
        if found is None:
            raise SystemExit(f"{source} is in none of the font folders")
        subset_font(found, number, text, ATLAS / target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for style in ("noto", "twemoji", "fluent", "openmoji"):
        parser.add_argument(f"--{style}", type=Path, required=True)
    parser.add_argument("--fonts", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    ATLAS.mkdir(parents=True, exist_ok=True)
    HELD_OUT.mkdir(parents=True, exist_ok=True)
    write_sheet(ATLAS / "noto.webp", noto_svg(args.noto))
    write_sheet(ATLAS / "twemoji.webp", file_svg(args.twemoji, lambda e: e.code))
    write_sheet(ATLAS / "fluent.webp", file_svg(args.fluent / "icons" / "flat", lambda e: e.fluent))
    write_sheet(HELD_OUT / "openmoji.webp", openmoji_svg(args.openmoji / "color" / "svg"))
    write_fonts(args.fonts)


if __name__ == "__main__":
    main()
