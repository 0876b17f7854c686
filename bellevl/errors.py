"""The errors a person can cause or cure.

    BellevlError
    ├── PictureError        a picture cannot be read
    ├── CheckpointError     a model folder is missing, damaged or not of this family
    │   └── TokenizerError  its vocabulary is missing or damaged
    ├── DeviceError         the device asked for is not there
    ├── OutOfMemoryError    weights or activations do not fit
    ├── PromptError         a question or a setting the model cannot take
    └── QuantizeError       a quantization that cannot be started or finished

An error is a message id and its facts. `MESSAGES` has the English texts; the terminal has its own table with
the same ids in Chinese. What exit code an error leads to is the terminal's business.
"""

from __future__ import annotations

#: id -> (what happened and why, what to try). Facts are filled in by name.
MESSAGES: dict[str, tuple[str, str]] = {
    # pictures
    "picture.missing": ("no such picture: {path} (looked in {folder})", "check the name{near}"),
    "picture.url": (
        "{path} is an address on the network, and this program reads files only",
        "download the picture first",
    ),
    "picture.folder": ("{path} is a folder, not a picture", "name one picture inside it"),
    "picture.unreadable": ("{path} cannot be opened: {reason}", "check the file's permissions"),
    "picture.not_a_picture": (
        "{path} is not a picture this program reads: {reason}",
        "use JPEG, PNG, WebP, GIF, BMP or TIFF",
    ),
    "picture.broken": ("{path} is damaged or cut short: {reason}", "copy or download the picture again"),
    "picture.huge": (
        "{path} has {pixels} pixels, more than the {limit} this program opens",
        "make a smaller copy of it first",
    ),
    "picture.empty": ("the picture {path} is empty", "check where it comes from"),
    "picture.heic": (
        "{path} is a HEIC picture, which needs the package pillow-heif",
        "install it (pip install pillow-heif) or save the picture as JPEG",
    ),
    # checkpoints
    "model.missing": (
        "there is no model folder at {folder}",
        "check --model or BELLEVL_MODEL; without both the embedded model answers",
    ),
    "model.file": ("{folder} is a file, not a model folder", "name the folder that holds config.json and the weights"),
    "model.no_config": (
        "{folder} has no config.json",
        "name the folder that holds config.json and the weights",
    ),
    "model.bad_json": ("{path} is not readable JSON: {reason}", "download the file again"),
    "model.architecture": (
        "{folder} holds the architecture {found}, not Qwen or Qwen-VL (QWenLMHeadModel)",
        "only BELLE-VL, Qwen-VL and Qwen (first generation) checkpoints can be used",
    ),
    "model.config": ("{path}: {field} is {value}, {reason}", "download the file again"),
    "model.no_weights": ("{folder} has no weights (*.safetensors or *.bin)", "download the weight files"),
    "model.missing_shard": ("{index} names {shard}, which is not there", "download {shard} again"),
    "model.outside": (
        "{index} names {shard}, which lies outside the model folder",
        "do not use this model folder",
    ),
    "model.damaged_shard": ("{shard} is damaged or cut short: {reason}", "download {shard} again"),
    "model.missing_tensor": (
        "{folder} lacks the tensor {name} ({count} missing in all)",
        "download the weights again",
    ),
    "model.extra_tensor": (
        "{folder} has tensors that its config.json does not account for: {name} ({count} in all)",
        "check that config.json and the weights belong together",
    ),
    "model.shape": (
        "{name} has shape {found}, config.json says {expected}",
        "check that config.json and the weights belong together",
    ),
    "model.dtype": (
        "{name} is stored as {found}, which is not {expected}",
        "use the weights as they were published",
    ),
    "model.not_finite": (
        "{name} holds NaN or infinite values",
        "the weights are damaged: download or quantize them again",
    ),
    "model.groups": (
        "{name} names group {found} of {groups}",
        "the weights are damaged: download or quantize them again",
    ),
    "model.quantization": (
        "{path}: {field} is {value}, {reason}",
        "use GPTQ weights of 4 bits (sym or asym, v1 or v2)",
    ),
    "model.text_only": (
        "the model in {folder} has no vision encoder and cannot see pictures",
        "use a VL model, or bellevl chat without a picture",
    ),
    "model.pickle": (
        "{shard} holds Python objects besides tensors and was not opened",
        "convert it to safetensors",
    ),
    "tokenizer.missing": (
        "{folder} has no vocabulary (qwen.tiktoken)",
        "copy qwen.tiktoken of the model into the folder",
    ),
    "tokenizer.damaged": ("{path}, line {line}: {reason}", "download the vocabulary again"),
    "tokenizer.unusable": ("{path} cannot be used as vocabulary: {reason}", "download the vocabulary again"),
    # devices and memory
    "device.unknown": ("{device} is not a device", "use cpu, cuda, cuda:1 or mps"),
    "device.absent": ("the device {device} is not there: {reason}", "use --device cpu"),
    "memory.short": (
        "{what} needs {need}, {free} is free",
        "close other programs, use a smaller model or a smaller --max-tokens",
    ),
    # prompts and sampling
    "prompt.too_long": (
        "the question has {tokens} tokens, the model's window has room for {room}",
        "shorten the question",
    ),
    "prompt.setting": ("{name} is {value}, {reason}", "give a value in that range"),
    # quantization
    "quantize.exists": ("{folder} already holds a finished model", "name another folder or remove that one"),
    "quantize.file": ("{folder} is a file, not a folder", "name a new folder"),
    "quantize.not_empty": (
        "{folder} holds files that are not this job's: {name}",
        "name an empty or new folder",
    ),
    "quantize.same_folder": (
        "source and destination are the same folder: {folder}",
        "name another destination",
    ),
    "quantize.already_int4": ("{folder} is already quantized", "start from the float weights"),
    "quantize.other_job": (
        "{folder} holds an unfinished job with other settings ({field}: {found}, now {asked})",
        "use the same settings to go on, or remove the folder",
    ),
    "quantize.option": ("{name} is {value}, {reason}", "see bellevl quantize --help"),
    "quantize.calibration": (
        "the calibration data in {path} cannot be used: {reason}",
        "see bellevl quantize --help",
    ),
    "quantize.not_finite": (
        "block {block}, {layer}: the activations are not finite",
        "check the source weights",
    ),
    "quantize.busy": ("another process is quantizing into {folder}", "wait for it, or name another folder"),
    "disk.denied": ("{path} may not be read or written: {reason}", "change its permissions or name another folder"),
    "disk.full": (
        "{path} cannot be written: {reason}",
        "see that the folder may be written and has room for {need}, then give the same command again",
    ),
}


class BellevlError(Exception):
    """An error with a cure. `message` is a key of `MESSAGES`, `facts` fill its gaps."""

    def __init__(self, message: str, **facts: object) -> None:
        self.message = message
        self.facts = facts
        super().__init__(message, facts)

    @property
    def cause(self) -> str:
        """What happened, in English, one line."""
        return one_line(MESSAGES[self.message][0].format(**self.facts))

    @property
    def hint(self) -> str:
        """What to try, in English, one line."""
        return one_line(MESSAGES[self.message][1].format(**self.facts))

    def __str__(self) -> str:
        return f"{self.cause}; {self.hint}"


class PictureError(BellevlError):
    """A picture cannot be read."""


class CheckpointError(BellevlError):
    """A model folder is missing, damaged or not of this family."""


class TokenizerError(CheckpointError):
    """A vocabulary is missing or damaged."""


class DeviceError(BellevlError):
    """The device asked for is not there."""


class OutOfMemoryError(BellevlError):
    """Weights or activations do not fit into memory."""


class PromptError(BellevlError):
    """A question or a setting that the model cannot take."""


class QuantizeError(BellevlError):
    """A quantization that cannot be started or finished."""


def one_line(text: str) -> str:
    """`text` without line ends or control characters: names of files may hold either."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
