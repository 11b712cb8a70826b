"""What personas say: text of our own, English and Chinese, that reasons and computes like R1.

Pieces are put together by a seeded generator, so an answer is as long as it must be and no two are
alike. Numbers are in it because models that reason compute.
"""

from __future__ import annotations

import random

_OPENING = (
    "Okay, let me think this through step by step before I answer.",
    "Alright, the question looks simple, but I should be careful with the units.",
    "Hmm, I need to work out what is actually being asked here.",
    "First, let me restate the problem in my own words so that nothing is missed.",
)
_THOUGHTS = (
    "Wait, if the train leaves at {a}:{b:02d} and needs {c} minutes, it arrives {d} minutes after "
    "the hour, unless the timetable has changed since {year}.",
    "The area of a field of {a} by {c} metres is {ac} square metres; that is about {d} per cent of "
    "what the farmer said, so one of the two figures has to be wrong.",
    "Let me check: {a} times {c} equals {ac}, and adding {d} gives {acd}. Dividing that by {b} "
    "leaves a remainder of {rest}, which matches the hint in the exercise.",
    "Photosynthesis stores energy in glucose; respiration releases it again. The balance over a "
    "year decides whether the forest is a sink, and unevenly distributed rainfall complicates it.",
    "I remember that the archive was catalogued in {year}, with {ac} folders, of which {d} were "
    "later misplaced during the restoration of the reading room.",
    "But hold on. The inequality only holds for positive denominators, so I have to distinguish "
    "two cases. In the first case x > {b}, and multiplying both sides keeps the direction.",
    "A recursive function would be elegant here, though the stack depth for n = {ac} is a concern; "
    "an iterative loop with an accumulator avoids it and needs O(1) memory.",
    "So the probability is {a}/{ac}, roughly 0.0{d}, and its complement is what we want. "
    "Double-checking with the binomial formula gives the same value up to rounding.",
    "Actually, the municipal regulation mentions {d} decibels, not {c}, which would explain the "
    "neighbours' complaints and the subsequent correspondence with the landlord.",
)
_THOUGHTS_ZH = (
    "等一下，如果火车在{a}点{b:02d}分出发，需要{c}分钟，那么它会在整点之后{d}分钟到达，除非时刻表自{year}年以来有过调整。",
    "这块地长{a}米、宽{c}米，面积是{ac}平方米，大约是农民所说数字的百分之{d}，所以两个数字当中必有一个是错的。",
    "我来验算一下：{a}乘以{c}等于{ac}，再加上{d}得到{acd}，除以{b}余{rest}，和题目里的提示一致。",
    "光合作用把能量储存在葡萄糖里，呼吸作用再把它释放出来；一年之中两者的差额决定了森林究竟是碳汇还是碳源。",
    "我记得这批档案是{year}年编目的，一共{ac}卷，后来修缮阅览室的时候有{d}卷放错了位置，至今没有完全找回来。",
    "不过要注意，这个不等式只有在分母为正时才成立，因此必须分两种情况讨论，第一种情况是x大于{b}。",
    "用递归来写会很优雅，但是当n等于{ac}时栈的深度令人担心，改成循环并用累加器就可以避免这个问题。",
    "所以概率是{a}/{ac}，大约0.0{d}，我们要求的是它的补集；再用二项式公式核对一遍，结果在四舍五入之后相同。",
    "其实市里的规定写的是{d}分贝，而不是{c}分贝，这就解释了邻居们的投诉以及后来和房东之间的往来信件。",
)
_OPENING_ZH = (
    "好的，我先把题目的条件整理一下，再一步一步推导。",
    "嗯，这个问题看起来简单，但单位需要特别小心。",
    "首先，我们用自己的话把问题复述一遍，免得遗漏什么。",
)
_CLOSING = "Therefore the result is {acd}, and the reasoning above shows each step.\n\n"
_CLOSING_ZH = "因此最后的结果是{acd}，上面的推导说明了每一步。\n\n"


def _numbers(rng: random.Random) -> dict[str, int]:
    a, b, c, d = rng.randint(11, 98), rng.randint(3, 59), rng.randint(101, 987), rng.randint(11, 99)
    total = a * c + d
    year = rng.randint(1801, 2024)
    return {
        "a": a, "b": b, "c": c, "d": d, "ac": a * c, "acd": total, "rest": total % b, "year": year,
    }  # fmt: skip


def write(seed: str, *, sentences: int = 14, chinese: bool | None = None) -> tuple[str, str]:
    """Reasoning and answer: the same for the same seed.

    Args:
        seed: What the text depends on, such as the prompt.
        sentences: Of the reasoning; the answer has half as many.
        chinese: Which language; by turns of the seed where not given.
    """
    rng = random.Random(seed)
    zh = rng.random() < 0.5 if chinese is None else chinese
    opening, thoughts = (_OPENING_ZH, _THOUGHTS_ZH) if zh else (_OPENING, _THOUGHTS)
    glue = "" if zh else " "

    def some(count: int) -> str:
        pieces = [rng.choice(thoughts).format(**_numbers(rng)) for _ in range(count)]
        paragraphs = [glue.join(pieces[i : i + 3]) for i in range(0, count, 3)]
        return "\n\n".join(paragraphs)

    reasoning = rng.choice(opening) + glue + some(sentences) + "\n"
    closing = (_CLOSING_ZH if zh else _CLOSING).format(**_numbers(rng))
    return reasoning, closing + some(max(1, sentences // 2))
