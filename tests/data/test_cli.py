# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""ZeroShot through anomalib's command-line parser."""

import pytest
import yaml
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import BTech, Folder, MVTecAD, Visa

from anomalib_zsad.data import ZeroShot


def parse(*arguments, command="fit"):
    model = ("--model", "Padim", "--model.pre_trained", "false")
    return AnomalibCLI(args=[command, *model, *map(str, arguments)], run=False).datamodule


def kinds(datamodules):
    return [type(datamodule) for datamodule in datamodules]


@pytest.mark.parametrize("command", ["fit", "train", "test", "predict"])
def test_short_names_in_every_command(command):
    datamodule = parse("--data", "ZeroShot", "--data.source", "Visa", "--data.target", "MVTecAD", command=command)
    assert isinstance(datamodule, ZeroShot)
    assert (kinds(datamodule.source), kinds(datamodule.target)) == ([Visa], [MVTecAD])
    assert (datamodule.train_batch_size, datamodule.eval_batch_size, datamodule.seed) == (8, 8, 0)


def test_nested_options():
    datamodule = parse(
        "--data", "anomalib_zsad.data.ZeroShot",
        "--data.source", "Folder", "--data.source.name", "screw", "--data.source.root", "there",
        "--data.source.normal_dir", "ok",
        "--data.target", "anomalib.data.MVTecAD", "--data.target.root", "elsewhere",
        "--data.target_categories", "[cable, metal_nut]", "--data.class_words", "{cable: wire}",
        "--data.max_images_per_class", 5, "--data.calibration_ratio", 0.3, "--data.seed", 4,
        "--data.source_split", "all",
        "--data.train_augmentations", "torchvision.transforms.v2.RandomHorizontalFlip",
    )  # fmt: skip
    (source,), (target,) = datamodule.source, datamodule.target
    assert (type(source), source.name, source.root, source.normal_dir) == (Folder, "screw", "there", "ok")
    assert str(target.root) == "elsewhere"
    assert [one.category for one in datamodule._target_classes] == ["cable", "metal_nut"]
    assert datamodule.category == "screw-to-MVTecAD"
    assert (datamodule.max_images_per_class, datamodule.calibration_ratio, datamodule.seed) == (5, 0.3, 4)
    assert type(datamodule.train_augmentations).__name__ == "RandomHorizontalFlip"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data.source", "[Visa, BTech]"),
        ("--data.source+", "Visa", "--data.source+", "BTech"),
        ("--data.source", "[{class_path: Visa, init_args: {root: r}}, {class_path: anomalib.data.BTech}]"),
    ],
)
def test_several_sources(arguments):
    datamodule = parse("--data", "ZeroShot", *arguments)
    assert kinds(datamodule.source) == [Visa, BTech]
    assert datamodule.target == []


@pytest.mark.parametrize("whole", [False, True])
def test_yaml(tmp_path, whole):
    data = {
        "class_path": "ZeroShot",
        "init_args": {
            "source": [{"class_path": "Visa", "init_args": {"root": "r"}}, "BTech"],
            "target": {"class_path": "anomalib.data.MVTecAD", "init_args": {"root": "q"}},
            "source_categories": ["candle", "01"],
            "exclude_classes": ["01"],
            "num_workers": 0,
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": data} if whole else data))
    datamodule = parse("--config" if whole else "--data", path)
    assert kinds(datamodule.source) == [Visa, BTech]
    assert [str(one) for one in datamodule._source_classes] == ["Visa/candle"]
    assert str(datamodule.target[0].root) == "q"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data.source", "Visaa"), r"Unknown datamodule 'Visaa' as source. Known are"),
        (
            ("--data.source", "BTech", "--data.source_categories", "[x]"),
            "Unknown source_categories x. The source has 01, 02, 03.",
        ),
        (("--data.source", "Folder"), "is required but not provided"),
        (("--data.source", "MVTecAD", "--data.source.rot", "x"), "'rot' is not accepted"),
        (("--data.source", "Visa", "--data.source_split", "val"), "source_split"),
    ],
)
def test_mistakes(arguments, message, capsys):
    with pytest.raises((ValueError, SystemExit)) as caught:
        parse("--data", "ZeroShot", *arguments)
    assert message in str(caught.value) + capsys.readouterr().err


def test_printed_configuration_can_be_read_again(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("--data", "ZeroShot", "--data.source", "[Visa, BTech]", "--data.target", "MVTecAD", "--print_config")
    printed = capsys.readouterr().out
    path = tmp_path / "config.yaml"
    path.write_text(printed[printed.index("seed_everything") :])
    datamodule = AnomalibCLI(args=["fit", "--config", str(path)], run=False).datamodule
    assert (kinds(datamodule.source), kinds(datamodule.target)) == ([Visa, BTech], [MVTecAD])
