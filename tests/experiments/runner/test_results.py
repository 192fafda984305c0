"""What is in the results directory stays whole: one run at a time, no file half-written, none written outside."""

import base64
import json
import os

import numpy as np
import pytest

from experiments.runner import results
from jaxnet.atomic_files import NotSavedError
from jaxnet.lock import LOCK
from tests.experiments.claims import full_disk

RECORD = {
    "experiment": "planar", "notes": "section 8", "about": "", "data": {}, "claim": "It is so.", "held": True,
    "command": "python -m experiments.planar", "seconds": 1.5, "ended": "2026", "metrics": {},
}  # fmt: skip


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_all_files_are_saved_or_none(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    results.save({small: "text é", large: b"bytes"})
    assert (small.read_text(encoding="utf-8"), large.read_bytes()) == ("text é", b"bytes")
    with full_disk(1000), pytest.raises(NotSavedError) as caught:
        results.save({small: "new", large: bytes(2000)})
    assert f"{large} cannot be saved (File too large), the earlier one is as it was; make room" in str(caught.value)
    assert (small.read_text(encoding="utf-8"), large.read_bytes()) == ("text é", b"bytes")
    with full_disk(1000), pytest.raises(NotSavedError, match=r"\(File too large\); make room"):
        results.save({tmp_path / "other": bytes(2000)})
    assert names(tmp_path) == ["large", "small"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interrupt_leaves_the_earlier_file(moment, monkeypatch, tmp_path):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    file = tmp_path / "file"
    results.save({file: "earlier"})
    monkeypatch.setattr(os, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.save({file: "new"})
    assert file.read_text() == "earlier" and names(tmp_path) == ["file"]


def test_a_text_of_any_path_can_be_saved(tmp_path):
    results.save({tmp_path / "file": "results/\udcff"})  # as Python has a path that is not UTF-8
    assert (tmp_path / "file").read_text() == r"results/\udcff"


def test_symbolic_links_are_not_followed(tmp_path):
    inside, outside = tmp_path / "results" / "planar", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.write_text("mine")
    metrics, picture = results.files(tmp_path / "results", "planar")
    for file in (metrics, picture, results.part_of(metrics), results.part_of(picture)):
        file.symlink_to(outside)
    results.require_writable(tmp_path / "results", metrics, picture)
    results.save_record(RECORD, tmp_path / "results", b"a picture")
    assert outside.read_text() == "mine" and not metrics.is_symlink()
    assert json.loads(metrics.read_text()) == RECORD and picture.read_bytes() == b"a picture"
    assert names(inside) == ["metrics.json", "planar.png"]


def test_a_directory_that_is_a_symbolic_link_is_refused(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "results"
    outside.mkdir(), inside.mkdir()
    (inside / "planar").symlink_to(outside)
    with pytest.raises(SystemExit, match=r"--results: .*planar cannot be written \(it is a symbolic link\); move it"):
        results.require_writable(inside, *results.files(inside, "planar"))
    (inside / LOCK).symlink_to(outside / "lock")
    with pytest.raises(SystemExit, match=r"--results: .* cannot be written"), results.only_run(inside):
        pytest.fail("it began to work")
    assert names(outside) == []
    linked = tmp_path / "linked"  # what the user names may be a link
    linked.symlink_to(outside)
    results.require_writable(linked, *results.files(linked, "planar"))
    assert names(outside) == ["planar"]


def test_writable_files_stay_as_they_are(tmp_path):
    old, new = tmp_path / "old", tmp_path / "a" / "new"
    old.write_text("mine")
    results.require_writable(tmp_path, old, new)
    assert old.read_text() == "mine" and not new.exists() and new.parent.is_dir()


def test_a_file_that_is_read_only_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root may write all
    with pytest.raises(SystemExit, match=r"file cannot be written \(Permission denied\)"):
        results.require_writable(tmp_path, tmp_path / "file")


def test_one_run_at_a_time_uses_a_directory(tmp_path):
    directory = tmp_path / "results"
    with results.only_run(directory):
        refusal = f"--results: another run is at work in {directory}; wait for its end, or give another directory"
        with pytest.raises(SystemExit, match=refusal), results.only_run(directory):
            pytest.fail("it began to work")
        with results.only_run(tmp_path / "other"):
            pass
    with pytest.raises(BlockingIOError, match="of the run itself"), results.only_run(directory):
        raise BlockingIOError("of the run itself")
    with results.only_run(directory):
        pass


@pytest.mark.parametrize(
    "spoilt",
    [
        "[" * 100_000,
        json.dumps(RECORD | {"seconds": "1.5"}),
        json.dumps(RECORD | {"held": None}),
        json.dumps(RECORD | {"metrics": [1]}),
        json.dumps({name: value for name, value in RECORD.items() if name != "ended"}),
        "\udcff",
    ],
)
def test_a_damaged_record_is_named(spoilt, tmp_path):
    results.require_writable(tmp_path, *results.files(tmp_path, "planar"))
    results.save_record(RECORD, tmp_path, b"a picture")
    assert results.earlier_record(tmp_path, "planar") == RECORD
    (tmp_path / "planar" / "metrics.json").write_bytes(spoilt.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"metrics\.json is .*; run the experiment again"):
        results.earlier_record(tmp_path, "planar")


def test_what_the_page_shows_is_saved_beside_the_record(tmp_path):
    """A run that leaves no figure's data, because it broke, keeps those of the earlier one."""
    (tmp_path / "planar").mkdir()
    results.save_record(RECORD, tmp_path, b"picture", {"still": "<svg>"}, ["<svg>", "<p>"])
    results.save_record(RECORD | {"held": False}, tmp_path)
    assert results.explored(tmp_path, "planar") == {"still": "<svg>"}
    assert results.panels(tmp_path, "planar") == ["<svg>", "<p>"]
    assert results.earlier_record(tmp_path, "planar")["held"] is False


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"still": 1}', "7", "[" * 100_000])
def test_of_what_cannot_be_read_the_page_shows_nothing(content, tmp_path):
    (tmp_path / "planar").mkdir()
    for file in (results.explore_file(tmp_path, "planar"), results.panels_file(tmp_path, "planar")):
        if content is not None:
            file.write_text(content)
    assert results.explored(tmp_path, "planar") is None and results.panels(tmp_path, "planar") == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_packed_arrays_are_rows_in_base64(dtype):
    array = np.linspace(-2, 2, 6).reshape(2, 3).T  # whose memory is not in rows
    packed = results.packed(array, dtype)
    read = np.frombuffer(base64.b64decode(packed[dtype]), dtype=dtype).reshape(packed["shape"])
    assert packed["shape"] == [3, 2] and (read == array.astype(dtype)).all() and json.dumps(packed)
