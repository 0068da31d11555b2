"""`python3 -m tests.compiled`: compile the data path, and run the tests of whole programs on it.

In a copy of the sources, with the environment that `python3 -m tests` has made. Tests that put a stand-in where a
module expects an object of ours cannot run: compiled code insists on its types. Arguments are pytest's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.__main__ import PROJECT, VENV_PYTHON

FOLDERS = ("tests/wire", "tests/forward/test_forward.py", "tests/system/test_behind_proxies.py")
HOOK = "HATCH_BUILD_HOOK_ENABLE_MYPYC"


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="trioduct-compiled-") as folder:
        copy, wheels = Path(folder) / "project", Path(folder) / "wheels"
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target)
        python = str(VENV_PYTHON)
        build = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(copy)]
        subprocess.run(build, env=os.environ | {HOOK: "true"}, check=True)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(copy, [name for name in archive.namelist() if name.endswith(".so")])
        environment = os.environ | {"PYTHONPATH": str(copy)}
        told = [python, "-m", "engine", "--version"]
        said = subprocess.run(told, cwd=copy, env=environment, capture_output=True, check=True, text=True).stdout
        if "(compiled)" not in said:
            sys.exit(f"what was built is not compiled: {said}")
        tests = [python, "-m", "pytest", *(arguments or FOLDERS)]
        return subprocess.run(tests, cwd=copy, env=environment).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}")
