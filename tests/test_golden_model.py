"""The model library against every case of tests/golden/model, at the manifest's tolerances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import bellevl
from bellevl.cache import KVCache
from bellevl.choosing import distribution, penalize
from bellevl.config import ModelConfig, parse_config
from bellevl.generate import generate, generate_batch, prefill
from bellevl.layers import attend, resize_grid
from bellevl.model import BelleVL
from bellevl.resampler import sincos_grid
from bellevl.sampling import Sampling

GOLDEN = Path(__file__).parent / "golden" / "model"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
GENERATION = json.loads((GOLDEN / "generation.json").read_text(encoding="utf-8"))
TRAINING = json.loads((GOLDEN / "training.json").read_text(encoding="utf-8"))
EOS = MANIFEST["ids"]["eos"]
VARIANTS = {
    "variant_ntk_on_logn_on": {},
    "variant_ntk_off": {"use_dynamic_ntk": False},
    "variant_logn_off": {"use_logn_attn": False},
    "variant_both_off": {"use_dynamic_ntk": False, "use_logn_attn": False},
    "variant_rotary_base_1e6": {"rotary_emb_base": 1_000_000},
}


@pytest.fixture(scope="module")
def model() -> BelleVL:
    return bellevl.load_model(GOLDEN / "model", dtype=torch.float32)


@pytest.fixture(scope="module")
def lm() -> dict[str, Tensor]:
    return load_file(GOLDEN / "tensors" / "lm.safetensors")


@pytest.fixture(scope="module")
def visual() -> dict[str, Tensor]:
    return load_file(GOLDEN / "tensors" / "visual.safetensors")


def pixels(*files: str, size: int = 112) -> Tensor:
    """Preprocessed golden pictures [N, 3, S, S]."""
    pictures = [Image.open(GOLDEN / "images" / file) for file in files]
    return torch.stack([bellevl.preprocess(picture, size) for picture in pictures])


def features(model: BelleVL, ids: Tensor) -> Tensor | None:
    """Features of the pictures whose paths the golden ids spell out in their slots."""
    flat = ids.flatten().tolist()
    starts = [i for i, token in enumerate(flat) if token == MANIFEST["ids"]["image_start_id"]]
    names = []
    for start in starts:
        end = flat.index(MANIFEST["ids"]["imgpad_id"], start)
        names.append(bytes(flat[start + 1 : end]).decode())
    return model.encode_images(pixels(*names)) if names else None


def case_model(model: BelleVL, name: str) -> BelleVL:
    """The golden model, with the case's config override where it has one."""
    if not VARIANTS.get(name):
        return model
    path = GOLDEN / "model" / "config.json"
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) | VARIANTS[name]
    config: ModelConfig = parse_config(raw, path)
    other = BelleVL(config).eval()
    other.load_state_dict(model.state_dict())
    return other


@torch.no_grad()
@pytest.mark.parametrize("name", MANIFEST["lm_cases"])
def test_logits(model: BelleVL, lm: dict[str, Tensor], name: str) -> None:
    """The logits of every language-model case equal the reference's within 2e-4."""
    ids = lm[f"{name}.input_ids"]
    mask = lm.get(f"{name}.attention_mask")
    chosen = case_model(model, name)
    logits = chosen(ids, features(chosen, ids), attention_mask=mask)
    kept = MANIFEST["lm_cases"][name]["positions_kept"]
    if kept != "all":
        logits = logits[:, kept]
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    if kept == "all":
        logits, expected = logits[real], lm[f"{name}.logits"][real]
    else:
        expected = lm[f"{name}.logits"]
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["text", "image1"])
def test_hidden_states(model: BelleVL, lm: dict[str, Tensor], name: str) -> None:
    """What enters block 0, leaves it and leaves the last norm equals the reference's."""
    ids = lm[f"{name}.input_ids"]
    seen: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda module, args: seen.append(args[0])) for block in model.transformer.h
    ]
    x = model.embed(ids, features(model, ids))
    last = model.decode_hidden(x)
    for hook in hooks:
        hook.remove()
    for i, state in enumerate([*seen, last]):
        torch.testing.assert_close(state, lm[f"{name}.hidden_states.{i}"], atol=1e-3, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["px_native", "px56"])
