"""Messages about the server: on the command line and to its clients."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "serve.ready": (
        "{name} 已就绪。浏览器打开 {url}，或把 OpenAI 客户端的 base_url 设为 {url}v1。Ctrl-C 结束。",
        "{name} is ready. Open {url} in a browser, or give OpenAI clients the base_url {url}v1. Ctrl-C ends it.",
    ),
    "serve.with_token": (
        "网页要用带口令的地址打开: {url}，客户端以口令为 api_key",
        "the page opens with the token in its address: {url}; clients use the token as api_key",
    ),
    "serve.open": (
        "注意: 别的机器也能连接，内容不加密 (没有 HTTPS)",
        "note: other machines can connect, and nothing is encrypted (no HTTPS)",
    ),
    "serve.host": (
        "{host} 不是 IP 地址 (写 127.0.0.1，或本机的一个地址)",
        "{host} is not an IP address (write 127.0.0.1, or an address of this machine)",
    ),
    "serve.token": (
        "{host} 对别的机器开放，须用 --token 设口令 (或 BELLEVL_TOKEN)",
        "{host} can be reached from other machines: give a --token (or BELLEVL_TOKEN)",
    ),
    "serve.short_token": (
        "口令须是不少于 {least} 个 ASCII 字符",
        "a token has at least {least} ASCII characters",
    ),
    "serve.wrong_port": ("端口 {port} 不在 0 到 65535 之间", "the port {port} is not between 0 and 65535"),
    "api.json": ("请求不是 JSON: {reason}", "the request is not JSON: {reason}"),
    "api.object": ("请求应是一个 JSON 对象", "the request is not a JSON object"),
    "api.value": ("{name} 不对: {reason}", "{name} is wrong: {reason}"),
    "api.not_bool": ("应是 true 或 false", "it must be true or false"),
    "api.not_int": ("应是整数", "it must be a whole number"),
    "api.not_number": ("应是数字", "it must be a number"),
    "api.not_list": ("应是不空的数组", "it must be a list with something in it"),
    "api.role": (
        "role 应是 system、user 或 assistant",
        "its role must be system, user or assistant",
    ),
    "api.not_content": ("应是文字，或 text、image_url 的数组", "it must be a text, or a list of text and image_url"),
    "api.not_part": (
        "应是 {{\"type\": \"text\"}} 或 {{\"type\": \"image_url\"}} (图片只能在 user 中)",
        "it must be {{\"type\": \"text\"}} or {{\"type\": \"image_url\"}} (pictures in user messages only)",
    ),
    "api.not_picture": ("应有 data: 开头的图片", "it must have a picture as a data: URL"),
    "api.picture_url": (
        "不下载图片: {url}  只接受 data:image/…;base64,… 形式的图片",
        "pictures are not fetched: {url}  only data:image/…;base64,… is taken",
    ),
    "api.base64": ("图片的 base64 数据不完整或有误", "the picture's base64 data is damaged or cut short"),
    "api.pictures": (
        "一个问题里有 {count} 张图片，模型一次只看一张",
        "there are {count} pictures in one question; the model sees one at a time",
    ),
    "api.last": ("最后一条应是 user 的问题", "the last one must be a user's question"),
    "api.empty": ("有一个问题没有文字", "a question has no text"),
    "api.not_stops": (
        "应是不多于 {most} 个、每个 1 到 {longest} 字的文字",
        "it must be at most {most} texts of 1 to {longest} characters",
    ),
    "api.unsupported": ("不支持 {name}", "{name} is not supported"),
    "api.model": ("没有模型 {name}，这里的模型是 {known}", "there is no model {name}; the one here is {known}"),
    "api.host": ("不接受发给 {host} 的请求", "requests to {host} are not accepted"),
    "api.origin": ("不接受其他网站的请求: {origin}", "requests of other sites are not accepted: {origin}"),
    "api.header": ("请求头 {name} 出现了两次", "the header {name} is there twice"),
    "api.token": ("口令不对，或没有口令", "the token is missing or wrong"),
    "api.busy": ("排队的请求已有 {waiting} 个，请稍后再试", "{waiting} requests are waiting already; try again later"),
    "api.content_type": (
        "请求的 Content-Type 是 {kind}，应是 application/json",
        "the request's Content-Type is {kind}; it must be application/json",
    ),
    "api.too_long": ("请求超过 {limit} MB", "the request is larger than {limit} MB"),
    "api.slow": ("请求没有发完", "the request did not arrive as a whole"),
    "api.method": ("{path} 不接受 {method}", "{path} does not take {method}"),
    "api.nothing_here": ("这里没有 {path}", "there is nothing at {path}"),
    "api.failed": ("程序出错 ({kind})", "something went wrong in this program ({kind})"),
    "help.serve": ("网页和 OpenAI 形式的接口", "A web page and an API of OpenAI's shape"),
    "help.serve_host": ("监听的 IP [127.0.0.1]，其他的须有口令", "IP to listen at [127.0.0.1]; others need --token"),
    "help.serve_port": ("端口 [8014]，0 表示任意空闲端口", "port [8014]; 0 takes any free one"),
    "help.serve_token": ("访问口令 (BELLEVL_TOKEN)", "token that clients must know (BELLEVL_TOKEN)"),
}  # fmt: skip
