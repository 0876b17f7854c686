"""The page of `bellevl serve` in a real browser. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium
from PIL import Image
from test_cli_serve import Running

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium here")

MARKUP = (
    "图中<ref>猫</ref><box>(100,200),(500,800)</box>在**<ref>窗台</ref><box>（0，900），（1000，1000）</box>**上"
    "<img src=x>"
)


#: left, top, right, bottom of an element, in JavaScript
RECTANGLE = "(r => [r.left, r.top, r.right, r.bottom])(document.querySelector('%s').getBoundingClientRect())"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("page"), tiny_folder)
    yield running
    running.end()


@pytest.fixture
def browser(server: Running, tmp_path: Path) -> Iterator[Browser]:
    """The page, open and ready, in Chinese; at the end it must have asked nobody else and had no error."""
    with Browser(tmp_path / "profile") as opened:
        opened.open(server.url)
        opened.wait("document.getElementById('model').textContent")
        yield opened
        own = (server.url, f"blob:{server.url}", "data:")
        assert [url for url in opened.requests if not url.startswith(own) and url != "about:blank"] == []
        assert opened.errors == []


def shown(browser: Browser, picture: Path) -> None:
    before = browser.run("threads.length")
    browser.choose("#file", picture)
    browser.wait(f"threads.length === {before + 1} && !document.getElementById('frame').hidden")


def test_a_picture_is_asked_about_and_answered(browser: Browser, picture: Path) -> None:
    """By keyboard alone: a picture, a question, its answer as it streams; Esc stops; a second one goes on."""
    shown(browser, picture)
    assert browser.run("document.activeElement.id") == "question"
    browser.run("settings.maxTokens = 6")
    browser.type("这是什么")
    browser.enter(8)  # Shift: a new line, not a question
    browser.type("呢")
    browser.enter()
    browser.wait("threads[0].turns[0]?.state === 'done'")
    assert browser.run("threads[0].turns[0].question") == "这是什么\n呢"
    # six tokens of random weights: mostly a few characters, now and then none, and then there is nothing to show
    assert len(browser.run("document.querySelector('.answer')?.innerText ?? ''")) <= 6
    browser.run("settings.maxTokens = 60000")
    browser.type("再说")
    browser.enter()
    browser.wait("threads[0].turns[1]?.raw.length > 3 && document.querySelector('.send.busy')")
    browser.press("Escape", 27)
    browser.wait("document.getElementById('log').innerText.includes('已停止')")
    assert browser.run("messages(threads[0]).map(m => m.role).join()") in ("user,assistant,user", "user,user")


def test_every_picture_has_its_dialogue(browser: Browser, picture: Path, tmp_path: Path) -> None:
    """A second picture is a second dialogue, the first one's stays; a picture taken away takes its own along."""
    other = tmp_path / "另一张.png"
    Image.new("RGB", (90, 30), "blue").save(other)
    browser.run("settings.maxTokens = 4")
    shown(browser, picture)
    browser.type("一")
    browser.enter()
    browser.wait("threads[0].turns[0]?.state === 'done'")
    shown(browser, other)
    assert browser.run("document.querySelectorAll('.turn').length") == 0
    assert "另一张.png · 90×30" in browser.run("document.getElementById('caption').textContent")
    browser.press("ArrowUp", 38, modifiers=1)
    assert browser.run("[current === threads[0], document.querySelectorAll('.turn').length].join()") == "true,1"
    browser.run("document.querySelectorAll('.close')[0].click()")
    assert (
        browser.run("[threads.length, current.name, document.querySelectorAll('.turn').length].join()")
        == "1,另一张.png,0"
    )


def test_boxes_are_drawn_where_they_belong(browser: Browser, picture: Path) -> None:
    """At their thousandths of the picture, labelled; a number points at its box; nothing is taken for HTML."""
    shown(browser, picture)
    browser.run(f"threads[0].turns.push({{question: '框', raw: {MARKUP!r}, state: 'done'}}); show(threads[0])")
    frame, box = (browser.run(RECTANGLE % name) for name in ("#shown", ".box"))
    across, down = frame[2] - frame[0], frame[3] - frame[1]
    place = [(edge - frame[at % 2]) / (across, down)[at % 2] for at, edge in enumerate(box)]
    assert place == pytest.approx([0.1, 0.2, 0.5, 0.8], abs=0.01)
    assert browser.run("[...document.querySelectorAll('.box span')].map(e => e.textContent).join('|')") == "猫 1|窗台 2"
    assert browser.run("document.querySelector('.answer').innerText") == "图中猫1在窗台2上<img src=x>"
    assert browser.run("document.querySelectorAll('.answer img').length") == 0
    browser.run("document.querySelectorAll('.mark')[1].focus()")
    assert (
        browser.run("[...document.querySelectorAll('.box')].map(b => b.classList.contains('this')).join()")
        == "false,true"
    )
    assert browser.run("plainAnswer(threads[0].turns[0].raw)") == "图中猫[1]在**窗台[2]**上<img src=x>"


