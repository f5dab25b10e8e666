"""The example of docs/python.md does what the page says."""

import re
import subprocess
import sys
import unittest
from pathlib import Path

from daemon import Daemon

PAGE = Path(__file__).parents[2] / "docs/python.md"


class DocsTest(unittest.TestCase):
    def test_the_example_prints_what_the_page_says(self) -> None:
        (example,) = re.findall(r"```python\n(.*?)```\n\nprints `(.*?)` and `(.*?)`", PAGE.read_text(), re.DOTALL)
        program, *printed = example
        with Daemon() as daemon:
            program = program.replace("/run/kvreel/kvreel.sock", daemon.socket)
            result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        self.assertEqual(result.stdout.split("\n"), [*printed, ""], result.stderr)


if __name__ == "__main__":
    unittest.main()
