"""The start of a notebook: only what is missing is installed, and the Drive is what it says."""

from __future__ import annotations

import importlib.metadata

import pytest

from s2i_lib import session
from s2i_lib.errors import S2iError


def test_nothing_is_missing_where_the_tests_run():
    assert session.missing_requirements() == []


def test_what_is_missing_is_found_by_name_whatever_its_range(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text(
        "# words\nnumpy>=2.0,<3\nno-such-package-s2i>=1.2  # why\n"
        'other-missing>=1; sys_platform == "linux"\n'
    )
    monkeypatch.setattr(session, "REPOSITORY", tmp_path)
    monkeypatch.setattr(session.sys, "platform", "linux")
    assert session.missing_requirements() == ["no-such-package-s2i>=1.2", "other-missing>=1"]
    monkeypatch.setattr(session.sys, "platform", "darwin")
    assert session.missing_requirements() == ["no-such-package-s2i>=1.2"]


@pytest.mark.slow
def test_failed_installation_names_the_package_and_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("no-such-package-s2i @ file:///nowhere/x.whl\n")
    monkeypatch.setattr(session, "REPOSITORY", tmp_path)
    before = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    with pytest.raises(S2iError, match="no-such-package-s2i"):
        session.install_missing()
    assert before == {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}


def test_named_folder_wins_and_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_DRIVE", str(tmp_path / "x"))
    said = []
    drive = session.start(said.append)
    assert drive.root == tmp_path / "x" and drive.root.is_dir()
    assert "S2I_DRIVE says so" in said[-1]


def test_local_folder_is_said_and_lies_beside_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setenv("S2I_DRIVE", "")
    monkeypatch.setattr(session, "REPOSITORY", tmp_path)
    (tmp_path / "notebooks").mkdir()
    said = []
    drive = session.start(said.append)
    assert drive.root == tmp_path / "s2i_drive"
    assert "This is not Colab" in said[-1]


def test_running_the_cell_again_asks_again_and_still_heeds_the_users_own_folder(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setenv("S2I_DRIVE", "")
    monkeypatch.setattr(session, "REPOSITORY", tmp_path)
    monkeypatch.setattr(session, "_set_here", "")
    (tmp_path / "notebooks").mkdir()
    said = []
    first, second = session.start(said.append), session.start(said.append)
    assert first.root == second.root and said[1] == said[3]
    assert "This is not Colab" in said[3], "it took its own choice for the user's"
    monkeypatch.setenv("S2I_DRIVE", str(tmp_path / "mine"))
    assert session.start(said.append).root == tmp_path / "mine"
    assert session.start(said.append).root == tmp_path / "mine"
