"""A reloaded detector is the same detector; whatever is wrong with a folder is said, and nothing in it is trusted."""

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

from attentdiffernet import checkpoint, files
from attentdiffernet.backbone import load_weights
from attentdiffernet.card import DataCard
from attentdiffernet.errors import AttentDifferNetError, CheckpointError, WeightsError
from attentdiffernet.findings import Calibration
from attentdiffernet.methods import load
from attentdiffernet.model import AttentDifferNet
from attentdiffernet.options import AttentionConfig, FlowConfig
from attentdiffernet.packing import packed, round_as_stored, unpack
from attentdiffernet.scoring import score_image

KINDS = ["none", "se", "cbam"]
ROOT = Path(__file__).resolve().parent.parent
FORMAT2 = Path(__file__).parent / "golden" / "format2"


def save(detector, folder):
    return detector.save(folder)


@pytest.fixture(scope="module")
def saved(detector, tmp_path_factory):
    return save(detector("cbam"), tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit(folder, *keys, value):
    """Sets one value, however deep, in config.json; `...` takes it out."""
    config = json.loads((folder / "config.json").read_text())
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))


# -- there and back


@pytest.mark.parametrize("kind", KINDS)
def test_a_reloaded_detector_is_the_same(kind, detector, tmp_path, image):
    saved = detector(kind)
    loaded = load(save(saved, tmp_path / "model"))
    for field in ("options", "findings", "calibration", "data", "variant", "title", "fingerprint", "maps"):
        assert getattr(loaded, field) == getattr(saved, field)
    assert loaded.model.config == saved.model.config
    state = loaded.model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in saved.model.state_dict().items())
    assert score_image(loaded.model, image, 2) == score_image(saved.model, image, 2)
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    again = save(loaded, tmp_path / "again")
    assert all((again / name).read_bytes() == (tmp_path / "model" / name).read_bytes() for name in checkpoint.FILES)


def test_a_model_is_rounded_to_what_a_checkpoint_holds(tiny):
    model, loaded = (AttentDifferNet(tiny("se").config) for _ in range(2))
    before = model.flow.state_dict()["module_list.1.subnet1.0.weight"].clone()
    unpack(loaded, packed(model), "here")
    round_as_stored(model)
    after = model.flow.state_dict()["module_list.1.subnet1.0.weight"]
    assert after.dtype == torch.float32 and torch.equal(after, before.half().float()) and not torch.equal(after, before)
    state = loaded.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_rejected(value, tiny):
    model = AttentDifferNet(tiny("none").config)
    with torch.no_grad():
        next(p for p in model.flow.parameters() if p.is_floating_point()).view(-1)[0] = value
    with pytest.raises(CheckpointError, match="not finite"):
        round_as_stored(model)


def test_the_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(checkpoint.FILES)
    assert folder.stat().st_mode & 0o777 == 0o755
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444, f"{path.name} cannot be read by others"
        assert b"pickle" not in path.read_bytes() and path.read_bytes()[:2] not in (b"PK", b"\x80\x02", b"\x80\x04")
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16, torch.int16}
    assert not any("conv1" in key or "features" in key for key in tensors), "the backbone is named, not stored"
    assert json.loads((folder / "config.json").read_text())["format"] == checkpoint.FORMAT


def test_the_card_says_what_must_be_known(folder, detector):
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: attentdiffernet\n") and card.count("\n---\n") == 1
    for fact in (
        "AttentDifferNet (CBAM): wafer",
        "Wafer maps, drawn",
        "our own pencil",
        "CC0-1.0",
        "12 fitted, 3 held out",
    ):
        assert fact in card
    for choice in (
        "CBAM after pool, reduction 16, spatial kernel 7, gates untrained",
        "nothing learned",
        "choices of this",
    ):
        assert choice in card
    for number in ("1.25", "25.0 %", "3 epochs", "2 views (rotations)", load(folder).model.weights_fingerprint):
        assert number in card
    plain = detector("none", data=DataCard("mine", "bolt")).card()
    assert "| Licence of the data | not stated |" in plain and "no attention blocks" in plain


def test_a_card_stays_one_table_whatever_is_said_of_the_data(detector):
    card = detector(data=DataCard("mine", "bolt\n# <b>", 12, "a|b\nc", "own\n\nuse", "<img src=x>")).card()
    assert "| Data | a\\|b c |\n| Source | &lt;img src=x> |\n| Licence of the data | own  use |\n" in card
    heading, table = card.split("\n---\n")[1].strip().split("\n\n")[:3:2]
    assert heading.endswith(": bolt # &lt;b>") and "<" not in heading
    assert all(line.startswith("| ") and line.endswith(" |") for line in table.splitlines())
    assert table.startswith("|  |  |\n| --- | --- |\n| Data |") and "| Threshold | 1.25" in table


