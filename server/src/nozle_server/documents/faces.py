"""The typefaces of documents, so that a name in any script has its letters, and none depends on what a machine has.

Inter is the face of all Latin, Greek and Cyrillic text. What it lacks comes from the Noto family, script by script, all in
`fonts/`; Chinese, Japanese and Korean from the package noto-cjk-sans-otc (one weight, 19 MB, read only when needed). All are
under the SIL Open Font License.
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import typst

FOLDER = Path(__file__).parent / "fonts"

_MAIN = "Inter"
_SCRIPTS = (
    "Arabic",
    "Hebrew",
    "Thai",
    "Devanagari",
    "Bengali",
    "Tamil",
    "Telugu",
    "Gujarati",
    "Gurmukhi",
    "Kannada",
    "Malayalam",
    "Sinhala",
    "Lao",
    "Khmer",
    "Myanmar",
    "Ethiopic",
    "Georgian",
    "Armenian",
)
# What typst brings along knows many rarer letters, signs and symbols.
_LAST = ("Noto Emoji", "DejaVu Sans Mono", "Libertinus Serif", "New Computer Modern Math")

_KANA = ("\u3040", "\u30ff")
_HANGUL = ("\uac00", "\ud7a3")


@cache
def fonts() -> typst.Fonts:
    """The faces, found once in a process; immutable, and shared by all threads."""
    cjk = files("noto_cjk_sans_otc")
    return typst.Fonts(
        include_system_fonts=False, include_embedded_fonts=True, font_paths=[str(FOLDER), str(cjk)]
    )


def faces_for(texts: Iterable[str]) -> list[str]:
    """The families in which a document looks for a letter, in order.

    The same Han character is written differently in Japan, Korea and China; the document's kana or hangul tell.
    """
    letters = set().union(*texts)
    if any(_KANA[0] <= letter <= _KANA[1] for letter in letters):
        han = "JP"
    elif any(_HANGUL[0] <= letter <= _HANGUL[1] for letter in letters):
        han = "KR"
    else:
        han = "SC"
    return [_MAIN, *(f"Noto Sans {script}" for script in _SCRIPTS), f"Noto Sans CJK {han}", *_LAST]
