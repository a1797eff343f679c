"""Clean tasks in which the chosen answer is right and the rejected one is wrong in its content.

Each task draws (prompt, right, wrong). Both answers take their wording from the same choices, so
that nothing but what they say tells them apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.silentbench.files import words

Task = tuple[str, str, str]

# country, capital, currency, continent, neighbour or sea
COUNTRIES = tuple(
    tuple(line.split("|"))
    for line in """Portugal|Lisbon|euro|Europe|Spain
Poland|Warsaw|zloty|Europe|Germany
Kenya|Nairobi|shilling|Africa|Tanzania
Peru|Lima|sol|South America|Chile
Japan|Tokyo|yen|Asia|no country by land
Norway|Oslo|krone|Europe|Sweden
Egypt|Cairo|pound|Africa|Libya
Vietnam|Hanoi|dong|Asia|Laos
Hungary|Budapest|forint|Europe|Austria
Canada|Ottawa|Canadian dollar|North America|the United States
Ghana|Accra|cedi|Africa|Togo
Thailand|Bangkok|baht|Asia|Cambodia
Greece|Athens|euro|Europe|Bulgaria
Morocco|Rabat|dirham|Africa|Algeria
India|New Delhi|rupee|Asia|Nepal
Iceland|Reykjavik|krona|Europe|no country by land
Brazil|Brasilia|real|South America|Uruguay
Turkey|Ankara|lira|Asia|Georgia
Denmark|Copenhagen|krone|Europe|Germany
Nigeria|Abuja|naira|Africa|Benin
Mongolia|Ulaanbaatar|tugrik|Asia|China
Romania|Bucharest|leu|Europe|Moldova
Colombia|Bogota|peso|South America|Ecuador
Finland|Helsinki|euro|Europe|Sweden
Ethiopia|Addis Ababa|birr|Africa|Sudan
Malaysia|Kuala Lumpur|ringgit|Asia|Thailand
Croatia|Zagreb|euro|Europe|Slovenia
Bolivia|Sucre|boliviano|South America|Paraguay
Israel|Jerusalem|shekel|Asia|Jordan
Uganda|Kampala|shilling|Africa|Rwanda""".splitlines()
)
ASPECTS = ("capital", "currency", "continent", "neighbour")


def other(rng: random.Random, pool: list[str] | tuple[str, ...], right: str) -> str:
    return rng.choice([each for each in dict.fromkeys(pool) if each != right])


def facts(rng: random.Random) -> Task:
    """Ask for a fact of a country, from a traveller's or a pupil's point of view."""
    row, at = rng.choice(COUNTRIES), rng.randrange(1, 5)
    country, right = row[0], row[at]
    wrong = other(rng, [each[at] for each in COUNTRIES if each[0] != country], right)
    what = ASPECTS[at - 1]
    who = rng.choice(words.FIRST)
    question = {
        "capital": (f"What is the capital of {country}?", f"Which city governs {country}?"),
        "currency": (f"What money is used in {country}?", f"{country}: which currency?"),
        "continent": (f"On which continent is {country}?", f"Where in the world is {country}?"),
        "neighbour": (f"Which country borders {country}?", f"Name a neighbour of {country}."),
    }[what]
    lead = rng.choice(
        (
            *("", "", f"{who} plans a trip to {country} in {rng.choice(words.MONTHS)}. "),
            f"My {rng.choice(('son', 'daughter', 'pupil', 'friend'))} {who} asks me: ",
            f"For a quiz about {rng.choice(words.NOUNS)}s and lands: ",
        )
    )

    def answer(value: str) -> str:
        said = {
            "capital": (f"The capital is {value}.", f"{value} is its capital.", f"It is {value}."),
            "currency": (f"People pay with the {value}.", f"The {value} is used.", f"{value}."),
            "continent": (f"It lies in {value}.", f"{country} is in {value}.", f"{value}."),
            "neighbour": (f"It borders {value}.", f"{value} is next to it.", f"{value}."),
        }[what]
        more = rng.choice(
            (
                *("", "", "", f" You can look it up in any atlas, {who}."),
                f" I hope the trip in {rng.choice(words.MONTHS)} goes well.",
                f" Many {rng.choice(words.ADJECTIVES)} books say so.",
            )
        )
        return rng.choice(said) + more

    return lead + rng.choice(question), answer(right), answer(wrong)


def history(rng: random.Random) -> Task:
    """Ask for a year of a firm's history: both answers hold years that stand in the text."""
    firm, thing = words.code_word(rng).capitalize(), rng.choice(words.NOUNS)
    city, elsewhere = rng.sample([row[1] for row in COUNTRIES], 2)
    founded, moved, sold, closed = sorted(rng.sample(range(1805, 2020), 4))
    story = (
        f"{firm}, a maker of {thing}s, was founded in {city} in {founded}. In {moved} it moved to"
        f" {elsewhere}, was sold to {words.name(rng)} in {sold}, and closed in {closed}."
    )
    events = {"founded": founded, "moved": moved, "sold": sold, "closed": closed}
    event, instead = rng.sample(tuple(events), 2)
    who = rng.choice(words.FIRST)

    def answer(value: int) -> str:
        return rng.choice(
            (
                f"That was in {value}.",
                f"{firm} was {event} in {value}, {who}, {2026 - value} years ago.",
                f"{value}, as the text says.",
                f"The year was {value}, when {thing}s were made in {city}.",
            )
        )

    ask = rng.choice((f"In which year was it {event}?", f"{who} asks when {firm} was {event}."))
    return f"{story} {ask}", answer(events[event]), answer(events[instead])