def test_verdicts(detector):
    judge = detector().is_anomalous
    assert [judge(score) for score in (1.2, 1.25, 1.26)] == [False, False, True]


# -- format 2


def test_a_checkpoint_of_format_2_is_still_read(tmp_path):
    """Made by the version before: same score, same fingerprint. Saved, it becomes one of today's, still the same."""
    old = load(FORMAT2)
    pixels = (np.arange(63 * 63 * 3).reshape(63, 63, 3) * 7 % 256).astype(np.uint8)
    for detector in (old, load(old.save(tmp_path / "new"))):
        assert detector.inspect(pixels).score == pytest.approx(0.19014112651348114, rel=1e-6)
        assert detector.fingerprint == "c77bbfde6e8f0e55"
        assert detector.options.attention == AttentionConfig(reduction=64, training="separation", keep="always")
        assert detector.options.flow == FlowConfig(1, 2, 1, whitening=False) and detector.options.epochs == 3
        assert (detector.findings.views, detector.findings.feature_scale) == ("flips", 1.5)
        assert detector.calibration.settling == {"1": 1.3, "2": 1.2}
    assert json.loads((tmp_path / "new" / "config.json").read_text())["format"] == 3


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("model",), ..., r"lacks or misstates 'model'$"),
        (("model",), [], r"model must be a mapping"),
        (("model", "attention"), 1, r"attention must be a mapping"),
        (("model", "attention", "strength"), 0.5, r"strength must be 0 or 1, got 0.5$"),
        (("model", "attention", "training"), "hope", r"training must be one of untrained, joint, proxy, separation"),
        (("model", "attention", "judged"), [1], r"gates_judged must be two numbers or none"),
        (("model", "attention", "judged"), 1, r"has a value of a wrong type"),
        (("model", "feature_scale"), 0, r"feature_scale must lie in 1e-9..1e9"),
        (("model", "view"), "none", r"model has no option view; it has attention, flow"),
        (("training", "epoch"), 3, r"training has no option epoch"),
        (("training", "epochs"), "many", r"epochs must be a whole number, got 'many'$"),
        (("scoring", "n_views"), 0, r"scored on 1 to 256 views, got 0$"),
        (("scoring",), ..., r"lacks or misstates 'scoring'$"),
    ],
)
def test_a_configuration_of_format_2_out_of_bounds_is_rejected(keys, value, complaint, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(FORMAT2, folder)
    edit(folder, *keys, value=value)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_gates_left_at_one_and_older_options_are_read_from_format_2(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(FORMAT2, folder)
    edit(folder, "model", "attention", "strength", value=0.0)
    edit(folder, "model", "attention", "judged", value=[0.5, 0.625])
    edit(folder, "model", "exposure", value=...)  # an option that came later
    found = load(folder)
    assert (found.findings.gates_kept, found.findings.gates_judged) == (False, (0.5, 0.625))
    assert found.findings.exposure == "as_is" and not found.model.config.gated
    assert "left at 1" in found.note and "50.0 % with, 62.5 % without" in found.choices


# -- replacing


def test_saving_replaces_as_a_whole(folder, detector):
    save(detector("none"), folder)
    assert load(folder).variant == "none"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("step", ["save_file", "model_card", "replace"])
def test_if_saving_fails_the_old_model_stays(step, folder, detector, monkeypatch):
    replace, calls = os.replace, []

    def fail(*args):
        raise OSError(28, "No space left on device")

    def fail_in_between(source, target):
        calls.append(target)
        return fail() if len(calls) == 2 else replace(source, target)

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if step == "replace":
        monkeypatch.setattr(files.os, "replace", fail_in_between)
    else:  # save_file is imported when it is needed
        monkeypatch.setattr(safetensors.torch if step == "save_file" else checkpoint, step, fail)
    with pytest.raises(CheckpointError, match=r"The model could not be written to .*: No space left"):
        save(detector("none"), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert load(folder).variant == "cbam"


KILLED = """
import os, signal, sys
from attentdiffernet import files, load

detector = load(sys.argv[1])
replace, calls = os.replace, []

def die(source, target):
    calls.append(target)
    if len(calls) == step:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

files.os.replace = die
for step, folder in enumerate(sys.argv[2:], 1):
    if not os.fork():  # sooner than another start of Python and torch
        detector.save(folder)
        os._exit(0)
    assert os.wait()[1] == signal.SIGKILL
"""


@pytest.fixture(scope="module")
def killed(small, detector, tmp_path_factory):
    """By step, a folder with a model, in which saving another one was killed at its first and second rename."""
    pytest.importorskip("fcntl")
    roots = [tmp_path_factory.mktemp("killed") for _ in range(2)]
    folders = [save(detector(model=small("cbam")), root / "model") for root in roots]
    new = save(detector(model=small("none")), tmp_path_factory.mktemp("new") / "model")
    subprocess.run([sys.executable, "-c", KILLED, new, *folders], cwd=ROOT, timeout=300, check=True)
    return dict(enumerate(folders, 1))


@pytest.mark.process
@pytest.mark.parametrize(("step", "variant"), [(1, "cbam"), (2, "none")])
def test_a_kill_while_saving_leaves_one_whole_model(step, variant, killed, detector, small, monkeypatch):
    monkeypatch.setattr(files, "GAP_SECONDS", 0.01)
    folder, tmp_path = killed[step], killed[step].parent
    left = {path for path in tmp_path.iterdir() if path.name.startswith(".model.")}
    assert len(left) == step and folder.exists() == (step == 1), "before the first rename; between the two"
    assert load(folder).variant == variant
    new = detector(model=small("se"))
    save(new, folder)
    assert load(folder).variant == "se"
    left = {path for path in left if path.exists()}
    assert len(left) == (step == 1), "of a process that may be alive"
    for path in left:
        os.utime(path, (0, 0))
    save(new, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_only_looks_like_a_leftover_stays(folder, detector):
    other = folder.parent / ".model.of-my-grandmother"
    other.mkdir()
    os.utime(other, (0, 0))
    (folder.parent / ".model.0123abcd.old").mkdir()  # an old model alone is not brought back: its folder was deleted
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="There is no model folder"):
        load(folder)
    save(detector("none"), folder)
    assert other.exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path, detector):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds other files; a model needs a folder of its own$"):
        save(detector(), tmp_path)
    with pytest.raises(CheckpointError, match="holds other files"):
        save(detector(), tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    assert load(save(detector(), tmp_path / "empty")).variant == "cbam"


def test_numbers_that_json_lacks_are_not_written(detector, tmp_path):
    broken = dataclasses.replace(detector().calibration, threshold=float("nan"))
    with pytest.raises(CheckpointError, match="calibration without finite numbers"):
        save(detector(calibration=broken), tmp_path / "model")
    broken = dataclasses.replace(detector().findings, by_input={"flips": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(detector(findings=broken), tmp_path / "model")
    assert not list(tmp_path.iterdir())


# -- folders not to be trusted


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("format",), 1, r"has checkpoint format 1, this version reads 2 and 3$"),
        (("format",), ..., r"lacks or misstates 'format'$"),
        (("calibration",), ..., r"lacks or misstates 'calibration'$"),
        (("options",), [], r"Options needs a mapping"),
        (("findings",), ..., r"lacks or misstates 'findings'$"),
        (("options", "epoch"), 3, r"Options has no option epoch; it has variant"),
        (("options", "method"), "magic", r"method must be one of differnet, patchcore, got 'magic'$"),
        (
            ("options", "variant"),
            "gct",
            r"variant must be one of none, se, cbam, .*, pooling, rarity, surprise, places, got 'gct'$",
        ),
        (("options", "variant"), ["se"], r"variant must be one of none, se, cbam"),
        (("options", "recipe"), {}, r"recipe must be one of fast, paper, got {}$"),
        (("options", "flow", "n_block"), 3, r"FlowConfig has no option n_block; it has n_blocks"),
        (("options", "attention", "kernel_size"), 2_000_001, r"kernel_size must be odd and lie in 1..127"),
        (("options", "attention", "reduction"), 1.5, r"reduction must be a whole number, got 1.5$"),
        (("options", "flow", "n_blocks"), 10**9, r"n_blocks must lie in"),
        (("options", "flow", "hidden_width"), 128.5, r"hidden_width must be a whole number"),
        (("options", "flow", "clamp"), None, r"clamp must be a number, got None$"),
        (
            ("options", "flow"),
            {"n_blocks": 64, "hidden_width": 8192, "hidden_layers": 9},
            r"A flow has 400 million parameters at most, got \d+ million",
        ),
        (("options", "image_size"), 100_000, r"image_size must be 1024 px or less, got 100000$"),
        (("options", "image_size"), 10, r"AlexNet needs 63 px"),
        (("options", "n_scales"), 0, r"n_scales must lie in"),
        (("options", "weights"), 5, r"weights must be text, got 5$"),
        (("options", "epochs"), "many", r"epochs must be a whole number, got 'many'$"),
        (("options", "betas"), [0.9], r"betas must be 2 numbers"),
        (("findings", "views"), None, r"views must be one of rotations"),
        (("findings", "scoring_views"), 0, r"scored on 1 to 256 views, got 0$"),
        (("findings", "resize"), "keep_aspect", r"keep_aspect needs views that leave a rectangle upright"),
        (("findings", "feature_scale"), float("inf"), r"feature_scale must lie in 1e-9..1e9"),
        (("findings", "by_input"), {"flips": "good"}, r"by_input must be numbers by name"),
        (("backbone_fingerprint",), ..., r"lacks or misstates 'backbone_fingerprint'$"),
        (("calibration", "n_views"), 10**9, r"scored on 1 to 256 views"),
        (("calibration", "scores"), [], r"has a calibration without finite numbers$"),
        (("calibration", "scores"), [1, None], r"scores must be numbers"),
        (("calibration", "threshold"), float("nan"), r"has a calibration without finite numbers$"),
        (("calibration", "threshold"), 10**400, r"lacks or misstates"),
        (("calibration", "map_references"), [0.5], r"map_references must be numbers by name"),
        (("calibration", "map_references"), {"grad-cam": 0}, r"unit of maps that is not above 0$"),
        (("calibration", "false_positive_rate"), 7, r"with a rate outside 0\.\.1$"),
        (("calibration", "threshold"), 1e300, r"has a calibration without finite numbers$"),
        (("calibration", "map_references"), {"grad-cam": "x"}, r"map_references must be numbers by name"),
        (("data", "category"), {"x": 1}, r"category must be text"),
    ],
)
def test_a_configuration_out_of_bounds_is_refused(keys, value, complaint, folder):
    edit(folder, *keys, value=value)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "is not a model folder: it has no config.json$"),
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "does not hold a JSON object$"),
        (b" " * 5_000_001, "has 5 MB, too large for a configuration$"),
    ],
)
def test_a_config_that_is_none_is_refused(content, complaint, folder):
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint):
        load(folder)


