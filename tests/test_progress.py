"""How far a job has come: lines in its log, a bar where there is a terminal."""

import os
import pty
import threading
import time

from oncoarena.progress import Progress


def test_progress__last_line_counts_objects_and_bytes(capsys):
    progress = Progress("alignments 0")
    with progress.over(3, 6_000_000):
        for n_bytes in (1_000_000, 2_000_000, 3_000_000):
            progress.advance(n_bytes)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("alignments 0: 3 of 3 objects, 6.0 of 6.0 MB in ")


def test_progress__says_how_far_it_is_while_it_works(capsys):
    progress = Progress(line_every_s=0.02)
    said = ""
    with progress.over(4, 4000):
        progress.advance(1000)
        for _ in range(200):
            said += capsys.readouterr().out
            if "1 of 4 objects" in said and "s left" in said:
                break
            time.sleep(0.02)
    assert "objects: 1 of 4 objects" in said
    assert "s left" in said


def test_progress__nothing_to_do_says_nothing(capsys):
    with Progress().over(0, 0):
        pass
    assert capsys.readouterr().out == ""


def test_progress__draws_a_bar_on_a_terminal():
    leader, follower = pty.openpty()
    drawn = []
    reader = threading.Thread(target=lambda: drawn.append(os.read(leader, 10_000)), daemon=True)
    reader.start()
    with os.fdopen(follower, "w") as terminal:
        progress = Progress("variants 2", terminal)
        with progress.over(2, 2000):
            progress.advance(1000)
        reader.join(10)
    os.close(leader)
    assert b"variants 2" in drawn[0]


def test_progress__what_is_no_terminal_gets_no_bar(tmp_path):
    with open(tmp_path / "log", "w") as log:
        progress = Progress("x", log)
        with progress.over(1, 10):
            progress.advance(10)
    assert (tmp_path / "log").read_text() == ""
