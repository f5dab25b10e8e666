"""The default texts: long enough for 1024 + 128 tokens with any tokenizer, none written by the model that is measured."""

import os
import sysconfig

HERE = os.path.dirname(os.path.abspath(__file__))
STDLIB = sysconfig.get_path("stdlib")
LICENCES = "/usr/share/common-licenses"

# Name -> file and the character to start at, so that no text starts with a title or an index.
FILES = {
    "code": (f"{STDLIB}/tarfile.py", 30000),
    "code-with-prose": (f"{STDLIB}/doctest.py", 3000),
    "prose": (f"{STDLIB}/pickletools.py", 2000),
    "gfdl": (f"{LICENCES}/GFDL-1.3", 3000),
    "mpl": (f"{LICENCES}/MPL-2.0", 2000),
    "chat": (f"{HERE}/texts/chat.txt", 0),
    "german": (f"{HERE}/texts/german.txt", 0),
    "chinese": (f"{HERE}/texts/chinese.txt", 0),
}
LENGTH = 12000


def load():
    """Name -> text, for the files that this machine has."""
    return {name: read(path, start) for name, (path, start) in FILES.items() if os.path.exists(path)}


def read(path, start):
    with open(path, encoding="utf-8") as file:
        return file.read()[start : start + LENGTH]
