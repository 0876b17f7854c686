"""What the picture world can show, by name: shapes, colours, emoji, scenes and printed words.

Pure data in Chinese and English. The order of every table is a class id that trained weights depend
on, so entries are only ever appended. It does not know how anything is drawn or asked about.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """Something that can be counted: Chinese name, its measure word, English singular and plural."""

    zh: str
    measure: str
    en: str
    en_plural: str


@dataclass(frozen=True)
class Emoji(Noun):
    """An emoji with the code point its sprite is looked up by and the Fluent file that draws it."""

    code: str
    fluent: str


@dataclass(frozen=True)
class Colour:
    """A colour word (used before 的) and the sRGB value its fills are jittered around."""

    zh: str
    en: str
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class Named:
    """A Chinese and an English name for the same thing."""

    zh: str
    en: str


SHAPES: tuple[Noun, ...] = (
    Noun("圆形", "个", "circle", "circles"),
    Noun("三角形", "个", "triangle", "triangles"),
    Noun("正方形", "个", "square", "squares"),
    Noun("五角星", "个", "star", "stars"),
    Noun("心形", "个", "heart", "hearts"),
    Noun("菱形", "个", "diamond", "diamonds"),
    Noun("十字形", "个", "cross", "crosses"),
    Noun("圆环", "个", "ring", "rings"),
)

COLOURS: tuple[Colour, ...] = (
    Colour("红色", "red", (222, 36, 40)),
    Colour("橙色", "orange", (250, 138, 20)),
    Colour("黄色", "yellow", (250, 217, 30)),
    Colour("绿色", "green", (40, 160, 62)),
    Colour("蓝色", "blue", (32, 96, 220)),
    Colour("紫色", "purple", (134, 52, 176)),
    Colour("粉色", "pink", (250, 148, 190)),
    Colour("棕色", "brown", (126, 76, 40)),
    Colour("黑色", "black", (24, 24, 28)),
    Colour("灰色", "grey", (138, 140, 144)),
)

SCENES: tuple[Named, ...] = (
    Named("草地", "a meadow"),
    Named("沙滩", "a beach"),
    Named("雪地", "a snow field"),
    Named("海面", "the sea"),
    Named("夜空", "the night sky"),
    Named("城市", "a city"),
    Named("房间", "a room"),
    Named("厨房", "a kitchen"),
)

_EMOJI_ROWS = """
1f436 dog-face 狗 只 dog
1f431 cat-face 猫 只 cat
1f430 rabbit-face 兔子 只 rabbit
1f43c panda 熊猫 只 panda
1f437 pig-face 猪 头 pig
1f42e cow-face 牛 头 cow
1f435 monkey-face 猴子 只 monkey
1f981 lion 狮子 头 lion
1f438 frog 青蛙 只 frog
1f427 penguin 企鹅 只 penguin
1f989 owl 猫头鹰 只 owl
1f986 duck 鸭子 只 duck
1f425 front-facing-baby-chick 小鸡 只 chick
1f422 turtle 乌龟 只 turtle
1f40d snake 蛇 条 snake
1f433 spouting-whale 鲸鱼 头 whale
1f420 tropical-fish 鱼 条 fish fish
1f419 octopus 章鱼 只 octopus octopuses
1f980 crab 螃蟹 只 crab
1f40c snail 蜗牛 只 snail
1f98b butterfly 蝴蝶 只 butterfly butterflies
1f41d honeybee 蜜蜂 只 bee
1f418 elephant 大象 头 elephant
1f992 giraffe 长颈鹿 只 giraffe
1f98a fox 狐狸 只 fox foxes
1f34e red-apple 苹果 个 apple
1f34c banana 香蕉 根 banana
1f347 grapes 葡萄 串 bunch_of_grapes bunches_of_grapes
1f353 strawberry 草莓 个 strawberry strawberries
1f349 watermelon 西瓜 块 slice_of_watermelon slices_of_watermelon
1f34d pineapple 菠萝 个 pineapple
1f34b lemon 柠檬 个 lemon
1f955 carrot 胡萝卜 根 carrot
1f33d ear-of-corn 玉米 根 ear_of_corn ears_of_corn
1f344 mushroom 蘑菇 个 mushroom
1f346 eggplant 茄子 个 eggplant
1f354 hamburger 汉堡 个 hamburger
1f355 pizza 披萨 块 slice_of_pizza slices_of_pizza
1f382 birthday-cake 蛋糕 个 cake
1f366 soft-ice-cream 冰淇淋 个 ice_cream ice_creams
1f36d lollipop 棒棒糖 根 lollipop
1f35f french-fries 薯条 份 pack_of_fries packs_of_fries
2615 hot-beverage 咖啡 杯 cup_of_coffee cups_of_coffee
1f697 automobile 汽车 辆 car
1f68c bus 公交车 辆 bus buses
1f6b2 bicycle 自行车 辆 bicycle
1f69c tractor 拖拉机 辆 tractor
1f682 locomotive 火车 列 train
2708 airplane 飞机 架 plane
1f681 helicopter 直升机 架 helicopter
1f680 rocket 火箭 枚 rocket
26f5 sailboat 帆船 艘 sailboat
2602 umbrella 雨伞 把 umbrella
23f0 alarm-clock 闹钟 个 alarm_clock
1f4a1 light-bulb 灯泡 个 light_bulb
1f511 key 钥匙 把 key
2702 scissors 剪刀 把 pair_of_scissors pairs_of_scissors
1f4f7 camera 相机 台 camera
1f3b8 guitar 吉他 把 guitar
26bd soccer-ball 足球 个 football
270f pencil 铅笔 支 pencil
1f528 hammer 锤子 把 hammer
1f3c6 trophy 奖杯 个 trophy trophies
1f451 crown 皇冠 顶 crown
1f381 wrapped-gift 礼物 份 gift
1f916 robot 机器人 个 robot
1f455 t-shirt 衣服 件 shirt
1f456 jeans 裤子 条 pair_of_trousers pairs_of_trousers
1f457 dress 裙子 条 dress dresses
1f45f running-shoe 鞋子 只 shoe
1f3a9 top-hat 帽子 顶 hat
1f453 glasses 眼镜 副 pair_of_glasses pairs_of_glasses
1f392 backpack 书包 个 schoolbag
1f333 deciduous-tree 树 棵 tree
1f335 cactus 仙人掌 棵 cactus cactuses
1f33b sunflower 向日葵 朵 sunflower
1f339 rose 玫瑰 朵 rose
1f341 maple-leaf 枫叶 片 maple_leaf maple_leaves
1f525 fire 火焰 团 fire
1f3e0 house 房子 座 house
"""


def _emoji(row: str) -> Emoji:
    code, fluent, zh, measure, en, *plural = row.split()
    en = en.replace("_", " ")
    return Emoji(zh, measure, en, plural[0].replace("_", " ") if plural else en + "s", code, fluent)


EMOJI: tuple[Emoji, ...] = tuple(_emoji(row) for row in _EMOJI_ROWS.split("\n") if row)

DIGIT_LENGTHS = (1, 2, 3)

_ENGLISH = """
cat dog sun sky red blue book tree fish bird home milk moon star rain snow tea cake door hand
king lion love map name park rose ship shop sing time train water wind hello good hot ice jump
STOP OPEN EXIT TAXI ZOO YES NO quiet five six
"""

_CHINESE = """
你好 谢谢 中国 北京 上海 学校 老师 学生 朋友 妈妈 爸爸 太阳 月亮 星星 春天 夏天 秋天 冬天 早上 晚上
今天 明天 水果 牛奶 米饭 出口 入口 书店 商店 饭店 医院 银行 公园 电话 开 关 停 茶 水 火 山 人 大 小
天 地 日 月 花 草 鱼 鸟 马 牛 羊 东 南 西 北 中 上 下 左 右
"""
ENGLISH_WORDS: tuple[str, ...] = tuple(_ENGLISH.split())
CHINESE_WORDS: tuple[str, ...] = tuple(_CHINESE.split())

CHARACTERS: str = "".join(sorted(set("0123456789" + "".join(ENGLISH_WORDS + CHINESE_WORDS))))

# Pairs a careful person could argue about: one of a group present means the others are never asked for.
_CONFUSABLE = (
    "汽车 公交车 拖拉机 火车",
    "飞机 直升机 火箭",
    "鱼 鲸鱼 章鱼",
    "衣服 裙子 裤子",
    "鸭子 小鸡 企鹅 猫头鹰",
    "圆形 圆环 足球 闹钟 棒棒糖 向日葵 披萨",
    "三角形 披萨 西瓜 帆船",
    "正方形 礼物 相机 机器人",
    "五角星 枫叶",
    "心形 草莓",
    "玫瑰 向日葵 树 仙人掌 枫叶",
)


def confusable_with(name: str) -> frozenset[str]:
    """Names that must not be asked for as absent while `name` is in the picture (itself included)."""
    groups = [set(group.split()) for group in _CONFUSABLE if name in group.split()]
    return frozenset({name}.union(*groups))
