"""`bellevl ask` as scripts use it: words, templates, forms of output, schemas, expectations, repeated answers."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from conftest import Bellevl, program
from PIL import Image
from tiny import CHARACTERS

import bellevl
from bellevl.errors import PictureError, PromptError
from bellevl.generate import generate
from bellevl.prompt import Conversation, Turn, build_prompt
from bellevl.sampling import Sampling
from bellevl_cli import exits, guard
from bellevl_cli.asking import ask, extract, request, schema, sure, templates
from bellevl_cli.asking.wishes import AskOptions, OutputWishes, ThreadWishes
from bellevl_cli.exits import LeaveError, UsageError
from bellevl_cli.options import ModelOptions, SamplingOptions
from bellevl_cli.pictures.wishes import PictureWishes
from bellevl_cli.screen.render import Renderer

SCHEMA = json.loads(resources.files("bellevl_cli.asking").joinpath("answer.schema.json").read_text("utf-8"))


class Asked:
    """`asked(picture, "question", json=True, schema=…)` runs ask in this process: exit code, stdout, stderr."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.notes = ""

    def __call__(self, *words: str | Path, **options: Any) -> tuple[int, str]:
        names = ("json", "jsonl", "no_stream", "extract", "expect")
        output = OutputWishes(**{name: options.pop(name) for name in names if name in options})
        names = ("max_tokens", "greedy", "seed", "temperature")
        sampling = SamplingOptions(**{name: options.pop(name) for name in names if name in options})
        wishes = AskOptions(
            tuple(map(str, words)),
            output=output,
            sampling=sampling,
            model=ModelOptions(options.pop("model", self.model)),
            thread=options.pop("thread", ThreadWishes(no_log=True)),
            **options,
        )
        out, err = io.StringIO(), io.StringIO()
        code = 0
        try:
            ask.run(wishes, Renderer(out, err))
        except LeaveError as error:
            code = error.code
        self.notes = err.getvalue()
        return code, out.getvalue()


