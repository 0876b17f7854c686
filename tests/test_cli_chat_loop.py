"""What the chat's commands do to the dialogue, the settings and the log, with a small real model and no terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bellevl.chat import Chat, Piece, Stats
from bellevl.drawing import Marked, draw_marked
from bellevl.prompt import Turn
from bellevl_cli.chat.bar import Bar
from bellevl_cli.chat.boxed import file_name
from bellevl_cli.chat.repl import ChatLoop
from bellevl_cli.log import Log, open_log
from bellevl_cli.log.removing import remove
from bellevl_cli.log.store import KeptLog
from bellevl_cli.options import ModelOptions, SamplingOptions
from bellevl_cli.pictures.boxes import place, read_boxes
from bellevl_cli.pictures.tiles import join_answers
from bellevl_cli.running.session import Session, load, plan
from bellevl_cli.screen.render import Renderer

GREEDY = SamplingOptions(max_tokens=8, greedy=True)


class Script:
    """Lines of a person who is not there; `offered` is what a command put on the line."""

    interactive = True
    pending = ""

    def __init__(self) -> None:
        self.offered = ""

    def read(self) -> str:
        raise EOFError

    def put(self, text: str) -> None:
        self.offered = text

    def connect(self, hooks: Any) -> None: ...


class Person:
    """Types lines; `said` and `answers` are what came of the last one on stderr and stdout."""

    def __init__(self, session: Session, sampling: SamplingOptions = GREEDY, log: Log | None = None) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.loop = ChatLoop(session, sampling, Renderer(self.out, self.err), Script(), log)
        self.said = self.answered = ""

    def types(self, *lines: str) -> Person:
        for line in lines:
            for stream in (self.out, self.err):
                stream.seek(0)
                stream.truncate()
            self.loop._survive(line)
            self.said, self.answered = self.err.getvalue().strip(), self.out.getvalue().strip()
        return self

    @property
    def turns(self) -> list[Turn]:
        return self.loop.chat.turns

    @property
    def offered(self) -> str:
        assert isinstance(self.loop.lines, Script)
        return self.loop.lines.offered


@pytest.fixture(scope="module")
def session(tiny_folder: Path) -> Session:
    """The small checkpoint, loaded once."""
    return load(plan(ModelOptions(tiny_folder, "cpu")), 4096, lambda memory: None)


@pytest.fixture
def fresh(session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    """The same with nothing said yet, in a folder of the test's own, in Chinese."""
    from bellevl.chat import Dialogue
    from bellevl.prompt import DEFAULT_SYSTEM

    monkeypatch.setenv("BELLEVL_LANG", "zh")
    monkeypatch.delenv("BELLEVL_NO_LOG", raising=False)
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    session.chat.go_back(Dialogue())
    session.chat.system, session.chat.row = DEFAULT_SYSTEM, None
    return session


@pytest.fixture
def person(fresh: Session) -> Person:
    return Person(fresh)


@pytest.fixture
def pictures(fresh: Session, tmp_path: Path) -> None:
    """cat.png and a long.png in the current folder."""
    Image.effect_noise((64, 48), 90).convert("RGB").save(tmp_path / "cat.png")
    Image.effect_noise((30, 200), 60).convert("RGB").save(tmp_path / "long.png")


# ---- undo, edit, retry, prev, continue


def test_undone_is_never_asked(fresh: Session) -> None:
    """After /undo the next answer is what it is where the question was never asked."""
    straight = Person(fresh).types("一", "三")
    turns = list(straight.turns)
    fresh.chat.clear()
    undone = Person(fresh).types("一", "二", "/undo")
    assert "已撤销: 二" in undone.said
    assert undone.types("三").turns == turns


def test_an_edited_question_takes_the_last_one_s_place(fresh: Session) -> None:
    """/edit offers the last question; what is sent then is answered as if only that had been asked."""
    straight = list(Person(fresh).types("一", "三").turns)
    fresh.chat.clear()
    person = Person(fresh).types("一", "二", "/edit")
    assert person.offered == "二" and len(person.turns) == 2
    assert person.types("三").turns == straight


def test_an_edit_that_is_not_sent_changes_nothing(person: Person) -> None:
    """Another command behind /edit ends it: the question after that is a new one."""
    person.types("一", "/edit", "/tokens", "二")
    assert [turn.question for turn in person.turns] == ["一", "二"]


