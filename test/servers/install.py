"""install.py REQUIREMENTS DIRECTORY: unpacks the wheels that REQUIREMENTS names, unless DIRECTORY is there already.

The lock is the system's: two test processes at once make one download, and a killed one leaves nothing locked. A
directory under its final name is complete, because it gets that name last.
"""

import fcntl
import os
import shutil
import subprocess
import sys

requirements, directory = sys.argv[1:]
partial = directory + ".partial"
os.makedirs(os.path.dirname(directory), exist_ok=True)

with open(directory + ".lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not os.path.isdir(directory):
        shutil.rmtree(partial, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
        wheels = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--target", partial, "-r", requirements]
        subprocess.run(pip + wheels, check=True)
        os.rename(partial, directory)