@pytest.fixture
def asked(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Asks the small checkpoint, in Chinese, with folders of the test's own."""
    monkeypatch.setattr(guard, "install", lambda: None)
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    monkeypatch.delenv("BELLEVL_NO_LOG", raising=False)
    for name in ("CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    return Asked(tiny_folder)


@pytest.fixture
def other_picture(tmp_path: Path) -> Path:
    path = tmp_path / "蓝.png"
    Image.new("RGB", (30, 90), (20, 30, 200)).save(path)
    return path


# ---- which words are pictures


@pytest.mark.parametrize(
    ("words", "pictures", "question"),
    [
        (["a.png"], ["a.png"], None),
        (["a.png", "这是什么"], ["a.png"], "这是什么"),
        (["a.png", "b.jpg", "有何不同"], ["a.png", "b.jpg"], "有何不同"),
        (["a.png", "b.jpg"], ["a.png", "b.jpg"], None),
        (["a.png", "missing.png"], ["a.png", "missing.png"], None),
        (["a.png", "图里写的是 x.png"], ["a.png"], "图里写的是 x.png"),
        (["-", "这是什么"], ["-"], "这是什么"),
        (["a.png", "-"], ["a.png"], "-"),
        (["photo"], ["photo"], None),
    ],
)
def test_the_last_word_is_the_question(words: list[str], pictures: list[str], question: str | None) -> None:
    """Words are pictures but for the last one, unless that is named like a picture or stands alone."""
    assert request.split_words(tuple(words), False, False) == (tuple(pictures), question)


def test_a_picture_from_elsewhere_leaves_the_only_word_to_the_question() -> None:
    """With the clipboard or an earlier dialogue one word is the question; with -q all words are pictures."""
    assert request.split_words(("这是什么",), True, False) == ((), "这是什么")
    assert request.split_words(("a.png",), True, False) == (("a.png",), None)
    assert request.split_words(("a.png", "photo"), False, True) == (("a.png", "photo"), None)


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        ([], {}, "缺少参数 图片"),
        (["a.png", "what", "is", "this"], {}, "整句加引号"),
        (["-", "-", "问"], {}, "只能读一次"),
        (["-"], {"question": "-"}, "只能读一次"),
        (["a.png"], {"question": "-"}, "没有问题"),
        (["a.png"], {"template": "没有这个"}, "现有: 描述 ocr"),
        (["a.png"], {"template": "翻译", "params": ("x=1",)}, "只有: to"),
        (["a.png"], {"template": "翻译", "params": ("to",)}, "名字=内容"),
        (["a.png"], {"params": ("to=英文",)}, "要与模板"),
        (["a.png", "问"], {"extract": "xml"}, "json first-line number"),
        (["a.png", "问"], {"expect": "/(/"}, "不是正则表达式"),
        (["a.png", "问"], {"sure": 1}, "2 到 20"),
        (["a.png", "问"], {"json": True, "jsonl": True}, "只能写一个"),
        (["a.png", "问"], {"sure": 3, "pictures": PictureWishes(tiles="2")}, "只能写一个"),
        (["a.png", "问"], {"ocr": "maybe"}, "on only"),
        (["a.png"], {"thread": ThreadWishes(latest=True)}, "不能再写"),
    ],
)
def test_wrong_words_are_usage_errors(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, words: list[str], options: dict[str, Any], said: str
) -> None:
    """What cannot be meant is told before any picture is opened."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    with pytest.raises(UsageError) as caught:
        asked(*words, **options)
    assert said in str(caught.value)


def test_a_usage_error_names_the_command(bellevl: Bellevl, tmp_path: Path) -> None:
    """Words that ask sorts by itself are wrong in the same way as those that the parser sorts: exit 2, one line."""
    done = bellevl("ask", "a.png", "what", "is", "this", cwd=tmp_path)
    last = done.stderr.decode().splitlines()[-1]
    assert (done.returncode, done.stdout) == (2, b"")
    assert last == "错误: 多了参数 what (问题里有空格时，整句加引号)  试试: bellevl ask --help"


def test_a_question_may_come_from_stdin(bellevl: Bellevl, picture: Path) -> None:
    """-q - reads the question, in GBK too, and it stands in the prompt as it was written."""
    done = bellevl("ask", picture, "-q", "-", "--dry-run", "--json", input="图里有几个方块？\n".encode("gbk"))
    assert done.returncode == 0, done.stderr.decode()
    assert "\n图里有几个方块？<|im_end|>" in json.loads(done.stdout)["prompt"]


# ---- several pictures


def test_each_picture_has_its_answer(asked: Asked, picture: Path, other_picture: Path) -> None:
    """Several pictures: a header and an answer each, as if they had been asked about alone; JSON is a line each."""
    alone = [asked(one, "这是什么", greedy=True)[1] for one in (picture, other_picture)]
    code, both = asked(picture, other_picture, "这是什么", greedy=True)
    assert code == 0
    assert both == f"== {picture.name} ==\n{alone[0]}\n== {other_picture.name} ==\n{alone[1]}"
    printed = asked(picture, other_picture, "这是什么", greedy=True, json=True)[1]
    assert [json.loads(line)["text"] + "\n" for line in printed.splitlines()] == alone


def test_together_asks_once_and_warns(asked: Asked, picture: Path, other_picture: Path) -> None:
    """--together is one answer about all pictures, with a warning on stderr and in JSON."""
    first = json.loads(asked(picture, other_picture, "这是什么", together=True, greedy=True, json=True)[1])
    assert "单图" in asked.notes and any("单图" in warning for warning in first["warnings"])
    assert [image["size"] for image in first["images"]] == [[60, 40], [30, 90]]
    alone = json.loads(asked(picture, "这是什么", greedy=True, json=True)[1])
    assert first["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"]


def test_together_shows_the_model_all_pictures_in_their_order(
    tiny_folder: Path, picture: Path, other_picture: Path
) -> None:
    """The answer is what the model generates from a prompt with two slots and the features of both pictures."""
    chat = bellevl.Chat(bellevl.load_model(tiny_folder), bellevl.load_tokenizer(tiny_folder))
    pieces = chat.stream("这是什么", picture, more=[other_picture], greedy=True, max_tokens=6)
    text = "".join(piece.text for piece in pieces)
    prompt = build_prompt(chat.tokenizer, Conversation((Turn("这是什么", pictures=2),)), 4, 2048)
    pixels = [bellevl.preprocess(bellevl.open_picture(path).image, 56) for path in (picture, other_picture)]
    with torch.inference_mode():
        features = chat.model.encode_images(torch.stack(pixels))
    tokens = generate(chat.model, prompt.ids, features, sampling=Sampling(max_tokens=6, greedy=True))
    assert text == chat.tokenizer.decode([token.id for token in tokens])
    assert chat.turns[-1].pictures == 2


def test_one_missing_picture_of_several_stops_before_the_model(asked: Asked, picture: Path, tmp_path: Path) -> None:
    """Every picture is looked at first: a missing one is told before a model is loaded or anything is answered."""
    with pytest.raises(PictureError) as caught:
        asked(picture, tmp_path / "没有.png", "这是什么", model=tmp_path / "no-model")
    assert caught.value.message == "picture.missing"


# ---- forms of output


def test_json_is_as_the_schema_file_says(asked: Asked, picture: Path) -> None:
    """--json, with everything that can be asked for besides, and each line of --jsonl are valid for the schema file."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    printed = [
        asked(picture, "问", json=True)[1],
        asked(picture, "问", json=True, sure=2, max_tokens=3)[1],
        asked(picture, "问", json=True, schema="a int, b bool", expect="x", extract="number")[1],
        asked(picture, "问", jsonl=True, max_tokens=4)[1],
        asked(picture, "问", json=True, pictures=PictureWishes(tiles="2"), max_tokens=4)[1],
    ]
    for line in (line for text in printed for line in text.splitlines()):
        jsonschema.validate(json.loads(line), SCHEMA)


