"""Values given to make reach the commands unchanged, and nothing in them is executed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.deployment import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z0-9]+):.*##", MAKEFILE, re.MULTILINE)
GIVEN = re.findall(r"^GIVEN := (.*)", MAKEFILE, re.MULTILINE)[0].split()
OPERATORS = (
    "status", "report", "recompute", "accept", "redrive", "discard", "route", "settings", "forget", "doctor",
)  # fmt: skip
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MAKE", "MFLAGS", "PYTHON")) and name not in GIVEN
}
"""The environment without variables of the make that runs the tests, if any."""

CANARY = "touch canary"
HOSTILE = (
    "cost$center/$$x $(1) ${y} %d",
    f"$(shell {CANARY})${{shell {CANARY}}}$$(shell {CANARY})",
    f"$({CANARY})`{CANARY}`$$({CANARY})",
    f"'\"; {CANARY}; '\" && {CANARY} | {CANARY} &",
    f"a\n{CANARY}\n\t{CANARY}\\\n#b\\",
    "$(error no)$(eval override BIN := nowhere)$(info said)",
    "--help",
    "Zürich\u3000\udcff ",
)

RECORDED = (
    *GIVEN,
    "PYTHONUTF8",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_INDEX_URL",
)
# A file for each call, because some run at once: the arguments, then these variables.
STUB = f"""#!/bin/sh
mkdir -p calls
printf '%s\\0' "$0" "$@" {" ".join(f'"${{{name}+{name}=}}${name}"' for name in RECORDED)} >calls/$$
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with everything installed. Its programs only note their calls."""
    for name in ("Makefile", "tests/tools/install.py"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    for name in (
        "tests/bootstrap.txt",
        "tests/requirements.txt",
        "tests/command.txt",
        "tests/audit.txt",
        "template.yaml",
        "pyproject.toml",
        "tests/support/local_cloud/requirements.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("python", "pytest", "ruff", "lint-imports", "mypy", "sam", "uv"):
        program = tmp_path / ".venv" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STUB)
        program.chmod(0o755)
    environments = ("lambda-env", "command", "bench/lambda-env", "audit", "node")
    for place in (".venv", *(f"build/{name}" for name in environments)):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / ".installed").touch()
    return tmp_path


def make(
    project: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        ["make", *arguments],  # noqa: S607
        cwd=project,
        env={**CLEAN, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
        check=False,
    )


def calls(project: Path) -> list[tuple[list[str], dict[str, str]]]:
    """The arguments of each call, without the program's folder, and the variables that were set."""
    found = []
    for file in (project / "calls").iterdir():
        words = os.fsdecode(file.read_bytes()).split("\0")[:-1]
        program, *arguments = words[: -len(RECORDED)]
        variables = dict(word.split("=", 1) for word in words[-len(RECORDED) :] if word)
        found.append(([Path(program).name, *arguments], variables))
    return found


def operated(project: Path) -> dict[str, list[str]]:
    """The options of each operators' command that was called."""
    found = [arguments for arguments, _ in calls(project) if arguments[1:3] == ["-m", "arcanna_metrics_cli"]]
    return {arguments[3]: arguments[4:] for arguments in found}


def deployed(project: Path) -> list[str]:
    """The options of the deployment that was called."""
    (found,) = (words for words, _ in calls(project) if words[1:3] == ["-m", "tests.tools.deploy"])
    return found[3:]


def expected(value: str) -> dict[str, list[str]]:
    stack = f"--stack={value}"
    target = [stack, f"--job={value}", f"--model={value}"]
    return {
        "status": target,
        "recompute": [*target, "--wait", f"--timeout={value}"],
        "accept": target,
        "redrive": [stack, f"--reason={value}"],
        "discard": [stack, f"--reason={value}", f"--id={value}"],
        "report": [stack, f"--output={value}"],
        "route": [stack, f"--settings-file={value}", "--", value],
        "settings": ["put", stack, "--", value],
        "forget": target,
        "doctor": [stack],
    }


