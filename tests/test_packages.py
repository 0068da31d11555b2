"""What is handed out: one version, a manual page for each command, a wheel and an archive that registries take."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from engine import __version__
from engine.cli.root import trioduct
from tests.cli.command_line import commands
from tests.programs import TRIODUCT, Programs, needs

PROJECT = Path(__file__).parents[1]
FULL = pytest.mark.skipif("TRIODUCT_FULL" not in os.environ, reason="takes a minute; TRIODUCT_FULL=1")
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
# With nothing to write to but pipes. Its own network has the ports of the image.
READ_ONLY = """
mount --make-rprivate /
cut -d' ' -f5 /proc/self/mountinfo | while read -r place; do
    case $place in /proc*|/sys*|/dev/pts) ;; *) mount -o remount,bind,ro "$place" || true ;; esac
done
ip link set lo up
cd / && ! touch /tmp/x
setpriv --reuid 10001 --regid 10001 --clear-groups "$@"  # not exec: another user would not be killed with unshare
"""


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", PROJECT / "deploy/hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_package_says_the_same_version() -> None:
    assert PYPROJECT["project"]["version"] == __version__
    assert re.findall(r"^trioduct \((.*)\)", (PROJECT / "deploy/debian/changelog").read_text()) == [__version__]
    assert yaml.safe_load((PROJECT / "deploy/helm/trioduct/Chart.yaml").read_text())["appVersion"] == __version__
    assert re.findall(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == __version__


def test_the_debian_package_has_the_extras_of_the_image() -> None:
    image = re.findall(r"'\.\[([\w,]+)\]'", (PROJECT / "deploy/Containerfile").read_text())[0]
    package = re.findall(r"--extras (\w+)", (PROJECT / "deploy/debian/rules").read_text())
    assert set(image.split(",")) <= set(package) <= set(PYPROJECT["project"]["optional-dependencies"])


@needs("help2man")
def test_every_command_has_a_manual_page_of_its_help() -> None:
    pytest.importorskip("hatchling")
    found = hook()
    pages = {words[1:] for words, _ in found.commands(trioduct)}
    assert pages == {path for path in commands() if path != ("help",)}
    page = found.man_page(("trioduct", "token"), "make a token", "1.2", os.environ | {"PYTHONPATH": str(PROJECT)})
    assert page.splitlines()[1].startswith('.TH TRIODUCT-TOKEN "1"')
    assert r"\fB\-\-key\-file\fR FILE" in page
    assert "(CW$ trioduct token --key-file tunnel.key" in page.replace(r"\-", "-")  # a line of its own


@FULL
@needs("help2man")
@pytest.mark.timeout(300)
def test_wheel_and_archive_are_what_registries_take(tmp_path: Path) -> None:
    for name in ("build", "hatchling", "twine", "check_wheel_contents"):
        pytest.importorskip(name)

    def run(*words: str | Path) -> None:
        environment = os.environ | {"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"}
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=PROJECT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("build", "--no-isolation", "--outdir", tmp_path)
    archive, wheel = sorted(tmp_path.iterdir(), key=lambda path: path.suffix)
    run("twine", "check", "--strict", archive, wheel)
    run("check_wheel_contents", wheel)
    names = zipfile.ZipFile(wheel).namelist()
    share = f"trioduct-{__version__}.data/data/share"
    assert f"{share}/man/man1/trioduct-agent-http.1" in names
    assert f"{share}/bash-completion/completions/trioduct" in names
    assert "engine/cli/written/trioduct-agent.service" in names


def has_mounted_root() -> bool:
    """A folder that is one's root by chroot is no mount, and what is mounted below it cannot be made private."""
    return any(line.split()[4] == "/" for line in Path("/proc/self/mountinfo").read_text().splitlines())


@needs("unshare", "setpriv", "ip")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.skipif(not has_mounted_root(), reason="its root is a chroot's, which cannot be made read-only")
async def test_a_node_needs_no_file_system_that_it_can_write(programs: Programs) -> None:
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-euc", READ_ONLY, "sh"]
    node = await programs.start(*words, TRIODUCT, "server", env={"PYTHONDONTWRITEBYTECODE": "1"})
    await node.wait_line("Read-only file system")
    await node.wait_line("node started")
    await node.stop(signal.SIGKILL)  # unshare heeds no other