def test_half_a_tag_is_never_shown(browser: Browser) -> None:
    """However far an answer came, no part of its markup is on the screen."""
    texts = browser.run(f"[...Array({len(MARKUP)}).keys()].map(n => readAnswer({MARKUP!r}.slice(0, n), false).text)")
    assert all(tag not in text for text in texts for tag in ("<r", "<b", "</", "(1", "ref", "box"))


def test_a_picture_the_browser_cannot_show_is_shown(browser: Browser, tmp_path: Path) -> None:
    """A TIFF comes back readable from the server; what is no picture is told and opens nothing."""
    Image.new("RGB", (40, 20), "green").save(tmp_path / "扫描.tiff")
    shown(browser, tmp_path / "扫描.tiff")
    assert browser.run("[current.width, current.height].join()") == "40,20"
    (tmp_path / "x.png").write_bytes(b"not a picture")
    browser.choose("#file", tmp_path / "x.png")
    browser.wait("!document.getElementById('toast').hidden")
    assert "x.png" in browser.run("document.getElementById('toast').textContent") and browser.run("threads.length") == 1
    browser.errors.clear()  # the browser's own word about the refused preview


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (860, 700), (390, 780), (320, 560)])
def test_it_fits_the_window(browser: Browser, picture: Path, width: int, height: int) -> None:
    """Nothing sticks out of a wide or narrow window; picture, dialogue and input are in it, in both languages."""
    browser.size(width, height)
    shown(browser, picture)
    for _ in range(2):
        browser.run("document.getElementById('language').click()")
        browser.wait("document.getElementById('shown').getBoundingClientRect().width > 40")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        for element in ("shown", "question", "send", "caption", "settings"):
            box = browser.run(RECTANGLE % f"#{element}")
            assert box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height, (element, box)


def test_dark_and_light_and_both_languages(browser: Browser) -> None:
    """The system's choice of dark is followed until a person chooses; every text changes with the language."""
    browser.dark(True)
    browser.wait("document.documentElement.dataset.theme === 'dark'")
    browser.run("document.getElementById('theme').click()")
    assert browser.run("document.documentElement.dataset.theme") == "light"
    browser.run("document.getElementById('language').click()")
    assert browser.run("document.documentElement.lang") == "en"
    text = browser.run("document.body.innerText + [...document.querySelectorAll('[aria-label]')].map(e => e.ariaLabel)")
    assert "Drop a picture here" in text
    assert not [c for c in text.replace("中文", "") if "\u4e00" <= c <= "\u9fff"]
    assert browser.run("Object.keys(WORDS.zh).sort().join() === Object.keys(WORDS.en).sort().join()")
    gaps = "(o) => Object.keys(o).sort().map(k => (o[k].match(/\\{\\w+\\}/g) || []).sort().join())"
    assert browser.run(f"JSON.stringify(({gaps})(WORDS.zh)) === JSON.stringify(({gaps})(WORDS.en))")


def test_settings_reach_the_request(browser: Browser, picture: Path) -> None:
    """What the dialog says goes with the next question, and survives a reload; a picture does not."""
    browser.run("document.getElementById('settings').click()")
    browser.run("document.getElementById('max-tokens').value = 2; document.getElementById('system').value = '简短'")
    browser.run("document.getElementById('temperature').value = 0")  # random weights may end at once where they draw
    browser.run("document.querySelector('#settings-form .solid').click()")
    browser.wait("settings.maxTokens === 2 && settings.temperature === 0")
    shown(browser, picture)
    browser.type("q")
    browser.enter()
    browser.wait("threads[0].turns[0]?.state === 'done'")
    assert browser.run("threads[0].turns[0].usage.completion_tokens") == 2
    assert browser.run("messages(threads[0])[0].content") == "简短"
    browser.run("location.reload()")
    browser.wait("typeof settings !== 'undefined' && settings.maxTokens === 2 && !threads.length")
