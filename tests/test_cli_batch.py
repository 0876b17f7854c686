"""`bellevl batch`: one question, many pictures; what is written when, and how the same command goes on."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import time
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import program
from PIL import Image

from bellevl.errors import PictureError
from bellevl_cli import guard
from bellevl_cli.asking import batch, listing
from bellevl_cli.asking.batch import BatchOptions
from bellevl_cli.asking.captions import write_csv
from bellevl_cli.asking.ledger import Ledger
from bellevl_cli.exits import LeaveError, UsageError
from bellevl_cli.options import ModelOptions, SamplingOptions
from bellevl_cli.screen.render import Renderer

SCHEMA = json.loads(resources.files("bellevl_cli.asking").joinpath("answer.schema.json").read_text("utf-8"))


class Runs:
    """`runs(folder, "question", output=…)` runs a batch in this process: exit code, stdout; `notes` is stderr."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.notes = ""

    def __call__(self, *words: str | Path, max_tokens: int = 4, **options: Any) -> tuple[int, str]:
        wishes = BatchOptions(
            tuple(map(str, words)),
            model=ModelOptions(self.model),
            sampling=SamplingOptions(max_tokens, greedy=options.pop("greedy", True), seed=options.pop("seed", None)),
            **options,
        )
        out, err = io.StringIO(), io.StringIO()
        code = 0
        try:
            batch.run(wishes, Renderer(out, err))
        except LeaveError as error:
            code = error.code
        self.notes = err.getvalue()
        return code, out.getvalue()


