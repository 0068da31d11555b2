"""`python3 -m tests`: install what the tests need, and run them.

Needs nothing but Python 3.11, from the root of a clone. Other programs that tests talk to come as Debian
packages when this is root on a Debian or Ubuntu; anybody else reads which are missing, and the tests that
want them are skipped with a reason. Python packages go into `.venv`. Arguments are pytest's:

    python3 -m tests                        everything
    python3 -m tests tests/wire -k yamux    one folder, one word
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV_PYTHON = PROJECT / ".venv/bin/python"

# What is looked for, and the Debian package that has it.
PROGRAMS = {"nginx": "nginx", "curl": "curl", "wrk": "wrk", "squid": "squid"}


def missing_packages() -> list[str]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)]
    # Debian ships venv without the ensurepip that it needs.
    if not VENV_PYTHON.with_name("pip").exists() and not find_spec("ensurepip"):
        packages.append(f"python3.{sys.version_info.minor}-venv")
    return packages


def install_packages(packages: list[str]) -> None:
    """Install Debian packages without starting the servers that come in them.

    The tests start their own, on free ports. Debian asks /usr/sbin/policy-rc.d whether a server may be
    started on installation, and 101 is its word for no.
    """
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    apt = ["apt-get", "-q", "-y", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        with tempfile.TemporaryFile("w+") as log:
            for command in (["update"], ["install", *packages]):
                if subprocess.run([*apt, *command], env=environment, stdout=log, stderr=log).returncode:
                    log.seek(0)
                    sys.exit(f"{log.read()}\napt-get {' '.join(command)} failed")
    finally:
        if ours:
            policy.unlink()


def main(arguments: list[str]) -> int:
    os.chdir(PROJECT)
    if packages := missing_packages():
        if os.geteuid() == 0 and shutil.which("apt-get"):
            print("installing with apt-get:", *packages, flush=True)
            install_packages(packages)
        else:
            print("not installed here (Debian's names):", *packages, flush=True)
    if not VENV_PYTHON.with_name("pip").exists():
        subprocess.run([sys.executable, "-m", "venv", ".venv"], check=True)
    print("installing into .venv: trioduct[test]", flush=True)
    subprocess.run([VENV_PYTHON, "-m", "pip", "install", "--quiet", "--editable", ".[test]"], check=True)
    return subprocess.run([VENV_PYTHON, "-m", "pytest", *arguments]).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}")