def test_a_picture_s_turn_can_be_edited(person: Person, pictures: None) -> None:
    """The first question about a picture, edited, is still asked about the picture."""
    person.types("/img cat.png 一", "/edit", "二")
    assert [(turn.question, turn.pictures) for turn in person.turns] == [("二", 1)]


def test_continue_joins_without_a_seam(fresh: Session) -> None:
    """An answer cut at 8 tokens and continued by 8 is the answer of 16; only the new part is shown."""
    whole = Person(fresh, SamplingOptions(max_tokens=16, greedy=True)).types("一").turns[0].answer
    fresh.chat.clear()
    person = Person(fresh).types("一")
    assert "(未完，/continue 继续)" in person.said
    begun = person.turns[0].answer or ""
    person.types("/继续")
    assert person.turns[0].answer == whole and begun + person.answered == whole and len(person.turns) == 1


def test_a_whole_answer_is_not_continued(person: Person) -> None:
    """/continue behind an answer that ended by itself says so and asks nothing."""
    person.types("一")
    person.loop.chat.finish_reason = "stop"
    person.types("/continue")
    assert "已经完整" in person.said and person.answered == ""


def test_prev_goes_back_to_the_answer_before(fresh: Session) -> None:
    """/retry draws with another seed; /prev puts the old answer back, again the new one; the dialogue follows."""
    person = Person(fresh, SamplingOptions(max_tokens=8, temperature=3.0, top_p=1.0, seed=1)).types("一")
    first = person.turns[0].answer
    second = person.types("/retry").turns[0].answer
    assert second != first and len(person.turns) == 1
    person.types("/prev")
    assert person.answered == person.turns[0].answer == first and "第 1/2 个回答" in person.said
    assert person.types("/prev").turns[0].answer == second
    assert "只有一个回答" in person.types("二", "/prev").said


def test_retry_takes_a_seed(fresh: Session) -> None:
    """/retry --seed N is the answer of that seed, in any spelling; nonsense is told."""
    drawn = SamplingOptions(max_tokens=8, temperature=3.0, top_p=1.0)
    person = Person(fresh, drawn).types("一", "/retry --seed 7")
    seventh = person.turns[0].answer
    for spelling in ("/retry 7", "/重答 seed=7", "／重答：７", "/retry --seed=7"):
        assert person.types(spelling).turns[0].answer == seventh
    assert "用法: /retry" in person.types("/retry x").said


def test_a_retry_stopped_at_once_keeps_the_old_answer(person: Person) -> None:
    """Ctrl-C before the first token of /retry: the dialogue has the answer it had."""
    person.types("一")
    before = list(person.turns)
    person.loop.interrupts.asked = lambda: True  # type: ignore[method-assign]
    person.types("/retry")
    assert person.turns == before


def test_commands_need_something_to_work_on(person: Person) -> None:
    """Before the first question the commands about answers say that there is none."""
    for line in ("/retry", "/continue", "/edit", "/undo", "/export a.html"):
        assert "还没有问过问题" in person.types(line).said
    assert "还没有回答" in person.types("/copy").said
    assert "只有一个回答" in person.types("/prev").said


# ---- pictures


def test_pictures_have_threads(person: Person, pictures: None) -> None:
    """A new picture opens a thread; /imgs lists both; /img 1 goes back with its dialogue, and its features are kept."""
    person.types("/img cat.png 一", "二")
    turns = list(person.turns)
    features = person.loop.chat.dialogue().features
    assert "图片 [2] long.png 30×200" in person.types("/img long.png").said
    assert "/img 1 回到上一个对话" in person.said and person.turns == []
    person.types("三")
    assert person.types("/imgs").said.splitlines() == ["1  cat.png (2 轮)", "2* long.png (1 轮)"]
    person.types("/img 1")
    assert "已有 2 轮" in person.said and person.turns == turns
    assert person.loop.chat.dialogue().features is features
    assert "1* cat.png (2 轮)" in person.types("/imgs").said


def test_a_bad_picture_keeps_the_old_one(person: Person, pictures: None) -> None:
    """/img with a file that is none: the error, and everything as it was; a number that is no thread is a file."""
    person.types("/img cat.png 一")
    before = person.loop.chat.dialogue()
    assert "找不到图片" in person.types("/img 没有.png").said
    assert "找不到图片" in person.types("/img 9").said
    assert person.loop.chat.dialogue() == before and person.loop.failure == 3


