"""Griffe extension: Sphinx roles in docstrings, such as :class:`Name`, become links."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([^`]+)`")
_LINK = r'<autoref identifier="\1" optional><code>\1</code></autoref>'


class LinkedRoles(Extension):
    """Rewrites docstrings as they are read."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Called once for every object with a name."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(_LINK, obj.docstring.value).replace("``", "`")
