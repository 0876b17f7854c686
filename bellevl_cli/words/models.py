"""Messages about models on this machine: their list, their check, their download."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "help.models": ("列出本机的模型", "The models on this machine"),
    "help.verify": ("检查模型文件是否完整", "Check a model's files"),
    "help.pull": ("下载模型 (唯一联网的命令)", "Download a model: the one command that uses the network"),
    "help.full": ("逐字节核对 SHA-256，较慢", "compare every byte (SHA-256); takes longer"),
    "help.repo": ("仓库名，不写则为 {repo}", "repository; {repo} without one"),
    "help.name_repo": ("仓库", "REPO"),
    "help.from": ("来源: hf 或 modelscope [hf]", "where from: hf or modelscope [hf]"),
    "help.endpoint": ("镜像网址 (HF_ENDPOINT)", "address of a mirror (HF_ENDPOINT)"),
    "help.revision": ("版本: 分支、标签或提交", "branch, tag or commit"),
    "help.to": ("存放目录，不写则放进模型目录", "folder to put it in; else among the models"),
    "help.names": ("只列出名字", "names only"),
    "models.name": ("名称", "name"),
    "models.kind": ("量化", "weights"),
    "models.disk": ("磁盘", "on disk"),
    "models.memory": ("预计内存", "memory"),
    "models.error": ("量化误差", "error"),
    "models.where": ("位置", "where"),
    "models.in_use": ("使用中", "in use"),
    "models.broken": ("不可用: {reason}", "not usable: {reason}"),
    "models.embedded": ("(内置)", "(embedded)"),
    "models.unfinished": (
        "下载未完成: {name} (已有 {size})，继续: bellevl pull {repo}",
        "not complete: {name} ({size} so far); go on with: bellevl pull {repo}",
    ),
    "models.none": (
        "只有内置的演示模型。下载 BELLE-VL-14B: {command}",
        "there is only the embedded demonstration model. BELLE-VL-14B: {command}",
    ),
    "verify.ok": ("正常", "ok"),
    "verify.bad": ("错误", "error"),
    "verify.start": ("核对 {name} {percent}%", "checking {name} {percent}%"),
    "verify.good_quick": (
        "{name}: {count} 个文件的大小和文件头正常。逐字节核对: bellevl verify --full",
        "{name}: sizes and headers of {count} files are good. Every byte: bellevl verify --full",
    ),
    "verify.good_full": (
        "{name}: {count} 个文件都与记录的 SHA-256 一致",
        "{name}: {count} files are what the record of their SHA-256 says",
    ),
    "verify.good_unrecorded": (
        "{name}: 张量齐全，但没有 SHA-256 记录可对照 ({count} 个文件，以上是现在的值)",
        "{name}: every tensor is there, but no record of SHA-256 to compare ({count} files as listed)",
    ),
    "pull.found": (
        "{repo} ({commit}): {count} 个文件，{size}，存到 {folder}",
        "{repo} ({commit}): {count} files, {size}, to {folder}",
    ),
    "pull.resume": ("继续下载: 已有 {size}", "going on: {size} are here already"),
    "pull.stage": (
        "下载 {number}/{count} {name}  {percent}%  {done}/{total}  {speed}/秒  剩余 {left}",
        "downloading {number}/{count} {name}  {percent}%  {done}/{total}  {speed}/s  {left} left",
    ),
    "pull.check": ("核对 {name} …", "checking {name} …"),
    "pull.asking": ("查询 {repo} …", "asking for {repo} …"),
    "pull.retry": (
        "连接中断，重试 {name} ({count}/{most})",
        "the connection broke, trying {name} again ({count}/{most})",
    ),
    "pull.interrupted": (
        "已中断: 已下载的部分都保存了，重新运行同一条命令即可继续",
        "interrupted: what was downloaded is kept, the same command goes on from there",
    ),
    "pull.there": ("{name} 已是最新 ({commit}): {folder}", "{name} is complete and up to date ({commit}): {folder}"),
    "pull.done": (
        "完成: {name}，{size}，每个文件的校验值都与公布的一致: {folder}",
        "done: {name}, {size}, every hash as published: {folder}",
    ),
    "pull.next_quantize": (
        "下一步 (量化后显存约为四分之一): bellevl quantize {source} {target}",
        "next (int4 needs about a quarter of the memory): bellevl quantize {source} {target}",
    ),
    "pull.next_ask": ("下一步: bellevl ask 图片 --model {name}", "next: bellevl ask PICTURE --model {name}"),
}  # fmt: skip
