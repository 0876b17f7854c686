"""A bridge to transformers: importing this module registers the architecture with its Auto classes.

    import bellevl.hf
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(folder)      # float or int4; trust_remote_code is not needed
    tokenizer = AutoTokenizer.from_pretrained(folder)

The modules are those of `BelleVL`, so a checkpoint loads by its own names and `save_pretrained` writes them. Float
folders go through transformers' loader (device_map, bitsandbytes, PEFT), int4 folders through `load_model`: neither
optimum nor gptqmodel is asked for, unless `quantization_config=GPTQConfig(bits=4)` asks for their layers. Python files
in a model folder are never imported. As in the published code, `position_ids` change nothing: a token's position is
its index. Nothing else in bellevl imports transformers.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizer,
)
from transformers.cache_utils import Cache, DynamicCache, StaticCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .cache import KVCache
from .checkpoint import IGNORED, load_model
from .config import ModelConfig, QuantizationConfig, parse_config, parse_quantization, read_config, read_json
from .errors import CheckpointError
from .layers import Rotary, ntk_alpha
from .model import BelleVL
from .tokenizer import FILE_NAME, SPECIAL_TOKENS, load_tokenizer

#: Fields of config.json and what holds where one is missing, as in `parse_config`; seq_length has no default.
DEFAULTS: dict[str, Any] = {
    **{field.name: None if field.default is MISSING else field.default for field in fields(ModelConfig)},
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads"), 32),
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 22_016,
    "initializer_range": 0.02,
    "use_cache": True,
}
del DEFAULTS["torch_dtype"]  # transformers' own, as `dtype`

#: Options of from_pretrained that say nothing about an int4 folder: where to download, how to read floats.
NOT_FOR_INT4 = {
    *("_from_auto", "adapter_kwargs", "attn_implementation", "cache_dir", "code_revision", "force_download"),
    *("local_files_only", "low_cpu_mem_usage", "proxies", "revision", "token", "trust_remote_code", "use_safetensors"),
}


class QWenConfig(PretrainedConfig):
    """config.json of the family as transformers keeps it.

    GPTQ settings are kept as `gptq`, under a name that transformers does not act upon, and are written back as
    `quantization_config`. `auto_map`, which points to Python files of the folder, is dropped.
    """

    model_type = "qwen"

    def __init__(self, **raw: Any) -> None:
        raw.pop("auto_map", None)
        self.gptq = _take_gptq(raw)
        for name, default in DEFAULTS.items():
            setattr(self, name, raw.pop(name, default))
        super().__init__(**raw)

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds."""
        raw: dict[str, Any] = super().to_dict()
        gptq = raw.pop("gptq", None)
        return raw | {"quantization_config": gptq} if gptq else raw

    def model_config(self) -> ModelConfig:
        """The library's configuration. Raises CheckpointError for sizes that do not fit each other."""
        return parse_config(self.to_dict(), self._path())

    def quantization(self) -> QuantizationConfig | None:
        """How the linears of the language model are stored; None: float."""
        return parse_quantization(self.gptq, self._path()) if self.gptq else None

    def _path(self) -> Path:
        return Path(self.name_or_path) / "config.json"


def _take_gptq(raw: dict[str, Any]) -> dict[str, Any] | None:
    """Removes GPTQ settings from `raw`; those of other methods (bitsandbytes) stay transformers' business."""
    settings = raw.get("quantization_config")
    if isinstance(settings, dict) and settings.get("quant_method", "gptq") == "gptq":
        return raw.pop("quantization_config")
    return raw.pop("gptq", None)


