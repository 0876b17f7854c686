"""The wordings of every question kind and of small talk. Pure data.

A question is drawn at random from its kind's wordings; `{}` fields are filled by questions.py and
grounding_questions.py. It does not know when a question may be asked or what its answer is.
"""

from __future__ import annotations

NUMBERS_ZH: tuple[str, ...] = ("零", "一", "两", "三", "四", "五", "六", "七", "八", "九")
NUMBERS_EN: tuple[str, ...] = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
YES_NO_EN = " Please answer yes or no."

QUESTIONS: dict[str, tuple[str, ...]] = {
    "caption": (
        "描述图片", "描述图片。", "请详细描述这张图片。", "这张图里有什么？", "图中有什么？",
        "图里有什么？", "请描述这张图片。", "描述一下这张图", "图片里都有什么？", "图中有哪些东西？",
        "这张图片的内容是什么？", "看看这张图，里面有什么？",
    ),
    "caption_en": (
        "What is in the picture?", "Describe the image.", "What can you see in this image?",
        "Please describe this picture.",
    ),
    "name": (
        "这是什么？", "图中是什么？", "图里画的是什么？", "这张图画的是什么？", "这是什么东西？",
        "图中的物体是什么？", "这是啥？",
    ),
    "name_en": ("What is this?", "What is shown in the image?", "What object is this?"),
    "exist_zh": ("图里有{t}吗？", "图中有{t}吗？", "这张图里有{t}吗？", "有{t}吗？", "你看到{t}了吗？"),
    "exist_yn": ("图里有没有{t}？", "图中有没有{t}？", "图中是否有{t}？", "有没有{t}？"),
    "exist_yn_strict": ("图中有{t}吗？请回答是或否。", "图中是否有{t}？请回答是或否。"),
    "exist_en": ("Is there {a} in this image?", "Is there {a} in the picture?", "Can you see {a} in this image?"),
    "colour": (
        "{t}是什么颜色的？", "{t}是什么颜色？", "图中的{t}是什么颜色的？", "{t}什么颜色？", "{t}的颜色是什么？",
    ),
    "colour_yn": ("{t}是{c}的吗？", "图中的{t}是{c}的吗？", "{t}是不是{c}的？"),
    "colour_en": ("What color is the {e}?", "What is the color of the {e}?", "What colour is the {e}?"),
    "colour_yn_en": ("Is the {e} {c}?", "Is there {a} in the image?"),
    "shape": ("{c}的图形是什么形状？", "{c}的图形是什么？", "图中{c}的图形是什么形状的？"),
    "shape_only": ("{c}的是什么形状？", "{c}的是什么？"),
    "count": (
        "图中有几{m}{t}？", "图里有几{m}{t}？", "有几{m}{t}？", "图中有多少{m}{t}？", "{t}有几{m}？",
        "数一数图中有几{m}{t}。",
    ),
    "count_all": ("图中一共有几个物体？", "图里总共有几个东西？", "一共有多少个物体？", "图中有几个物体？"),
    "count_yn_en": ("Are there {k} in the image?", "Is there a total of {k} in this image?"),
    "position": (
        "{t}在哪里？", "{t}在图的什么位置？", "{t}在哪儿？", "图中的{t}在什么位置？", "{t}在图片的哪个位置？",
    ),
    "zone_name": ("{z}是什么？", "图片的{z}是什么？", "{z}有什么？", "图的{z}有什么？"),
    "relation_x": ("{t}在{u}的左边还是右边？", "{t}在{u}的右边还是左边？", "{t}在{u}左边还是右边？"),
    "relation_y": ("{t}在{u}的上面还是下面？", "{t}在{u}的下面还是上面？", "{t}在{u}上面还是下面？"),
    "relation_yn": ("{t}在{u}的{w}吗？", "{t}是不是在{u}的{w}？", "图中的{t}在{u}的{w}吗？"),
    "relation_yn_en": ("Is the {e} {w} the {f}?",),
    "scene": ("背景是什么？", "图片的背景是什么？", "这是什么场景？", "这张图的背景是什么？", "背景是什么地方？"),
    "scene_yn": ("背景是{s}吗？", "图片的背景是{s}吗？", "这张图的背景是不是{s}？"),
    "scene_en": ("What is the background?", "What is the background of the image?", "Where is this?"),
    "scene_yn_en": ("Is the background {s}?", "Does this image show {s}?"),
    "ground": ("框出图中的{t}。", "请框出{t}。", "框出{t}", "用框标出{t}。", "把{t}框出来。"),
    "box_name": ("{b}里是什么？", "{b}这个框里是什么？", "{b}这个区域里有什么？"),
    "read": (
        "图中写的是什么？", "图里写着什么？", "图中的文字是什么？", "读出图中的文字。", "图上写了什么？",
        "图片上的字是什么？",
    ),
    "read_yn": ("图中写的是“{x}”吗？", "图里写着“{x}”吗？", "图中的文字是不是“{x}”？"),
    "read_en": ("What is written in the picture?", "What does the text say?", "Read the text in the image."),
    "read_yn_en": ('Is the text in the picture "{x}"?',),
    "colour_follow": ("它是什么颜色的？", "什么颜色的？", "是什么颜色的？"),
    "position_follow": ("它在哪里？", "在哪里？", "它在图的什么位置？", "在哪儿？"),
    "count_follow": ("有几{m}？", "有多少{m}？", "几{m}？"),
    "ground_follow": ("把它框出来。", "框出来", "请框出它。"),
    "again": ("那{t}呢？", "{t}呢？"),
}  # fmt: skip

_WHO = "我是 bellevl 自带的演示小模型，只认识画出来的简单图片。"
_WHO_EN = "I am the small demonstration model built into bellevl. I only know simple drawn pictures."
_CAN = "我可以说出简单图画里的形状、颜色、数量、位置和常见物品，但看不懂照片。"
_CAN_EN = "I can name shapes, colors, counts, positions and common objects in simple drawings, but not in photos."

TALK: tuple[tuple[str, str], ...] = (
    ("你好", "你好！请给我一张简单的图画，我来说说里面有什么。"),
    ("你好！", "你好！请给我一张简单的图画，我来说说里面有什么。"),
    ("您好", "您好！请给我一张简单的图画，我来说说里面有什么。"),
    ("你是谁？", _WHO),
    ("你是谁", _WHO),
    ("你叫什么名字？", _WHO),
    ("你是什么模型？", _WHO),
    ("介绍一下你自己", _WHO),
    ("你能做什么？", _CAN),
    ("你会什么？", _CAN),
    ("你能看懂照片吗？", "看不懂，我只认识画出来的简单图片。"),
    ("怎么用？", "给我一张图片，再问一个问题，比如“图中有什么？”。"),
    ("谢谢", "不客气！"),
    ("谢谢你！", "不客气！"),
    ("再见", "再见！"),
    ("hello", "Hello! Show me a simple drawing and ask me about it."),
    ("Hi", "Hello! Show me a simple drawing and ask me about it."),
    ("Who are you?", _WHO_EN),
    ("who are you", _WHO_EN),
    ("What can you do?", _CAN_EN),
    ("Thank you", "You are welcome!"),
    ("thanks", "You are welcome!"),
)
