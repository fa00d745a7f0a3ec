#!/usr/bin/env bash
# Shows the runs in TensorBoard, on this machine only: scripts/dashboard.sh [RUNS_FOLDER] [PORT]
# Prints the address; Ctrl-C ends it. TensorBoard knows no password: it listens to this machine alone, and another one
# reaches it through ssh.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
runs="${1:-runs}" port="${2:-6006}"

first_free='
import socket, sys
port = int(sys.argv[1])
assert port > 0
while True:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
            sys.exit(print(port))
        except OSError:
            port += 1
'
python="$here/.venv/bin/python"
[ -x "$python" ] || python=python3
if [ ! -d "$runs" ]; then
    echo "lit_ft: error: no folder '$runs' here; run 'python -m lit_ft fit' first, or name the folder: $0 RUNS_FOLDER" >&2
    exit 2
fi
if ! "$python" -c 'import tensorboard' 2>/dev/null; then
    echo "lit_ft: error: tensorboard is not installed; run scripts/quickstart.sh or pip install tensorboard" >&2
    exit 2
fi
free="$("$python" -c "$first_free" "$port" 2>/dev/null)" || {
    echo "lit_ft: error: expected a port from 1 to 65535, found '$port'; for example $0 $runs 6006" >&2
    exit 2
}
if [ "$free" != "$port" ]; then
    echo "lit_ft: error: port $port is taken, perhaps by another dashboard; choose a free one: $0 $runs $free" >&2
    exit 2
fi
# Smoothing 0: a curve of a few points shows them, not their running mean.
echo "dashboard of $runs: http://localhost:$port/?smoothing=0#custom_scalars&_smoothingWeight=0 (Ctrl-C ends it)"
echo "from another machine: ssh -L $port:127.0.0.1:$port $(id -un)@$(uname -n), and open the same address there"
exec "$python" -m tensorboard.main --logdir "$runs" --host 127.0.0.1 --port "$port" --load_fast=false 2>/dev/null