# --- Values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", HOSTILE)
def test_values_reach_every_target_unchanged(project: Path, value: str) -> None:
    given = dict.fromkeys(GIVEN, value)
    targets = [target for target in TARGETS if target != "clean"]
    done = make(project, "-k", *targets, *(f"{name}={text}" for name, text in given.items()))

    assert done.returncode == 0, done.stderr
    assert not list(project.rglob("canary"))
    assert operated(project) == expected(value)
    called = [arguments for arguments, _ in calls(project)]
    assert ["python", "-m", "tests.simulation", f"--seeds={value}"] in called
    words = ("stack", "url", "email", "bucket", "key-file", "args")
    assert ["python", "-m", "tests.tools.deploy", *(f"--{word}={value}" for word in words)] in called
    assert ["python", "-m", "tests.tools.fuzz", f"--seconds={value}"] in called
    assert ["sam", "build", "--parameter-overrides", f"Architecture={value}"] in called
    for _, variables in calls(project):
        # A shell may count in SECONDS; nobody reads it.
        assert {name: variables[name] for name in given} == {**given, "SECONDS": variables["SECONDS"]}


@pytest.mark.parametrize("value", HOSTILE)
def test_stack_from_the_environment_reaches_its_targets_unchanged(project: Path, value: str) -> None:
    make(project, "status", "deploy", environment={"STACK": value})
    assert operated(project)["status"][0] == f"--stack={value}"
    assert f"--stack={value}" in deployed(project)
    assert not list(project.rglob("canary"))


def test_blanks_around_a_value_from_the_environment_are_kept(project: Path) -> None:
    make(project, "status", environment={"STACK": " \ta b "})  # as an argument, make drops those at its start
    assert operated(project)["status"][0] == "--stack= \ta b "


@pytest.mark.parametrize("flags", ["", "e"])  # e: the environment overrides makefiles
def test_other_variables_of_the_shell_are_ignored(project: Path, flags: str) -> None:
    shell = {**dict.fromkeys(GIVEN, "of another program"), "STACK": "mine", "MAKEFLAGS": flags}
    (project / ".venv" / ".installed").unlink()
    (project / "python3").write_text(STUB)
    (project / "python3").chmod(0o755)
    environment = {**shell, "PATH": f"{project}:{os.environ['PATH']}"}
    done = make(project, "-k", *(t for t in TARGETS if t != "clean"), environment=environment)

    assert done.returncode == 0, done.stderr
    empty = ("url", "email", "bucket", "key-file", "args")
    assert deployed(project) == ["--stack=mine", *(f"--{word}=" for word in empty)]
    assert operated(project) == {
        "status": ["--stack=mine", "--job=", "--model="],
        "recompute": ["--stack=mine", "--job=", "--model=", "--wait", "--timeout="],
        "accept": ["--stack=mine", "--job=", "--model="],
        "redrive": ["--stack=mine", "--reason="],
        "discard": ["--stack=mine", "--reason=", "--id="],
        "report": ["--stack=mine", "--watch"],
        "route": ["--stack=mine", "--settings-file=", "--", ""],
        "settings": ["show", "--stack=mine"],
        "forget": ["--stack=mine", "--job=", "--model="],
        "doctor": ["--stack=mine"],
    }
    called = [arguments for arguments, _ in calls(project)]
    assert ["python3", "tests/tools/install.py", "tools"] in called
    assert ["python", "-m", "tests.simulation", "--seeds=2000"] in called
    assert ["python", "-m", "tests.tools.fuzz", "--seconds=60"] in called
    assert ["sam", "build", "--parameter-overrides", "Architecture=arm64"] in called
    assert not any("--cov" in arguments for arguments in called)
    assert not any(variables["STRICT"] for _, variables in calls(project))


@pytest.mark.parametrize("value", HOSTILE)
def test_clean_executes_no_given_value(project: Path, value: str) -> None:
    done = make(project, "clean", *(f"{name}={value}" for name in GIVEN))
    assert done.returncode == 0, done.stderr
    assert not list(project.rglob("canary"))
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("value", HOSTILE)
def test_python_value_is_a_path_and_not_a_command_line(project: Path, value: str) -> None:
    (project / ".venv" / ".installed").unlink()
    done = make(project, "status", f"PYTHON={value}")
    assert done.returncode == 2
    assert not list(project.rglob("canary"))


