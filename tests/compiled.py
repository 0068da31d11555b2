"""`python3 -m tests.compiled`: compile the data path, and run the tests on it.

In a copy of the sources, with the environment that `python3 -m tests` has made; as root on Debian a C compiler is
installed where there is none. Compiled code insists on its types: the tests of `gateway` and `faults`, which put
stand-ins in their places, and those that are marked `interpreted`, run on the interpreted modules only. Arguments are
pytest's; without any it is the rooms of the data path, and foreign programs with whole ones of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from tests.__main__ import PROJECT, TWO_AT_A_TIME, VENV_PYTHON, install_packages

ROOMS = ("wire", "loop", "session", "tunnel", "tracing", "node", "agent", "forward", "interop")
HOOK = "HATCH_BUILD_HOOK_ENABLE_MYPYC"


def install_compiler() -> None:
    """gcc, and the headers of the environment's Python if that is Debian's."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    packages = ["gcc"] * (not shutil.which("cc")) + ["python3-dev"] * (not headers.exists())
    if packages:
        print("installing with apt-get:", *packages, flush=True)
        install_packages(packages)


def main(arguments: list[str]) -> int:
    install_compiler()
    with tempfile.TemporaryDirectory(prefix="trioduct-compiled-") as folder:
        copy, wheels = Path(folder) / "project", Path(folder) / "wheels"
        leftovers = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "perf-results")
        shutil.copytree(PROJECT, copy, ignore=leftovers)
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
        usual = [*TWO_AT_A_TIME, *(f"tests/{room}" for room in ROOMS)]
        tests = [python, "-m", "pytest", *(arguments or usual)]
        return subprocess.run(tests, cwd=copy, env=environment).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}")
