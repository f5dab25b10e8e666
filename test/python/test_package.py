"""The package as users get it: a wheel that pip builds and installs, and imports that need the standard library only."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "connectors/engine/python"

# Modules of the package that no engine is needed for, in a Python that has no site-packages.
STANDALONE = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import kvreel, kvreel.client, kvreel.lmcache_layout
foreign = {name.partition(".")[0] for name in set(sys.modules) - before} - {"kvreel"} - set(sys.stdlib_module_names)
assert not foreign, foreign
print(kvreel.__version__)
"""


class PackageTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="kvreel-package-")))

    def run_python(self, python: str, *arguments: str) -> str:
        result = subprocess.run([python, *arguments], capture_output=True, text=True, cwd=self.folder, env=self.environment())
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    @staticmethod
    def environment() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def test_the_client_imports_the_standard_library_only(self) -> None:
        self.assertEqual(self.run_python(sys.executable, "-I", "-S", "-c", STANDALONE, str(SOURCE / "src")), "0.1.0\n")

    def test_the_wheel_installs_into_a_fresh_environment(self) -> None:
        # A copy, because setuptools leaves its work beside the sources.
        shutil.copytree(SOURCE, self.folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        self.run_python(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "wheels", "./source")
        wheels = list((self.folder / "wheels").iterdir())
        self.assertEqual([wheel.name for wheel in wheels], ["kvreel-0.1.0-py3-none-any.whl"])
        with zipfile.ZipFile(wheels[0]) as wheel:
            packed = {name.removeprefix("kvreel/") for name in wheel.namelist() if name.startswith("kvreel/")}
            metadata = wheel.read("kvreel-0.1.0.dist-info/METADATA").decode()
        self.assertEqual(packed, {path.name for path in (SOURCE / "src/kvreel").iterdir() if path.suffix in (".py", ".typed")})
        self.assertIn("License-Expression: Apache-2.0", metadata)
        self.assertNotIn("Requires-Dist", metadata)
        self.run_python(sys.executable, "-m", "venv", "fresh")
        fresh = str(self.folder / "fresh/bin/python")
        self.run_python(fresh, "-m", "pip", "install", "--quiet", "--no-index", str(wheels[0]))
        self.assertEqual(self.run_python(fresh, "-c", "import kvreel; print(kvreel.__version__)"), "0.1.0\n")


if __name__ == "__main__":
    unittest.main()
