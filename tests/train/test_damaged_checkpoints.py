"""No damaged checkpoint is loaded in silence, and one of another kind, time or setting is told."""

import json
import random
import shutil
import warnings

import jax
import optax
import pytest

import jaxnet
from jaxnet import digests
from jaxnet.array_files import DamagedFileError
from jaxnet.train import checkpoint, optimizers
from tests.train.checkpointed import EPOCHS, NET, OPTIMIZER, digest, names, train

pytestmark = pytest.mark.usefixtures("implicit_promotion")


def damage(file, rng):
    """Flip a bit, cut, or delete."""
    content = bytearray(file.read_bytes())
    how = rng.choice(["flip"] * 8 + ["cut", "delete"])
    if how == "delete":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif content:
        bit = rng.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_no_damage_is_loaded_in_silence(saved, tmp_path, count):
    """Bits, cuts and deletions over all files of the newest: what comes is it, or the one before it and a warning."""
    directory, (before, newest) = saved
    found = 0
    for trial in range(count):
        rng = random.Random(trial)  # of each trial its own: what one draws depends on the sizes of files
        copy = tmp_path / str(trial)
        shutil.copytree(directory, copy)
        files = sorted((copy / "00000003").rglob("*"), key=lambda path: (path.parent, path.stat().st_size, path))
        files = [path for path in files if path.is_file()]  # by size, as Orbax draws the names of some
        sizes = [1 + path.stat().st_size for path in files]
        damage(rng.choices(files, sizes)[0] if trial % 2 else rng.choice(files), rng)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            result = digest(checkpoint.restore(copy, NET, OPTIMIZER))
        texts = [str(warning.message) for warning in told if warning.category is jaxnet.TrainingWarning]
        if texts:
            found += 1
            assert result == before and len(texts) == 1 and f"{copy}/00000003 is damaged" in texts[0], texts
        else:
            assert result == newest
        shutil.rmtree(copy)
    assert found > 0.4 * count  # Orbax reads a part of many files


def test_training_goes_on_from_the_newest_whole_one_and_writes_over_the_damaged(saved, tmp_path, whole):
    shutil.copytree(saved[0], tmp_path / "run")
    for file in (tmp_path / "run" / "00000003" / "record").iterdir():
        file.write_bytes(b"")  # empty metadata
    with pytest.warns(
        jaxnet.TrainingWarning, match=r"00000003 is damaged: its record .*training goes on from .*00000002"
    ):
        assert digest(train(tmp_path / "run")) == whole
    assert names(tmp_path / "run")[-3:] == [EPOCHS - 2, EPOCHS - 1, EPOCHS]


def test_the_one_that_is_gone_on_from_stays_until_another_is_whole(saved, tmp_path):
    """The newer one is damaged, and does not count among those to keep."""
    shutil.copytree(saved[0], tmp_path / "run")
    (tmp_path / "run" / "00000003" / "record" / "metadata").unlink()
    seen = []
    with pytest.warns(jaxnet.TrainingWarning, match="00000003 is damaged"):
        train(tmp_path / "run", every=2, keep=1, epochs=6, callbacks=lambda *_: seen.append(names(tmp_path / "run")))
    assert seen[0] == seen[1] == [2, 3] and names(tmp_path / "run") == [2, 6]  # the best, and the last


def test_bad_input_is_told_as_without_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 99 but X has 60 examples") as caught:
        train(tmp_path, batch_size=99)
    assert not hasattr(caught.value, "__notes__") and names(tmp_path) == []


def test_where_none_is_whole_nothing_begins(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    for file in (tmp_path / "run").rglob("manifest.ocdbt"):
        file.unlink()
    with pytest.raises(DamagedFileError, match=r"no checkpoint that is whole \(.*00000003 is damaged.*00000002"):
        train(tmp_path / "run")
    with pytest.raises(DamagedFileError, match="has no checkpoint; expected a directory that fit"):
        checkpoint.restore(tmp_path / "none", NET)


def rewritten(path, change):
    """Change a record, and make its digest right."""
    file = path / "record" / "metadata"
    record = json.loads(file.read_text())
    del record["sha256"]
    change(record)
    record["sha256"] = digests.of_record(record)
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(version=2), "is of version 2 of the format; this jaxnet reads version 1: update"),
        (lambda record: record["net"].update(sizes=[2, 9, 1]), r"another network: net.sizes is \[2, 9, 1\] there; exp"),
        (lambda record: record["net"].update(l2=0.1), r"another network: net.l2 is 0.1 there; expected 0.0: give"),
        (lambda record: record["leaves"].pop(0), r"\.state\.params\[0\]\.W is missing there; expected float32\[4, 2\]"),
        (
            lambda record: record["leaves"].append(["x", "float32", [1], ""]),
            r"x is float32\[1\] there; expected nothing",
        ),
        (
            lambda record: record["leaves"][0].__setitem__(2, [2**40]),
            r"\[0\]\.W is float32\[1099511627776\] there; exp",
        ),
        (
            lambda record: record["keys"].update({".state.params[0].W": "rbg"}),
            r"\.state\.params\[0\]\.W is rbg of float32\[4, 2\] there; expected float32\[4, 2\]",
        ),
    ],
)
def test_what_is_of_another_kind_is_an_error_at_once(saved, tmp_path, change, message):
    """Never the one before it: that is of the same kind."""
    shutil.copytree(saved[0], tmp_path / "run")
    rewritten(tmp_path / "run" / "00000003", change)
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(tmp_path / "run", NET, OPTIMIZER)


