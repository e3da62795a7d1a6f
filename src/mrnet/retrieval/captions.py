"""A question put as the caption of what it asks for.

Encoders of pictures and sentences learnt from captions: "the dog jumps" is nearer to a dog that jumps than "when does
the dog jump?". Rules for English; any other sentence is left as it is.
"""

import re

_LEADS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:please|can you|could you)\s+",
        r"(?:find|show(?: me)?|search for|look for|locate)\s+(?=(?:the|a|an|all|any|every|when|where|me)\b)",
        r"(?:in|at|from) (?:what|which) (?:moment|part|scene|time|point|second)\s+",
        r"(?:the |a |any |all )?(?:moments?|parts?|scenes?|clips?|times?|points?)\s+"
        r"(?:when|where|in which|at which|that shows?)\s+",
        r"what happens (?:when|while|as)\s+",
    )
)
_QUESTION = re.compile(
    r"(?P<word>(?:when|where)\s+)?(?P<auxiliary>does|do|did|is|are|was|were|has|have|will|can)\s+(?P<clause>\S.*)",
    re.IGNORECASE,
)
_THERE = re.compile(r"there\s+(?:any\s+)?(?=\S)", re.IGNORECASE)
_WHEN = re.compile(r"(?:when|where)\s+(?=\S)", re.IGNORECASE)
_WHO = re.compile(r"who(?P<be>'s| is| are)?\s+(?=\S)", re.IGNORECASE)
_DETERMINERS = frozenset(("a", "an", "the", "this", "that", "his", "her", "their", "its", "my", "your"))
_PREPOSITIONS = frozenset(
    ("in", "on", "at", "with", "of", "by", "from", "to", "into", "onto", "over", "under", "behind", "beside", "near",
     "through", "across", "around", "up", "down", "out", "off", "and", "for", "while", "as", "again")
)  # fmt: skip
_SMALL_WORDS = _DETERMINERS | _PREPOSITIONS
_PRONOUNS = frozenset(("he", "she", "it", "someone", "somebody"))
_IRREGULAR = {"have": "has", "do": "does", "go": "goes", "be": "is"}


def caption(query: str) -> str:
    """A query as the caption of what it asks for; one that is no question or request comes back as it is.

    In this order: words that ask for a search are dropped ("show me", "the part where"); a question word and its
    auxiliary are dropped, and after "does" the verb takes its ending; "who" becomes "someone".
    """
    plain = text = " ".join(query.split()).strip(" ?!.\"'")
    for lead in (*_LEADS, *_LEADS):  # "please" may come before "show me", and that before "the part where"
        text = lead.sub("", text, count=1) if lead.match(text) else text
    asked = _QUESTION.fullmatch(text)
    if asked and (asked["word"] or query.rstrip().endswith("?")):
        clause = _THERE.sub("", asked["clause"], count=1) if _THERE.match(asked["clause"]) else asked["clause"]
        return _with_ending(clause) if asked["auxiliary"].lower() == "does" else clause
    if who := _WHO.match(text):
        return ("someone is " if who["be"] else "someone ") + text[who.end() :]
    if when := _WHEN.match(text):
        return text[when.end() :]
    return query if text == plain or not text else text


def _with_ending(clause: str) -> str:
    """The clause with its verb in the third person.

    The verb is the first word before a small word, or at the end, that cannot be the noun: that is not the first
    word, nor the one after a determiner.
    """
    words = clause.split()
    if words[0].lower() in _PRONOUNS:
        return " ".join([words[0], *map(_third_person, words[1:2]), *words[2:]])
    for at in range(1, len(words)):
        word, before = words[at].lower(), words[at - 1].lower()
        ends = at + 1 == len(words) or words[at + 1].lower() in _SMALL_WORDS
        if ends and word not in _SMALL_WORDS and before not in _SMALL_WORDS:
            return " ".join([*words[:at], _third_person(words[at]), *words[at + 1 :]])
    return clause


def _third_person(verb: str) -> str:
    if verb.lower() in _IRREGULAR:
        return _IRREGULAR[verb.lower()]
    if re.search(r"(?:s|x|z|ch|sh)$", verb):
        return f"{verb}es"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}s"
