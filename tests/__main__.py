"""`python3 -m tests`: install what the tests need, and run them.

Needs nothing but Python 3.11, from the root of a clone. Other programs that tests talk to come as Debian
packages when this is root on a Debian or Ubuntu; anybody else reads which are missing, and the tests that
want them are skipped with a reason. Python packages go into `.venv`. Arguments are pytest's; without any, two files
run at a time, for many tests wait more than they work:

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
PROGRAMS = {
    "nginx": "nginx",
    "curl": "curl",
    "strace": "strace",
    "wrk": "wrk",
    "slowhttptest": "slowhttptest",
    "git": "git",
    "help2man": "help2man",
    "chromium": "chromium",
    "tmux": "tmux",
    # Forward proxies, and what some of them want to know a user by.
    "squid": "squid",
    "tinyproxy": "tinyproxy-bin",
    "apache2": "apache2-bin",
    "varnishd": "varnish",
    "danted": "dante-server",
    "microsocks": "microsocks",
    "redis-server": "redis-server",
    "dnsmasq": "dnsmasq-base",
    "htpasswd": "apache2-utils",
    "haproxy": "haproxy",
    "faketime": "faketime",
    "nft": "nftables",
    "ip": "iproute2",
    "privoxy": "privoxy",
    "nghttpx": "nghttp2-proxy",
    "cntlm": "cntlm",
    "openssl": "openssl",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "ntlm_auth": "winbind",
    "krb5kdc": "krb5-kdc",
    "kadmin.local": "krb5-admin-server",
    "kinit": "krb5-user",
}
# Debian's squid-openssl conflicts with squid, so it is unpacked beside it.
SQUID_OPENSSL = PROJECT / ".venv/share/squid-openssl"
# It insists on versions of what tests use as well, so it has an environment of its own.
MITMPROXY = PROJECT / ".venv/share/mitmproxy"

# For pytest: a file stays with one of the workers, which has its session's fixtures to itself (pytest-xdist).
TWO_AT_A_TIME = ("--numprocesses=2", "--dist=loadfile")


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
    try:
        run_quietly("apt-get", "update")
        run_quietly("apt-get", "install", "-y", "--no-install-recommends", *packages)
    finally:
        if ours:
            policy.unlink()


def unpack_squid_openssl() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_quietly("apt-get", "download", "squid-openssl", cwd=folder)
        (package,) = Path(folder).glob("squid-openssl_*.deb")
        SQUID_OPENSSL.parent.mkdir(exist_ok=True)
        run_quietly("dpkg-deb", "-x", str(package), str(SQUID_OPENSSL))


def install_mitmproxy() -> None:
    run_quietly(sys.executable, "-m", "venv", str(MITMPROXY))
    run_quietly(str(MITMPROXY / "bin/pip"), "install", "--quiet", "mitmproxy>=11.0.2")  # the last one for Python 3.11


def run_quietly(*command: str, cwd: str | None = None) -> None:
    """Run a command that says much, and show what it said only when it fails, which ends this program."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{' '.join(command)} failed")


def main(arguments: list[str]) -> int:
    os.chdir(PROJECT)
    may_install = os.geteuid() == 0 and bool(shutil.which("apt-get"))
    if packages := missing_packages():
        if may_install:
            print("installing with apt-get:", *packages, flush=True)
            install_packages(packages)
        else:
            print("not installed here (Debian's names):", *packages, flush=True)
    if not VENV_PYTHON.with_name("pip").exists():
        subprocess.run([sys.executable, "-m", "venv", ".venv"], check=True)
    if may_install and not SQUID_OPENSSL.exists():
        print("unpacking into .venv/share: squid-openssl", flush=True)
        unpack_squid_openssl()
    if not (MITMPROXY / "bin/mitmdump").exists():
        print("installing into .venv/share: mitmproxy", flush=True)
        install_mitmproxy()
    print("installing into .venv: trioduct[test]", flush=True)
    subprocess.run([VENV_PYTHON, "-m", "pip", "install", "--quiet", "--editable", ".[test]"], check=True)
    # Or each program of a test would compile them anew, where PYTHONDONTWRITEBYTECODE is set.
    run_quietly(str(VENV_PYTHON), "-m", "compileall", "-q", "engine", "proxy_adapters", "perf", "trioduct")
    return subprocess.run([VENV_PYTHON, "-m", "pytest", *(arguments or TWO_AT_A_TIME)]).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}")