def test_several_dropped_pictures_are_several_threads(person: Person, pictures: None, tmp_path: Path) -> None:
    """Paths of two pictures on one line open both; a question behind them is about the last."""
    person.types(f"{tmp_path}/cat.png {tmp_path}/long.png 这是什么")
    assert [thread.title for thread in person.loop.threads.listed()] == ["cat.png", "long.png"]
    assert [turn.question for turn in person.turns] == ["这是什么"]


def test_the_last_question_is_asked_about_a_new_picture(person: Person, pictures: None) -> None:
    """Behind a new picture /retry asks the last question about that picture, not about the old one."""
    person.types("/img cat.png 这是什么", "/img long.png", "/retry")
    assert [(turn.question, turn.pictures) for turn in person.turns] == [("这是什么", 1)]
    assert person.loop.chat.picture is not None and person.loop.chat.picture.size == (30, 200)


def test_a_piece_is_a_thread_of_its_own(person: Person, pictures: None) -> None:
    """/crop asks about the piece alone; /crop off goes back to the whole picture and its dialogue."""
    person.types("/img cat.png 一", "/crop 左上")
    assert "[0,0,32,24]" in person.said and person.turns == []
    assert person.loop.chat.picture is not None and person.loop.chat.picture.size == (32, 24)
    person.types("二", "/crop off")
    assert [turn.question for turn in person.turns] == ["一"]
    assert "已经是整张图" in person.types("/crop off").said
    assert "错误" in person.types("/crop 1,2").said


def test_zoom_looks_into_a_box(person: Person, pictures: None) -> None:
    """/zoom 1 is the piece around the first box of the newest answer that has one; another number says how many."""
    person.types("/img cat.png 一")
    box = "<ref>猫</ref><box>(500,500),(750,750)</box>"
    person.loop.chat.turns[-1] = Turn("一", box, 1)
    assert "错误" in person.types("/zoom 2").said
    person.types("/zoom 1")
    picture = person.loop.threads.current.picture
    assert picture is not None and picture.area is not None
    assert picture.area[0] <= 32 and picture.area[2] >= 48


def test_tiles_ask_piece_by_piece(person: Person, pictures: None) -> None:
    """A long picture is offered /tiles; each piece is answered, together they are one turn about the whole."""
    assert "/tiles" in person.types("/img long.png").said
    person.types("/tiles 写了什么")
    assert "第 1/" in person.said and len(person.answered.splitlines()) > 2
    assert [(turn.question, turn.pictures) for turn in person.turns] == [("写了什么", 1)]
    assert person.turns[0].answer == join_answers(person.answered.splitlines())
    assert person.loop.chat.picture is not None and person.loop.chat.picture.size == (30, 200)
    assert "不用分块" in person.types("/img cat.png", "/tiles 一").said


def test_show_saves_the_boxes(person: Person, pictures: None, tmp_path: Path) -> None:
    """/show FILE writes the picture with the boxes of the last answer; without a terminal /show says it cannot."""
    person.types("/img cat.png 一")
    person.loop.chat.turns[-1] = Turn("一", "<ref>猫</ref><box>(100,100),(900,900)</box>", 1)
    assert "1 个框" in person.types("/show 框.png").said
    with Image.open(tmp_path / "框.png") as drawn, Image.open(tmp_path / "cat.png") as plain:
        assert drawn.size == plain.size and drawn.convert("RGB").tobytes() != plain.tobytes()
    assert "不能显示" in person.types("/show").said


# ---- boxes


BOXED = "<ref>猫</ref><box>(100,100),(900,900)</box>和<ref>狗</ref><box>(1,2),(30,40)</box>"


@pytest.fixture
def boxed(fresh: Session, pictures: None, monkeypatch: pytest.MonkeyPatch) -> Person:
    """A person whose questions are all answered by two boxes, with a log."""

    def answered(chat: Chat, turns: list[Turn], *arguments: Any, **keywords: Any) -> Iterator[Piece]:
        chat.turns = [*turns[:-1], replace(turns[-1], answer=BOXED)]
        yield Piece(BOXED, 9, "stop", Stats(10, 9, 0.0, 0.1, 0.2))

    monkeypatch.setattr(Chat, "_answer", answered)
    return Person(fresh, log=open_log())


def kept(tmp_path: Path) -> list[Path]:
    """Pictures with boxes that were kept."""
    return sorted((tmp_path / "XDG_DATA_HOME/bellevl/boxes").rglob("*.png"))


