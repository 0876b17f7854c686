"""The world's questions: each has exactly one right answer, and this is it.

The answers are recomputed here from the scene's facts with code of their own, not with facts.py.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np
from nano_scenes import COLOURS, NUMBER, PHRASE, SHAPES, asked, every, having, middle, named

from bellevl.nano.questions.facts import absent
from bellevl.nano.questions.turns import KINDS
from bellevl.nano.world import layout, names
from bellevl.nano.world.scene import SPLIT_CODE


def test_every_answer_marks_its_decision() -> None:
    """Every turn has a non-empty deciding span inside its answer, no mark is left over, kinds are known."""
    for split in SPLIT_CODE:
        for _, turns in asked(split):
            for index, turn in enumerate(turns):
                assert turn.deciding and "⟦" not in turn.answer + turn.question
                assert "{" not in turn.question
                assert all(0 <= a < b <= len(turn.answer) for a, b in turn.deciding), turn
                assert turn.follows is None or 0 <= turn.follows < index
                assert (turn.kind in KINDS) == (turn.follows is None)


def test_every_kind_is_asked() -> None:
    """All question kinds and follow-ups occur in a few hundred training scenes, none of them twice in one."""
    seen = Counter(turn.kind for _, turns in asked("train") for turn in turns)
    follow_ups = {"colour_follow", "position_follow", "count_follow", "ground_follow", "again"}
    assert set(seen) == set(KINDS) | follow_ups
    for _, turns in asked("train"):
        alone = [turn.question for turn in turns if turn.follows is None]
        assert len(alone) == len(set(alone))


def test_existence_is_true_and_undisputed() -> None:
    """Every answer about existence agrees with the scene, and absent things have no look-alike in it."""
    found = every("exist_zh exist_yn")
    assert len(found) > 500
    for scene, turn in found:
        (target,) = named(turn.question)
        n = len(having(scene, target))
        assert turn.answer.startswith(("有", "是")) == (n > 0)
        if turn.kind == "exist_zh" and n:
            assert NUMBER[turn.answer[5]] == n, turn
        if not n:
            there = {thing.name_zh for thing in scene.objects}
            noun = PHRASE.search(turn.question)
            assert noun
            if noun[2] not in there:  # a shape that is there in other colours may be asked for in this one
                assert not names.confusable_with(noun[2]) & there


def test_colours_are_the_only_ones_of_their_shape() -> None:
    """Colour questions are asked only of shapes of one colour, and answered with that colour."""
    found = every("colour colour_yn")
    assert len(found) > 300
    for scene, turn in found:
        shape = next(name for name in SHAPES if name in turn.question)
        colours = {t.colour_id for t in scene.objects if t.class_id == SHAPES[shape]}
        (true,) = colours
        assert names.COLOURS[true].zh in turn.answer
        if turn.kind == "colour_yn":
            claimed = next(colour for colour in COLOURS if colour in turn.question)
            assert turn.answer.startswith("是的") == (COLOURS[claimed] == true)


def test_shapes_are_the_only_ones_of_their_colour() -> None:
    """Shape questions name a colour that one shape has; the wordings without 图形 need a scene without emoji."""
    found = every("shape")
    assert len(found) > 100
    for scene, turn in found:
        colour = next(colour for colour in COLOURS if colour in turn.question)
        (thing,) = (t for t in scene.objects if t.colour_id == COLOURS[colour])
        assert turn.answer == f"是{thing.name_zh}。"
        assert "图形" in turn.question or all(t.kind == "shape" for t in scene.objects)


def test_counts_are_right() -> None:
    """Counts of one kind and of all objects agree with the scene."""
    for scene, turn in every("count"):
        (target,) = named(turn.question)
        assert NUMBER[turn.answer[1]] == len(having(scene, target)), turn
        assert named(turn.answer) == [target]
    for scene, turn in every("count_all"):
        assert NUMBER[turn.answer[3]] == len(scene.objects)


def test_positions_are_unique_and_clear_of_borders() -> None:
    """Position questions name one thing whose centre is at least 0.03 away from every zone border."""
    found = every("position")
    assert len(found) > 300
    for scene, turn in found:
        (thing,) = having(scene, named(turn.question)[0])
        x, y = middle(thing)
        assert min(abs(v - third) for v in (x, y) for third in (1 / 3, 2 / 3)) > 0.03
        row, column = int(y * 3), int(x * 3)
        words = [["左上角", "上方", "右上角"], ["左边", "中间", "右边"], ["左下角", "下方", "右下角"]]
        name, place = turn.answer.split("在图片的")
        assert place == f"{words[row][column]}。" and name in turn.question


def test_relations_are_clear() -> None:
    """Relation answers agree with the centres, which differ by at least 0.14 along the axis asked about."""
    found = every("relation relation_yn")
    assert len(found) > 300
    for scene, turn in found:
        a, b = named(turn.question)
        (first,), (second,) = having(scene, a), having(scene, b)
        axis = 0 if "边" in turn.question else 1
        gap = middle(first)[axis] - middle(second)[axis]
        word = [("左边", "右边"), ("上面", "下面")][axis][int(gap > 0)]
        assert abs(gap) > 0.14
        assert f"在{word}。" in turn.answer or f"的{word}。" in turn.answer
        if turn.kind == "relation_yn":
            assert turn.answer.startswith("是的") == (word in turn.question)


def test_boxes_in_answers_are_the_things_boxes() -> None:
    """Grounding answers hold the thing's box in thousandths; box questions hold the box of what they ask for."""
    for scene, turn in every("ground box_name"):
        numbers = [int(n) for n in re.findall(r"\d+", turn.answer if turn.kind == "ground" else turn.question)]
        x0, y0, x1, y1 = numbers
        assert 0 <= x0 < x1 <= 999 and 0 <= y0 < y1 <= 999
        (target,) = named(turn.answer)
        errors = [np.abs(np.array(t.box) * 1000 - numbers).max() for t in having(scene, target)]
        assert min(errors) <= 1
        if turn.kind == "ground":
            assert len(errors) == 1


