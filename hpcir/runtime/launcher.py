"""The launcher's environment: what is known of the processes that it started before MPI is loaded."""

from __future__ import annotations

import os

from hpcir.errors import InputError

# Environment variables that launchers set on every rank: MPICH/Hydra and Slurm PMI, Open MPI, PMIx, Intel MPI.
_LAUNCHER_VARIABLES = ("PMI_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "MPI_LOCALRANKID")


def under_launcher() -> bool:
    """True where an MPI launcher started this process."""
    return any(name in os.environ for name in _LAUNCHER_VARIABLES)


def follow_launcher() -> None:
    """Under Open MPI's launcher, have mpi4py take Open MPI: its wheel speaks to either library, and takes the one that
    it finds first. An mpi4py that was built for one library reads none of this."""
    if "OMPI_COMM_WORLD_RANK" in os.environ and "MPI4PY_LIBMPI" not in os.environ:
        os.environ.setdefault("MPI4PY_MPIABI", "openmpi")


def speaks_pmix_alone() -> bool:
    """True where the launcher, such as `srun --mpi=pmix`, offers PMIx and no older interface."""
    older = ("PMI_RANK", "PMI_FD", "PMI_SIZE", "OMPI_COMM_WORLD_RANK")
    return "PMIX_RANK" in os.environ and not any(name in os.environ for name in older)


def require_pmix(library: str) -> None:
    """Raise InputError when an MPI library, by its own words, cannot speak PMIx: its start would abort the process.

    MPICH does with --with-pmix or --with-pmi=pmix alone; Open MPI and vendors' libraries always do.
    """
    if library.startswith("MPICH Version") and "pmix" not in library.lower():
        raise InputError(
            f"the launcher speaks PMIx, which mpi4py's MPI, {' '.join(library.split()[:3])}, does not",
            hint="start them with mpirun, or with the --mpi of srun that belongs to mpi4py's MPI (`srun --mpi=list`: "
            "often --mpi=pmi2)",
        )


def require_no_others() -> None:
    """Raise InputError when the launcher started several processes and MPI gives each of them a world of one rank."""
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        if int(os.environ.get(name, "1")) > 1:
            raise InputError(
                f"the launcher started {os.environ[name]} processes that cannot communicate: it belongs to another "
                "MPI than mpi4py's",
                hint="use the mpirun of the MPI library that mpi4py loads (`python -m mpi4py --mpi-library`)",
            )


def require_step_of_one() -> None:
    """Raise InputError when srun started several processes without the PMI that connects them."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1") if "SLURM_PROCID" in os.environ else "1"
    if tasks.isdecimal() and int(tasks) > 1:
        raise InputError(
            f"srun started {tasks} processes that cannot communicate",
            hint="start them with mpirun, or with the --mpi of srun that belongs to mpi4py's MPI (`srun --mpi=list`)",
        )


def local_rank() -> int:
    """This process's rank before MPI starts, from the launcher's environment; 0 without a launcher."""
    for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return 0
