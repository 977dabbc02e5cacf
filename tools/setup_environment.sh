# Sourced by tools/quickstart and tools/test: a virtual environment in .venv with hpcir and the extras in $1.
# Everything comes from PyPI, MPI too; HPCIR_MPI=system leaves the MPI wheel out (a cluster's own MPI).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=$1
[ "${HPCIR_MPI:-wheel}" = system ] && extras=${extras//mpi,/}
stamp=.venv/hpcir-$(cat pyproject.toml tools/constraints.txt <(echo "$extras $PWD") | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        { echo "hpcir needs Python 3.10 or newer; this is $(python3 --version)" >&2; exit 2; }
    echo "Setting up .venv (a few minutes the first time) ..." >&2
    python3 -m venv .venv
    # torch first and by its exact version: a range would fetch the newest build with gigabytes of CUDA. --no-compile: of
    # the many thousand modules few are ever imported, and those are compiled then.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c tools/constraints.txt torch==2.13.0
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c tools/constraints.txt -e ".[$extras]"
    touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
# Open MPI refuses to start as root without these; other MPI libraries do not read them.
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
