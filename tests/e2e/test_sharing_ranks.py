"""More ranks than committee members, and batches worth sharing: the run's result is that of one rank, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import mpirun_command
from tests.e2e.conftest import differences, results

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(900)]

# As `hpcir run`, with every molecule large enough to share.
RUN = (
    "import sys; from hpcir.training import team; team.PART_ELEMENTS = 1; from hpcir.cli import main; sys.exit(main())"
)


@pytest.mark.long
def test_four_ranks_share_two_members(deck, tmp_path):
    found = []
    for ranks in (1, 4):
        out = tmp_path / f"run-{ranks}"
        launcher = mpirun_command(ranks) if ranks > 1 else []
        command = [*launcher, sys.executable, "-c", RUN, "run", str(deck), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(results(out))
    assert differences(*found) == []
