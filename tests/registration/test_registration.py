# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Every door of anomalib through which a model or a datamodule comes in, in an environment with the wheel installed."""

import ast
import json
from pathlib import Path

import pytest

import anomalib_zsad
from anomalib_zsad import DATAMODULES, MODELS

# Runs what is asked, one after the other in one interpreter, because importing anomalib takes seconds.
DOORS = """
import contextlib, io, json, sys
import anomalib.data, anomalib.models, anomalib.engine
from anomalib.cli import AnomalibCLI
from anomalib.data import get_datamodule
from anomalib.models import get_model, list_models
from anomalib.pipelines.benchmark.generator import BenchmarkJobGenerator
from anomalib.pipelines.tiled_ensemble.components.utils import NormalizationStage
from anomalib.pipelines.tiled_ensemble.components.utils.helper_functions import get_ensemble_model

def parsed(*args):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            AnomalibCLI([*args, "--print_config"], run=False)
        except SystemExit as end:
            return out.getvalue() if end.code == 0 else err.getvalue()

def name(x):
    return type(x).__name__

answers = {}
for question in json.loads(sys.argv[1]):
    try:
        answers[question] = eval(question)
    except Exception as error:
        answers[question] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""


SNAKE = {
    "BayesPFL": "bayes_pfl",
    "CoPS": "cops",
    "DAPO": "dapo",
    "PromptAD": "prompt_ad",
    "PromptMoE": "prompt_moe",
}
ARGUMENTS = {"ZeroShot": {"source": "Visa", "target": "MVTecAD"}}  # of the datamodules that need any
PARSED = ("KSDD2", "MetaJson", "SyntheticSurfaces", "ZeroShot")
"""Datamodules that the command line is asked for, which takes a second each: one of every module that has some."""
COMMANDS = [
    *((command, next(iter(MODELS))) for command in ("fit", "validate", "test", "export")),
    *(("train", path) for model in MODELS for path in (model, f"anomalib_zsad.{model}", f"anomalib.models.{model}")),
]


def expected_of_a_model(model: str) -> dict[str, object]:
    """Question -> answer."""
    folder = {"class_path": "Folder", "init_args": {"name": "none", "root": ".", "normal_dir": "good"}}
    jobs = {"seed": 0, "model": {"class_path": f"anomalib_zsad.{model}"}, "data": folder}
    paths = (model, f"anomalib_zsad.{model}", f"anomalib.models.{model}")
    return {
        f"anomalib.models.{model}.__name__": model,
        f"{model!r} in list_models('pascal')": True,
        **{f"name(get_model({name!r}))": model for name in (model, model.lower(), SNAKE[model])},
        **{f"name(get_model({{'class_path': {path!r}}}))": model for path in paths},
        f"name(next(BenchmarkJobGenerator('cpu').generate_jobs({jobs!r}, None)).model)": model,
        f"name(get_ensemble_model({{'class_path': {model!r}}}, 56, NormalizationStage.IMAGE))": model,
    }


def expected_of_a_datamodule(datamodule: str) -> dict[str, object]:
    paths = (datamodule, f"anomalib_zsad.{datamodule}", f"anomalib.data.{datamodule}")
    configs = [{"class_path": path, "init_args": ARGUMENTS.get(datamodule, {})} for path in paths]
    return {f"name(get_datamodule({config!r}))": datamodule for config in configs}


def question(command: str, model: str, *data: str) -> str:
    return f"parsed{(command, '--model', model, *data)!r}"


def answers_of(environment, *questions: str, **environ: str) -> dict[str, object]:
    return json.loads(environment.output("-c", DOORS, json.dumps(questions), **environ).splitlines()[-1])


@pytest.fixture(scope="module")
def answers(installed) -> dict[str, object]:
    return answers_of(
        installed,
        *(question for model in MODELS for question in expected_of_a_model(model)),
        *(question for datamodule in DATAMODULES for question in expected_of_a_datamodule(datamodule)),
        *(question(*command) for command in COMMANDS),
        *(question("predict", model, "--data", ".") for model in MODELS),
        *(question("train", "Padim", "--data", datamodule) for datamodule in PARSED),
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_model_comes_in_through_every_door(model: str, answers: dict[str, object]) -> None:
    expected = expected_of_a_model(model)
    assert {question: answers[question] for question in expected} == expected


@pytest.mark.parametrize("datamodule", DATAMODULES)
def test_a_datamodule_comes_in_through_every_door(datamodule: str, answers: dict[str, object]) -> None:
    expected = expected_of_a_datamodule(datamodule)
    assert {question: answers[question] for question in expected} == expected


@pytest.mark.parametrize("datamodule", PARSED)
def test_the_command_line_takes_datamodules(datamodule: str, answers: dict[str, object]) -> None:
    assert f"class_path: anomalib_zsad.{datamodule}\n" in answers[question("train", "Padim", "--data", datamodule)]


@pytest.mark.parametrize(("command", "path"), COMMANDS)
def test_the_command_line_takes_short_and_dotted_names(command: str, path: str, answers: dict[str, object]) -> None:
    printed = path if "." in path else f"anomalib_zsad.{path}"
    assert f"class_path: {printed}\n" in answers[question(command, path)]


@pytest.mark.parametrize("model", MODELS)
def test_predict_takes_the_short_name(model: str, answers: dict[str, object]) -> None:
    assert f"class_path: anomalib_zsad.{model}\n" in answers[question("predict", model, "--data", ".")]


def test_the_opt_out_leaves_the_dotted_path(installed) -> None:
    model = next(iter(MODELS))
    loaded = "'anomalib_zsad' in sys.modules"
    short, dotted = question("train", model), question("train", f"anomalib_zsad.{model}")
    answers = answers_of(installed, loaded, short, dotted, ANOMALIB_ZSAD_AUTOLOAD="0")
    assert answers[loaded] is False
    assert "class_path" not in answers[short]
    assert f"class_path: anomalib_zsad.{model}\n" in answers[dotted]


def test_padim_trains_on_when_all_of_ours_is_broken(environment, wheel: Path) -> None:
    environment.install(wheel)
    for source in {*MODELS.values(), *DATAMODULES.values()}:
        module = environment.packages.joinpath(*source.split("."))
        (module / "__init__.py").write_text("raise RuntimeError('out of order')\n")
    command = "from anomalib.cli.cli import main; main()"
    done = environment.run("-c", command, "train", "--model", "Padim", "--data", "MVTecAD", "--print_config")
    assert done.returncode == 0, done.stderr
    assert "class_path: anomalib.models.Padim\n" in done.stdout
    (warning,) = (line for line in done.stderr.splitlines() if "out of order" in line)
    assert all(name in warning for name in MODELS | DATAMODULES)
    assert "ANOMALIB_ZSAD_AUTOLOAD=0" in warning


def test_the_catalogue_and_the_type_checker_s_copy_of_it_agree() -> None:
    tree = ast.parse(Path(anomalib_zsad.__file__).read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = {alias.asname: node.module for node in typed.body for alias in node.names}
    assert imports == MODELS | DATAMODULES | anomalib_zsad.TOOLS


def test_the_package_lists_its_names_and_refuses_others() -> None:
    assert {*anomalib_zsad.__all__} <= {*dir(anomalib_zsad)}
    with pytest.raises(AttributeError, match=r"no attribute 'PromptMOE'; it has .*PromptMoE"):
        _ = anomalib_zsad.PromptMOE


def test_importing_the_package_is_cheap(installed) -> None:
    loaded = {*installed.output("-c", "import anomalib_zsad, sys; print(*sys.modules)").split()}
    assert not loaded & {"torch", "anomalib", "lightning", "open_clip", "openvino", "numpy", "jsonargparse"}
