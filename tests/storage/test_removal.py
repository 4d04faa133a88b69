"""What is removed gives its space back, and takes nothing else with it."""

from s2i_lib.storage.removal import remove


def test_removed_files_give_their_space_back_even_from_a_bin(tmp_path):
    """A bin holds the file that was unlinked, as does a program that has it open: it is empty.

    A hard link is no bin: it is another's name for the file (test_attacks_files)."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "x").write_bytes(b"0" * 1000)
    with (folder / "x").open("rb") as held:
        remove(folder)
        assert not folder.exists() and held.read() == b""
    remove(folder)  # gone already: no error


def test_a_folder_is_whole_under_its_name_or_gone(tmp_path):
    """Killed in the middle, what is left is hidden; the next removal of that name takes it, too."""
    (tmp_path / ".state.part").mkdir()
    (tmp_path / ".state.part" / "left").write_bytes(b"half deleted")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "x").write_bytes(b"whole")
    (tmp_path / "state-2").mkdir()
    remove(tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["state-2"]


def test_a_link_is_removed_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "x").write_bytes(b"theirs")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "link").symlink_to(tmp_path / "theirs")
    (tmp_path / "ours" / "file").symlink_to(tmp_path / "theirs" / "x")
    remove(tmp_path / "ours")
    assert (tmp_path / "theirs" / "x").read_bytes() == b"theirs"
