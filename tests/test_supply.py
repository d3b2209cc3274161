"""What is declared to be needed, what is pinned and what conda installs do not drift apart."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nclib.paths import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
NOT_PINNED = {"workflow"}  # extras of which the book needs nothing: who sweeps installs them
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def pinned() -> dict[str, str]:
    """Versions in requirements.lock by canonical name."""
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), "every line of the lock is name==version"
    names = [canonicalize_name(name) for name, _ in pins]
    assert len(names) == len(set(names))
    return dict(zip(names, (version for _, version in pins), strict=True))


def declared() -> list[str]:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    optional = [text for name in extras if name not in NOT_PINNED for text in extras[name]]
    return sorted({*PROJECT["build-system"]["requires"], *project["dependencies"], *optional})


@pytest.mark.parametrize("text", declared())
def test_the_lock_holds_every_dependency_in_a_version_that_it_allows(text):
    needed = Requirement(text)
    version = pinned().get(canonicalize_name(needed.name))
    assert version is not None, f"{needed.name} is not in requirements.lock; run `make lock`"
    assert needed.specifier.contains(version), (
        f"the lock has {needed.name}=={version}, not {needed.specifier}"
    )


def test_make_lock_asks_for_the_versions_of_torch_in_the_lock():
    asked = re.findall(
        r"'(torch|torchvision)==([\d.]+)'", (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    )
    assert dict(asked) == {name: pinned()[name] for name in ("torch", "torchvision")}


def test_conda_installs_the_lock_on_the_oldest_python():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert conda == [f"python={oldest}", "pip"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_read_only_but_for_the_job_that_publishes(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions", {}) == (
            {"pages": "write", "id-token": "write"} if name == "pages" else {}
        )
        assert job["timeout-minutes"] <= 240


def test_actions_are_pinned_to_commits():
    """A tag can be moved to other code, a commit cannot; the comment says which version it is."""
    lines = [line for path in WORKFLOWS for line in path.read_text(encoding="utf-8").splitlines()]
    used = [line.partition("uses:")[2].strip() for line in lines if "uses:" in line]
    assert len(used) > 4
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action)] == []