class Conversation(KVCache):
    """A cache of transformers with the interface that the blocks know.

    Dynamic NTK's alpha is kept on that cache, beside the keys that are rotated with it.
    """

    def __init__(self, cache: Cache) -> None:
        if isinstance(cache, StaticCache):
            raise ValueError("this model needs a cache that grows: DynamicCache, not StaticCache")
        self.cache = cache
        self.length = cache.get_seq_length()
        self.alpha = getattr(cache, "ntk_alpha", None) if self.length else None

    def append(self, block: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores k, v [B, H, T, D] of `block` behind the tokens so far; returns all of them [B, H, S, D]."""
        return self.cache.update(k, v, block)

    def advance(self, tokens: int) -> None:
        """`tokens` were appended in every block."""
        super().advance(tokens)
        self.cache.ntk_alpha = self.alpha


class Core(BelleVL):
    """BelleVL whose blocks can be recorded, or computed again in the backward pass instead of being kept."""

    states: list[Tensor] | None = None
    recompute: Callable[..., Tensor] | None = None

    def run_block(
        self, block: nn.Module, x: Tensor, rotary: Rotary, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """[B, T, C] -> [B, T, C]"""
        if self.states is not None:
            self.states.append(x)
        if self.recompute is not None:
            return self.recompute(block, x, rotary, mask, cache)
        return block(x, rotary=rotary, mask=mask, cache=cache)  # by name: who calibrates records them by name


class QWenLMHeadModel(PreTrainedModel, GenerationMixin):
    """BELLE-VL, Qwen-VL or Qwen (first generation) for transformers. `core` is the library's model."""

    config_class = QWenConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Block", "VisionBlock"]  # noqa: RUF012 - transformers replaces it on the instance
    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012 - the same
    _keys_to_ignore_on_load_unexpected = [IGNORED.pattern]  # noqa: RUF012 - the same

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        core = Core(config.model_config(), config.quantization())
        self.transformer, self.lm_head = core.transformer, core.lm_head
        self.__dict__["_core"] = core  # not a submodule: names stay those of the checkpoint
        self.loss_type = "ForCausalLM"
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., Tensor] | None = None
        self.post_init()

    @property
    def core(self) -> Core:
        """The library's model around the modules that are here now: PEFT and bitsandbytes replace some.

        A new view for every call, so that nothing of one call is left for the next.
        """
        core = copy.copy(self.__dict__["_core"])
        core.transformer, core.lm_head, core.training = self.transformer, self.lm_head, self.training
        return core

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *args: Any, config: QWenConfig | None = None, **options: Any
    ) -> Any:
        """The model of a folder in eval mode; options as for every model of transformers.

        An int4 folder must be local, lies on one device and computes in `dtype` (None or "auto": load_model's choice).
        Raises CheckpointError for damaged folders and missing tensors, ValueError for options that cannot be met.
        """
        dtype = options.get("dtype", options.get("torch_dtype"))
        name = str(pretrained_model_name_or_path)
        if config is None:
            hub = {k: v for k, v in options.items() if k in NOT_FOR_INT4}
            config, options = cls.config_class.from_pretrained(name, return_unused_kwargs=True, **options)
            options |= hub
        if config.gptq or (Path(name) / "quantize_config.json").is_file():
            if getattr(options.get("quantization_config"), "quant_method", None) != "gptq":
                return cls._load_int4(Path(name), config, dtype, options)
            config = _for_transformers(config, Path(name))
        wants_info = options.pop("output_loading_info", False)
        model, info = super().from_pretrained(name, *args, config=config, output_loading_info=True, **options)
        if missing := sorted(info["missing_keys"]):
            raise CheckpointError("model.missing_tensor", folder=name, name=missing[0], count=len(missing))
        if config.visual:
            model.transformer.visual.attn_pool.pos_embed.requires_grad_(False)  # a table, which loading forgets
        return (model, info) if wants_info else model

    @classmethod
    def _from_config(cls, config: QWenConfig, **options: Any) -> Any:
        """A new model of float layers, as everywhere in transformers; gptqmodel puts its own layers in their place."""
        config = copy.deepcopy(config)
        config.gptq = None
        return super()._from_config(config, **options)

    @classmethod
    def _load_int4(cls, folder: Path, config: QWenConfig, dtype: Any, options: dict[str, Any]) -> QWenLMHeadModel:
        if not folder.is_dir():
            raise ValueError(f"{folder} is an int4 model: download it, and name its folder")
        device = _one_device(options.pop("device_map", None))
        generation = options.pop("generation_config", None)
        unmet = {k for k, v in options.items() if v} - NOT_FOR_INT4 - {"dtype", "torch_dtype"}
        if unmet:
            raise ValueError(f"an int4 folder is loaded without {', '.join(sorted(unmet))}")
        config = copy.deepcopy(config)
        config.gptq = _gptq_settings(config, folder)
        with torch.device("meta"):
            model = cls(config)
        dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        loaded = load_model(folder, dtype, device, mapped_embedding=False)
        loaded.requires_grad_(True)  # what is float here can be trained
        if config.visual:
            loaded.transformer.visual.attn_pool.pos_embed.requires_grad_(False)
        model.transformer, model.lm_head = loaded.transformer, loaded.lm_head
        config.dtype = loaded.dtype
        if generation or (folder / "generation_config.json").is_file():
            model.generation_config = generation or GenerationConfig.from_pretrained(str(folder))
        return model.eval()

    def save_pretrained(self, save_directory: str | Path, *args: Any, **options: Any) -> None:
        """A folder that `from_pretrained` and `load_model` read. Raises ValueError for an int4 model."""
        if self.config.gptq and not getattr(self, "_hf_peft_config_loaded", False):
            raise ValueError("the words of an int4 model are packed for this machine: copy its folder instead")
        super().save_pretrained(save_directory, *args, **options)

    def get_input_embeddings(self) -> nn.Module:
        return self.transformer.wte

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.transformer.wte = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        alpha: int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Token ids [B, T] or embeddings [B, T, C] -> logits [B, T, V].

        With `labels` [B, T] also the mean cross entropy over shifted labels, -100 ignored.
        Pictures, `pixel_values` [N, 3, S, S] or `image_features` [N, Q, C], fill the slots in reading order.
        `attention_mask` [B, S] counts the cached tokens too. `logits_to_keep` n: only of the last n positions.
        `alpha` is dynamic NTK's factor when the prompt is longer than these tokens; a filled cache has its own.
        """
        core = self.core
        core.recompute = self._gradient_checkpointing_func if self.gradient_checkpointing and self.training else None
        core.states = [] if output_hidden_states else None
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if use_cache and core.recompute is None and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        cache = None if past_key_values is None else Conversation(past_key_values)
        if inputs_embeds is None:
            assert input_ids is not None, "either input_ids or inputs_embeds"
            features = self._features(pixel_values, image_features)
            # a single token behind a cache is the model's own, whatever it is: no picture starts there
            alone = cache is not None and cache.length > 0 and input_ids.shape[1] == 1 and features is None
            inputs_embeds = self.transformer.wte(input_ids) if alone else core.embed(input_ids, features)
        hidden = core.decode_hidden(inputs_embeds, attention_mask=attention_mask, cache=cache, alpha=alpha)
        logits = self.lm_head(hidden[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **others)
        states = None if core.states is None else (*core.states, hidden)
        output = CausalLMOutputWithPast(loss, logits, past_key_values, states)
        return output.to_tuple() if return_dict is False else output

    def _features(self, pixel_values: Tensor | None, image_features: Tensor | None) -> Tensor | None:
        if pixel_values is not None and image_features is not None:
            raise ValueError("give either pixel_values or image_features")
        return image_features if pixel_values is None else self.core.encode_images(pixel_values)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        *,
        inputs_embeds: Tensor | None = None,
        image_features: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `generate` hands to `forward`: pictures with the prompt only, or always where there is no cache."""
        inputs = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        first = kwargs.get("is_first_iteration", False) or kwargs.get("past_key_values") is None
        return inputs | {"image_features": image_features} if first else inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Pictures are encoded once, and each beam of a row gets all pictures of that row."""
        features = self._features(options.pop("pixel_values", None), options.pop("image_features", None))
        if features is not None and expand_size > 1 and input_ids is not None:
            pictures = (input_ids == self.config.visual["image_start_id"]).sum(1).tolist()
            features = torch.cat([row for row in features.split(pictures) for _ in range(expand_size)])
        ids, options = super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **options)
        return ids, options if features is None else options | {"image_features": features}

    def _prefill(self, input_ids: Tensor, generation_config: Any, model_kwargs: dict[str, Any], **options: Any) -> Any:
        """Alpha is the whole prompt's, for every chunk of it and, without a cache, for every step after it."""
        if generation_config.prefill_chunk_size is not None and model_kwargs.get("image_features") is not None:
            raise ValueError("a prompt with pictures goes in one piece: prefill_chunk_size must be None")
        embeds = model_kwargs.get("inputs_embeds")
        tokens = (input_ids if embeds is None else embeds).shape[1]
        model_kwargs.setdefault("alpha", ntk_alpha(tokens, self.config.seq_length))
        return super()._prefill(input_ids, generation_config, model_kwargs, **options)