@pytest.fixture
def runs(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs batches with the small checkpoint, in Chinese."""
    monkeypatch.setattr(guard, "install", lambda: None)
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Runs(tiny_folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one that is none, one in a folder inside, and files that are no pictures."""
    folder = tmp_path / "图 片"
    (folder / "里面").mkdir(parents=True)
    for number, colour in ((2, "red"), (10, "blue"), (1, "green")):
        Image.new("RGB", (20 + number, 30), colour).save(folder / f"图{number}.png")
    (folder / "坏.jpg").write_bytes(b"no picture")
    Image.new("RGB", (9, 9), "white").save(folder / "里面" / "内.png")
    (folder / "notes.txt").write_text("notes")
    Image.new("RGB", (9, 9)).save(folder / ".hidden.png")
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    """The results; each of them is valid for the schema file."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for record in records:
        jsonschema.validate(record, SCHEMA)
    return records


def names(records: list[dict[str, Any]]) -> list[str]:
    return [Path(record["image"]["path"]).name for record in records]


def test_a_folder_is_answered_and_goes_on(runs: Runs, folder: Path, tmp_path: Path) -> None:
    """A line for each picture in the order of their numbers, an error for the bad one and exit 1; the same command
    again answers nothing anew; a picture that was added is answered; a mended one, too."""
    out = tmp_path / "结果.jsonl"
    code, printed = runs(folder, "这是什么", output=out)
    records = lines(out)
    assert (code, printed) == (1, "") and names(records) == ["图1.png", "图2.png", "图10.png", "坏.jpg"]
    assert records[3]["error"]["code"] == 3 and "坏.jpg" in runs.notes and "失败 1" in runs.notes
    assert len({record["text"] for record in records[:3]}) > 1
    before = out.read_bytes()
    assert runs(folder, "这是什么", output=out)[0] == 1
    assert out.read_bytes() == before and "以前已答 3" in runs.notes
    Image.new("RGB", (8, 8), "yellow").save(folder / "坏.jpg")
    assert runs(folder, "这是什么", output=out)[0] == 0
    assert names(lines(out)) == ["图1.png", "图2.png", "图10.png", "坏.jpg", "坏.jpg"]
    assert runs(folder, "这是什么", output=out)[0] == 0 and len(lines(out)) == 5


def test_another_question_or_setting_is_asked_anew(runs: Runs, folder: Path, tmp_path: Path) -> None:
    """What was asked, the settings and the picture's bytes decide what is finished; another name of it does not."""
    out = tmp_path / "a.jsonl"
    one = folder / "图1.png"
    runs(one, "这是什么", output=out)
    runs(one, "这是什么", output=out)
    assert len(lines(out)) == 1
    runs(one, "什么颜色", output=out)
    runs(one, "这是什么", output=out, max_tokens=5)
    runs(one, "这是什么", output=out, seed=1, greedy=False)
    runs(one, "这是什么", output=out, seed=2, greedy=False)
    assert len(lines(out)) == 5
    Image.new("RGB", (21, 30), "black").save(one)
    runs(one, "这是什么", output=out)
    assert len(lines(out)) == 6
    shutil.copy(one, folder / "副本.png")
    runs(folder / "副本.png", "这是什么", output=out)
    last = lines(out)[-1]
    assert Path(last["same_as"]).name == "图1.png" and names([last]) == ["副本.png"]
    assert last["text"] == lines(out)[-2]["text"]


def test_when_all_is_done_no_model_is_loaded(
    runs: Runs, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run of a finished batch is over at once."""
    out = tmp_path / "a.jsonl"
    runs(folder / "图1.png", "问", output=out)
    monkeypatch.setattr(batch, "start", None)
    assert runs(folder / "图1.png", "问", output=out)[0] == 0


def test_a_line_that_was_cut_is_done_again(runs: Runs, folder: Path, tmp_path: Path) -> None:
    """After a kill in the midst of a line the file is mended: the half line goes, the picture is answered again."""
    out = tmp_path / "a.jsonl"
    runs(folder, "问", output=out, limit=2)
    whole = out.read_bytes()
    out.write_bytes(whole[:-40])
    runs(folder, "问", output=out, limit=2)
    assert names(lines(out)) == ["图1.png", "图2.png"]
    out.write_bytes(whole.rstrip(b"\n"))  # only the line's end is lost
    runs(folder, "问", output=out, limit=2)
    assert out.read_bytes() == whole


@pytest.mark.parametrize("content", ["important notes\n", '{"a": 1}\n', "1\n2\n"])
def test_a_file_of_something_else_is_left_alone(runs: Runs, folder: Path, tmp_path: Path, content: str) -> None:
    """-o onto a file that batch did not write is refused, and the file stays as it is."""
    out = tmp_path / "notes.jsonl"
    out.write_text(content)
    with pytest.raises(UsageError):
        runs(folder, "问", output=out)
    assert out.read_text() == content


def test_two_batches_do_not_mix_their_lines(tmp_path: Path) -> None:
    """While one process writes a file another one may not."""
    pytest.importorskip("fcntl")
    with Ledger(tmp_path / "a.jsonl"), pytest.raises(UsageError):
        Ledger(tmp_path / "a.jsonl")


def test_without_a_file_lines_go_to_stdout(runs: Runs, folder: Path) -> None:
    """No -o: the lines are printed as they come."""
    code, printed = runs(folder, "问", endings="png")
    assert code == 0 and names([json.loads(line) for line in printed.splitlines()]) == [
        "图1.png",
        "图2.png",
        "图10.png",
    ]


def test_captions_beside_the_pictures(runs: Runs, folder: Path, tmp_path: Path) -> None:
    """--sidecar txt: a text each; what a person wrote stays and is counted; --overwrite replaces it; two pictures of
    one name have two files."""
    shutil.copy(folder / "图2.png", folder / "图2.jpg")
    (folder / "图1.txt").write_text("我写的")
    out = tmp_path / "a.jsonl"
    assert runs(folder, "问", output=out, sidecar="txt", endings="png,jpg", limit=3)[0] == 0
    texts = dict(zip(names(lines(out)), (record["text"] for record in lines(out)), strict=True))
    assert (folder / "图1.txt").read_text() == "我写的" and "1 个说明文件" in runs.notes
    assert (folder / "图2.png.txt").read_text(encoding="utf-8") == texts["图2.png"] + "\n"
    assert (folder / "图2.jpg.txt").exists() and not (folder / "图2.txt").exists()
    runs(folder, "问", output=out, sidecar="txt", limit=1, overwrite=True)
    assert (folder / "图1.txt").read_text(encoding="utf-8") == texts["图1.png"] + "\n"
    code, printed = runs(folder / "图1.png", "另一个问题", sidecar="txt")
    assert (code, printed) == (0, "") and "以前已答 1" in runs.notes


def test_a_table_for_a_spreadsheet(runs: Runs, folder: Path, tmp_path: Path) -> None:
    """--csv has a row for each picture with the schema's columns, in UTF-8 that Excel knows for such."""
    path = tmp_path / "表.csv"
    code, printed = runs(folder, "问", csv=path, schema="数量 int, 室内 bool", max_tokens=60)
    assert (code, printed) == (1, "") and path.read_bytes().startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    assert [Path(row["path"]).name for row in rows] == ["图1.png", "图2.png", "图10.png", "坏.jpg"]
    assert list(rows[0]) == ["path", "text", "数量", "室内", "finish_reason", "error"]
    data = json.loads(rows[0]["text"])
    assert rows[0]["数量"] == str(data["数量"]) and rows[3]["error"] and not rows[3]["text"]


def test_an_answer_is_no_formula(tmp_path: Path) -> None:
    """A text that a spreadsheet would compute is marked as text; a negative number stays one."""
    path = tmp_path / "a.csv"
    write_csv(path, [{"image": {"path": "a.png"}, "text": text} for text in ('=HYPERLINK("x")', "@SUM(1)", "-3")])
    texts = [row["text"] for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))]
    assert texts == ['\'=HYPERLINK("x")', "'@SUM(1)", "-3"]