def test_nested_make_does_not_expand_values(project: Path) -> None:
    inner = project / "inner"
    inner.mkdir()
    (inner / "Makefile").write_text("all:\n\t@env >/dev/null; echo inner\n")
    (project / ".venv" / "bin" / "sam").write_text("#!/bin/sh\nexec make -C inner\n")
    done = make(project, "build", f"ARCH=$(shell {CANARY})")
    assert "inner" in done.stdout
    assert not list(project.rglob("canary"))


def test_missing_values_have_defaults(project: Path) -> None:
    make(project, "redrive", "simulate", "fuzz", "build", "status")
    assert operated(project) == {
        "redrive": ["--stack=arcanna-metrics", "--reason="],
        "status": ["--stack=arcanna-metrics", "--job=", "--model="],
    }
    called = [arguments for arguments, _ in calls(project)]
    assert ["python", "-m", "tests.simulation", "--seeds=2000"] in called
    assert ["python", "-m", "tests.tools.fuzz", "--seconds=60"] in called
    assert ["sam", "build", "--parameter-overrides", "Architecture=arm64"] in called


@pytest.mark.parametrize("answer", ["1", "yes"])
def test_yes_and_force_are_passed_on(project: Path, answer: str) -> None:
    make(project, "redrive", "forget", f"YES={answer}", f"FORCE={answer}")
    assert operated(project)["redrive"][-1:] == ["--yes"]
    assert operated(project)["forget"][-2:] == ["--yes", "--force"]


@pytest.mark.parametrize("answer", ["0", "no", "", "n", "No", "NO", "false", "off", "not yes", " ", "10"])
def test_other_answer_confirms_and_forces_nothing(project: Path, answer: str) -> None:
    make(project, "redrive", "forget", f"YES={answer}", f"FORCE={answer}")
    assert not {"--yes", "--force"} & {*operated(project)["redrive"], *operated(project)["forget"]}


@pytest.mark.parametrize("target", ["redrive", "help", "demo"])
def test_misspelt_variable_is_refused(project: Path, target: str) -> None:
    done = make(project, target, "REASONS=BadInput", "YES=1")
    assert done.returncode == 2
    assert "No target takes REASONS" in done.stderr
    assert not (project / "calls").exists()


def test_parent_make_may_pass_unknown_variables(project: Path) -> None:
    (project / "outer.mk").write_text("all:\n\t@$(MAKE) -f Makefile status\n")
    done = make(project, "-f", "outer.mk", "V=1", "JOB=7")
    assert done.returncode == 0, done.stderr
    assert "--job=7" in operated(project)["status"]


# --- The user's shell ------------------------------------------------------------------------------------


def test_sam_runs_without_the_users_profile(project: Path) -> None:
    profile = {"AWS_PROFILE": "nobody", "AWS_DEFAULT_PROFILE": "nobody"}
    make(project, "lint", "build", environment=profile)
    environments = [environment for arguments, environment in calls(project) if arguments[0] == "sam"]
    assert len(environments) == 2
    assert not any(profile.keys() & environment.keys() for environment in environments)


def test_files_are_utf_8_and_terminal_encoding_is_kept(project: Path) -> None:
    make(project, "demo", "check", "deploy", *OPERATORS)
    utf_8 = {tuple(arguments[1:3]): environment["PYTHONUTF8"] for arguments, environment in calls(project)}
    assert utf_8["-m", "tests.tools.demo"] == utf_8["tests/unit", "-q"] == "1"
    assert utf_8["-m", "arcanna_metrics_cli"] == utf_8["-m", "tests.tools.deploy"] == ""


def test_users_settings_of_pip_and_of_pythons_path_are_ignored(project: Path) -> None:
    ignored = {"PIP_USER": "1", "PIP_TARGET": "/elsewhere", "PYTHONSAFEPATH": "1"}
    make(project, "load", environment={**ignored, "PIP_INDEX_URL": "https://i"})
    ((_, environment),) = calls(project)
    assert not ignored.keys() & environment.keys()
    assert environment["PIP_INDEX_URL"] == "https://i"


