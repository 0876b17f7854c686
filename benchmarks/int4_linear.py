"""int4 products side by side with float ones, at the 14B's and at the embedded model's widths, for decode and prefill.

    python benchmarks/int4_linear.py [--threads 1] [--device cpu|cuda] [--quick]

What is compared, in milliseconds a call and with the relative error against float64:

    float     F.linear with bfloat16 (or float32) weights: no int4 at all
    int4pack  torch's int4 product at any number of rows
    expand    the weights expanded at every call and multiplied
    chosen    Int4Linear as `bellevl.kernels` sets it up

`peers` (bitsandbytes NF4) are measured too where they are installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from _machine import describe_machine, machine_line, save_result

from bellevl import kernels, packing
from bellevl.config import QuantizationConfig
from bellevl.kernels import Choice, Int4Weight
from bellevl.qlinear import Int4Linear

#: (inputs, outputs): c_attn, w1 and mlp.c_proj of the 14B; the embedded model's linears.
LARGE = ((5120, 15360), (5120, 13696), (13696, 5120))
SMALL = ((256, 768), (256, 256), (768, 256))
ROWS = (1, 8, 32, 64, 100, 300)
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}

Product = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="one large size, few rows")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    sizes = SMALL + (LARGE[1:2] if options.quick else LARGE)
    rows = (1, 64, 300) if options.quick else ROWS
    with torch.inference_mode():
        found = [line for size in sizes for line in measure_size(*size, rows, torch.device(options.device))]
    record = {"machine": machine, "device": options.device, "group_size": 128, "results": found}
    save_result(f"int4_linear_{options.device.replace(':', '')}", record, table(record, machine_line(machine)))


def measure_size(inputs: int, outputs: int, rows: tuple[int, ...], device: torch.device) -> list[dict[str, Any]]:
    """Every product of one layer in both dtypes."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator) * 0.02
    layer = Int4Linear.from_weight(weight, QuantizationConfig())
    exact = layer.dequantize()
    wide = exact.double().T
    lines = []
    for name, dtype in DTYPES.items():
        products = make_products(layer, exact, dtype, device)
        for m in rows:
            x = torch.randn(m, inputs, generator=generator).to(device, dtype)
            expected = x.double().cpu() @ wide
            for product, call in products.items():
                if product == "int4pack" and dtype == torch.float32 and m > 8:
                    continue  # seconds a call
                off = call(x).double().cpu() - expected
                figures = {"product": product, "ms": measure(call, x), "error": float(off.norm() / expected.norm())}
                lines.append({"in": inputs, "out": outputs, "dtype": name, "rows": m} | figures)
    return lines


def make_products(layer: Int4Linear, exact: Tensor, dtype: torch.dtype, device: torch.device) -> dict[str, Product]:
    """The contestants of one layer."""
    parts = (layer.qweight, packing.unpack_zeros(layer.qzeros, 1), layer.scales, layer.g_idx)
    weight = Int4Weight.from_words(*(part.to(device) for part in parts))
    dense = exact.to(device, dtype)
    chosen = Int4Linear(layer.in_features, layer.out_features, layer.quantization)
    for part in ("qweight", "qzeros", "scales", "g_idx"):
        setattr(chosen, part, getattr(layer, part).clone())
    chosen = chosen.to(device)
    chosen.prepare(dtype)
    expand = kernels.build(Choice("dequantize", "benchmark", dtype), weight)
    products: dict[str, Product] = {"float": lambda x: F.linear(x, dense), "expand": expand, "chosen": chosen}
    if device.type == "cpu":
        products["int4pack"] = plain_int4pack(weight, dtype)
    return products | peers(exact, dtype, device)


def plain_int4pack(weight: Int4Weight, dtype: torch.dtype) -> Product:
    """torch's int4 product on the CPU, whatever the dtype and the number of rows."""
    codes = packing.unpack_rows(weight.qweight).T.int().contiguous()
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scales = weight.scales.float()
    pair = torch.stack((scales, (8 - weight.zeros.float()) * scales), dim=-1).to(dtype).contiguous()
    assert weight.group_size is not None
    group = weight.group_size
    return lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, group, pair)


def peers(exact: Tensor, dtype: torch.dtype, device: torch.device) -> dict[str, Product]:
    """Other libraries' 4-bit linears, where installed."""
    try:
        import bitsandbytes as bnb
    except ImportError:
        return {}
    linear = bnb.nn.Linear4bit(exact.shape[1], exact.shape[0], bias=False, compute_dtype=dtype, quant_type="nf4")
    linear.weight = bnb.nn.Params4bit(exact.to(dtype), requires_grad=False, quant_type="nf4")
    return {"bitsandbytes nf4": linear.to(device)}


def measure(call: Product, x: Tensor) -> float:
    """Median milliseconds of a call, for about a third of a second."""
    call(x)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 0.3 and len(times) < 200):
        synchronize(x)
        began = time.perf_counter()
        call(x)
        synchronize(x)
        times.append(time.perf_counter() - began)
    return round(1e3 * sorted(times)[len(times) // 2], 4)


def synchronize(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize()


def table(record: dict[str, Any], machine: str) -> str:
    """One row per size, dtype and number of rows, one column per product."""
    products = list(dict.fromkeys(line["product"] for line in record["results"]))
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for line in record["results"]:
        key = (f"{line['in']} x {line['out']}", line["dtype"], line["rows"])
        rows.setdefault(key, {})[line["product"]] = f"{line['ms']:.3g} ({line['error']:.0e})"
    lines = [
        f"# int4 products on {record['device']}, group {record['group_size']}",
        "",
        "Milliseconds a call (relative error against float64).",
        "",
        row("in x out", "dtype", "rows", *products),
        "|---" * (3 + len(products)) + "|",
        *(
            "| " + " | ".join([*map(str, key), *(cells.get(p, "-") for p in products)]) + " |"
            for key, cells in rows.items()
        ),
        "",
        f"Machine: {machine}.",
    ]
    return "\n".join(lines) + "\n"


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
