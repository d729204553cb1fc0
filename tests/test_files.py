"""Files and folders that appear whole or not at all."""

import pytest

from htsr.files import new_file, new_folder


@pytest.mark.parametrize(("mode", "content"), [("w", "ä\nb\n"), ("wb", b"\x00\xff")])
def test_a_file_appears_when_its_block_ends(tmp_path, mode, content):
    path = tmp_path / "deep" / "file"
    with new_file(path, mode) as file:
        file.write(content)
        assert not path.exists()
    assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert list(path.parent.iterdir()) == [path]


def test_where_writing_fails_the_old_file_stays(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with new_file(path) as file:
            file.write("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_its_block_ends(tmp_path):
    path = tmp_path / "deep" / "folder"
    with new_folder(path) as folder:
        (folder / "file").write_text("new")
        assert not path.exists()
    assert (path / "file").read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_where_filling_fails_there_is_no_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "folder"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
