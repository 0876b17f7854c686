"""Messages about quantizing."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "quantize.start": (
        "{source} → {target}: {blocks} 层，约 {size}",
        "{source} → {target}: {blocks} blocks, about {size}",
    ),
    "quantize.prepare": ("准备校准数据 …", "preparing the calibration set …"),
    "quantize.measure": ("测量各单元取整的影响", "measuring what rounding each unit costs"),
    "quantize.spent": ("{units} 个单元中 {eight} 个用 8 位", "{eight} of {units} units get 8 bits"),
    "quantize.copy": ("复制不量化的部分", "copying what stays as it is"),
    "quantize.embed": ("校准数据进入第 1 层", "calibration set to block 1"),
    "quantize.head": ("量化输出层", "quantizing the head"),
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
    "help.method": (
        "方法: gptq，rtn 为直接取整，nf4 为 bitsandbytes 格式，后两种不用校准 [gptq]",
        "gptq; without calibration rtn: to the nearest code, nf4: in bitsandbytes' format [gptq]",
    ),
    "help.picture_weight": (
        "图片 token 在校准中的权重，0 到 1 [1]",
        "how much a picture's tokens count, 0 to 1 [1]",
    ),
    "help.float_targets": (
        "各层对准浮点模型的输出: 更准，更慢",
        "each layer aims at the float model's outputs: closer, slower",
    ),
    "help.rotate": (
        "先旋转权重，功能不变，摊开离群通道",
        "turn the weights first, the same function: outlier channels are spread",
    ),
    "help.awq_scaling": (
        "按激活大小缩放权重 (AWQ)，功能不变",
        "scale weights by their activations (AWQ), the same function",
    ),
    "help.lm_head_bits": (
        "输出层的位数: 4 8，16 为不量化 [16]",
        "bits of the head: 4 8, 16: it stays float [16]",
    ),
    "help.budget": (
        "权重文件的总大小，如 14.2GB: 影响最大的层用 8 位",
        "size of the weight files, like 14.2GB: the layers that matter most get 8 bits",
    ),
    "help.dry_run": ("只说明需要多少时间、内存、磁盘", "only say what time, memory and disk it takes"),
    "quantize.dry_calibration": (
        "校准  {samples} 个对话，{pictures} 张图片，{tokens} 个 token",
        "calibration  {samples} conversations, {pictures} pictures, {tokens} tokens",
    ),
    "quantize.dry_time": ("时间  约 {time}", "time  about {time}"),
    "quantize.dry_budget": (
        "测量  其中约 {measuring}，之后才知道哪些层用 8 位",
        "measuring  about {measuring} of that; only then is it known which layers get 8 bits",
    ),
    "quantize.dry_memory": ("内存  最多约 {memory}", "memory  at most about {memory}"),
    "quantize.dry_disk": (
        "磁盘  运行时 {disk}，结果 {result}，现有 {free}",
        "disk  {disk} while it runs, {result} of them stay, {free} are free",
    ),
    "quantize.dry_full": ("磁盘空间不够，还差 {need}", "the disk is too small, {need} more are needed"),
    "quantize.resume": (
        "已中断: 完成的层都已保存，重新运行同一条命令即可继续",
        "interrupted: the finished blocks are kept, the same command goes on from there",
    ),
}  # fmt: skip
