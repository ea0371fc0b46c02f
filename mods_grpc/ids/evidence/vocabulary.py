"""Numbers for texts, so that counts can be kept in arrays."""

from collections.abc import Iterable

import numpy as np

from mods_grpc.array_types import Integers


class Vocabulary:
    """Texts and their numbers, from 0 in order of first use."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.texts = list(texts)
        self._numbers = {text: number for number, text in enumerate(self.texts)}

    def __len__(self) -> int:
        return len(self.texts)

    def number(self, text: str) -> int | None:
        """Return the number of a text; None if it has none."""
        return self._numbers.get(text)

    def add(self, text: str) -> int:
        """Return the number of a text, a new one if it has none."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number

    def add_all(self, texts: Iterable[str | None]) -> Integers:
        """Return the numbers of n texts, `(n,)`; -1 for None."""
        numbers, add = self._numbers, self.add
        return np.array(
            [-1 if text is None else numbers[text] if text in numbers else add(text) for text in texts], dtype=np.int64
        )

    def keep(self, used: Integers) -> Integers:
        """Forget all texts but those with the given numbers, each once, in order; return the new number of each old one."""
        renumbered = np.full(len(self.texts), -1, dtype=np.int64)
        renumbered[used] = np.arange(len(used))
        self.texts = [self.texts[number] for number in used.tolist()]
        self._numbers = {text: number for number, text in enumerate(self.texts)}
        return renumbered
