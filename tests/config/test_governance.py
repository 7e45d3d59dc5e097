"""Which sources a policy lets in, and which documents of code."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lehr.config.data import Data
from lehr.config.governance import Policy, Review
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource
from lehr.data.document import Document
from lehr.data.preparation.filtering import _licensed
from lehr.data.verdict import Drop, Keep

REVIEW = {"owner": "we", "use": "training", "personal_information": "masked", "reviewer": "a person", "date": "2026-12-02"}


@pytest.mark.parametrize(
    ("policy", "license_", "review", "says"),
    [
        ({"licenses": ["CC-BY*", "public domain"]}, "cc-by-4.0", None, ""),
        (
            {"licenses": ["CC-BY*"], "refused": ["*-NC*"]},
            "CC-BY-NC-4.0",
            None,
            "'CC-BY-NC-4.0' is not one that",
        ),
        ({"refused": ["not given*"]}, "not given (bought)", None, "all but not given*"),
        ({"reviewed": True}, "MIT", None, "it has no review"),
        ({"reviewed": True}, "MIT", REVIEW, ""),
        ({"personal_information": ["none"]}, "MIT", REVIEW, "its review says 'masked' of personal information"),
    ],
)
def test_a_source_is_let_in_or_refused(policy: dict[str, Any], license_: str, review: Any, says: str) -> None:
    found = Policy(**policy).objection(license_, Review(**review) if review else None)
    assert (says in found) if says else found == ""


def test_a_recipe_with_a_refused_source_is_refused() -> None:
    sources = {"web": FilesSource(kind="files", path="/x", license="GPL-3.0")}
    mixes = {"m": Mix(weights={"web": 1.0})}
    with pytest.raises(ValidationError, match=r"sources\.web: license='GPL-3.0' is not one that data\.policy allows \(MIT\)"):
        Data(sources=sources, mixes=mixes, policy=Policy(licenses=["MIT"]))


@pytest.mark.parametrize(
    ("unlicensed", "own", "expected"),
    [
        ("source", "MIT", Keep()),
        ("source", "", Keep()),
        ("drop", "", Drop("licence unknown")),
        ("source", "GPL-2.0", Drop("licence not allowed")),
    ],
)
def test_files_of_code_go_by_their_own_licence(unlicensed: Any, own: str, expected: Keep | Drop) -> None:
    judge = _licensed(Policy(licenses=["MIT"], unlicensed=unlicensed), lambda document: Keep())
    assert judge(Document("a", "code", "x = 1", license=own)) == expected
