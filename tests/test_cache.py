"""The KV cache is exact: however a text is cut into prefill and decode, the numbers are those of one pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import bellevl
from bellevl.cache import KVCache
from bellevl.generate import Interrupted, Token, decode_one_token, generate, prefill
from bellevl.layers import ntk_alpha
from bellevl.model import BelleVL
from bellevl.sampling import Sampling

FOLDER = Path(__file__).parent / "golden" / "model" / "model"


@pytest.fixture(scope="module")
def model() -> BelleVL:
    return bellevl.load_model(FOLDER, dtype=torch.float32)


def ids_of(length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 400, (1, length), generator=torch.Generator().manual_seed(seed))


def new_cache(model: BelleVL, capacity: int = 256) -> KVCache:
    return KVCache(model.config, capacity, dtype=torch.float32, device="cpu")


@torch.no_grad()
def test_prefill_and_decode_equal_the_full_forward_at_every_position(model: BelleVL) -> None:
    """Each position's logits after a prefill of 40 and single steps equal one forward of all 60 tokens."""
    ids = ids_of(60)
    whole = model(ids)[0]
    cache = new_cache(model)
    rows = [prefill(model, ids[:, :40], cache)[0]]
    rows += [decode_one_token(model, ids[:, i], cache)[0] for i in range(40, 60)]
    torch.testing.assert_close(torch.stack(rows), whole[39:], atol=2e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("length", [30, 64, 65, 100, 130, 200])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunked_prefill_equals_one(model: BelleVL, length: int, chunk: int) -> None:
    """A prompt in chunks gives the logits of one pass, on both sides of every NTK step (seq_length is 64)."""
    ids = ids_of(length, seed=length)
    cache = new_cache(model)
    last = prefill(model, ids, cache, chunk=chunk)
    torch.testing.assert_close(last, model(ids)[:, -1], atol=2e-4, rtol=0)
    assert cache.alpha == ntk_alpha(length, 64) and cache.length == length


@torch.no_grad()
def test_two_conversations_do_not_share_alpha(model: BelleVL) -> None:
    """A long conversation between two steps of a short one changes nothing in the short one."""
    short, other = ids_of(20, seed=1), ids_of(150, seed=2)
    alone = new_cache(model)
    prefill(model, short, alone)
    expected = decode_one_token(model, short[:, 0], alone)
    first, second = new_cache(model), new_cache(model)
    prefill(model, short, first)
    prefill(model, other, second)
    assert (first.alpha, second.alpha) == (1, 7)
    assert torch.equal(decode_one_token(model, short[:, 0], first), expected)


@torch.no_grad()
def test_truncated_cache_goes_on_as_if_the_rest_had_never_been(model: BelleVL) -> None:
    """Cut back to a prefix, the cache continues exactly as one that only held the prefix."""
    ids = ids_of(50, seed=3)
    cache = new_cache(model)
    prefill(model, ids, cache)
    cache.truncate(30)
    again = prefill(model, ids[:, 30:45], cache)
    torch.testing.assert_close(again, model(ids[:, :45])[:, -1], atol=2e-4, rtol=0)
    cache.truncate(0)
    assert cache.alpha is None


@torch.no_grad()
def test_a_full_cache_is_a_programmers_error(model: BelleVL) -> None:
    """More tokens than the capacity trip an assertion instead of overwriting."""
    with pytest.raises(AssertionError, match="holds 8 tokens"):
        prefill(model, ids_of(9), new_cache(model, capacity=8))


@pytest.mark.parametrize(("tokens", "alpha"), [(1, 1), (64, 1), (65, 3), (128, 3), (129, 7), (256, 7), (257, 15)])
def test_ntk_steps(tokens: int, alpha: int) -> None:
    """Alpha steps at exactly seq_length times each power of two."""
    assert ntk_alpha(tokens, 64) == alpha


def test_generate_stops_when_told(model: BelleVL) -> None:
    """`stop` ends generation after the token at hand, and before the first token by Interrupted."""
    ids = ids_of(10).tolist()[0]
    tokens: list[Token] = []
    sampling = Sampling(max_tokens=50, greedy=True)
    for token in generate(model, ids, sampling=sampling, stop=lambda: len(tokens) == 3):
        tokens.append(token)
    assert len(tokens) == 3 and tokens[-1].finish_reason is None
    with pytest.raises(Interrupted):
        list(generate(model, ids, sampling=Sampling(max_tokens=5), stop=lambda: True))


def test_the_same_seed_draws_the_same_ids(model: BelleVL) -> None:
    """Sampling with a seed repeats itself; another seed gives something else."""
    ids = ids_of(10).tolist()[0]

    def draw(seed: int) -> list[int]:
        return [t.id for t in generate(model, ids, sampling=Sampling(max_tokens=20, seed=seed))]

    assert draw(1) == draw(1) != draw(2)


@torch.no_grad()
def test_bfloat16_stays_near_float32() -> None:
    """In bfloat16 the likeliest token agrees with float32 at nearly every position of a long text."""
    ids = ids_of(120, seed=9)
    exact = bellevl.load_model(FOLDER, dtype=torch.float32)(ids)
    rough = bellevl.load_model(FOLDER, dtype=torch.bfloat16)(ids).float()
    assert float((exact.argmax(-1) == rough.argmax(-1)).float().mean()) > 0.9
    assert float((exact - rough).abs().max()) < 0.5


def test_stop_is_asked_inside_the_prompt_and_the_picture(model: BelleVL) -> None:
    """A pass is left between two blocks, of language model and vision encoder, and leaves the cache empty."""
    asked = iter([False, True])
    cache = new_cache(model)
    with pytest.raises(Interrupted):
        prefill(model, ids_of(30), cache, stop=lambda: next(asked))
    assert cache.length == 0
    with pytest.raises(Interrupted):
        model.encode_images(torch.zeros(1, 3, 112, 112), lambda: True)