def test_boxes_are_drawn_beside_the_log(boxed: Person, tmp_path: Path) -> None:
    """An answer with boxes leaves cat.boxes.png in its dialogue's folder and says where, on stderr; the picture itself
    stays as it is, and another answer takes the file's place."""
    before = (tmp_path / "cat.png").read_bytes()
    said = boxed.types("/img cat.png 框出来").said
    [path] = kept(tmp_path)
    assert f"已写 {path} (2 个框)" in said and path.name == "cat.boxes.png"
    assert path.parent.name == boxed.loop.threads.current.log_id and path.parent.stat().st_mode & 0o077 == 0
    with Image.open(path) as drawn, Image.open(tmp_path / "cat.png") as plain:
        assert drawn.size == plain.size and drawn.convert("RGB").tobytes() != plain.tobytes()
    assert boxed.answered == "猫[1]和狗[2]" and (tmp_path / "cat.png").read_bytes() == before
    boxed.types("再来", "/retry")
    assert kept(tmp_path) == [path]


def test_boxes_of_a_piece_are_drawn_on_the_whole(boxed: Person, tmp_path: Path) -> None:
    """Behind /crop the boxes stand where they are in the whole picture."""
    boxed.types("/img cat.png", "/crop 32,24,64,48", "框出来")
    [path] = kept(tmp_path)
    placed = place(read_boxes(BOXED).boxes, (64, 48), (32, 24, 64, 48))
    marked = [Marked(box.label, box.number, box.xyxy_px) for box in placed]
    assert all(box.xyxy_px[0] >= 32 and box.xyxy_px[1] >= 24 for box in placed)
    with Image.open(path) as image, Image.open(tmp_path / "cat.png") as plain:
        assert image.convert("RGB").tobytes() == draw_marked(plain.convert("RGB"), marked).tobytes()


def test_a_kept_dialogue_about_a_piece_goes_back_to_the_whole(boxed: Person) -> None:
    """The log keeps which piece was asked about: taken up again it is that piece, and /crop off shows the whole."""
    boxed.types("/img cat.png", "/crop 32,24,64,48", "框出来", "/name 角落", "/reset", "/load 角落")
    picture = boxed.loop.threads.current.picture
    assert picture is not None and picture.area == (32, 24, 64, 48)
    boxed.types("/crop off")
    picture = boxed.loop.threads.current.picture
    assert picture is not None and picture.area is None and picture.picture.size == (64, 48)


def test_boxes_can_be_left_undrawn(boxed: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/set draw_boxes off, the setting, and a chat without a log keep nothing; a wrong word changes nothing."""
    assert "draw_boxes = off" in boxed.types("/set draw_boxes off").said
    assert boxed.types("/img cat.png 框出来").said.count("boxes.png") == 0 and kept(tmp_path) == []
    assert "没有改动" in boxed.types("/set 画框 也许").said
    assert re.search(r"draw_boxes\s+off\s+本次设置", boxed.types("/set").said)
    assert "draw_boxes = on" in boxed.types("/set draw_boxes default").said
    unlogged = Person(boxed.loop.session).types("/img cat.png 框出来")
    assert unlogged.answered == "猫[1]和狗[2]" and kept(tmp_path) == []
    monkeypatch.setenv("BELLEVL_DRAW_BOXES", "off")
    assert "环境变量" in Person(boxed.loop.session, log=boxed.loop.log).types("/set").said


def test_a_full_disk_does_not_end_an_answer(boxed: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the drawn picture cannot be written it is said in a line, and the answer stands."""

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bellevl_cli.chat.boxed.save_image", full)
    said = boxed.types("/img cat.png 框出来").said
    assert "没有保存" in said and boxed.answered == "猫[1]和狗[2]" and len(boxed.turns) == 1


def test_removed_dialogues_take_their_drawings_along(boxed: Person, tmp_path: Path) -> None:
    """`logs rm` removes what was drawn for the dialogue, and nothing of another one."""
    boxed.types("/img cat.png 框出来")
    first = boxed.loop.threads.current.log_id
    boxed.types("/img long.png 框出来")
    assert len(kept(tmp_path)) == 2 and isinstance(boxed.loop.log, KeptLog) and first is not None
    remove(boxed.loop.log.connection, tmp_path / "XDG_DATA_HOME/bellevl", [first])
    assert [path.name for path in kept(tmp_path)] == ["long.boxes.png"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("photos/猫.jpg", "猫.boxes.png"), ("-", "-.boxes.png"), ("..", "picture.boxes.png"), ("长" * 200, "长" * 60)],
)
def test_names_of_drawn_pictures(name: str, expected: str) -> None:
    """The file is called like the picture, in a folder of its own whatever that name is."""
    assert file_name(name).startswith(expected) and "/" not in file_name(name)


