"""Word problems of our own with their programs. {name} and {other} are people, {things} what they have."""

from __future__ import annotations

PROBLEMS: tuple[tuple[str, str], ...] = (
    (
        "{name} has 4 boxes with 12 {things} in each and gives 9 {things} to {other}. How many {things} does {name} have left?",
        "packed = 4 * 12\nleft = packed - 9",
    ),
    (
        "A shop sells 15 {things} on Monday and three times as many on Tuesday. How many {things} does it sell on both days?",
        "monday = 15\ntuesday = monday * 3\ntotal = monday + tuesday",
    ),
    (
        "{name} earns 14 dollars an hour and works 6 hours. {name} then spends 25 dollars. How many dollars are left?",
        "earned = 14 * 6\nleft = earned - 25",
    ),
    (
        "{name} shares 48 {things} equally among 6 friends and each loses 3 of them. How many does each friend have now?",
        "share = 48 / 6\nleft = share - 3",
    ),
    (
        "A bus has 41 seats. At the first stop 17 people get on, and at the next one 13 more. How many seats are still free?",
        "people = 17 + 13\nfree = 41 - people",
    ),
    (
        "A farmer has 8 rows of 15 apple trees and 5 rows of 9 pear trees. How many trees does the farmer have?",
        "apples = 8 * 15\npears = 5 * 9\ntrees = apples + pears",
    ),
    (
        "{name} reads 18 pages on each of 5 evenings. The book has 130 pages. How many pages are left to read?",
        "read = 18 * 5\nleft = 130 - read",
    ),
    (
        "A ticket costs 11 dollars for an adult and 4 dollars for a child. What do 3 adults and 7 children pay in dollars?",
        "adults = 11 * 3\nchildren = 4 * 7\ntotal = adults + children",
    ),
    (
        "{name} bakes 96 buns, sells 57 of them and packs the others into bags of 3. How many bags does {name} fill?",
        "unsold = 96 - 57\nbags = unsold / 3",
    ),
    (
        "{name} walks 1,200 meters to school and the same way back. How many meters does {name} walk in 5 such trips?",
        "trip = 1200 * 2\ntotal = trip * 5",
    ),
    (
        "{name} had 64 {things}. {other} took 19 of them and brought back 8. How many {things} does {name} have now?",
        "after = 64 - 19\nnow = after + 8",
    ),
    (
        "A tank holds 250 liters. A pump fills 35 liters in a minute. How many liters are still missing after 4 minutes?",
        "filled = 35 * 4\nmissing = 250 - filled",
    ),
    (
        "{name} buys 6 pens for 1.50 dollars each and a book for 12.75 dollars. How many dollars does {name} pay?",
        "pens = 6 * 1.50\ntotal = pens + 12.75",
    ),
    (
        "{name} saves 20% of a wage of 450 dollars every week. How many dollars has {name} saved after 8 weeks?",
        "weekly = 450 * 20 / 100\nsaved = weekly * 8",
    ),
    (
        "A class of 27 children is joined by 13 others, and all of them sit at tables of 8. How many tables do they need?",
        "children = 27 + 13\ntables = children / 8",
    ),
    (
        "{name} has 35 {things}, {other} has 12 fewer. How many {things} do the two have together?",
        "own = 35\nothers = own - 12\ntogether = own + others",
    ),
)
