"""A user's modules, written, imported and edited by a test."""

import importlib
import sys
import textwrap
from pathlib import Path
from types import ModuleType

POLICY = """
class Mine:
    def __init__(self, K: int):
        self.K = K

    def update(self, progress, probe):
        pass
"""


class Project:
    """A folder of modules on Python's path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = {*sys.modules}
        folder.mkdir()

    def write(self, **modules: str) -> None:
        """Replace modules, by their paths with `__` for `/`; who imports them next gets what they are now."""
        for path, text in modules.items():
            file = self.folder / f"{path.replace('__', '/').replace('/init', '/__init__')}.py"
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(textwrap.dedent(text))
        self.forget()

    def load(self, name: str) -> ModuleType:
        return importlib.import_module(name)

    def forget(self) -> None:
        """Forget what has been imported, as a new process does."""
        for name in {*sys.modules} - self._before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(self.folder.parent)):
                del sys.modules[name]
        importlib.invalidate_caches()