# ---- clear, reset, settings


def test_clear_keeps_the_picture_and_reset_nothing(person: Person, pictures: None) -> None:
    """/clear forgets the dialogue, /reset the pictures and settings too; each says which."""
    person.types("/img cat.png 一", "/set temperature 0.3", "/set system 简短")
    assert person.types("/clear").said == "对话已清空，图片保留: cat.png"
    assert person.turns == [] and person.loop.chat.picture is not None
    assert "图片和设置都已清空" in person.types("/reset").said
    assert person.loop.chat.picture is None and person.loop.chat.system == "You are a helpful assistant."
    assert person.loop.parameters.keywords() == {"max_tokens": 8, "greedy": True}
    assert "还没有图片" in person.types("/imgs").said


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("/set temperature 0.2", "temperature", 0.2),
        ("/set 温度 ０．５", "temperature", 0.5),
        ("/set top_p=0.7", "top_p", 0.7),
        ("/set top-k 5", "top_k", 5),
        ("/set repetition_penalty 1.2", "repetition_penalty", 1.2),
        ("/set max_tokens 3", "max_tokens", 3),
        ("/set greedy off", "greedy", False),
        ("/set seed 42", "seed", 42),
    ],
)
def test_each_setting_reaches_the_sampler(
    person: Person, monkeypatch: pytest.MonkeyPatch, line: str, name: str, value: object
) -> None:
    """What /set changes is what the model's tokens are drawn with."""
    from bellevl import chat

    used: list[Any] = []
    real = chat.generate
    monkeypatch.setattr(chat, "generate", lambda *a, **k: used.append(k["sampling"]) or real(*a, **k))
    person.types(line, "一")
    assert getattr(used[-1], name) == value
    assert f"{name} = " in person.types(f"/set {name}").said
    person.types(f"/set {name} default", "二")
    assert getattr(used[-1], name) == getattr(Person(person.loop.session).loop.parameters.settled(), name) or (
        name == "seed"
    )


def test_wrong_values_change_nothing(person: Person) -> None:
    """Out of range: the range is shown; no number, no such name: said; the settings are as before."""
    before = person.loop.parameters.settled()
    assert "不在 0 到 100 之间；没有改动" in person.types("/set temperature 200").said
    assert "不是数字" in person.types("/set temperature 热").said
    assert "没有设置 heat" in person.types("/set heat 1").said
    assert "不是整数" in person.types("/set max_tokens 1.5").said
    assert person.loop.parameters.settled() == before


def test_set_lists_values_and_their_sources(fresh: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """/set alone names every setting, its value, and who gave it."""
    monkeypatch.setenv("BELLEVL_TOP_P", "0.5")
    said = Person(fresh).types("/set seed 5", "/set").said
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines()}
    assert rows["seed"] == ["5", "本次设置"] and rows["max_tokens"] == ["8", "命令行"]
    assert rows["top_k"] == ["0", "模型默认"] and rows["top_p"][1] == "环境变量"


def test_the_system_prompt_can_be_set(person: Person) -> None:
    """/set system changes what the model is told, and default takes it back."""
    ids = len(person.types("一").loop.chat.parts().turns)
    short = person.loop.chat.parts().system
    person.types("/set system 请用一句话回答")
    assert person.loop.chat.parts().system != short and ids == 1
    person.types("/set system default")
    assert person.loop.chat.parts().system == short


def test_tokens_add_up(person: Person, pictures: None) -> None:
    """/tokens: system, picture and turns add up to what is used, which is what the next prompt begins with."""
    person.types("/img cat.png 一", "二", "/tokens")
    numbers = [int(re.split(r"\s{2,}", line.strip())[1]) for line in person.said.splitlines()[1:-1]]
    assert person.said.startswith(f"上下文 {sum(numbers)}/2048 token")
    assert "先忘记第 2 轮" in person.said
    prompt = person.loop.chat._prompt([*person.turns, Turn("三")], person.loop.parameters.settled())
    question = len(prompt.ids) - sum(numbers)
    assert 0 < question < 40


def test_a_full_window_is_told_and_keeps_the_picture(person: Person, pictures: None) -> None:
    """The oldest turns but the picture's are forgotten, by their numbers; the line below turns red; /tokens marks."""
    person.types("/img cat.png 图", "山" * 700, "水" * 700, "石" * 700)
    assert "(上下文已满，忘记第 2 轮)" in person.said
    assert person.loop.bar().nearly_full
    assert "(已忘记)" in person.types("/tokens").said and "先忘记第 3 轮" in person.said


