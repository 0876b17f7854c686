"""Messages of the commands that scripts use: options of ask, batch and watch, and what batch and watch say."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "help.words": (
        "图片 (- 表示标准输入)，最后是问题；几张图片就回答几次",
        "pictures (- is stdin), then the question; an answer for each picture",
    ),
    "help.name_words": ("图片... [问题]", "PICTURE... [QUESTION]"),
    "help.question_option": ("问题，- 表示从标准输入读", "the question; - reads it from stdin"),
    "help.template": (
        "模板: 描述 ocr 表格 商品 无障碍 翻译 找不同，或自己的",
        "template: describe ocr table product alt translate differences, or your own",
    ),
    "help.param": ("模板里的空格怎么填，可多次", "what stands in a template's gap; may be repeated"),
    "help.schema": (
        "回答必为 JSON: 'name, price float, n int' 或文件",
        "the answer is JSON: 'name, price float, n int', or a file",
    ),
    "help.extract": (
        "只输出回答里的 json、first-line 或 number",
        "print json, first-line or number of the answer only",
    ),
    "help.expect": (
        "回答须以此开头 (/正则/ 则搜索)，否则退出码 6",
        "exit 6 unless the answer begins so (/…/ is searched)",
    ),
    "help.sure": ("换种子回答 N 次，报告一致度", "answer N times with other seeds, say how they agree"),
    "help.together": ("几张图片一起问 (不可靠)", "ask about all pictures at once (not reliable)"),
    "help.clip": ("用剪贴板里的图片", "the picture in the clipboard"),
    "help.ask_dry_run": ("只显示提示词、token 数和所需内存", "show prompt, tokens and memory; do not answer"),
    "help.no_stream": ("答完再一起输出", "print the answer when it is complete"),
    "help.jsonl": ("边回答边输出 JSON，一行一个对象", "JSON as the answer comes, one object a line"),
    "help.output": ("写入文件，不输出到屏幕", "write to a file instead of stdout"),
    "help.quiet": ("除了错误什么也不说", "say nothing but errors"),
    "help.continue": ("接着最近一次对话问", "go on with the latest dialogue"),
    "help.id": ("接着某次对话问 (见 bellevl logs)", "go on with a dialogue of bellevl logs"),
    "help.no_log": ("不记入日志", "leave this out of the log"),
    "help.batch": ("就一个目录的图片提同一个问题", "Ask the same question about a folder of pictures"),
    "help.watch": ("看着一个目录，来一张图答一张", "Answer each new picture of a folder"),
    "help.sources": (
        "目录、图片或列表文件 (一行一个名字，- 为标准输入)，最后是问题",
        "folders, pictures, lists of names (- is stdin), then the question",
    ),
    "help.name_sources": ("来源... [问题]", "SOURCE... [QUESTION]"),
    "help.name_source_pictures": ("来源", "SOURCE"),
    "help.batch_output": (
        "结果文件，一行一个 JSON；重复运行则继续",
        "results, a line of JSON each; goes on when run again",
    ),
    "help.recursive": ("也看子目录", "folders inside, too"),
    "help.ext": ("只要这些后缀，如 jpg,png", "these endings only, as in jpg,png"),
    "help.limit": ("最多几张", "at most so many pictures"),
    "help.csv": ("另写一张表格", "write a table as well"),
    "help.sidecar": ("在每张图旁写说明文件，如 txt", "write a caption file beside each picture, as in txt"),
    "help.overwrite": ("改写已有的说明文件", "write over caption files that are there"),
    "help.folder": ("要看着的目录", "the folder to watch"),
    "help.name_folder": ("目录", "FOLDER"),
    "help.existing": ("已有的图片也答", "answer those that are there already, too"),
    "help.every": ("每几秒看一次 [1]", "look every so many seconds [1]"),
    "help.copy": ("把回答复制到剪贴板", "copy each answer to the clipboard"),
    "ask.draw_one": ("--draw 一次只能画一张图片", "--draw takes one picture at a time"),
    "ocr.stage": ("读取 {name} 里的文字 …", "reading the text in {name} …"),
    "ocr.choice": ("--ocr 不能是 {value}，可用: on only", "--ocr cannot be {value}; it may be: on only"),
    "usage.both": ("{one} 和 {other} 只能写一个", "{one} and {other} exclude each other"),
    "batch.stage": ("{number}/{total} {name} 剩余 {left}", "{number}/{total} {name}, {left} left"),
    "batch.failed": ("{name}: {cause}", "{name}: {cause}"),
    "batch.end": (
        "共 {total} 张: 回答 {answered}，以前已答 {skipped}，失败 {failed}",
        "{total} pictures: {answered} answered, {skipped} were done before, {failed} failed",
    ),
    "batch.kept": (
        "{count} 个说明文件原来就有，没有改动 (要改写加 --overwrite)",
        "{count} caption files were there before and stay (--overwrite replaces them)",
    ),
    "batch.interrupted": (
        "已中断: {done}/{total} 张有了结果，再运行同一条命令就从这里继续",
        "interrupted: {done} of {total} are done, the same command goes on from there",
    ),
    "batch.stopped": ("已中断: 完成 {done}/{total} 张", "interrupted: {done} of {total} are done"),
    "batch.not_ours": (
        "{path} 里有不是 batch 写的内容，没有动它；请换一个 -o",
        "{path} holds what batch did not write and is left alone; choose another -o",
    ),
    "batch.busy": ("另一个进程正在写 {path}", "another process is writing {path}"),
    "template.together": (
        "模板 {name} 要几张图一起问，只能用于 ask",
        "the template {name} asks about several pictures at once, which only ask does",
    ),
    "watch.started": (
        "正在看着 {folder}，来新图片就回答 (Ctrl-C 结束)",
        "watching {folder} for new pictures (Ctrl-C ends)",
    ),
    "watch.waiting": ("等新图片 …", "waiting for a new picture …"),
    "watch.no_folder": ("{folder} 不是目录", "{folder} is no folder"),
    "watch.every": ("--every 应在 0.1 到 3600 秒之间", "--every must be between 0.1 and 3600 seconds"),
    "watch.not_copied": ("没有复制: 这里没有剪贴板", "not copied: there is no clipboard here"),
}  # fmt: skip
