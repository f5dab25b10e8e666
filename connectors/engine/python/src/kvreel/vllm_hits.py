"""How long a prefix can be loaded, from the daemon's answers about its chunks."""

from collections.abc import Sequence


def longest(answers: Sequence[tuple[str, int | None]], first: int, chunk_tokens: int, is_hit: str = "1") -> int:
    """The number of chunks, from the prompt's begin, up to which every part has what it needs; `first` if none more than the engine has.

    `answers` are, for each part, a character a chunk and how far back its layers look. The engine has all chunks before `first`. A part
    with a window needs only the chunks that the next token looks at.
    """
    total = min((len(answer) for answer, _ in answers), default=0)
    best = first
    runs = [0] * len(answers)
    for chunk in range(first, total):
        for part, (answer, _) in enumerate(answers):
            runs[part] = runs[part] + 1 if answer[chunk] in is_hit else 0
        end = chunk + 1
        if all(runs[part] >= end - _first_needed(end, first, window, chunk_tokens) for part, (_, window) in enumerate(answers)):
            best = end
    return best


def _first_needed(end: int, first: int, window: int | None, chunk_tokens: int) -> int:
    if window is None:
        return first
    return max(first, min(end, (end * chunk_tokens - window + 1) // chunk_tokens))
