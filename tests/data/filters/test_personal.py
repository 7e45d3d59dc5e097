"""Personal information: what is found and masked, and time that grows with the text's length alone."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from pydantic import ValidationError

from lehr.config.filters.pii import PiiFilter
from lehr.data.document import Document
from lehr.data.filters.pii import make
from lehr.data.personal import TOKENS, find, masked
from lehr.data.verdict import Drop, Keep

ALL = list(TOKENS)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("write to jane.doe+x@mail.example.co.uk, please", "write to |||EMAIL_ADDRESS|||, please"),
        ("(a@b.org) mailto:c@d.com.", "(|||EMAIL_ADDRESS|||) mailto:|||EMAIL_ADDRESS|||."),
        ("no: a@b, @b.com, a @ b.com, x@1.2", "no: a@b, @b.com, a @ b.com, x@1.2"),
        ("call (206) 555-0100 or 206.555.0100", "call |||PHONE_NUMBER||| or |||PHONE_NUMBER|||"),
        ("2065550100", "|||PHONE_NUMBER|||"),
        ("no: 20655501001, isbn-206 555 01, 1865-04-14", "no: 20655501001, isbn-206 555 01, 1865-04-14"),
        ("from 192.168.0.1. And 10.0.0.255,", "from |||IP_ADDRESS|||. And |||IP_ADDRESS|||,"),
        ("no: 1.2.3.4.5, 300.1.1.1, 1.2.3", "no: 1.2.3.4.5, 300.1.1.1, 1.2.3"),
        ("a@b.com@c.de", "|||EMAIL_ADDRESS|||@c.de"),
    ],
)
def test_what_is_masked(text: str, becomes: str) -> None:
    once = masked(text, find(text, ALL))
    assert once == becomes
    assert not find(once, ALL) or "@c.de" in once  # the tokens themselves are nothing personal


HOSTILE = {
    "at": "@" * 1_000_000,
    "a@": "a@" * 500_000,
    "letters": "a" * 1_000_000,
    "labels": "x@" + "a." * 500_000,
    "blanks": " " * 1_000_000,
    "digits": "1" * 1_000_000,
    "numbers": " 123" * 250_000,
    "dashes": " 123" + "-" * 1_000_000,
    "bytes": "1.2.3." * 170_000,
    "brackets": "(123) " * 170_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_megabytes_take_processor_time_like_any_other(name: str) -> None:
    start = time.process_time()
    find(HOSTILE[name], ALL)
    assert time.process_time() - start < 5  # a quadratic expression takes hours


def judge(text: str) -> Keep | Drop:
    return make(PiiFilter())(Document("d", "s", text))


def test_up_to_five_are_masked_and_six_drop_the_document_in_any_process() -> None:
    texts = [f"{'a@b.com ' * n}end" for n in (0, 5, 6)]
    here = [judge(text) for text in texts]
    none, five, six = here
    assert isinstance(none, Keep) and none.changed is None and none.scores["pii.found"] == 0
    assert isinstance(five, Keep) and five.changed and five.changed.text == "|||EMAIL_ADDRESS||| " * 5 + "end"
    assert isinstance(six, Drop) and six.scores == {"pii.email": 6, "pii.phone": 0, "pii.ip": 0, "pii.found": 6}
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(judge, texts)) == here


def test_what_is_asked_for_is_found_alone() -> None:
    found = make(PiiFilter(find=["ip"], max_found=None, mask=False))(Document("d", "s", "a@b.com 1.2.3.4 " * 9))
    assert isinstance(found, Keep) and found.changed is None and found.scores == {"pii.ip": 9, "pii.found": 9}
    with pytest.raises(ValidationError):
        PiiFilter(find=[])