def test_vision_stages(model: BelleVL, visual: dict[str, Tensor], name: str) -> None:
    """Every stage of the vision encoder equals the reference's at the config's size and at 56."""
    tower = model.transformer.visual
    x = visual[f"{name}.pixel_values"].float()
    patches = tower.embed_patches(x)
    stages = {"after_ln_pre": patches, "after_block0": tower.transformer.resblocks[0](patches)}
    stages["after_blocks"] = tower.transformer(patches)
    stages["after_resampler"] = tower.attn_pool(stages["after_blocks"])
    stages["after_ln_post"] = tower.ln_post(stages["after_resampler"])
    stages["features"] = model.encode_images(x)
    for stage, value in stages.items():
        torch.testing.assert_close(
            value, visual[f"{name}.{stage}"], atol=1e-4, rtol=0, msg=lambda m, s=stage: f"{s}: {m}"
        )


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "files", "size"),
    [
        ("px224_from_file0", ("rgb_wide.png",), 224),
        ("px448_from_file0_and_file2", ("rgb_wide.png", "rgb_large.png"), 448),
        ("encode_all_files", tuple(entry["file"] for entry in MANIFEST["preprocess"]["files"]), 112),
    ],
)
def test_features_of_files(
    model: BelleVL, visual: dict[str, Tensor], name: str, files: tuple[str, ...], size: int
) -> None:
    """Files through preprocessing and encoder give the reference's features at 112, 224 and 448 pixels."""
    result = model.encode_images(pixels(*files, size=size))
    torch.testing.assert_close(result, visual[f"{name}.features"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", [4, 8, 16, 32])
def test_position_grids(model: BelleVL, visual: dict[str, Tensor], side: int) -> None:
    """Both learned position grids are resized as the reference resizes them."""
    tower = model.transformer.visual
    grid = resize_grid(tower.positional_embedding, side)[:, :8]
    torch.testing.assert_close(grid, visual[f"positional_embedding_to_{side}x{side}[:, :8]"], atol=1e-4, rtol=0)
    grid = resize_grid(tower.attn_pool.pos_embed, side)[:, ::16]
    torch.testing.assert_close(grid, visual[f"attn_pool_pos_embed_to_{side}x{side}[:, ::16]"], atol=1e-4, rtol=0)


def test_sincos_formula(visual: dict[str, Tensor]) -> None:
    """The sin-cos table that a new model starts with is the reference's formula."""
    torch.testing.assert_close(sincos_grid(256, 4), visual["sincos_2d_float32(dim=256,grid=4)"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", GENERATION)
def test_greedy_generation(model: BelleVL, lm: dict[str, Tensor], name: str) -> None:
    """Greedy ids equal the reference's, id for id (its forced eos after a stop word left out)."""
    case = GENERATION[name]
    ids = torch.tensor(case["prompt_ids"])
    mask = torch.tensor(case.get("attention_mask") or torch.ones_like(ids).tolist())
    stops = {EOS} | {words[0] for words in case["stop_words_ids"] or [] if len(words) == 1}
    expected = [row[: cut(row, stops)] for row in case["new_ids"]]
    sampling = Sampling(
        max_tokens=case["max_new_tokens"], greedy=True,
        repetition_penalty=case["generation_kwargs"].get("repetition_penalty", 1.0),
    )  # fmt: skip
    with torch.no_grad():
        pictures = features(model, ids)
    batch = generate_batch(model, ids, mask, pictures, sampling=sampling, stop_ids=stops, pad_id=EOS)
    assert batch == expected
    if len(ids) == 1:
        tokens = list(generate(model, ids[0].tolist(), pictures, sampling=sampling, stop_ids=stops))
        assert [token.id for token in tokens] == expected[0]
        ended = tokens[-1].id in stops
        assert [t.finish_reason for t in tokens] == [None] * (len(tokens) - 1) + ["stop" if ended else "length"]


def cut(row: list[int], stops: set[int]) -> int:
    """Length of `row` up to and with its first stop id."""
    return next((i + 1 for i, token in enumerate(row) if token in stops), len(row))


@torch.no_grad()
@pytest.mark.parametrize("name", GENERATION)
def test_generation_scores(model: BelleVL, lm: dict[str, Tensor], name: str) -> None:
    """The scores of the first and the last generated token equal the reference's."""
    case = GENERATION[name]
    prompt, new = torch.tensor(case["prompt_ids"]), torch.tensor(case["new_ids"])
    scores = lm[f"gen_{name}.scores_first_and_last"]
    mask = torch.tensor(case["attention_mask"]) if case.get("attention_mask") else None
    penalty = case["generation_kwargs"].get("repetition_penalty", 1.0)
    cache = KVCache(model.config, 256, batch=len(prompt), dtype=torch.float32, device="cpu")
    logits = prefill(model, prompt, cache, features(model, prompt), attention_mask=mask)
    torch.testing.assert_close(penalize(logits, prompt, penalty), scores[:, 0], atol=2e-4, rtol=0)
    if case["stop_words_ids"]:
        return  # its last row is the forced eos, which this library never scores
    for step in range(new.shape[1] - 1):
        if mask is not None:
            mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
        x = model.transformer.wte(new[:, step : step + 1])
        logits = model.lm_head(model.decode_hidden(x, attention_mask=mask, cache=cache))[:, -1]
    seen = torch.cat((prompt, new[:, :-1]), dim=1)
    torch.testing.assert_close(penalize(logits, seen, penalty), scores[:, 1], atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("top_p_0.3", Sampling(top_p=0.3)),
        ("top_p_0.5", Sampling(top_p=0.5)),
        ("top_p_0.8", Sampling(top_p=0.8)),
        ("temperature_0.7_top_k_20_top_p_0.8", Sampling(temperature=0.7, top_k=20, top_p=0.8)),
    ],
)
def test_sampling_rows(lm: dict[str, Tensor], name: str, sampling: Sampling) -> None:
    """The distribution that is drawn from equals the reference's processed row."""
    result = distribution(lm["sampling.raw"], sampling)
    torch.testing.assert_close(result, lm[f"sampling.{name}"], atol=1e-6, rtol=1e-4)


def test_repetition_penalty_row(lm: dict[str, Tensor]) -> None:
    """Penalized logits equal the reference's processor over the prompt's ids."""
    result = penalize(lm["sampling.raw"], lm["text.input_ids"], 1.1)
    torch.testing.assert_close(result, lm["sampling.repetition_penalty_1.1_logits"], atol=1e-6, rtol=1e-5)


def loss_of(model: BelleVL, ids: Tensor, labels: Tensor, pictures: Tensor | None) -> Tensor:
    """Mean cross entropy over shifted labels."""
    logits = model(ids, pictures)
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def test_loss_and_gradients() -> None:
    """Training loss and the gradient norm of every parameter equal the reference's (1e-4, 1e-3 relative)."""
    model = bellevl.load_model(GOLDEN / "model", dtype=torch.float32).train()
    ids, labels = torch.tensor([TRAINING["ids"]]), torch.tensor([TRAINING["labels"]])
    loss = loss_of(model, ids, labels, features(model, ids))
    loss.backward()
    assert float(loss) == pytest.approx(TRAINING["loss_image"], abs=1e-4)
    norms = {n: float(p.grad.norm()) for n, p in model.named_parameters() if p.grad is not None}
    assert norms == pytest.approx(TRAINING["grad_norm"], rel=1e-3)
    assert [n for n, p in model.named_parameters() if p.grad is None] == TRAINING["params_without_grad"]


def test_training_elsewhere_uses_the_fused_attention() -> None:
    """The written-out product is the CPU's; off the CPU training goes through torch's function. Both are equal."""
    q, k, v = torch.randn(3, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    expected = attend(q, k, v, None, causal=True)
    torch.testing.assert_close(attend(q, k, v, None, causal=True, plain=True), expected, atol=1e-6, rtol=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *args, **options: "fused")
        meta = q.to("meta")
        assert attend(meta, meta, meta, None, causal=True, plain=True) == "fused"
        assert isinstance(attend(q, k, v, None, causal=True, plain=True), Tensor)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_long_loss(mode: str) -> None:
    """Train mode leaves NTK and log-n out, eval mode has them."""
    model = bellevl.load_model(GOLDEN / "model", dtype=torch.float32).train(mode == "train")
    ids = torch.tensor([TRAINING["long_ids"]])
    loss = loss_of(model, ids, ids, None)
    assert float(loss) == pytest.approx(TRAINING[f"loss_long_text_{mode}_mode"], abs=1e-4)


@torch.no_grad()
def test_image_loss_in_eval_mode(model: BelleVL) -> None:
    """The loss of the picture case in eval mode equals the reference's."""
    ids, labels = torch.tensor([TRAINING["ids"]]), torch.tensor([TRAINING["labels"]])
    loss = loss_of(model, ids, labels, features(model, ids))
    assert float(loss) == pytest.approx(TRAINING["loss_image_eval_mode"], abs=1e-4)