def test_jsonl_deltas_add_up(asked: Asked, picture: Path) -> None:
    """--jsonl: the deltas in their order are the text of the last line, which is the answer's record."""
    *deltas, last = map(json.loads, asked(picture, "问", jsonl=True, greedy=True)[1].splitlines())
    assert last["type"] == "answer" and {delta["type"] for delta in deltas} == {"delta"}
    assert "".join(delta["text"] for delta in deltas) == last["text"]
    assert len(deltas) > 10


def test_no_stream_prints_the_same(asked: Asked, picture: Path) -> None:
    """--no-stream changes when the answer is printed, not what."""
    assert asked(picture, "问", seed=3, no_stream=True) == asked(picture, "问", seed=3)


def test_output_goes_to_a_file(bellevl: Bellevl, tiny_folder: Path, picture: Path, tmp_path: Path) -> None:
    """-o writes the file instead of stdout; --quiet says nothing; the name may be Chinese, permissions are usual."""
    target = tmp_path / "答案 1.txt"
    arguments = ("ask", picture, "这是什么", "--model", tiny_folder, "--greedy", "-o", target)
    done = bellevl(*arguments, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert set(target.read_text(encoding="utf-8").rstrip("\n")) <= set(CHARACTERS)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert "答案 1.txt" in bellevl(*arguments).stderr.decode()


def _umask() -> int:
    import os

    mask = os.umask(0o22)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("place", ["no/such/folder/a.txt", "."])
def test_a_file_that_cannot_be_is_told_first(bellevl: Bellevl, picture: Path, tmp_path: Path, place: str) -> None:
    """-o into a folder that is not there, or onto a folder, is exit 2 before a model is looked for."""
    done = bellevl("ask", picture, "问", "-o", place, "--model", "no/model", cwd=tmp_path)
    assert done.returncode == 2 and "不能写到" in done.stderr.decode()


def test_an_interrupted_answer_leaves_the_file_as_it_was(
    environment: dict[str, str], tiny_folder: Path, picture: Path, tmp_path: Path
) -> None:
    """Ctrl-C with -o keeps the old file and leaves nothing beside it."""
    target = tmp_path / "a.txt"
    target.write_text("before")
    command = [
        *program(),
        "ask",
        str(picture),
        "问",
        "-m",
        str(tiny_folder),
        "-o",
        str(target),
        "--max-tokens",
        "50000",
    ]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as running:
        while not list(tmp_path.glob(".a.txt*")) or not next(tmp_path.glob(".a.txt*")).stat().st_size:
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
        assert running.returncode == 130
    assert target.read_text() == "before" and not list(tmp_path.glob(".a.txt*"))


@pytest.mark.skipif(sys.platform != "linux", reason="poll tells of a pipe's reader on Linux")
def test_a_reader_that_is_gone_stops_a_silent_answer(
    environment: dict[str, str], tiny_folder: Path, picture: Path
) -> None:
    """--json writes nothing while the model runs; when nobody reads any more, it stops all the same, with 141."""
    command = [*program(), "ask", str(picture), "问", "-m", str(tiny_folder), "--json", "--max-tokens", "60000"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        error = running.stderr.read()
        assert running.wait(timeout=120) == 141
        assert b"Traceback" not in error


# ---- what a script wants of an answer


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("number", "图中有三只猫", "3"),
        ("number", "共 1,234.5 元", "1234.5"),
        ("number", "第 2 个，共三个", "2"),
        ("number", "－７ 度", "-7"),
        ("number", "两百零三人", "203"),
        ("number", "三百五", "350"),
        ("number", "一百二十三万四千", "1234000"),
        ("number", "二〇二四年", "2024"),
        ("number", "没有", None),
        ("first-line", "\n 一\n二", "一"),
        ("first-line", " \n", None),
        ("json", '好的：\n```json\n{"a": [1, "二"]}\n```', '{"a": [1, "二"]}'),
        ("json", "[不是] {也不是} [1]", "[1]"),
        ("json", "没有", None),
    ],
)
def test_extract(kind: str, text: str, found: str | None) -> None:
    """The first number (in figures before words), line or JSON of an answer; None where there is none."""
    assert extract.EXTRACTORS[kind](text) == found