def _for_transformers(config: QWenConfig, folder: Path) -> QWenConfig:
    """The same configuration with the GPTQ settings where transformers' own quantizer (optimum, gptqmodel) looks."""
    config = copy.deepcopy(config)
    config.quantization_config = _gptq_settings(config, folder)
    config.gptq = None
    return config


def _gptq_settings(config: QWenConfig, folder: Path) -> dict[str, Any]:
    """From config.json or, in older folders, from quantize_config.json."""
    return config.gptq or {"quant_method": "gptq", **read_json(folder / "quantize_config.json")}


def _one_device(device_map: Any) -> torch.device:
    """Where an int4 model goes. Raises ValueError for a map of several parts."""
    if isinstance(device_map, dict):
        if set(device_map) != {""}:
            raise ValueError("an int4 model lies on one device: name it, for example device_map='cuda:0'")
        device_map = device_map[""]
    if device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(device_map, int):
        return torch.device("cuda", device_map)
    return torch.device(device_map or "cpu")


class QWenTokenizer(PreTrainedTokenizer):
    """The library's tokenizer for transformers; `core` is it. A token's name is its bytes as Latin-1.

    As usual there, and as in the published class, special tokens in a text are special: give
    `split_special_tokens=True` for what a person typed. bellevl.prompt puts conversations together.
    The vocabulary cannot grow.
    """

    vocab_files_names = {"vocab_file": FILE_NAME}  # noqa: RUF012 - transformers' way
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 - the same

    def __init__(self, vocab_file: str, **options: Any) -> None:
        options.pop("auto_map", None)
        self.folder = Path(vocab_file).parent
        self.core = load_tokenizer(self.folder)
        visual = read_config(self.folder)[0].visual if (self.folder / "config.json").is_file() else None
        self.slot = visual.n_queries if visual else 256
        self._ids = {self._convert_id_to_token(i): i for i in range(self.core.n_vocab)}
        ends = dict.fromkeys(("eos_token", "pad_token"), SPECIAL_TOKENS[0])
        super().__init__(**(ends | options))

    @property
    def vocab_size(self) -> int:
        """Ids in all, special tokens included."""
        return self.core.n_vocab

    def get_vocab(self) -> dict[str, int]:
        """Names and ids."""
        return dict(self._ids)

    def tokenize(self, text: str, **options: Any) -> list[str]:
        """Names of the tokens of `text`; `<img>path</img>` becomes a slot of the model's length."""
        plain = options.get("split_special_tokens", self.split_special_tokens)
        ids = self.core.encode(text) if plain else self.core.encode_with_specials(text, slot=self.slot)
        return [self._convert_id_to_token(i) for i in ids]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Text of tokens by name."""
        return b"".join(token.encode("latin-1") for token in tokens).decode("utf-8", "replace")

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Copies qwen.tiktoken; the family knows no other name for it."""
        target = Path(save_directory) / FILE_NAME
        if target.resolve() != (self.folder / FILE_NAME).resolve():
            shutil.copyfile(self.folder / FILE_NAME, target)
        return (str(target),)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self.core.piece(index).decode("latin-1")

    def _decode(self, token_ids: int | list[int], skip_special_tokens: bool = False, **options: Any) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        return self.core.decode(ids, skip_specials=skip_special_tokens)

    def _add_tokens(self, new_tokens: list[Any], special_tokens: bool = False) -> int:
        unknown = [str(token) for token in new_tokens if str(token) not in self._ids]
        if unknown:
            raise ValueError(f"the vocabulary is fixed, {unknown[0]!r} is not in it: use one of <|extra_0|> to 204")
        return super()._add_tokens(new_tokens, special_tokens)


AutoConfig.register(QWenConfig.model_type, QWenConfig, exist_ok=True)
AutoModelForCausalLM.register(QWenConfig, QWenLMHeadModel, exist_ok=True)
AutoTokenizer.register(QWenConfig, tokenizer_class=QWenTokenizer, exist_ok=True)
