"""Requests of OpenAI's shape: what is understood, what is refused, and in which words. Without a model."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bellevl.errors import PictureError, PromptError
from bellevl_cli.exits import UsageError
from bellevl_cli.serve import api_errors
from bellevl_cli.serve.api_errors import ApiError
from bellevl_cli.serve.guarding import Door
from bellevl_cli.serve.requests import Exchange, StopFinder, parse, read_json
from bellevl_cli.serve.run import ServeOptions, checked

PICTURE = b"\x89PNG picture \xff\xfe bytes"
URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()


def user(*parts: str | dict[str, Any]) -> dict[str, Any]:
    """A user's message; an address among its parts is a picture."""
    content: list[Any] = []
    for part in parts:
        if isinstance(part, str) and part.lower().startswith(("data:", "http", "file:")):
            content.append({"type": "image_url", "image_url": {"url": part}})
        else:
            content.append({"type": "text", "text": part} if isinstance(part, str) else part)
    return {"role": "user", "content": content}


def model(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def request(*messages: dict[str, Any], **more: Any) -> Any:
    return parse({"model": "nano", "messages": list(messages), **more}, ("nano", "bellevl"))


def refusal(*messages: Any, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        request(*messages, **more)
    return caught.value


def test_a_dialogue_becomes_question_history_and_picture() -> None:
    """System prompt, the picture with its question, the answers so far, and the new question."""
    asked = request(
        {"role": "system", "content": "简短"},
        {"role": "developer", "content": [{"type": "text", "text": "中文"}]},
        user(URL, "这是什么？"),
        model("一只<ref>猫</ref>"),
        {"role": "user", "content": "什么颜色"},
        {"role": "user", "content": "快说"},
    )
    assert asked.system == "简短\n中文" and asked.picture == PICTURE
    assert asked.history == (Exchange("这是什么？", "一只<ref>猫</ref>", pictured=True),)
    assert asked.question == "什么颜色\n快说" and not asked.stream and asked.forgotten == 0


def test_the_newest_picture_counts() -> None:
    """The model sees one picture: the dialogue begins with the newest one, and how much was left out is known."""
    other = "data:image/jpeg;base64," + base64.b64encode(b"other").decode()
    asked = request(user(URL, "一"), model("甲"), user("二", other), model("乙"), user("三"))
    assert asked.picture == b"other" and asked.question == "三"
    assert asked.history == (Exchange("二", "乙", pictured=True),) and asked.forgotten == 2
    assert refusal(user(URL, other, "比较")).code == "pictures"


def test_a_picture_alone_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message with nothing but a picture asks what `bellevl ask` asks then."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    assert request(user(URL)).question == "描述图片"
    monkeypatch.setenv("BELLEVL_QUESTION", "图里有什么")
    assert request(user(URL)).question == "图里有什么"
    assert request(model("你好，我能看图"), user("你好")).history == ()


def test_settings_go_to_the_sampler_by_its_own_names() -> None:
    """OpenAI's names and this program's further ones; temperature 0 is greedy."""
    asked = request(
        user("q"), temperature=0, top_p=1, max_completion_tokens=7, seed=3, top_k=5, repetition_penalty=1.1,
        stream=True, stream_options={"include_usage": True}, stop="。", n=1, tools=None, frequency_penalty=0, user="me",
    )  # fmt: skip
    expected = {"temperature": 0.0, "greedy": True, "top_p": 1.0, "max_tokens": 7, "seed": 3, "top_k": 5}
    assert asked.sampling == {**expected, "repetition_penalty": 1.1}
    assert asked.stream and asked.include_usage and asked.stops == ("。",)
    assert request(user("q"), model="bellevl", temperature=0.5).sampling == {"temperature": 0.5, "greedy": False}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"seed": "1"}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": 7}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0]"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    """A 400 in OpenAI's shape that names the part of the request; nothing is ignored that would change the answer."""
    error = refusal(user("q"), **more)
    assert error.status == 400 and error.param == param
    assert set(error.body["error"]) == {"message", "type", "param", "code"}
    assert error.body["error"]["type"] == "invalid_request_error" and param.split("[")[0] in error.message


@pytest.mark.parametrize("url", ["http://localhost/x.png", "https://e/x.png", "file:///etc/passwd", "ftp://e", "x.png"])
def test_nothing_is_fetched(url: str) -> None:
    """An address instead of a picture is refused, whatever it points at."""
    part = {"type": "image_url", "image_url": {"url": url}}
    assert refusal(user("q", part)).code == "picture_url"
    assert refusal(user("q", {"type": "image_url", "image_url": {}})).code == "value"


def test_an_unknown_model_is_not_found() -> None:
    """Another model's name is a 404 that says what is here; no name takes what there is."""
    error = refusal(user("q"), model="gpt-4o")
    assert (error.status, error.code) == (404, "model_not_found") and "nano" in error.message
    assert parse({"messages": [user("q")]}, ("nano",)).question == "q"


@pytest.mark.parametrize(
    "address",
    [
        URL,
        URL.rstrip("="),
        URL.replace("image/png", "image/*"),
        URL.replace(";base64", ";charset=utf-8;base64").replace("data:", "DATA:"),
        URL[:30] + "\n " + URL[30:],
        URL.replace("+", "-").replace("/", "_").replace("data:image_png", "data:image/png"),
        URL.replace("+", "%2B").replace("=", "%3D"),
    ],
)
def test_data_urls_as_clients_write_them(address: str) -> None:
    """Without padding, broken into lines, in the URL's own alphabet: the same bytes."""
    assert request(user("q", address)).picture == PICTURE


@pytest.mark.parametrize("data", ["", "!!!!", "AAA=A", "A"])
def test_damaged_base64_is_told(data: str) -> None:
    """Data that is no base64 is a 400, before any picture is opened."""
    assert refusal(user("q", f"data:image/png;base64,{data}")).code == "base64"


def test_bodies_in_other_encodings_are_read() -> None:
    """UTF-8 with and without a mark, GBK of a Chinese console, and what the client says it is."""
    body = {"messages": [{"role": "user", "content": "这是什么动物"}]}
    text = json.dumps(body, ensure_ascii=False)
    for raw in (text.encode(), b"\xef\xbb\xbf" + text.encode(), text.encode("gbk"), json.dumps(body).encode()):
        assert read_json(raw) == body
    assert read_json(text.encode("utf-16"), "utf-16") == body
    assert parse(read_json(b'{"messages": [{"role": "user", "content": "\\ud800!"}]}'), ("n",)).question == "?!"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"\xff\xfe\xfd", b"[" * 100_000, b"nul"])