@pytest.mark.parametrize(
    ("text", "expected", "met"),
    [
        ("Yes, it is.", "yes", True),
        ("Yesterday", "yes", False),
        ("是的，是红色", "是", True),
        ("不是", "是", False),
        ("**No**", "no", True),
        ("ＹＥＳ", "yes", True),
        ("30", "3", False),
        ("3 只", "3", True),
        ("编号 42", r"/\d{2}/", True),
        ("编号", r"/\d/", False),
    ],
)
def test_expect_is_the_beginning_as_a_word(text: str, expected: str, met: bool) -> None:
    """An answer meets what it begins with, as a whole word where words have spaces; /…/ is looked for anywhere."""
    assert extract.meets(text, expected) is met


def test_an_answer_that_is_not_expected_is_exit_6(asked: Asked, picture: Path) -> None:
    """The answer is printed all the same; stderr says what was expected; what does come is exit 0."""
    code, text = asked(picture, "问", greedy=True, expect="不会这样")
    assert code == 6 == exits.UNMET and set(text.strip()) <= set(CHARACTERS) and "不会这样" in asked.notes
    assert asked(picture, "问", greedy=True, expect=text.strip()[:3]) == (0, text)


def test_nothing_to_extract_is_exit_6(asked: Asked, picture: Path) -> None:
    """stdout stays empty and the answer itself goes to stderr."""
    text = asked(picture, "问", greedy=True)[1].strip()
    assert asked(picture, "问", greedy=True, extract="json") == (6, "")
    assert text in asked.notes


# ---- schemas


def test_a_schema_is_kept_to(asked: Asked, picture: Path) -> None:
    """A model of random weights, which could never write JSON, answers in the form that was asked for."""
    form = "颜色 红|blue, 数量 int, 室内 bool, 比例 float"
    for seed in range(3):
        code, text = asked(picture, "问", seed=seed, schema=form, max_tokens=120)
        value = json.loads(text)
        assert code == 0 and list(value) == ["颜色", "数量", "室内", "比例"]
        assert value["颜色"] in ("红", "blue") and isinstance(value["室内"], bool) and type(value["数量"]) is int
    record = json.loads(asked(picture, "问", seed=2, schema=form, max_tokens=120, json=True)[1])
    assert record["data"] == value and json.loads(record["text"]) == value and record["finish_reason"] == "stop"


