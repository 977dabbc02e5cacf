"""Names of the files and folders in a run directory and in the folder of a target: all of them are here.

The target of a run of one molecule lives in the run directory itself, those of a run of several in
`target_folder(NAME)`, which has the same files. Names are relative to the directory.
"""

from __future__ import annotations

# The deck, the structures and the bookkeeping of a run.
DECK = "deck.resolved.yaml"
START = "start.xyz"
STRUCTURES = "structures"
MANIFEST = "manifest.json"
LOCK = "lock.json"
LOG = "log.txt"
PROGRESS = "progress.json"

# Labels: the file of all of them, and the journals that they are collected in.
LABELS = "labels.h5"
LABEL_JOURNALS = "labels"
CHEAP_JOURNALS = "pretrain"
# Labels of the level below around those of a level.
BELOW_JOURNALS = "below"
# Inputs and outputs of another program that the user runs.
EXTERNAL = "external"

# The label engine's minimum with its normal modes, and the model's.
REFERENCE = "prepare.h5"
MODES = "modes.h5"

# Models and their training.
MODELS = "models"
MODEL_FILE = "model.h5"
N2P2_FILE = "n2p2.h5"
MODEL = f"{MODELS}/{MODEL_FILE}"
FINAL_MODEL_FILE = "final.h5"
PRETRAINED = f"{MODELS}/pretrained"
# A committee from fresh weights on the labels of a chain's last level, for comparison.
FRESH_MODEL = f"{MODELS}/fresh.h5"
TRAININGS = f"{MODELS}/in-progress"
TRAINING_FIGURES = "training.json"
LEARNING_CURVE_FILE = "learning_curve.json"
LEARNING_CURVE = f"{MODELS}/{LEARNING_CURVE_FILE}"
EXPLORATION = "exploration"

# Trajectories, the minima that they visit, and where they begin.
TRAJECTORIES = "trajectories"
MINIMA = "minima.h5"
STARTS = "starts"
RELAXATIONS = "families"
FAMILIES = "families.json"
MAIN_SET = "main"
# Corrections for quantum nuclei (PIGS).
PIGS = "pigs"
MEMBERS = "member-"

# Results.
TARGETS = "targets"
TEST = "test.h5"
TRUST = "trust.json"
SUMMARY = "summary.json"
LEVELS = "levels.json"
SPECTRUM = "spectrum"
COMPARISON = "comparison"
REPORT = "report.html"
FIGURES = "figures"

# Ending of a file whose contents do not match its checksum.
DAMAGED = ".damaged"


def round_file(number: int) -> str:
    """The model of a round of sampling, in the folder of its level's models."""
    return f"round-{number:02d}.h5"


def level_folder(number: int) -> str:
    """The models of a level of a chain below the last, counted from 0."""
    return f"{MODELS}/level-{number + 1}"


def level_model(folder: str) -> str:
    """The model of a level that was learnt in one training, by the name of its folder."""
    return f"{folder}.h5"


def block_file(name: str, block: int) -> str:
    """A block of a set of trajectories."""
    return f"{TRAJECTORIES}/{name}-{block:05d}.h5"


def block_files(name: str) -> str:
    """The pattern of all blocks of a set of trajectories."""
    return f"{TRAJECTORIES}/{name}-[0-9]*.h5"


def chunks(name: str) -> str:
    """The journals of a set of trajectories, which go when all blocks are files."""
    return f"{TRAJECTORIES}/in-progress/{name}"


def member_set(index: int, of: str = MAIN_SET) -> str:
    """The set of trajectories of a single committee member, beside the main set or another one."""
    return f"{MEMBERS}{index}" if of == MAIN_SET else f"{MEMBERS}{index}.{of}"


def training_file(member: int) -> str:
    """The state of a committee member's training while it is in progress."""
    return f"{TRAININGS}/member-{member:03d}.training"


def correction_file(name: str) -> str:
    """The correction for the nuclei of a set of trajectories."""
    return f"{PIGS}/{name}.h5"


def centroids_file(name: str) -> str:
    """The held centroids that a correction was learnt from."""
    return f"{PIGS}/{name}-centroids.h5"


def family_set(number: int) -> str:
    """The set of trajectories of a family of conformers, counted from 0."""
    return f"family-{number + 1}"


def spectrum_name(part: str = "") -> str:
    """A spectrum's name without its suffix: the main one, or that of an isotopologue, a family, another target."""
    return f"{SPECTRUM}-{part}" if part else SPECTRUM


def spectrum_csv(part: str = "") -> str:
    """The curve of a spectrum as text."""
    return f"{spectrum_name(part)}.csv"


def spectrum_h5(part: str = "") -> str:
    """A spectrum with its bands, terms and assignment."""
    return f"{spectrum_name(part)}.h5"


def target_folder(name: str) -> str:
    """The folder of a target in a run of several."""
    return f"{TARGETS}/{name}"


def target_structure(name: str) -> str:
    """The structure of a further target."""
    return f"{STRUCTURES}/{name}.xyz"


def seed_structure(name: str) -> str:
    """The structure of a molecule that sampling begins with."""
    return f"{STRUCTURES}/seed-{name}.xyz"