@pytest.mark.parametrize("field", ["l2", "dropout"])
def test_a_checkpoint_of_a_time_without_penalty_or_dropout_is_one_with_0(saved, tmp_path, field):
    shutil.copytree(saved[0], tmp_path / "run")
    rewritten(tmp_path / "run" / "00000003", lambda record: record["net"].pop(field))
    assert int(checkpoint.restore(tmp_path / "run", NET, OPTIMIZER).loop.epoch) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(epoch=7),
        lambda record: record["keys"].update({".state.key": "os.system"}),
        lambda record: record.update(keys=[]),
        lambda record: record["leaves"].reverse(),
        lambda record: record.update(leaves=3),
    ],
)
def test_a_record_that_does_not_fit_is_damage(saved, tmp_path, change):
    shutil.copytree(saved[0], tmp_path / "run")
    rewritten(tmp_path / "run" / "00000003", change)
    with pytest.warns(jaxnet.TrainingWarning, match="00000003 is damaged"):
        assert digest(checkpoint.restore(tmp_path / "run", NET, OPTIMIZER)) == saved[1][0]


def test_the_first_path_that_differs_is_named(saved):
    with pytest.raises(ValueError, match=r"net\.sizes is \[2, 4, 1\] there; expected \[2, 5, 1\]"):
        checkpoint.restore(saved[0], jaxnet.MLP((2, 5, 1), ("tanh", "sigmoid")), OPTIMIZER)
    with pytest.raises(ValueError, match=r"\.state\.opt_state\[0\]\.count is int32\[\] there; expected nothing"):
        checkpoint.restore(saved[0], NET, optax.sgd(0.1))
    with (
        pytest.raises(ValueError, match="precision is 'float64' but resume was trained in float32"),
        jax.enable_x64(True),
    ):
        train(saved[0], precision="float64")


OTHER_UPDATE = "other settings .an optimizer with other hyperparameters.: it goes on, but not as it would have"
OTHER_START = "goes on with the state that was saved, and the new number has no effect; to change a rate, let"


def test_settings_that_changed_are_told(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    with pytest.warns(jaxnet.TrainingWarning, match=r"other settings \(batch_size 16, now 20; patience 100, now 50\)"):
        train(tmp_path / "run", batch_size=20, patience=50, epochs=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda rate: optax.adam(rate), OTHER_UPDATE),
        (lambda rate: optax.adam(optax.cosine_decay_schedule(0.01, int(1000 * rate))), OTHER_UPDATE),
        (lambda rate: optax.inject_hyperparams(optax.sgd)(rate), OTHER_START),
        (lambda rate: optax.noisy_sgd(0.1, key=jax.random.key(int(100 * rate))), OTHER_START),
    ],
    ids=["a rate", "a schedule", "a rate in the state", "a key in the state"],
)
def test_hyperparameters_that_changed_are_told(tmp_path, make, message):
    train(tmp_path, epochs=1, optimizer=make(0.1))
    train(tmp_path, epochs=2, optimizer=make(0.1))  # warnings are errors
    with pytest.warns(jaxnet.TrainingWarning, match=message) as told:
        train(tmp_path, epochs=3, optimizer=make(0.2))
    assert len(told) == 1


def test_a_checkpoint_of_an_earlier_jaxnet_is_gone_on_from(saved, tmp_path):
    """It knew one key, and one digest of an optimizer."""

    def earlier(record):
        record["key"] = record.pop("keys")[".state.key"]
        del record["settings"]["optimizer_init"]
        record["settings"]["optimizer"] = "of both programs"

    shutil.copytree(saved[0], tmp_path / "run")
    rewritten(tmp_path / "run" / "00000003", earlier)
    assert digest(train(tmp_path / "run", epochs=3)) == saved[1][1]  # warnings are errors


def test_another_version_of_jax_is_told(tmp_path, monkeypatch):
    train(tmp_path, epochs=1)
    version = jax.__version__
    monkeypatch.setattr(jax, "__version__", "9.9")
    monkeypatch.setattr(optimizers, "digest", lambda *_: ("as another", "JAX writes them"))
    with pytest.warns(jaxnet.TrainingWarning, match=rf"other settings \(jax '{version}', now '9.9'\)"):
        train(tmp_path, epochs=2)
