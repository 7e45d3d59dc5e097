"""Licences of repositories, recognised by the words that each has alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

LICENSE_BYTES = 256 << 10  # a licence file is no longer
UNKNOWN = "NOASSERTION"  # SPDX's word for a licence that nobody has named
_FILE = re.compile(r"(?:un)?licen[cs]e(?:[-_.][\w.-]+)?|copying(?:[-_.][\w.-]+)?", re.IGNORECASE)
_TEXT_END = re.compile(r"\.(?:txt|md|rst)$", re.IGNORECASE)
_TAG = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+() \t-]{2,200})")
_TAG_WITHIN = 2000  # characters from a file's beginning
_USE = "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby"
_GRANTED = (
    "permission is hereby granted, free of charge",
    "without restriction, including without limitation the rights to use",
    'the software is provided "as is"',
)
# SPDX identifiers with the phrases (lower case, single blanks) that all stand in the text. The first that fits is taken, so
# licences that quote another stand before it.
_PHRASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0-only", ("gnu lesser general public license version 3",)),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3, 29 june 2007")),
    ("LGPL-2.1-only", ("gnu lesser general public license", "version 2.1")),
    ("GPL-3.0-only", ("gnu general public license", "version 3, 29 june 2007")),
    ("GPL-2.0-only", ("gnu general public license", "version 2, june 1991")),
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MPL-2.0", ("mozilla public license", "2.0")),
    ("EPL-2.0", ("eclipse public license", "v 2.0")),
    ("BSL-1.0", ("boost software license", "version 1.0")),
    ("CC0-1.0", ("cc0 1.0",)),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0 international",)),
    ("CC-BY-NC-4.0", ("attribution-noncommercial 4.0 international",)),
    ("CC-BY-4.0", ("attribution 4.0 international",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("PSF-2.0", ("python software foundation license version 2",)),
    ("WTFPL", ("do what the fuck you want to public license",)),
    ("ISC", (_USE, "provided that the above copyright notice")),
    ("0BSD", (_USE,)),
    ("MIT-0", (*_GRANTED, "!the above copyright notice")),
    ("MIT", _GRANTED),
    ("BSD-4-Clause", ("redistribution and use in source and binary forms", "all advertising materials")),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "endorse or promote products")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms", "this software is provided")),
    ("Zlib", ("altered source versions must be plainly marked as such",)),
)  # fmt: skip


def is_license(name: str) -> bool:
    """Whether a file of this name, without its folder, holds a repository's licence: LICENSE, LICENCE.md, COPYING.LESSER."""
    return _FILE.fullmatch(name) is not None


def recognized(raw: bytes) -> str:
    """The SPDX identifier of a licence's text, NOASSERTION if it is none of those known here. The text leaves open whether a
    later version may be taken too: it is taken that not."""
    text = " ".join(raw.decode("utf-8", "replace").lower().replace("“", '"').replace("”", '"').split())
    tag = tagged(raw.decode("utf-8", "replace"))
    return tag or next((name for name, phrases in _PHRASES if all(_has(text, phrase) for phrase in phrases)), UNKNOWN)


def _has(text: str, phrase: str) -> bool:
    return phrase[1:] not in text if phrase.startswith("!") else phrase in text


def tagged(text: str) -> str:
    """The expression of the SPDX tag at the beginning of a file, "" without one."""
    found = _TAG.search(text, 0, _TAG_WITHIN)
    return " ".join(found[1].split()).removesuffix("--").rstrip(" -") if found else ""


def combined(files: Mapping[str, str]) -> tuple[str, str]:
    """The expression for a folder's licence files (name to identifier), and the first file's name. Where each is named for its
    licence (LICENSE-MIT, LICENSE-APACHE) one may choose; else all hold, as COPYING and COPYING.LESSER do."""
    names = sorted(files)
    known = sorted({files[name] for name in names})
    choice = all("." in (rest := _TEXT_END.sub("", name)) or "-" in rest for name in names)
    return (" OR " if choice else " AND ").join(known), names[0]


def nearest(name: str, folders: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """Expression and file of the licence for the file `name`: those of the nearest folder around it that is in `folders` (to
    what `combined` gives); empty without one."""
    folder = name
    while folder:
        folder = folder.rpartition("/")[0]
        if folder in folders:
            license_, file = folders[folder]
            return license_, f"{folder}/{file}" if folder else file
    return "", ""