def test_bodies_that_are_no_object_are_told(raw: bytes) -> None:
    """Anything else than one JSON object is a 400, deep nesting too."""
    with pytest.raises(ApiError) as caught:
        read_json(raw)
    assert caught.value.status == 400
    with pytest.raises(ApiError):
        read_json(b"{}", "no-such-charset")


@given(
    text=st.text("ab。", max_size=20),
    stops=st.lists(st.text("ab。", min_size=1, max_size=3), max_size=3),
    data=st.data(),
)
def test_an_answer_ends_before_the_first_stop(text: str, stops: list[str], data: st.DataObject) -> None:
    """However the text is cut into pieces: all before the first stop, and never the beginning of one."""
    finder, said, rest = StopFinder(stops), "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        said += finder.push(rest[:size])
        rest = rest[size:]
    said += finder.flush()
    places = [at for stop in stops if (at := text.find(stop)) >= 0]
    assert finder.found == bool(places)
    if places:
        assert text.startswith(said) and not any(stop in said for stop in stops)
    else:
        assert said == text


def test_errors_have_the_status_of_who_caused_them() -> None:
    """What a client can mend is a 400, too little memory a 503, anything else a 500 without inner details."""
    broken = api_errors.of(PictureError("picture.broken", path="-", reason="x"))
    assert (broken.status, broken.code) == (400, "picture.broken") and "image_url" in broken.message
    long = api_errors.of(PromptError("prompt.too_long", tokens=9, room=5))
    assert (long.status, long.code) == (400, "context_length_exceeded")
    setting = api_errors.of(PromptError("prompt.setting", name="top_p", value=2, reason="not between 0 and 1"))
    assert setting.param == "top_p" and "--" not in setting.message and "top_p" in setting.message
    assert api_errors.of(MemoryError()).status == 503
    inner = api_errors.of(RuntimeError("secret path /home/x"))
    assert inner.status == 500 and "secret" not in inner.message