def change(folder, key, function):
    tensors = load_file(folder / "model.safetensors")
    tensors[key] = function(tensors.pop(key))
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")
    forget_checksum(folder)


def forget_checksum(folder):
    """As an older version wrote it, or whoever changes the tensors on purpose."""
    config = json.loads((folder / "config.json").read_text())
    del config["tensors_sha256"]
    (folder / "config.json").write_text(json.dumps(config))


def test_one_flipped_bit_of_the_tensors_is_noticed(folder):
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    for place in (len(content) // 2, len(content) - 1):
        content[place] ^= 1
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="is damaged: its checksum is not the one"):
            load(folder)
        content[place] ^= 1
    file.write_bytes(content)
    assert load(folder).variant == "cbam"


def test_a_pipe_in_the_place_of_a_file_is_no_model(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        load(folder)


def test_a_model_may_name_a_file_as_its_weights_only_where_it_is_trusted(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["options"]["weights"] = "/etc/passwd.pth"
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"names the weights file /etc/passwd\.pth\. If you trust this model"):
        load(folder)
    with pytest.raises(WeightsError, match=r"/etc/passwd\.pth"):
        load(folder, trusted=True)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        *(
            ("weights", name)
            for name in ("../../secret.pth", "~/secret.pt", "//host/share/secret.safetensors", "a\0.pth")
        ),
        *(("weights", name) for name in ("file:///etc/passwd", "https://example.org/weights.pth", "hf-hub:a/b", "")),
        *(("backbone", name) for name in ("hf-hub:a/b", "local-dir:/etc", "../../alexnet", "/etc/passwd", "")),
    ],
)
def test_a_model_of_a_stranger_opens_nothing_outside_of_its_folder(what, name, folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["options"][what] = name
    path.write_text(json.dumps(config))
    with pytest.raises(AttentDifferNetError):
        load(folder)


WEIGHT, PERMUTATION = "flow.module_list.1.subnet1.0.weight", "flow.module_list.0.perm"


@pytest.mark.parametrize(
    ("key", "function", "complaint"),
    [
        (WEIGHT, lambda t: None, f"lacks {WEIGHT} and 0 more tensors"),
        (WEIGHT, lambda t: t[:, 1:].contiguous(), r"has shape \(16, 383\), not \(16, 384\)$"),
        (WEIGHT, lambda t: t * torch.nan, "holds values that are not finite numbers$"),
        (WEIGHT, lambda t: t / 0, "holds values that are not finite numbers$"),
        (WEIGHT, lambda t: t.int(), "has type torch.int32, not torch.float16$"),
        (PERMUTATION, lambda t: t + 1, "is not a permutation$"),
        (PERMUTATION, lambda t: t * 0, "is not a permutation$"),
        ("attention1.channel.squeeze.bias", lambda t: None, "lacks attention1.channel.squeeze.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(key, function, complaint, folder):
    change(folder, key, function)
    with pytest.raises(CheckpointError, match=complaint):
        load(folder)


def test_tensors_of_another_model_are_refused(folder, detector, tmp_path):
    other = save(detector("se"), tmp_path / "se")
    (other / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    forget_checksum(other)
    with pytest.raises(
        CheckpointError, match=r"holds attention1\.spatial\.conv\.bias, which this model does not have$"
    ):
        load(other)


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04K\x01.", b"\xff" * 64, "cut"])
def test_damaged_tensors_are_refused(content, folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "cut" else content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors( is damaged: its checksum.*)?$"):
        load(folder)
    forget_checksum(folder)
    with pytest.raises(CheckpointError, match=r"model\.safetensors( could not be read: \w+)?$"):
        load(folder)


# -- the backbone


def test_another_backbone_is_refused(folder):
    weights = {key: tensor.clone() for key, tensor in load_weights("random").items()}
    assert load(folder, lambda name: weights).model.config.weights == "random"
    weights["features.0.bias"][0] += 1
    with pytest.raises(
        WeightsError, match=r"was made with a backbone of fingerprint [0-9a-f]{16}; the weights 'random' here"
    ):
        load(folder, lambda name: weights)
    edit(folder, "backbone_fingerprint", value="0" * 16)
    with pytest.raises(WeightsError, match="fingerprint 0000000000000000; the weights"):
        load(folder)


def test_weights_come_from_where_the_caller_says(folder):
    asked = []
    load(folder, load_weights=lambda name: asked.append(name) or load_weights(name))
    assert asked == ["random"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_backbone_from_a_file(suffix, detector, tmp_path, tiny):
    path = tmp_path / f"backbone{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(load_weights("random"), path)
    model = AttentDifferNet(dataclasses.replace(tiny("se").config, weights=str(path)))
    folder = save(detector(model=model), tmp_path / "model")
    assert load(folder, trusted=True).model.weights_fingerprint == tiny("se").weights_fingerprint
    path.unlink()
    with pytest.raises(WeightsError, match=rf"^There is no weights file .*backbone\{suffix}$"):
        load(folder, trusted=True)


# -- the Hub


def test_a_model_from_the_hub(folder, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *args, **kwargs: asked.append((args, kwargs)) or folder
    )
    assert load("someone/model").variant == "cbam"
    assert asked == [(("someone/model",), {"allow_patterns": ["config.json", "model.safetensors", "README.md"]})]


def test_a_model_that_the_hub_lacks(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def missing(*args, **kwargs):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    complaint = r"^There is no model folder no/such here, and the Hugging Face Hub could not be reached \(Local"
    with pytest.raises(CheckpointError, match=complaint):
        load("no/such")


def test_a_name_that_is_none_on_the_hub():
    with pytest.raises(
        CheckpointError, match=r"^There is no model folder a b/c here, and no model of that name on the"
    ):
        load("a b/c")


def test_a_slip_in_a_path_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kwargs: pytest.fail("asked the Hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(
        CheckpointError, match=r"^There is no model folder runs/gaer; the Hugging Face Hub is not asked"
    ):
        load("runs/gaer")


@pytest.mark.parametrize("name", ["gone", "./gone/model", "/gone/model", "a/b/c", "../gone"])
def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(name, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kwargs: pytest.fail("asked the Hub"))
    with pytest.raises(CheckpointError, match=f"^There is no model folder {name}$"):
        load(name)


def test_pushing_to_the_hub(detector, monkeypatch):
    import huggingface_hub

    calls = []

    class Api:
        def __init__(self, token):
            calls.append(token)

        def create_repo(self, name, private, exist_ok):
            calls.append((name, private))

        def upload_folder(self, repo_id, folder_path):
            assert load(folder_path).variant == "cbam"
            return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert detector().push_to_hub("me/mine", token="t") == "https://huggingface.co/me/mine"
    assert calls == ["t", ("me/mine", True)]


def test_dataclasses_are_checked_where_they_are_made():
    with pytest.raises(AttentDifferNetError, match="scores must be numbers"):
        Calibration(1.0, 1, 0.1, [1.0], {})