def test_captions_list_everything_once() -> None:
    """A caption's numbers, colours and names are exactly the scene's objects, its background the scene's."""
    for scene, turn in every("caption"):
        counted = Counter[tuple[int, int]]()
        for part in re.split("[、和，]", re.sub("“.*?”", "", turn.answer)):
            for target in named(part):
                number = next(c for c in part.removeprefix("图中有").removeprefix("还有") if c in NUMBER)
                counted[target] += NUMBER[number]
        assert counted == Counter((t.class_id, t.colour_id) for t in scene.objects), turn
        assert (f"背景是{scene.background}" in turn.answer) == bool(scene.background)
        assert scene.text is None or f"图中写着“{scene.text}”" in turn.answer


def test_printed_text_is_read_literally() -> None:
    """Reading answers quote the printed line; yes/no claims are judged by equality."""
    for scene, turn in every("read"):
        assert turn.answer == f"图中写着“{scene.text}”。"
    for scene, turn in every("read_yn"):
        claim = re.search("“(.+?)”", turn.question)
        assert claim and turn.answer.startswith("是的") == (claim[1] == scene.text)


def test_follow_ups_refer_to_one_thing() -> None:
    """它 means the only thing that the earlier turn was about, and the answer is true of it."""
    seen = 0
    for split in SPLIT_CODE:
        for scene, turns in asked(split):
            for turn in turns:
                if turn.kind not in ("colour_follow", "position_follow") or turn.follows is None:
                    continue
                root = turns[turn.follows]
                while root.follows is not None:
                    root = turns[root.follows]
                if root.kind not in ("exist_zh", "exist_yn", "position", "colour"):
                    continue
                (thing,) = having(scene, named(root.question)[0])
                x, y = middle(thing)
                true = (
                    names.COLOURS[thing.colour_id].zh
                    if "color" in turn.kind or "colour" in turn.kind
                    else (layout.ZONES_ZH[int(y * 3) * 3 + int(x * 3)])
                )
                assert true in turn.answer
                seen += 1
    assert seen > 50


def test_yes_and_no_are_balanced() -> None:
    """Of each yes/no kind between 38 and 62 % of the answers are affirmative."""
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for split in SPLIT_CODE:
        for _, turns in asked(split):
            for turn in turns:
                if "yn" in turn.kind or turn.kind in ("exist_zh", "exist_en"):
                    verdicts[turn.kind].append(turn.answer.startswith(("是", "有", "Yes")))
    assert len(verdicts) == 12
    for kind, values in verdicts.items():
        assert 0.38 <= np.mean(values) <= 0.62, (kind, len(values))


def test_places_and_numbers_are_balanced() -> None:
    """No zone takes more than 20 % of the position answers, no number more than 50 % of the counts."""
    zones = Counter(turn.answer.split("在图片的")[1] for _, turn in every("position"))
    assert len(zones) == 9 and max(zones.values()) < 0.2 * zones.total()
    numbers = Counter(turn.answer[1] for _, turn in every("count"))
    assert max(numbers.values()) < 0.5 * numbers.total()
    words = Counter(turn.answer[-3:] for _, turn in every("relation"))
    assert len(words) == 4 and max(words.values()) < 0.35 * words.total()


def test_absent_targets_are_not_there() -> None:
    """What may be named as absent never matches an object of the scene."""
    for scene, _ in asked("heldout")[:60]:
        for target in absent(scene):
            assert not having(scene, (target.class_id, target.colour_id))