# --- What the targets stand on ---------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["no mark", "newer requirements", "no Python any more"])
def test_changed_installation_is_repeated(project: Path, reason: str) -> None:
    if reason == "no mark":
        (project / ".venv" / ".installed").unlink()
    elif reason == "newer requirements":
        later = (project / ".venv" / ".installed").stat().st_mtime + 1
        os.utime(project / "tests" / "requirements.txt", (later, later))
    else:
        (project / ".venv" / "bin" / "python").unlink()
        (project / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    done = make(project, "-n", "status")
    assert "tests/tools/install.py tools" in done.stdout


def test_complete_installation_is_not_repeated(project: Path) -> None:
    assert "install.py" not in make(project, "-n", *TARGETS).stdout


def test_interrupted_clean_leaves_no_installation_marked(project: Path) -> None:
    rm = project / "bin" / "rm"
    rm.parent.mkdir()
    rm.write_text('#!/bin/sh\ncase "$*" in *-rf*) kill -INT $PPID; exit 1;; esac; exec /bin/rm "$@"\n')
    rm.chmod(0o755)
    done = make(project, "clean", environment={"PATH": f"{rm.parent}:{os.environ['PATH']}"})
    assert done.returncode != 0
    assert (project / ".venv" / "bin" / "python").exists()
    assert not list(project.rglob(".installed"))


def test_locked_requirements_name_no_index(project: Path) -> None:
    uv = project / ".venv" / "bin" / "uv"
    uv.unlink()
    uv.symlink_to(Path(sys.executable).parent / "uv")
    folders = ("layers/dependencies", "tests/support/local_cloud", "tests")
    names = [*(f"{folder}/requirements" for folder in folders), "tests/audit"]
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / f"{name}.in").write_text("")
    shutil.copy(ROOT / "pyproject.toml", project)
    pyproject = (project / "pyproject.toml").read_text()
    dependencies = re.sub(r"^dependencies = .*", "dependencies = []", pyproject, flags=re.MULTILINE)
    (project / "pyproject.toml").write_text(dependencies)
    (project / "build/command/.installed").touch()
    settings = project / "uv.toml"
    settings.write_text("[pip]\nemit-index-url = true\nemit-find-links = true\n")
    own = {"UV_DEFAULT_INDEX": "https://user:secret@mirror/simple", "UV_FIND_LINKS": str(project)}
    done = make(project, "lock", environment={"UV_CONFIG_FILE": str(settings), "UV_OFFLINE": "1", **own})
    assert done.returncode == 0, done.stderr
    assert [(project / f"{name}.txt").read_text().strip() for name in names] == [""] * len(names)


# --- Help ------------------------------------------------------------------------------------------------


def test_help_lists_every_target_in_groups(project: Path) -> None:
    shown = make(project).stdout
    groups = {block.splitlines()[0]: block for block in shown.split("\n\n")}
    assert [name.partition(" STACK")[0] for name in groups][1:] == [
        "Try it",
        "Work on it",
        "Deploy and operate the stack",
        "Release",
    ]
    assert re.findall(r"^  make (\w+) ", shown, re.MULTILINE) == TARGETS
    assert "make demo " in groups["Try it"]
    assert "make check " in groups["Work on it"]
    assert all(
        f"make {name} " in groups["Deploy and operate the stack STACK=..."] for name in (*OPERATORS, "deploy")
    )
    assert "make lock " in groups["Release"]


# --- The inner loop --------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["ruff", "lint-imports", "mypy", "pytest", None])
def test_check_fails_if_one_of_its_parts_fails(project: Path, failing: str | None) -> None:
    if failing:
        (project / ".venv" / "bin" / failing).write_text("#!/bin/sh\necho found something; exit 1\n")
    done = make(project, "check")
    assert (done.returncode == 0) is (failing is None)
    assert ("found something" in done.stdout) is (failing is not None)
