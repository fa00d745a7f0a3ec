"""The scripts beside the package, run with stand-ins for what they call."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, free_port


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def run(*command: object, cwd: Path, **env: str) -> tuple[int, str]:
    path = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=path | env, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The scripts in another place, so that their `.venv` is not the real one."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    (tmp_path / "constraints.txt").write_text("# why\nnumpy==1\ntorch==2\n")
    return tmp_path


# Runs `-c` in the real Python, and shows all else.
PYTHON = f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi; echo "$@"'


def test_the_dashboard_listens_to_this_machine_only(copied):
    program(copied / ".venv/bin/python", PYTHON)
    (copied / "runs").mkdir()
    port = free_port()
    code, out = run("scripts/dashboard.sh", "runs", port, cwd=copied)
    called = out.splitlines()[-1]
    assert code == 0 and called.startswith(
        f"-m tensorboard.main --logdir runs --host 127.0.0.1 --port {port}"
    )
    assert "bind_all" not in called and f"ssh -L {port}:127.0.0.1:{port} " in out
    address = f"http://localhost:{port}/?smoothing=0#custom_scalars&_smoothingWeight=0"
    assert out.splitlines()[0] == f"dashboard of runs: {address} (Ctrl-C ends it)"


def test_a_port_of_the_dashboard_that_is_taken(copied):
    program(copied / ".venv/bin/python", PYTHON)
    (copied / "runs").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out = run("scripts/dashboard.sh", "runs", port, cwd=copied)
    assert code == 2 and len(out.splitlines()) == 1
    said = f"lit_ft: error: port {port} is taken, perhaps by another dashboard; choose a free one: "
    assert out.startswith(f"{said}scripts/dashboard.sh runs ") and int(out.split()[-1]) > port
    for wrong in ("70000", "0", "http"):
        code, out = run("scripts/dashboard.sh", "runs", wrong, cwd=copied)
        assert code == 2 and f"expected a port from 1 to 65535, found '{wrong}'" in out


KNOWN = "found='jinja2 3.1.2 PYSEC-1 3.1.3'"  # what the service says of a version with a known vulnerability
OURS = 'case "$*" in *known.txt*) echo "$found"; exit 1 ;; *pins.txt*) '


@pytest.mark.parametrize(
    ("audit", "code", "shown"),
    [
        ("echo 'No known vulnerabilities found'", 0, "skipped, no vulnerability service answers"),
        ("echo 'ConnectionError' >&2; exit 1", 0, "skipped, no vulnerability service answers"),
        (f"{KNOWN}\n{OURS} echo none ;; esac", 0, "none"),
        (f"{KNOWN}\n{OURS} echo 'torch 2 PYSEC-2'; exit 1 ;; esac", 1, "torch 2 PYSEC-2"),
    ],
)
def test_an_audit_says_whether_it_could_ask(audit, code, shown, copied):
    stand_in = program(copied / "bin/pip-audit", audit)
    found, out = run("scripts/audit.sh", cwd=copied, PIP_AUDIT=str(stand_in), TMPDIR=str(copied))
    assert (found, shown in out) == (code, True), out
    assert ("audit: 2 pins of constraints.txt" in out) == ("skipped" not in out)
    assert not list(copied.glob("tmp.*")), "it cleans up"


def test_an_audit_without_a_registry_is_skipped(copied):
    python = program(copied / "bin/python", "exit 1")
    code, out = run("scripts/audit.sh", cwd=copied, PYTHON=str(python))
    assert code == 0 and out == "audit: skipped, no environment can be made for pip-audit\n"
    fails = 'mkdir -p "$3/bin"; printf "#!/bin/bash\\nexit 1\\n" >"$3/bin/pip"; chmod +x "$3/bin/pip"'
    code, out = run("scripts/audit.sh", cwd=copied, PYTHON=str(program(python, fails)))
    assert code == 0 and out.startswith("audit: skipped, no registry gives pip-audit")
