"""Names of languages in data sets, as ISO 639-1 codes."""

from __future__ import annotations

import re

_CODE = re.compile(r"([a-z]{2,3})(?:[-_][a-z0-9-_]+)?")
# ISO 639-2 and 639-3 codes with their ISO 639-1 ones, of the 97 languages that py3langid tells apart.
_SHORT = dict(
    pair.split(":")
    for pair in """
    afr:af amh:am ara:ar arb:ar asm:as aze:az azj:az bel:be bul:bg ben:bn bre:br bos:bs cat:ca ces:cs cze:cs cym:cy wel:cy
    dan:da deu:de ger:de dzo:dz ell:el gre:el eng:en epo:eo spa:es est:et ekk:et eus:eu baq:eu fas:fa per:fa pes:fa
    fin:fi fao:fo fra:fr fre:fr gle:ga glg:gl guj:gu heb:he hin:hi hrv:hr hat:ht hun:hu hye:hy arm:hy ind:id isl:is
    ice:is ita:it jpn:ja jav:jv kat:ka geo:ka kaz:kk khm:km kan:kn kor:ko kur:ku kmr:ku kir:ky lat:la ltz:lb lao:lo
    lit:lt lav:lv lvs:lv mlg:mg plt:mg mkd:mk mac:mk mal:ml mon:mn khk:mn mar:mr msa:ms may:ms zsm:ms mlt:mt nob:nb
    nep:ne npi:ne nld:nl dut:nl nno:nn nor:no oci:oc ori:or ory:or pan:pa pol:pl pus:ps pbt:ps por:pt que:qu ron:ro
    rum:ro rus:ru kin:rw sme:se sin:si slk:sk slo:sk slv:sl sqi:sq alb:sq als:sq srp:sr swe:sv swa:sw swh:sw tam:ta
    tel:te tha:th tgl:tl tur:tr uig:ug ukr:uk urd:ur vie:vi vol:vo wln:wa xho:xh zho:zh chi:zh cmn:zh zul:zu
    """.split()  # noqa: SIM905 - a table is read, not its quotes
)


def language_of(value: object) -> str:
    """The ISO 639-1 code of `en`, `en-US`, `eng`, `eng_Latn`; "" for anything else, such as a programming language."""
    found = _CODE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if not found:
        return ""
    return found[1] if len(found[1]) == 2 else _SHORT.get(found[1], "")
