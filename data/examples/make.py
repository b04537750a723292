#!/usr/bin/env python3
"""Makes the example data of the pipelines beside sequence classification: messages to the support of a printer maker that does not exist.

    python3 data/examples/make.py

Every file is the same each time. Nothing in them is anybody's."""

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
PRODUCTS = ["PrintHub", "ScanBox", "InkStation", "LabelMate", "PaperJet"]
PARTS = ["paper tray", "tray sensor", "print head", "toner door", "feed roller", "display"]
PLACES = ["warehouse", "front desk", "office on the second floor", "lab", "shop"]
PROBLEMS = ["stopped working", "makes a loud noise", "prints blank pages", "does not wake up", "shows stripes"]
OPENINGS = ["Hello,", "Good morning,", "Hi there,", "", "Dear support,"]
FILLERS = ["We restarted it twice.", "The manual did not help.", "😀 Otherwise we like it a lot.", "It is quite urgent for us.", "Thanks in advance."]
ZH_PARTS = ["纸盘", "打印头", "显示屏", "墨盒"]
ZH_PROBLEMS = ["不能用了", "有很大的噪音", "打印出白纸", "没有反应"]
ZH_PLACES = ["仓库", "前台", "二楼办公室", "实验室"]


def write(name, rows):
    with open(HERE / name, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def version(draw):
    return f"{draw.randint(1, 9)}.{draw.randint(0, 9)}"


def code(draw):
    return f"E-{draw.randint(100, 999)}"


def entities(draw):
    """Words with tags: products, versions, parts and error codes."""
    kinds = [
        "After the update to {PRODUCT} {VERSION} the {PART} {problem} .",
        "Our {PRODUCT} in the {place} shows {CODE} whenever the {PART} is opened .",
        "{CODE} again , the {PART} of the {PRODUCT} {problem} .",
        "Is {VERSION} the newest version for {PRODUCT} ?",
        "The {place} needs a new {PART} for its {PRODUCT} {VERSION} .",
        "We restarted it twice and {CODE} is still there .",
        "Nothing to report today from the {place} .",
    ]
    for _ in range(600):
        fields = {
            "{PRODUCT}": ("PRODUCT", draw.choice(PRODUCTS)), "{VERSION}": ("VERSION", version(draw)), "{PART}": ("PART", draw.choice(PARTS)),
            "{CODE}": ("CODE", code(draw)), "{problem}": (None, draw.choice(PROBLEMS)), "{place}": (None, draw.choice(PLACES)),
        }
        tokens, tags = [], []
        for word in draw.choice(kinds).split():
            kind, text = fields.get(word, (None, word))
            for at, piece in enumerate(text.split()):
                tokens.append(piece)
                tags.append("O" if kind is None else ("B-" if at == 0 else "I-") + kind)
        yield {"tokens": tokens, "tags": tags}


def questions(draw):
    """Questions on messages, some long, some Chinese, some without an answer."""
    for number in range(700):
        if number % 4 == 3:
            part, problem, place = draw.choice(ZH_PARTS), draw.choice(ZH_PROBLEMS), draw.choice(ZH_PLACES)
            product = draw.choice(PRODUCTS)
            context = "您好。" + "我们已经重启了两次。" * draw.randint(0, 6) + f"{place}的{product}的{part}{problem}。" + "请尽快回复😀。" * draw.randint(0, 5)
            asked = draw.choice([("哪个部件有问题？", part), ("机器在哪里？", place), ("是什么产品？", product), ("错误代码是什么？", None)])
        else:
            product, part, place, error, new = draw.choice(PRODUCTS), draw.choice(PARTS), draw.choice(PLACES), code(draw), version(draw)
            sentences = [f"The {part} of our {product} in the {place} {draw.choice(PROBLEMS)}.", f"The screen shows {error}.", f"It runs version {new}."]
            sentences += draw.sample(FILLERS, draw.randint(0, 5)) * draw.randint(1, 3)
            draw.shuffle(sentences)
            context = " ".join([draw.choice(OPENINGS), *sentences]).strip()
            asked = draw.choice([
                ("Which part has a problem?", part), ("Which product is it about?", product), ("Where is the machine?", f"the {place}"),
                ("What does the screen show?", error), ("Which version does it run?", new), ("Who is the manager?", None),
            ])
        question, answer = asked
        answers = {"text": [], "answer_start": []} if answer is None else {"text": [answer], "answer_start": [context.index(answer)]}
        yield {"question": question, "context": context, "answers": answers}


def topics(draw):
    """Messages about any number of topics."""
    says = {
        "billing": ["the invoice is wrong", "we were charged twice", "please send the bill again"],
        "delivery": ["the parcel has not arrived", "the box was damaged", "delivery took three weeks"],
        "hardware": ["the paper tray is broken", "the print head leaks", "it makes a loud noise"],
        "software": ["the driver crashes", "the update fails", "the app asks for a licence"],
    }
    for _ in range(700):
        chosen = [name for name in says if draw.random() < 0.35]
        parts = [draw.choice(says[name]) for name in chosen] + draw.sample(["thank you", "hello", "it is urgent", "we are a small shop"], draw.randint(1, 2))
        draw.shuffle(parts)
        yield {"text": ", ".join(parts) + f" (case {draw.randint(1, 10**6)})", "topics": chosen}


def scores(draw):
    """Pairs of messages and how much they say the same, from 0 to 5."""
    def facts():
        return [draw.choice(PRODUCTS), draw.choice(PARTS), draw.choice(PROBLEMS), draw.choice(PLACES), code(draw)]

    def told(of, reverse):
        product, part, problem, place, error = of
        if reverse:
            return f"{error} on the {product}: in the {place} its {part} {problem}."
        return f"The {part} of the {product} in the {place} {problem} and it shows {error}."

    for _ in range(800):
        one = facts()
        other = [fact if draw.random() < 0.5 else new for fact, new in zip(one, facts())]
        same = sum(a == b for a, b in zip(one, other))
        yield {"one": told(one, False), "other": told(other, draw.random() < 0.5), "similarity": same}


def instructions(draw):
    """Messages to be put into JSON: what a language model is tuned on."""
    for _ in range(420):
        product, part, problem, place, error = draw.choice(PRODUCTS), draw.choice(PARTS), draw.choice(PROBLEMS), draw.choice(PLACES), code(draw)
        told = [f"the {part} of our {product} in the {place} {problem}", f"the screen shows {error}", draw.choice(FILLERS[:2]).rstrip(".").lower()]
        draw.shuffle(told)
        message = ". ".join(part[0].upper() + part[1:] for part in told) + "."
        answer = {"product": product, "part": part, "place": place, "problem": problem, "code": error}
        yield {"prompt": f"Message: {message}\nTicket:", "completion": " " + json.dumps(answer)}


if __name__ == "__main__":
    for name, rows, seed in [("entities", entities, 1), ("questions", questions, 2), ("topics", topics, 3), ("scores", scores, 4), ("instructions", instructions, 5)]:
        write(f"{name}.jsonl", rows(random.Random(seed)))
