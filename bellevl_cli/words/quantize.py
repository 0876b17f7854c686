"""Messages about quantizing."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "quantize.start": (
        "{source} → {target}: {blocks} 层，约 {size}",
        "{source} → {target}: {blocks} blocks, about {size}",
    ),
    "quantize.prepare": ("准备校准数据 …", "preparing the calibration set …"),
    "quantize.copy": ("复制不量化的部分", "copying what stays as it is"),
    "quantize.embed": ("校准数据进入第 1 层", "calibration set to block 1"),
    "quantize.finish": ("完成文件", "finishing the files"),
    "quantize.stage": ("{done}  {stage}  剩余 {left}", "{done}  {stage}  {left} left"),
    "quantize.layer": (
        "{done}  第 {block}/{blocks} 层 {layer}  剩余 {left}",
        "{done}  block {block}/{blocks} {layer}  {left} left",
    ),
    "quantize.block": (
        "{done}  第 {block}/{blocks} 层完成  最大相对误差 {loss}  剩余 {left}",
        "{done}  block {block}/{blocks} done  greatest relative error {loss}  {left} left",
    ),
    "quantize.done": ("完成: {target}，{size}，用时 {time}", "done: {target}, {size}, {time}"),
    "quantize.resume": (
        "已中断: 完成的层都已保存，重新运行同一条命令即可继续",
        "interrupted: the finished blocks are kept, the same command goes on from there",
    ),
}  # fmt: skip
