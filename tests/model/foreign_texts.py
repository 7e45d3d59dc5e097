"""Texts that part one tokenizer from another: hard ones, those of many scripts, random Unicode, and what looks like a token."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable

from lehr.interop.gguf_pre_tokenizer import hard_texts

# The beginning of the Universal Declaration of Human Rights, and more of each script's own signs.
SENTENCES = (
    "All human beings are born free and equal in dignity and rights. It's 1948; they'll say “we’ve won”, don't they?",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits — c'est l’article 1er.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren; 3,5 ‰ „groß“.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul’da ılık.",
    "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար՝ իրենց արժանապատվությամբ և իրավունքներով։",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. בְּרֵאשִׁית",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق، ١٩٤٨ و ۱۹۴۸.",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। १९४८",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும் சமமானவர்கள்.",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๒๔๙๑",
    "መላው ዓለም የሰው ልጅ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "人人生而自由，在尊严和权利上一律平等。１９４８年",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。ﾊﾝｶｸ",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 한국",
    "𝔄𝔩𝔩 𝒽𝓊𝓂𝒶𝓃𝓈 ①②③ ¼½¾ x² H₂O Ⅻ ﬁﬂ 👩🏽\u200d🚀 🏳️\u200d🌈 🇳🇴 ☕️ e\u0301 a\u030a\u0323 \ufeff\u00ad\u2028\u2029\u0085",
    "def f(x):\n\treturn {'a': [1, 22, 333], \"b\": x ** 2 // 7}  # O(n)\r\n\r\nif __name__ == '__main__':\n    f(10_000)\n",
)
# Whatever looks like a special token, an unused row of the embedding or another program's mark is text.
MARKS = (
    *("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>", "<|unused_601|>"),
    *("<s>", "</s>", "<0x0A>", "▁", "Ġ", "Ċ", "\0"),
)


def scripts(count: int, seed: int = 0) -> list[str]:
    """Pieces of sentences in 20 scripts and languages, cut and joined anywhere."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        joined = draw.choice(("", " ", "\n", "  ")).join(draw.sample(SENTENCES, 3))
        start = draw.randrange(len(joined))
        found.append(joined[start : start + draw.randrange(1, 120)])
    return [*SENTENCES, *found]


def of_all_unicode(count: int, seed: int = 0) -> list[str]:
    """Random characters of every plane that Python's Unicode names, among letters, digits, spaces and marks."""
    draw = random.Random(seed)
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    near = ("a", "B", " ", "  ", "\n", "1", "22", "'s", ".", *MARKS)
    return ["".join(draw.choice(draw.choice((known, near))) for _ in range(draw.randrange(1, 16))) for _ in range(count)]


def every_character() -> list[str]:
    """A text of each of Unicode's 1,112,064 characters, assigned or not: among letters, digits, marks and white space."""
    characters = (chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    return [f"a{c}b {c}c1{c}2 .{c}. {c} \n{c}" for c in characters]


def texts(count: int, more: Iterable[str] = ()) -> list[str]:
    """`count` different texts: `more`, marks, scripts, a fifth of all Unicode, the rest hard ones of one seed after another."""
    found = dict.fromkeys(["", *more, *MARKS, *(f"a{mark}b {mark}\n1{mark}" for mark in MARKS), *scripts(count // 10)])
    found.update(dict.fromkeys(of_all_unicode(count // 5)))
    seed = 0
    while len(found) < count:
        found.update(dict.fromkeys(hard_texts(seed)))
        seed += 1
    return list(found)[:count]