def test_a_schema_that_is_cut_off_fails_and_is_tried_again(runs: Runs, folder: Path, tmp_path: Path) -> None:
    """The line says so, with the raw text; the batch ends with 1 and asks that picture again the next time."""
    out = tmp_path / "a.jsonl"
    assert runs(folder / "图1.png", "问", output=out, schema="name", max_tokens=8)[0] == 1
    [record] = lines(out)
    assert record["data"] is None and record["error"]["code"] == 6 and record["text"].startswith('{"name"')
    assert runs(folder / "图1.png", "问", output=out, schema="name", max_tokens=8)[0] == 1


def test_which_pictures(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders, those inside with -r, endings, lists with names beside them, pictures; each once; 2 before 10."""
    monkeypatch.chdir(tmp_path)
    found = listing.list_pictures([str(folder)], recursive=True)
    assert [os.path.relpath(name, folder) for name in found] == [
        "图1.png",
        "图2.png",
        "图10.png",
        "坏.jpg",
        "里面/内.png",
    ]
    assert listing.list_pictures([str(folder)], endings=listing.read_endings(" .JPG，gif ")) == [str(folder / "坏.jpg")]
    (folder / "list.txt").write_bytes(f"\ufeff# 名单\n图2.png\r\n\n{folder / '图1.png'}\n没有.png\n".encode())
    listed = listing.list_pictures([str(folder / "list.txt"), str(folder / "图1.png")])
    assert listed == [str(folder / "图2.png"), str(folder / "图1.png"), "没有.png"]
    for sources in ([str(tmp_path / "none")], [str(folder / "none.png")], [str(tmp_path / "empty")]):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(PictureError):
            listing.list_pictures(sources)


@pytest.mark.parametrize(
    ("words", "question", "expected"),
    [
        (("d",), None, (("d",), None)),
        (("d", "这是什么"), None, (("d",), "这是什么")),
        (("a.png", "b.png"), None, (("a.png", "b.png"), None)),
        (("d", "e", "问"), None, (("d", "e"), "问")),
        (("d", "e"), "问", (("d", "e"), "问")),
    ],
)
def test_the_last_word_is_the_question(words: tuple[str, ...], question: str | None, expected: Any) -> None:
    """Unless it is there, or named like a picture, or the question is named as such."""
    assert batch.split_sources(words, question) == expected


def test_ctrl_c_keeps_what_is_done(
    environment: dict[str, str], tiny_folder: Path, folder: Path, tmp_path: Path
) -> None:
    """Ctrl-C in the midst is 130; the lines so far are whole; the same command goes on behind them."""
    out = tmp_path / "a.jsonl"
    command = [
        *program(),
        "batch",
        str(folder),
        "问",
        "-o",
        str(out),
        "-m",
        str(tiny_folder),
        "--greedy",
        "--ext",
        "png",
    ]
    with subprocess.Popen([*command, "--max-tokens", "300"], env=environment, stderr=subprocess.PIPE) as running:
        until = time.monotonic() + 300
        while not (out.exists() and out.read_bytes().count(b"\n")):
            assert running.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        error = running.communicate(timeout=60)[1].decode()
    assert running.returncode == 130 and "同一条命令" in error and "Traceback" not in error
    done = len(lines(out))
    assert 1 <= done < 3
    again = subprocess.run(
        [*command, "--max-tokens", "300", "--limit", "2"], env=environment, capture_output=True, check=False
    )
    assert again.returncode == 0 and names(lines(out)) == ["图1.png", "图2.png"]
