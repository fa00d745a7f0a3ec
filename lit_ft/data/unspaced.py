"""The scripts that put no spaces between words, and what stands between their words instead."""

import re

# Thai, Lao, Burmese, Khmer, kana (also of half width) and Han; Hangul has spaces.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
# A space that is no word's end there: between two sentences of Thai, or of texts that were cut into words.
SPACE_WITHIN = re.compile(f"(?<={UNSPACED.pattern}) (?={UNSPACED.pattern})")
# Not seen, and not always typed: Khmer and Thai mark where a line may break; files mark their start.
INVISIBLE = "\u200b\u00ad\u2060\ufeff"
