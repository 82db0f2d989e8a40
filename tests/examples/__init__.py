"""The example applications do what they show.

They are not a part of the wheel. To test them on the installed package, ``examples`` alone is made
importable here; its parent folder, which holds the package's source too, is not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "examples"

_namespace = ModuleType("examples")
_namespace.__path__ = [str(FOLDER)]
sys.modules.setdefault(_namespace.__name__, _namespace)
