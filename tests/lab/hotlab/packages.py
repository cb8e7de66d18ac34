# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages for machines, which have no network: apt runs here, on the machine's list of packages, and downloads what it lacks."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from . import cache, kernels, lab, mirror, progress, ssh, step
from .errors import LabError

STATUS = "/var/lib/dpkg/status"
DEFAULT_MIRROR = "http://deb.debian.org/debian"


def fetch(name: str, host: str, wanted: list[str], without: list[str]) -> Path:
    """Return a tar file with the packages that `host` lacks for `wanted`; without recommended ones, and those in `without`."""
    done = ssh.run(lab.ssh_command(name, host), f"cat {STATUS}", timeout=60)
    if done.returncode:
        raise LabError(f"{host}: its list of packages could not be read", done.stderr.decode(errors="replace").strip())
    spec = lab.spec(name)
    row = kernels.find(spec.kernel, spec.arch)
    suites = [row.suite, *row.extra_suites]
    sources = mirror.lines(suites) or [f"deb [signed-by=/{mirror.KEYRING}] {DEFAULT_MIRROR} {suite} main" for suite in suites]
    digests = [hashlib.sha256(data).hexdigest() for data in (done.stdout, Path(__file__).read_bytes())]
    made_of = [spec.arch, wanted, without, sources, *digests]
    status = done.stdout.decode() + "".join(_installed(package, spec.arch) for package in without)
    return cache.entry("packages", cache.digest(made_of), lambda new: _download(new, spec.arch, wanted, sources, status)) / "packages.tar"


def _installed(package: str, arch: str) -> str:
    """A stanza that makes apt believe that a package is there, in a version that satisfies everybody."""
    fields = {"Package": package, "Status": "install ok installed", "Version": "99:0", "Architecture": arch, "Multi-Arch": "foreign"}
    return "\n" + "".join(f"{key}: {value}\n" for key, value in fields.items())


def _download(new: Path, arch: str, wanted: list[str], sources: list[str], status: str) -> None:
    progress.say(f"packages: downloading {', '.join(wanted)} with what they need (a few seconds)")
    apt = new / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "sources.list").write_text("\n".join(sources) + "\n")
    (apt / "status").write_text(status)
    options = _options(apt, arch)
    install = ["--yes", "--no-install-recommends", "--download-only", "install", *wanted]
    step.run("packages", ["apt-get", *options, "update"], new / "update.log")
    step.run("packages", ["apt-get", *options, *install], new / "install.log")
    with tarfile.open(new / "packages.tar", "w") as tar:
        for path in sorted((apt / "archives").glob("*.deb")):
            tar.add(path, path.name)
    cache.remove(apt)


def _options(apt: Path, arch: str) -> list[str]:
    """Nothing of this machine's own apt is read or written but its configuration, which may name a proxy."""
    settings = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State": apt,
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Cache::archives": apt / "archives",
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        # As this user: apt's own cannot enter the cache.
        "APT::Sandbox::User": "",
    }
    return [f"-o{name}={value}" for name, value in settings.items()]