def header(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


@pytest.mark.parametrize("host", ["127.0.0.1:8014", "localhost:8014", "[::1]:8014", "LOCALHOST:8014"])
def test_this_machine_s_names_pass(host: str) -> None:
    """Requests to the names of this machine, from programs and from the server's own page."""
    door = Door("127.0.0.1", 8014)
    door.check("POST", "/v1/chat/completions", header(host=host))
    door.check("POST", "/v1/chat/completions", header(host=host, origin=f"http://{host}", sec_fetch_site="same-origin"))


@pytest.mark.parametrize(
    "headers",
    [
        header(host="evil.example:8014"),
        header(host="evil.example"),
        header(host="127.0.0.1:80"),
        header(host="127.0.0.1"),
        header(host="127.0.0.1.evil.example:8014"),
        header(),
        header(host="127.0.0.1:8014", origin="http://evil.example"),
        header(host="127.0.0.1:8014", origin="null"),
        header(host="127.0.0.1:8014", origin="https://127.0.0.1:8014"),
        header(host="127.0.0.1:8014", origin="http://127.0.0.1:9999"),
        header(host="127.0.0.1:8014", sec_fetch_site="cross-site"),
        header(host="127.0.0.1:8014") * 2,
    ],
    ids=str,
)
def test_other_sites_do_not_pass(headers: list[tuple[bytes, bytes]]) -> None:
    """A name made to point here (DNS rebinding), another page's request (CSRF), two hosts: refused."""
    with pytest.raises(ApiError) as caught:
        Door("127.0.0.1", 8014).check("POST", "/v1/chat/completions", headers)
    assert caught.value.status in (400, 403)


def test_a_token_is_asked_of_everyone() -> None:
    """With a token any name will do, and nobody gets to the API without it; the page itself holds nothing."""
    door = Door("0.0.0.0", 8014, "s3cret-token")
    host = {"host": "192.0.2.7:8014"}
    door.check("GET", "/", header(**host))
    door.check("POST", "/v1/models", header(**host, authorization="Bearer s3cret-token"))
    for given_token in ("Bearer wrong", "s3cret-token", "Bearer ", "Basic s3cret-token", "Bearer s3cret-token\xff"):
        with pytest.raises(ApiError) as caught:
            door.check("POST", "/api/status", header(**host, authorization=given_token))
        assert caught.value.status == 401
    with pytest.raises(ApiError):
        door.check("POST", "/v1/models", header(**host))


def test_other_machines_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address beyond this machine without a token, a short token, a name, a wrong port: exit 2 before anything."""
    monkeypatch.delenv("BELLEVL_TOKEN", raising=False)
    assert checked(ServeOptions()) == ("127.0.0.1", None)
    assert checked(ServeOptions(host="localhost")) == ("127.0.0.1", None)
    assert checked(ServeOptions(host="[::1]")) == ("::1", None)
    assert checked(ServeOptions(host="0.0.0.0", token="long-enough")) == ("0.0.0.0", "long-enough")
    monkeypatch.setenv("BELLEVL_TOKEN", "from-the-variable")
    assert checked(ServeOptions(host="192.0.2.1")) == ("192.0.2.1", "from-the-variable")
    monkeypatch.delenv("BELLEVL_TOKEN")
    wrongs = [
        ServeOptions(host="0.0.0.0"),
        ServeOptions(host="::"),
        ServeOptions(host="example.com"),
        ServeOptions(token="short"),
        ServeOptions(token="八个字符的口令呀"),
        ServeOptions(port=70000),
    ]
    for options in wrongs:
        with pytest.raises(UsageError):
            checked(options)
