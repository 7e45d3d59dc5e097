"""The languages that the filter tells: a paragraph of each passes where its language is asked for, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.config import load_recipe
from lehr.config.data import LANGUAGES, Filters
from lehr.data.rules import reject

TEXTS = {
    "en": "The ship was in the harbour for a week, and the men that had to work on it were tired of the cold wind and the "
    "rain. Nobody knew when they would be able to sail, because the storm at sea had not yet passed.",
    "la": "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani, tertiam qui ipsorum "
    "lingua Celtae appellantur. Hi omnes lingua, institutis, legibus inter se differunt; nec iam ex his quod sunt "
    "atque cum his ad bellum ibant.",
    "it": "La nave era nel porto da una settimana e gli uomini che dovevano lavorare erano stanchi del vento freddo e "
    "della pioggia. Nessuno sapeva quando sarebbero partiti, ma al mattino il mare non era come il giorno prima e "
    "per questo si aspettava.",
    "fr": "Le navire était dans le port depuis une semaine et les hommes qui devaient travailler sur le pont étaient "
    "fatigués du vent et de la pluie. Personne ne savait quand il serait possible de partir, car la tempête en mer "
    "ne se calmait pas pour cette nuit.",
    "de": "Das Schiff lag seit einer Woche im Hafen, und die Männer, die auf ihm arbeiten mussten, waren müde von dem "
    "kalten Wind und dem Regen. Niemand wusste, wann sie in See stechen würden, denn der Sturm war nicht vorüber, "
    "und es ist für alle zu kalt.",
    "es": "El barco estaba en el puerto desde hacía una semana y los hombres que debían trabajar en la cubierta se "
    "cansaban del viento y de la lluvia. Nadie sabía cuándo se podría salir, porque la tormenta no había pasado y "
    "el mar era como un muro para ellos.",
    "pt": "O navio estava no porto há uma semana e os homens que deviam trabalhar em cima do convés estavam cansados do "
    "vento e da chuva. Ninguém sabia quando se poderia partir, mas o mar não era mais o mesmo, e por isso foi "
    "preciso esperar com uma vela.",
    "nl": "Het schip lag al een week in de haven en de mannen die aan boord werkten waren moe van de koude wind en het "
    "natte weer. Niemand wist wanneer zij zouden vertrekken, maar er werd ook niet gevraagd, want dat had voor de "
    "kapitein geen nut.",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_paragraph_passes_in_its_own_language_alone(language: str) -> None:
    assert reject(TEXTS[language], "prose", Filters(languages=list(LANGUAGES))) is None
    others = [other for other in LANGUAGES if other != language]
    assert reject(TEXTS[language], "prose", Filters(languages=others)) == f"language {language}"


def test_stop_words_are_those_of_the_language() -> None:
    """Gopher's eight are English: by them alone the German paragraph has none."""
    assert reject(TEXTS["de"], "prose", Filters(languages=["de"], min_stop_words=9)) is None
    assert reject(TEXTS["de"], "prose", Filters(languages=["de"], min_stop_words=60)) == "too few stop words"
    assert reject(TEXTS["en"], "prose", Filters(min_stop_words=9)) is None
    assert reject(TEXTS["en"].replace("the ", "a "), "prose", Filters(min_stop_words=9)) == "too few stop words"


def test_english_is_not_taken_for_portuguese() -> None:
    """Of Moby Dick: "um" is a word of Portuguese too, and so is the factbook's "NA"."""
    text = "Um, um, um. Stop that thunder! Plenty too much thunder up here. What's the use of thunder? Um, um, um. We don't "
    text += "want thunder; we want rum; give us a glass of rum. Um, um, um! Birth rate: NA. Death rate: NA. Water source: NA."
    assert reject(text, "prose", Filters()) is None


def test_stable_lm_2_keeps_its_seven_languages() -> None:
    filters = load_recipe(Path(__file__).resolve().parents[2] / "recipes/released/stablelm2-1.6b.yaml").data.filters  # type: ignore[union-attr]
    assert len(filters.languages) == 7
    assert {language: reject(TEXTS[language], "prose", filters) for language in filters.languages} == dict.fromkeys(
        filters.languages
    )
