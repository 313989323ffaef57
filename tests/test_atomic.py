"""Files that exist whole or not at all, also where two write the same one."""

import os
import threading
import time

from pipeline.atomic import locked, write_whole


def test_a_second_writer_of_a_file_waits_for_the_first(tmp_path):
    path, draft = tmp_path / "a.json", tmp_path / "a.json.tmp"
    first = locked(draft)
    os.write(first, b"half of what the fir")
    second = threading.Thread(target=write_whole, args=(path, b"the second's"))
    second.start()
    time.sleep(0.2)
    assert second.is_alive() and not path.exists() and draft.read_bytes() == b"half of what the fir"
    os.replace(draft, path)
    os.close(first)
    second.join()
    assert path.read_bytes() == b"the second's" and not draft.exists()


def test_what_a_killed_writer_left_is_not_written_again(tmp_path):
    (tmp_path / "a.json.tmp").write_bytes(b"longer than what follows")
    write_whole(tmp_path / "a.json", b"whole")
    assert (tmp_path / "a.json").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1
