"""The errors a person can cause or cure.

    BellevlError
    ├── PictureError        a picture cannot be read
    ├── CheckpointError     a model folder is missing, damaged or not of this family
    │   └── TokenizerError  its vocabulary is missing or damaged
    ├── DeviceError         the device asked for is not there
    ├── OutOfMemoryError    weights or activations do not fit
    ├── PromptError         a question or a setting the model cannot take
    ├── QuantizeError       a quantization that cannot be started or finished
    ├── LogError            the log of dialogues cannot be read, or lacks what was asked for
    ├── ServeError          a server that cannot be started
    ├── ConfigError         the configuration file, or a variable in its place, says what cannot be
    └── HubError            a model cannot be fetched from a hub

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
        "{path} has {pixels} pixels ({size}), more than the {limit} this program opens",
        "make a smaller copy of it first, or allow it with --allow-huge where the source is trusted",
    ),
    "picture.none": ("there are no pictures in {folder}", "check the name, --ext and --recursive"),
    "picture.empty": ("the picture {path} is empty", "check where it comes from"),
    "picture.heic": (
        "{path} is a HEIC picture, which needs the package pillow-heif",
        "install it (pip install pillow-heif) or save the picture as JPEG",
    ),
    "picture.frame": ("{path} has no frame {frame}: it has {frames}", "count the frames from 1"),
    "picture.matte": ("{value} is not a colour", "write a name (white, black) or #rrggbb"),
    "picture.crop": (
        "{spec} is no part of a picture of {size}: {reason}",
        "write 100,200,800,600 (left, top, right, bottom), 10%,10%,50%,50% or top-left",
    ),
    "picture.tiles": ("a picture cannot be cut into {count} tiles", "write auto, 0 or a number up to {most}"),
    "picture.no_box": ("there is no box {number}: the last answer has {boxes}", "count the boxes from 1"),
    "picture.ending": ("{path} does not end like a picture that can be written", "end it in .png, .jpg or .webp"),
    "picture.no_folder": ("there is no folder {folder} to write to", "make it first, or write elsewhere"),
    "picture.own_file": ("{path} is the picture itself and is not written over", "choose another name"),
    "picture.boxes_file": ("{path} holds no boxes: {reason}", "use the answer of bellevl ask --json or --raw"),
    "picture.export": ("{formats} is not a way to write boxes", "use labelme, coco and yolo, with commas between"),
    "picture.coco": ("{path} is no COCO file: {reason}", "choose another folder, or remove that file"),
    "picture.ocr_missing": (
        "reading text needs the packages rapidocr and onnxruntime",
        "install them (pip install rapidocr onnxruntime)",
    ),
    "picture.ocr_failed": ("the text of {path} could not be read: {reason}", "ask without --ocr"),
    "picture.clipboard_empty": ("there is no picture in the clipboard", "copy a picture or a picture file first"),
    "picture.clipboard_tool": (
        "the clipboard cannot be read without the package {package}",
        "install it (sudo apt install {package}), or name the picture's file",
    ),
    "picture.clipboard_none": (
        "there is no clipboard here, as in a session without a screen",
        "name the picture's file, or pipe the picture in and write -",
    ),
    "picture.gone": (
        "the picture of that dialogue is no longer at {path}",
        "put it back; store_images = true in the configuration keeps copies from now on",
    ),
    "picture.changed": (
        "{path} is no longer the picture of that dialogue",
        "ask about it as a new picture; store_images = true in the configuration keeps copies from now on",
    ),
    "picture.not_kept": (
        "the picture of that dialogue ({path}) did not come from a file and was not kept",
        "give it again; store_images = true in the configuration keeps copies from now on",
    ),
    # checkpoints
    "model.missing": (
        "there is no model folder at {folder}",
        "check --model or BELLEVL_MODEL; without both the embedded model answers",
    ),
    "model.unknown": (
        "there is no model {name}, neither as a folder here nor among the models in {folder}",
        "check the name{near}; bellevl models lists what is here",
    ),
    "model.several": ("there are several models: {names}", "choose one: --model, or bellevl config set model NAME"),
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
    "model.damaged_download": ("{shard} is damaged or cut short: {reason}", "remove that file, then: {command}"),
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
    "model.other": (
        "{one} and {other} are not two forms of one model",
        "name the float model and what was quantized from it",
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
    "model.nf4": (
        "{name} is not a tensor of an NF4 layer: {reason}",
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
        "{what} needs {need}, {free} is free{users}",
        "{choices}close other programs or use a smaller model",
    ),
    "memory.exhausted": (
        "the memory of {device} ran out in the middle of an answer, {free} is free now",
        "close other programs, or use a smaller --ctx or --max-tokens",
    ),
    "memory.cpu": (
        "there is no GPU here, and on the CPU {model} gives about {speed} tokens a second",
        "--device cpu (or BELLEVL_DEVICE=cpu) if that is enough",
    ),
    # prompts and sampling
    "prompt.too_long": (
        "the question has {tokens} tokens, the model's window has room for {room}",
        "shorten the question",
    ),
    "prompt.schema": ("the schema cannot be kept to: {reason}", "see --schema in bellevl ask --help"),
    "prompt.schema_file": ("the schema {path} cannot be read: {reason}", "check the file's name and permissions"),
    "prompt.setting": ("{name} is {value}, {reason}", "give a value in that range"),
    # configuration file
    "config.value": ("{where}: {name} is {value}, {reason}", "bellevl config show says what {name} is for"),
    "config.unknown": ("there is no setting {name}{near}", "bellevl config show lists them all"),
    "config.broken": ("{path} is not readable TOML: {reason}", "mend it with bellevl config edit"),
    "config.by_hand": ("{name} in {path} cannot be changed safely by a program", "use bellevl config edit"),
    "config.editor": ("the editor {editor} did not work: {reason}", "set VISUAL or EDITOR, or edit {path} yourself"),
    # hubs
    "pull.package": ("a download needs the package huggingface_hub: {reason}", "pip install huggingface_hub"),
    "pull.offline": (
        "HF_HUB_OFFLINE is set, so nothing is downloaded",
        "the same command with HF_HUB_OFFLINE=0 in front of it",
    ),
    "pull.endpoint": ("{endpoint} is no address of a hub", "write one that begins with https://"),
    "pull.source": (
        "{source} is not a hub this program knows",
        "use --from hf or --from modelscope, with --endpoint for a mirror",
    ),
    "pull.name": ("{repo} is not the name of a repository", "write it as OWNER/NAME, as in {example}"),
    "pull.repo": (
        "there is no repository {repo} at {host}, or it is private",
        "check the name; for a private one put a token into HF_TOKEN",
    ),
    "pull.public": (
        "{host} has no public repository {repo} with a revision {revision}",
        "check the names; what is not public cannot be downloaded from there",
    ),
    "pull.gated": (
        "{repo} is given out only to those who accepted its terms",
        "accept them at {address}, then put a token into HF_TOKEN",
    ),
    "pull.revision": ("{repo} has no revision {revision}", "leave --revision out, or check its name"),
    "pull.network": (
        "{host} cannot be reached: {reason}",
        "check the network, then the same command goes on; --endpoint names a mirror",
    ),
    "pull.answer": ("{host} did not answer as a hub does: {reason}", "check --endpoint, or try again later"),
    "pull.nothing": (
        "{repo} holds no model: no {missing}",
        "only BELLE-VL, Qwen-VL and Qwen (first generation) repositories can be used",
    ),
    "pull.size": ("{name} came with {found} bytes instead of {expected}", "the same command goes on"),
    "pull.hash": (
        "{name} is not what {host} published: its hash differs",
        "it was removed; the same command downloads it again",
    ),
    "pull.other": (
        "{folder} is there already and is not a download of {repo}",
        "choose another folder with --to, or remove that one",
    ),
    "pull.busy": ("another process is downloading into {folder}", "wait for it, or choose another folder with --to"),
    "pull.disk": ("{repo} needs {need} in {folder}, {free} is free", "make room, or choose another disk with --to"),
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
    "quantize.nf4": ("{name} does not go with --method nf4", "leave it out: NF4 has only one form"),
    "quantize.option": ("{name} is {value}, {reason}", "see bellevl quantize --help"),
    "quantize.budget": (
        "a budget of {budget} cannot be met: all layers at 4 bits make {least}, all at 8 bits {most}",
        "name a size between the two",
    ),
    "quantize.calibration": (
        "the calibration data in {path} cannot be used: {reason}",
        "see bellevl quantize --help",
    ),
    "quantize.not_finite": (
        "block {block}, {layer}: the activations are not finite",
        "check the source weights",
    ),
    "quantize.busy": ("another process is quantizing into {folder}", "wait for it, or name another folder"),
    # the log
    "log.empty": ("nothing was logged yet", "ask something first; bellevl logs says whether the log is on"),
    "log.missing": ("there is no logged dialogue {id}", "bellevl logs lists them{near}"),
    "log.ambiguous": ("{id} is the beginning of several dialogues: {ids}", "write more of it"),
    "log.taken": ("the name {name} belongs to the dialogue {id}", "take another name"),
    "log.format": ("{name} is not the name of an .html or .md file", "write report.html or report.md"),
    "log.version": (
        "the log {path} has version {found}, this program knows {known}",
        "install the newest bellevl",
    ),
    "log.damaged": (
        "the log {path} cannot be read: {reason}",
        "check its permissions; a damaged one can be moved away, and a new one begins",
    ),
    # the server
    "serve.extra": (
        "the server needs the package {package}, which is not installed",
        'install it: pip install "bellevl[serve]"',
    ),
    "serve.port": ("cannot listen at {host} port {port}: {reason}", "name another --port (0 takes any free one)"),
    # disks
    "quantize.file_exists": ("{path} is there already", "name another file or remove that one"),
    "quantize.gguf": (
        "{folder} cannot become a GGUF file: {reason}",
        "quantize it symmetrically, without other options",
    ),
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


class ConfigError(BellevlError):
    """The configuration file, or an environment variable in its place, says what cannot be."""


class HubError(BellevlError):
    """A model cannot be fetched from a hub."""


class ServeError(BellevlError):
    """A server that cannot be started."""


class LogError(BellevlError):
    """The log of dialogues cannot be read, or lacks what was asked for."""


def one_line(text: str) -> str:
    """`text` without line ends or control characters: names of files may hold either."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