def test_a_question_too_long_is_refused_with_numbers(person: Person) -> None:
    """A question that fits no window is an error with both numbers, and the dialogue is as it was."""
    person.types("一")
    before = list(person.turns)
    said = person.types("山" * 5000).said
    assert "5000" in said and "错误" in said and person.turns == before


def test_stats_and_info(person: Person, pictures: None) -> None:
    """/stats shows the last answer's timings, /stats on after each one; /info names model, window and picture."""
    assert "还没有回答" in person.types("/stats").said
    assert "token/s" in person.types("/img cat.png 一", "/stats").said
    assert "token/s" in person.types("/stats on", "二").said
    assert "token/s" not in person.types("/stats off", "三").said
    info = person.types("/info").said
    assert "tiny" in info and "cat.png  64×48" in info and "/2048 token" in info


def test_a_nearly_full_window_is_red_below_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 85 % on, or when turns are forgotten, the window's figures are in the style that is drawn red."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")

    def style(bar: Bar) -> str:
        return next(style for style, text in bar.parts() if "上下文" in text)

    assert style(Bar(used=850, window=1000)) == "class:full" == style(Bar(used=1, window=1000, forgotten=True))
    assert style(Bar(used=849, window=1000)) == ""


# ---- the log


@pytest.fixture
def logged(fresh: Session) -> Person:
    """A chat with a log."""
    return Person(fresh, log=open_log())


def stored(person: Person) -> list[tuple[str, str]]:
    """(question, answer) of the current thread in the log."""
    assert person.loop.threads.current.log_id is not None
    thread = person.loop.log.thread(person.loop.threads.current.log_id)
    return [(turn.question, turn.answer) for turn in thread.turns]


def said_so_far(person: Person) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer or "") for turn in person.turns]


def test_the_log_is_the_dialogue(logged: Person, pictures: None) -> None:
    """After questions, /retry, /prev, /undo, /continue and /edit the log has what the dialogue has."""
    logged.types("/img cat.png 一")
    for lines in ("二", "/retry", "/prev", "/continue", "/undo", "/edit\n三", "/tiles 四"):
        logged.types(*lines.splitlines())
        assert stored(logged) == said_so_far(logged)


def test_a_named_dialogue_is_taken_up_again(logged: Person, fresh: Session, pictures: None) -> None:
    """/name and /sessions; /load by the name goes on with the dialogue and its picture, in a later chat too."""
    from bellevl.chat import Dialogue

    logged.types("/img cat.png 一", "二", "/name 发票")
    turns = said_so_far(logged)
    logged.loop.log.close()
    fresh.chat.go_back(Dialogue())
    later = Person(fresh, log=open_log())
    assert "发票" in later.types("/sessions").said and "cat.png" in later.said
    said = later.types("/load 发票").said
    assert "已有 2 轮" in said and "上一个问题: 二" in said
    assert said_so_far(later) == turns and later.turns[0].pictures == 1
    later.types("三")
    assert stored(later) == [*turns, ("三", later.turns[-1].answer)]
    assert "错误" in later.types("/load 没有这个").said


def test_a_cleared_dialogue_stays_in_the_log(logged: Person) -> None:
    """/clear begins a new dialogue in the log; the old one is there under its own id."""
    logged.types("一")
    first = logged.loop.threads.current.log_id
    logged.types("/clear", "二")
    assert [turn.question for turn in logged.loop.log.thread(first).turns] == ["一"]
    assert stored(logged) == said_so_far(logged)


def test_nothing_is_named_without_a_log(person: Person) -> None:
    """With the log off /name says so, and /sessions finds nothing."""
    assert "没有记录" in person.types("一", "/name 发票").said
    assert "还没有记录" in person.types("/sessions").said


@pytest.mark.parametrize("with_log", [True, False])
def test_export_writes_a_report(fresh: Session, pictures: None, tmp_path: Path, with_log: bool) -> None:
    """/export makes one file of every dialogue of the chat, logged or not; another ending is refused."""
    person = Person(fresh, log=open_log(with_log)).types("/img cat.png 一", "/img long.png 二", "/export 报告.html")
    assert "报告: 报告.html" in person.said
    page = (tmp_path / "报告.html").read_text(encoding="utf-8")
    assert page.count("<h2>") == 2 and "cat.png" in page and "long.png" in page and "data:image/" in page
    assert "错误" in person.types("/export 报告.pdf").said