def test_a_schema_that_the_length_cuts_off_is_exit_6(asked: Asked, picture: Path) -> None:
    """A string that never ends: nothing on stdout, the raw text on stderr, `data` null in JSON."""
    code, text = asked(picture, "问", greedy=True, schema="name", max_tokens=12)
    assert (code, text) == (6, "") and '{"name":' in asked.notes and "--max-tokens" in asked.notes
    code, text = asked(picture, "问", greedy=True, schema="name", max_tokens=12, json=True)
    assert code == 6 and json.loads(text)["data"] is None


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("name, price float, count int", {"name": "string", "price": "number", "count": "integer"}),
        ("名称，价格 小数，有货 bool", {"名称": "string", "价格": "number", "有货": "boolean"}),
        ("name: who, or what\nage int", {"name": "string", "age": "integer"}),
    ],
)
def test_the_short_form(text: str, properties: dict[str, str]) -> None:
    """Names with types, commas of either width, or a line each; all of them are required."""
    made = schema.short_form(text)
    assert {name: one["type"] for name, one in made["properties"].items()} == properties
    assert made["required"] == list(properties)


def test_the_short_form_has_lists_choices_and_remarks() -> None:
    """str[] is a list, a|b a choice; what stands behind a colon is told to the model."""
    made = schema.short_form("tags str[], 颜色 红|蓝: 主体的颜色")
    assert made["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}
    assert made["properties"]["颜色"] == {"enum": ["红", "蓝"], "description": "主体的颜色"}
    assert "主体的颜色" in schema.instruction(made) and '"红" | "蓝"' in schema.instruction(made)


@pytest.mark.parametrize("text", ["", " , ", "a, a", "a colour", "a x|"])
def test_a_wrong_short_form_is_a_usage_error(text: str) -> None:
    """Nothing, a name twice and unknown types are told."""
    with pytest.raises(UsageError):
        schema.read_schema(text)


def test_a_schema_file(tmp_path: Path) -> None:
    """A file of JSON schema is read; a missing or broken one is exit 2."""
    path = tmp_path / "形式.json"
    path.write_text('\ufeff{"type": "object", "properties": {"a": {"type": "null"}}}', encoding="utf-8")
    assert schema.read_schema(str(path))["properties"] == {"a": {"type": "null"}}
    path.write_text('{"type": NaN}')
    for name in (str(path), str(tmp_path / "none.json"), "{"):
        with pytest.raises(PromptError) as caught:
            schema.read_schema(name)
        assert exits.exit_code(caught.value) == 2


# ---- templates


def test_every_template_of_the_program_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a question in both languages under both names, and needs nothing but what it brings."""
    for language in ("zh", "en"):
        monkeypatch.setenv("BELLEVL_LANG", language)
        for chinese, (english, _) in templates.BUILT_IN.items():
            assert templates.find(chinese).filled(()) == templates.find(english.upper()).filled(()) != ""


def test_a_template_is_filled(asked: Asked, picture: Path) -> None:
    """-p fills a gap, own words follow; text in a gap is put in as it is, braces and all."""
    translate = templates.find("翻译")
    assert translate.filled(("to={question}",), "只看左边").endswith("翻译成{question}，只写译文。\n只看左边")
    code, text = asked(picture, "只看左边", template="ocr", dry_run=True)
    assert code == 0 and "逐字写出" in text and "\n只看左边<|im_end|>" in text


def test_own_templates(asked: Asked, picture: Path, tmp_path: Path) -> None:
    """A file in the settings folder is a template: its question, system prompt, schema and defaults; it goes before
    the program's own; a key that is none is told."""
    folder = tmp_path / "config" / "bellevl" / "templates"
    folder.mkdir(parents=True)
    (folder / "ocr.toml").write_text(
        'question = "看{where}: {question}"\nsystem = "只说一句。"\nschema = "n int"\n[params]\nwhere = "左边"\n',
        encoding="utf-8",
    )
    code, text = asked(picture, "几个？", template="ocr", params=("where=右边",), dry_run=True)
    assert code == 0 and "\n看右边: 几个？\n只用 JSON" in text and "只说一句。<|im_end|>" in text
    (folder / "坏.toml").write_text('question = "x"\nquestoin = "y"\n', encoding="utf-8")
    with pytest.raises(UsageError):
        templates.find("坏")


# ---- dry run, repeated answers, dialogues that go on


def test_a_dry_run_shows_the_prompt_and_loads_no_weight(
    asked: Asked, tiny_folder: Path, picture: Path, tmp_path: Path
) -> None:
    """Without weights in the folder it still works; its token count is the one of the real answer."""
    import shutil

    bare = shutil.copytree(tiny_folder, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    report = json.loads(asked(picture, "这是什么", dry_run=True, json=True, model=bare)[1])
    assert report["prompt"].startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    assert "Picture 1: <img>[4]</img>\n这是什么<|im_end|>\n<|im_start|>assistant\n" in report["prompt"]
    answered = json.loads(asked(picture, "这是什么", json=True, max_tokens=1)[1])
    tokens = report["tokens"]
    assert tokens["total"] == answered["usage"]["prompt_tokens"]
    assert tokens["total"] == sum(tokens[part] for part in ("system", "pictures", "before", "question"))
    assert report["images"][0] == {"name": picture.name, "size": [60, 40], "seen": [56, 56]}
    code, text = asked(picture, "这是什么", dry_run=True)
    assert code == 0 and report["prompt"] in text and "60×40 → 56×56" in text


def test_sure_compares_answers() -> None:
    """Agreement is how many answers have every sentence of the one that is borne out best; the others are doubtful."""
    texts = ["有一只猫。背景是草地。", "有两只狗。背景是草地！", "有一只猫；背景是草地。"]
    found = sure.compare(texts)
    assert (found.chosen, found.agree) == (0, 2)
    assert found.doubtful == (("有一只猫。", 2), ("有两只狗。", 1))
    same = sure.compare(["Yes.", "yes", "ＹＥＳ！"])
    assert (same.agree, same.doubtful) == (3, ())
    assert sure.compare(["", ""]).agree == 2


def test_sure_asks_again_with_other_seeds(asked: Asked, picture: Path) -> None:
    """--sure 3 draws three answers, prints one of them, and says how far they agree; greedy answers are refused."""
    record = json.loads(asked(picture, "问", sure=3, seed=10, max_tokens=5, json=True)[1])
    told = record["agreement"]
    assert told["seeds"] == [10, 11, 12] and len(set(told["texts"])) > 1
    assert record["text"] == told["texts"][told["chosen"]] and record["seed"] == 10 + told["chosen"]
    assert f"一致度 {told['agree']}/3" in asked.notes
    alone = json.loads(asked(picture, "问", seed=11, max_tokens=5, json=True)[1])
    assert alone["text"] == told["texts"][1]
    with pytest.raises(UsageError):
        asked(picture, "问", sure=3, greedy=True)


def test_a_dialogue_goes_on(asked: Asked, picture: Path, tmp_path: Path) -> None:
    """-c and --id answer what would have been answered in one dialogue; --no-log leaves no thread to go on with."""
    logged = ThreadWishes()
    first = json.loads(asked(picture, "这是什么", greedy=True, json=True, thread=logged)[1])
    again = json.loads(asked("颜色呢", greedy=True, json=True, thread=ThreadWishes(latest=True))[1])
    assert again["thread"] == first["thread"] and again["image"] == first["image"]
    assert again["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]
    report = json.loads(asked("颜色呢", dry_run=True, json=True, thread=ThreadWishes(id=first["thread"]))[1])
    assert f"这是什么<|im_end|>\n<|im_start|>assistant\n{first['text']}<|im_end|>" in report["prompt"]
    assert "thread" not in json.loads(asked(picture, "问", json=True, max_tokens=1)[1])


def test_a_dialogue_whose_picture_is_gone_is_exit_3(asked: Asked, other_picture: Path) -> None:
    """The picture is opened again; where it is gone the model is not asked without it."""
    asked(other_picture, "这是什么", max_tokens=2, thread=ThreadWishes())
    other_picture.unlink()
    with pytest.raises(PictureError):
        asked("颜色呢", thread=ThreadWishes(latest=True))


def test_tiles_of_a_long_picture_are_one_answer(asked: Asked, tmp_path: Path) -> None:
    """--tiles asks about each piece; without it stderr offers it."""
    path = tmp_path / "long.png"
    Image.effect_noise((60, 400), 80).convert("RGB").save(path)
    record = json.loads(asked(path, "问", greedy=True, json=True, pictures=PictureWishes(tiles="3"), max_tokens=4)[1])
    assert [tile["area"][0::2] for tile in record["tiles"]] == [[0, 60]] * 3
    assert all(tile["text"] in record["text"] for tile in record["tiles"])
    assert record["usage"]["completion_tokens"] == 12
    asked(path, "问", greedy=True, max_tokens=1)
    assert "--tiles auto" in asked.notes
