"""Patterns of file names in a policy: few signs, one meaning, linear time.

`*` and `?` stay within one component of a path. `**` stands for everything below a directory, and
only at the end (`docs/**`). Brackets mean themselves: a class is easy to get wrong in a gate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate

from r1prov.errors import NameRuleError
from r1prov.formats.names import check_path
from r1prov.text import quoted


@dataclass(frozen=True, slots=True)
class PathGlob:
    """A checked pattern.

    Attributes:
        text: As it was written.
        components: One expression a component.
        below: Whether it ends in `/**`.
    """

    text: str
    components: tuple[re.Pattern[str], ...]
    below: bool

    @property
    def exact(self) -> bool:
        """Whether it can match one path only."""
        return not set(self.text) & set("*?")

    @property
    def broad(self) -> bool:
        """Whether it names nothing in particular: whoever puts a file there is let through."""
        return not set(self.text) - set("*?./")

    def matches(self, path: str) -> bool:
        """Whether a path of a model, with `/`, is meant."""
        parts = path.split("/")
        count = len(self.components)
        if len(parts) <= count if self.below else len(parts) != count:
            return False
        return all(
            one.match(part) for one, part in zip(self.components, parts[:count], strict=True)
        )


def parse_glob(text: str) -> PathGlob:
    """Check and compile a pattern.

    Raises:
        NameRuleError: It is no relative path with `*`, `?` and a last `**`.
    """
    # What the wildcards stand for is a name of the model's; the rest must be a safe path itself.
    check_path(text.replace("*", "x").replace("?", "x"))
    parts = text.split("/")
    below = parts[-1] == "**"
    if below:
        parts.pop()
    if any("**" in part for part in parts) or not parts:
        raise NameRuleError(
            f"{quoted(text)} has `**` elsewhere than after a directory at the end",
            hint="write `directory/**`, and `*` within one component",
        )
    # `fnmatch` compiles to atomic groups, which do not backtrack.
    return PathGlob(
        text, tuple(re.compile(translate(part.replace("[", "[[]"))) for part in parts), below
    )
