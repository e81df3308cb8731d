"""What is installed for development, and what the wheel says of its dependencies."""

import json
import pathlib
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SELF = PROJECT["project"]["name"]
LOCK = (ROOT / "requirements-dev.txt").read_text()
SBOM = json.loads((ROOT / "sbom.cdx.json").read_text())


def asked(*groups):
    """The requirements of the package, of an extra, or of a dependency group."""
    extras, project = PROJECT["project"]["optional-dependencies"], PROJECT["project"]
    tables = {**extras, **PROJECT["dependency-groups"], "": project["dependencies"]}
    found = [Requirement(line) for group in groups for line in tables[group]]
    return [requirement for requirement in found if requirement.name != SELF]


def allowed(requirement, version):
    return requirement.specifier.contains(version, prereleases=True)


# name==version, or several of one name with a marker each, and the hashes of each
PINNED = re.findall(r"^(\S+?)==(\S+).*?\\\n((?:    --hash=\S+.*\n)+)", LOCK, re.M)


@pytest.mark.parametrize("requirement", asked("", "export", "docs", "dev"), ids=str)
def test_lock_has_what_is_asked_for(requirement):
    name = canonicalize_name(requirement.name)
    versions = [version for pinned, version, _ in PINNED if pinned == name]
    assert versions, f"{name} is not in requirements-dev.txt: make lock"
    assert all(allowed(requirement, version) for version in versions), versions


def test_every_line_of_the_lock_has_its_hashes():
    assert len(PINNED) == len(re.findall(r"^\S+==", LOCK, re.M)) > 100
    for name, _, hashes in PINNED:
        found = re.findall(r"--hash=(\S+)", hashes)
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", item) for item in found), name


def test_sbom_has_what_the_package_needs():
    component = SBOM["metadata"]["component"]
    assert (component["name"], component["type"]) == (SELF, "library")
    found = {canonicalize_name(c["name"]): c["version"] for c in SBOM["components"]}
    for requirement in asked("", "export"):
        version = found[canonicalize_name(requirement.name)]
        assert allowed(requirement, version), (requirement, version)
    assert "pytest" not in found  # of an installation, not of development


def test_sbom_says_who_needs_whom():
    edges = {d["ref"]: d.get("dependsOn", []) for d in SBOM["dependencies"]}
    (root,) = [r for r in edges if r == SBOM["metadata"]["component"]["bom-ref"]]
    direct = {canonicalize_name(ref.partition("==")[0]) for ref in edges[root]}
    names = {canonicalize_name(r.name) for r in asked("", "export")}
    assert names <= direct


def test_node_packages_are_locked_by_hash():
    lock = json.loads((ROOT / "tests/web/package-lock.json").read_text())
    packages = {name: row for name, row in lock["packages"].items() if name}
    assert packages
    assert all(row["integrity"].startswith("sha512-") for row in packages.values())
