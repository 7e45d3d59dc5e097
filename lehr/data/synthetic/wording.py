"""Phrasings, names and things: combined with the numbers only after the split."""

from __future__ import annotations

ADD = (
    "What is {a} + {b}?",
    "Compute {a} + {b}.",
    "Calculate {a} plus {b}.",
    "Add {a} and {b}.",
    "What is the sum of {a} and {b}?",
    "{a} + {b} = ?",
    "How much is {a} plus {b}?",
    "Find {a} + {b}.",
    "What do you get when you add {a} and {b}?",
    "Give the total of {a} and {b}.",
)
SUBTRACT = (
    "What is {a} - {b}?",
    "Compute {a} - {b}.",
    "Calculate {a} minus {b}.",
    "Subtract {b} from {a}.",
    "What is the difference between {a} and {b}?",
    "{a} - {b} = ?",
    "How much is {a} minus {b}?",
    "Find {a} - {b}.",
    "What do you get when you take {b} from {a}?",
    "What is left of {a} without {b}?",
)
ADD_STORIES = (
    "{name} has {a} {things}. {other} gives {name} {b} more. How many {things} does {name} have now?",
    "{name} has {a} {things} and {other} has {b}. How many {things} do they have together?",
    "{name} finds {a} {things} today and {b} the next day. How many {things} does {name} find in all?",
    "There are {a} {things} in a box and {b} in a bag. How many {things} are there in total?",
    "{name} bought {a} {things} and then {b} more. How many {things} did {name} buy?",
)
SUBTRACT_STORIES = (
    "{name} has {a} {things} and gives {b} to {other}. How many {things} are left?",
    "{name} had {a} {things} and lost {b} of them. How many {things} does {name} still have?",
    "There are {a} {things} on a table. {name} takes {b} away. How many {things} remain?",
    "{name} has {a} {things} and {other} has {b}. How many more {things} does {name} have?",
    "{name} needs {a} {things} and has {b}. How many more {things} does {name} need?",
)
NAMES = ("Tom", "Anna", "Sam", "Mary", "John", "Ruth", "Peter", "Sarah", "David", "Jane", "Mark", "Lucy", "Henry", "Alice")
OBJECTS = ("books", "apples", "coins", "stones", "cards", "pens", "shells", "eggs", "boats", "ships", "cups", "keys", "nuts")

PREFIXES = ("Sure! ", "Of course. ", "Here you go: ")
PREFIX_DRAWS = (*PREFIXES, "Sure! ", "Sure! ", "Of course. ")  # repeated to be drawn more often
WORDS = (
    "sun", "moon", "tree", "river", "stone", "bird", "fish", "house", "light", "water", "fire", "cloud", "star", "road",
    "ship", "king", "bread", "gold", "wind", "rain", "snow", "hill", "lake", "sea", "horse", "sheep", "lion", "rose",
    "corn", "wine", "door", "book", "hand", "heart", "night", "day", "year", "land", "sand", "salt",
)  # fmt: skip
REPEAT = ("Repeat the word {word} {times} times.", "Say {word} {times} times.", "Write {word} {times} times.")
REVERSE = ("Reverse this list: {items}.", "Write in reverse order: {items}.", "Say backwards: {items}.")
JSON = (
    "Write JSON with name {word} and count {count}.",
    "Give a JSON object: name {word}, count {count}.",
    "As JSON: the name is {word}, the count is {count}.",
)
OPENINGS = ("", "Hello! ", "Hi. ", "Good day. ", "Please tell me: ", "A question: ", "Tell me, ", "I want to know: ")
WHO = "I am Lehr, a small language model."
MAKER = "I was trained with Lehr, from documents to chat."
SKILLS = "I can add, subtract, repeat words, reverse lists and write JSON."
IDENTITY = (
    ("who are you?", WHO),
    ("what are you?", WHO),
    ("what is your name?", WHO),
    ("are you a person?", WHO),
    ("what should I call you?", WHO),
    ("who made you?", MAKER),
    ("who trained you?", MAKER),
    ("how were you made?", MAKER),
    ("where do you come from?", MAKER),
    ("what can you do?", SKILLS),
    ("what are you good at?", SKILLS),
    ("how can you help me?", SKILLS),
)