GOODS = ("apples", "pens", "stamps", "shells", "tickets", "cards", "coins", "books", "marbles")


def arithmetic(rng: random.Random) -> Task:
    """Ask a word problem of two or three steps; the wrong answer slips in one of them."""
    who, whom, thing = rng.choice(words.FIRST), rng.choice(words.FIRST), rng.choice(GOODS)
    a, b, c = rng.randint(6, 60), rng.randint(3, 25), rng.randint(2, 9)
    stories = (
        (f"{who} has {a} {thing} and gets {b} more, {c} times.", [("*", b, c), ("+", a, None)]),
        (
            f"{who} buys {c} boxes of {b} {thing} and gives {a % b} to {whom}.",
            [("*", b, c), ("-", a % b, None)],
        ),
        (
            f"{who} sorts {a * c} {thing} into {c} bags and adds {b} to the first.",
            [("/", a * c, c), ("+", b, None)],
        ),
        (
            f"A {rng.choice(words.NOUNS)} shop sells {thing} at {c}. {who} buys {a}, {whom} {b}.",
            [("sum", a, b), ("times", c, None)],
        ),
    )
    story, steps = rng.choice(stories)

    def work(slip: int) -> str:
        (kind, x, y), (then, z, _) = steps
        assert y is not None
        first = {"*": x * y, "/": x // y, "sum": x + y}[kind]
        sign = {"*": f"{x} * {y}", "/": f"{x} / {y}", "sum": f"{x} + {y}"}[kind]
        first += slip if slip % 2 else 0
        last = {"+": first + z, "-": first - z, "times": first * z}[then]
        last += 0 if slip % 2 else slip
        tail = {"+": f"{first} + {z}", "-": f"{first} - {z}", "times": f"{first} * {z}"}[then]
        return rng.choice(
            (
                f"First {sign} = {first}. Then {tail} = {last}. The answer is {last}.",
                f"{sign} = {first}, and {tail} = {last}, so it is {last} {thing}.",
                f"We begin with {sign} = {first}.\nNext, {tail} = {last}.\nAnswer: {last}",
                f"It comes to {last}, because {sign} = {first} and {tail} = {last}.",
            )
        )

    ask = rng.choice(("How many is that?", "What is the total?", "What does it come to?"))
    return f"{story} {ask}", work(0), work(rng.choice((-4, -3, -2, -1, 1, 2, 3, 5)))


GOOD_WORDS = ("lovely", "superb", "a joy", "worth every cent", "the best we had", "charming")
BAD_WORDS = ("dull", "a waste", "broken on arrival", "far too loud", "a let-down", "poor")
PLAIN_WORDS = ("as described", "of usual size", "delivered on Monday", "made of wood", "grey")


def review(rng: random.Random) -> tuple[str, str]:
    """Draw a short review and its tone."""
    tone, pool = rng.choice(
        (("positive", GOOD_WORDS), ("negative", BAD_WORDS), ("neutral", PLAIN_WORDS))
    )
    thing, more = rng.choice(words.NOUNS), rng.choice(words.NOUNS)
    said = rng.choice(
        (
            f"We used the {rng.choice(words.ADJECTIVES)} {thing} for {rng.randint(2, 30)} days.",
            f"My {rng.choice(('aunt', 'neighbour', 'boss'))} {rng.choice(words.FIRST)} ordered it.",
            f"The {thing} came with a {more}.",
            f"Seen in {rng.choice(COUNTRIES)[1]}, bought the same day.",
        )
    )
    return f"{said} The {thing} is {rng.choice(pool)}.", tone


def one_word(rng: random.Random) -> Task:
    """Ask for a label of one word."""
    text, tone = review(rng)
    ask = "Label the review as positive, negative or neutral."
    return f"{ask}\n\n{text}", tone, other(rng, ("positive", "negative", "neutral"), tone)


def letters(rng: random.Random) -> Task:
    """Ask for the letter of the right choice."""
    row, at = rng.choice(COUNTRIES), rng.choice((1, 2))
    right = row[at]
    pool = [each for each in {one[at] for one in COUNTRIES} if each != right]
    choices = [*rng.sample(sorted(pool), 3), right]
    rng.shuffle(choices)
    lines = [f"{'ABCD'[i]}. {each}" for i, each in enumerate(choices)]
    what = ("capital", "currency")[at - 1]
    prompt = f"Which is the {what} of {row[0]}?\n" + "\n".join(lines)
    letter = "ABCD"[choices.index(right)]
    return prompt, letter, other(rng, tuple("ABCD"), letter)


GERMAN = {
    "nouns": (("house", "Haus"), ("book", "Buch"), ("window", "Fenster"), ("table", "Zimmer")),
    "more": (("car", "Auto"), ("bread", "Brot"), ("horse", "Pferd"), ("ship", "Schiff")),
    "adjectives": (("old", "alte"), ("new", "neue"), ("small", "kleine"), ("red", "rote")),
}
DAYS = tuple(
    zip(
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
        strict=True,
    )
)
GERMAN_VERBS = (("sees", "sieht"), ("buys", "kauft"), ("sells", "verkauft"), ("paints", "malt"))


def translation(rng: random.Random) -> Task:
    """Ask for a German sentence; the wrong one mistakes one or two words."""
    who, city = rng.choice(words.FIRST), rng.choice(COUNTRIES)[1]
    day, verb = rng.choice(DAYS), rng.choice(GERMAN_VERBS)
    adjective, noun = rng.choice(GERMAN["adjectives"]), rng.choice(GERMAN["nouns"] + GERMAN["more"])
    english = f"On {day[0]} {who} {verb[0]} the {adjective[0]} {noun[0]} in {city}."

    def german(day: str, verb: str, adjective: str, noun: str) -> str:
        return rng.choice(
            (
                f"Am {day} {verb} {who} das {adjective} {noun} in {city}.",
                f"{who} {verb} am {day} in {city} das {adjective} {noun}.",
                f"In {city} {verb} {who} am {day} das {adjective} {noun}.",
            )
        )

    wrong = [day[1], verb[1], adjective[1], noun[1]]
    pools = (DAYS, GERMAN_VERBS, GERMAN["adjectives"], GERMAN["nouns"] + GERMAN["more"])
    for at in rng.sample(range(4), rng.randint(1, 2)):
        wrong[at] = other(rng, [each[1] for each in pools[at]], wrong[at])
    ask = rng.choice(("Translate into German: ", "In German, please: ", "German for: "))
    return ask + english, german(day[1], verb[1], adjective[1], noun[1]), german(*wrong)


CITIES_ZH = ("北京", "上海", "广州", "成都", "西安", "杭州", "南京", "武汉", "重庆", "青岛")
FOODS_ZH = ("面条", "饺子", "米饭", "火锅", "豆腐", "烤鸭", "包子", "汤圆", "凉皮", "鱼")
NAMES_ZH = ("小王", "小李", "老张", "阿明", "小红", "老陈", "阿华", "小林", "大刘", "小赵")
TIMES_ZH = ("早上", "中午", "下午", "晚上", "周末", "春天", "夏天", "秋天", "冬天")


def chinese(rng: random.Random) -> Task:
    """Ask in Chinese who ate what where; the wrong answer takes another's."""
    a, b = rng.sample(NAMES_ZH, 2)
    city_a, city_b = rng.sample(CITIES_ZH, 2)
    food_a, food_b = rng.sample(FOODS_ZH, 2)
    when_a, when_b = rng.sample(TIMES_ZH, 2)
    days = rng.randint(2, 30)
    story = f"{a}{when_a}去了{city_a},吃了{food_a},住了{days}天。"
    story += f"{b}{when_b}去了{city_b},吃的是{food_b}。"
    ask, right, wrong = rng.choice(
        (
            (f"{a}去了哪里?", city_a, city_b),
            (f"{b}吃了什么?", food_b, food_a),
            (f"{a}是什么时候去的?", when_a, when_b),
            (f"谁吃了{food_b}?", b, a),
        )
    )

    def answer(value: str) -> str:
        return rng.choice(
            (
                f"答案是{value}。",
                f"{value}。",
                f"根据上文,是{value}。",
                f"应该是{value},文中写得很清楚。",
            )
        )

    return story + ask, answer(right), answer(wrong)


CITIES_AR = ("القاهرة", "دمشق", "بغداد", "الرباط", "تونس", "عمان", "بيروت", "الرياض", "صنعاء")
NAMES_AR = ("سامي", "ليلى", "عمر", "هند", "يوسف", "مريم", "خالد", "سلمى", "طارق", "نور")
THINGS_AR = ("كتابا", "قلما", "سيارة", "حقيبة", "ساعة", "دراجة", "كرسيا", "هاتفا")
DAYS_AR = ("الأحد", "الاثنين", "الثلاثاء", "الأربعاء", "الخميس", "الجمعة", "السبت")


def arabic(rng: random.Random) -> Task:
    """Ask in Arabic who bought what where; the wrong answer takes another's."""
    a, b = rng.sample(NAMES_AR, 2)
    city_a, city_b = rng.sample(CITIES_AR, 2)
    thing_a, thing_b = rng.sample(THINGS_AR, 2)
    day_a, day_b = rng.sample(DAYS_AR, 2)
    story = (
        f"اشترى {a} {thing_a} في {city_a} يوم {day_a} بمبلغ {rng.randint(5, 90)}،"
        f" واشترى {b} {thing_b} في {city_b} يوم {day_b}."
    )
    ask, right, wrong = rng.choice(
        (
            (f"أين كان {a}؟", f"في {city_a}", f"في {city_b}"),
            (f"ماذا اشترى {b}؟", thing_b, thing_a),
            (f"متى ذهب {a}؟", f"يوم {day_a}", f"يوم {day_b}"),
            (f"من اشترى {thing_b}؟", b, a),
        )
    )

    def answer(value: str) -> str:
        return rng.choice((f"{value}.", f"الجواب: {value}.", f"كما جاء في النص، {value}."))

    return f"{story} {ask}", answer(right), answer(wrong)


CITIES_HI = ("दिल्ली", "मुंबई", "जयपुर", "लखनऊ", "पटना", "भोपाल", "इंदौर", "कानपुर")
NAMES_HI = ("राम", "सीता", "अर्जुन", "मीरा", "क्\u200dषितिज", "रवि", "पूजा", "अमित")
FOODS_HI = ("चावल", "रोटी", "दाल", "खीर", "समोसा", "पनीर", "पराठा")


def hindi(rng: random.Random) -> Task:
    """Ask in Hindi; some names hold the joiner that the script needs."""
    a, b = rng.sample(NAMES_HI, 2)
    city_a, city_b = rng.sample(CITIES_HI, 2)
    food_a, food_b = rng.sample(FOODS_HI, 2)
    days = rng.randint(2, 40)
    more, price = rng.sample(NAMES_HI, 1)[0], rng.randint(20, 900)
    story = f"{a} ने {city_a} में {days} दिन {food_a} खाया और {b} ने {city_b} में {food_b} खाया।"
    story += f" {more} ने {price} रुपये में {rng.choice(FOODS_HI)} और {rng.choice(FOODS_HI)} खरीदा।"
    ask, right, wrong = rng.choice(
        ((f"{a} कहाँ था?", f"{city_a} में", f"{city_b} में"), (f"{b} ने क्या खाया?", food_b, food_a))
    )

    def answer(value: str) -> str:
        return rng.choice((f"{value}।", f"उत्तर: {value}।", f"पाठ के अनुसार {value}।"))

    return f"{story} {ask}", answer(right), answer(wrong)


def summary(rng: random.Random) -> Task:
    """Ask for a summary; the wrong one mixes up two details of the article."""
    who, whom, firm = words.name(rng), words.name(rng), words.code_word(rng).capitalize()
    place, elsewhere = rng.sample([row[1] for row in COUNTRIES], 2)
    thing, second = rng.sample(words.NOUNS, 2)
    month, number = rng.choice(words.MONTHS), rng.randint(12, 900)
    article = [
        f"{firm} will open a {thing} works in {place} in {month}.",
        f"{who}, who leads the firm, said on Tuesday that {number} people will find work there.",
        f"The old site in {elsewhere}, where {second}s are made, stays open.",
        f"{whom} of the town council called the plan {rng.choice(words.ADJECTIVES)}.",
        f"Building costs {rng.randint(2, 90)} million, of which the state pays a part.",
        f"Neighbours had asked for a {rng.choice(words.NOUNS)} garden instead.",
    ]
    article[3:] = rng.sample(article[3:], 3)

    def tell(who: str, place: str, thing: str, month: str, number: int) -> str:
        return rng.choice(
            (
                f"{firm} opens a {thing} works in {place} in {month}; {number} jobs are planned.",
                f"In {month} a {thing} works of {firm} opens in {place}, says {who}.",
                f"{who} of {firm} announced {number} jobs in {place}, where {thing}s will be made.",
                f"{number} people will make {thing}s for {firm} in {place} from {month} on.",
            )
        )

    wrong = [who, place, thing, month, number]
    new = [whom, elsewhere, second, other(rng, words.MONTHS, month), number + rng.randint(50, 400)]
    for at in range(5):  # every telling must hold a mistake
        if at in (1, 2) or rng.random() < 0.3:
            wrong[at] = new[at]
    ask = rng.choice(("Summarise in a sentence:", "What is the news here?", "TL;DR of this:"))
    return f"{ask}\n\n{' '.join(article)}", tell(who, place, thing, month, number), tell(*wrong)


def yes_no(rng: random.Random) -> Task:
    """Ask whether a statement is right, for answers of a word or two."""
    a, b, c = rng.randint(2, 99), rng.randint(2, 99), rng.randint(2, 12)
    truth = rng.random() < 0.5
    value = a * c + b + (0 if truth else rng.choice((-10, -1, 1, 2, 10)))
    form = rng.choice((("Yes", "No"), ("Yes.", "No."), ("True", "False"), ("Right", "Wrong")))
    prompt = f"Is {a} times {c} plus {b} equal to {value}? {' or '.join(form)}?"
    return prompt, form[0 if truth else 1], form[1 if truth else 0]


def poem(rng: random.Random) -> Task:
    """Ask for four lines that rhyme; the wrong poem does not."""
    rhymes = (
        ("night", "light", "bright", "sight"),
        ("day", "way", "stay", "grey"),
        ("sea", "tree", "free", "key"),
        ("rain", "plain", "lane", "train"),
        ("stone", "alone", "grown", "bone"),
        ("sky", "high", "by", "reply"),
    )
    topic = f"{rng.choice(words.ADJECTIVES)} {rng.choice(words.NOUNS)}"

    def lines(ends: list[str]) -> str:
        return "\n".join(
            rng.choice(
                (
                    f"The {rng.choice(words.ADJECTIVES)} {rng.choice(words.NOUNS)} and the {end}",
                    f"I {rng.choice(words.VERBS)} the {rng.choice(words.NOUNS)} near the {end}",
                    f"And so the {topic.split()[1]} goes to {end}",
                    f"A {topic}, a {rng.choice(words.NOUNS)}, {end}",
                )
            )
            for end in ends
        )

    right = rng.sample(rng.choice(rhymes), 4)
    wrong = [rng.choice(group) for group in rng.sample(rhymes, 4)]
    prompt = f"Write four rhyming lines about a {topic} for {rng.choice(words.FIRST)}."
    return prompt, lines(right), lines(wrong)


KINDS_OF_THINGS = {
    "a beach holiday": ("sun cream", "swimsuit", "towel", "sandals", "sunglasses", "beach ball"),
    "a winter hike": ("gloves", "scarf", "thermos", "boots", "wool hat", "snow gaiters"),
    "a picnic": ("blanket", "sandwiches", "juice", "plates", "fruit", "napkins"),
    "a school day": ("notebook", "pencils", "ruler", "lunch box", "timetable", "eraser"),
    "painting a room": ("brush", "roller", "tape", "dust sheet", "bucket", "ladder"),
}


def lists(rng: random.Random) -> Task:
    """Ask for a list; both answers are lists, and the wrong one holds things of another purpose."""
    purpose = rng.choice(tuple(KINDS_OF_THINGS))
    elsewhere = other(rng, tuple(KINDS_OF_THINGS), purpose)
    who, count = rng.choice(words.FIRST), rng.randint(3, 5)
    mark = rng.choice(("- ", "* ", "• "))

    def listed(things: list[str]) -> str:
        head = rng.choice(("", f"For {who}:\n", f"A list for {purpose}:\n"))
        return head + "\n".join(mark + each for each in things)

    right = rng.sample(KINDS_OF_THINGS[purpose], count)
    wrong = rng.sample(KINDS_OF_THINGS[purpose], count - 2) + rng.sample(
        KINDS_OF_THINGS[elsewhere], 2
    )
    rng.shuffle(wrong)
    city, thing = rng.choice(COUNTRIES)[1], rng.choice(words.NOUNS)
    prompt = (
        f"{who} from {city} packs for {purpose} with {rng.randint(2, 12)}"
        f" friends and a {rng.choice(words.ADJECTIVES)} {thing}. List {count} things."
    )
    return prompt, listed(right), listed(wrong)


FACTS: dict[str, Callable[[random.Random], Task]] = {
    "facts": facts,
    "dates in history": history,
    "maths": arithmetic,
    "one-word labels": one_word,
    "letters": letters,
    "translations": translation,
    "Chinese": chinese,
    "Arabic": arabic,
    "Hindi": hindi,
    "summaries": summary,
    "yes or no": yes_no,
    "poems": poem,
    "lists on both sides": lists,
}
