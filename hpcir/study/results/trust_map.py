"""Coverage of a molecule's trajectories: distance of each atom from the training data, and the conformers visited.

trust.json of a run or of a target's folder, and the figures and sentences of it in summary.json.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcir.arrays import BoolArray, FloatArray
from hpcir.errors import InputError
from hpcir.models.model import Model
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import rotor_angle, rotors
from hpcir.molecules.rotamer_names import mirror_states, rotamer_states, stereogenic
from hpcir.molecules.structures import Structure
from hpcir.sampling.trust import ElementReference, references, trust_table
from hpcir.storage import layout
from hpcir.storage.json_result import write_json
from hpcir.storage.records import as_dict
from hpcir.study.context import Context
from hpcir.study.learning.committee import LearntLabel, groups_of
from hpcir.study.production.block import TrajectoryBlock, spread_geometries
from hpcir.study.results.records import ConformerVerdict, TrustMap, TrustVerdict
from hpcir.units import KCAL_PER_MOL_ANGSTROM

# Number of frames of the trajectories that are analysed.
FRAME_COUNT = 100
# Least fraction of frames that share the torsions of a minimum that represents the ensemble.
MIN_BASIN_FRACTION = 0.9
# Largest difference from a torsion of the minimum, degrees.
MAX_TORSION_DIFFERENCE = 60.0
Trust = dict[int, ElementReference]


def training_environments(model: Model, labelled: Sequence[LearntLabel]) -> Trust:
    """The environments that a model was trained on, by element: of the atoms whose forces were learnt."""
    from hpcir.descriptors.derivatives import features_only

    frames = []
    for group in groups_of(labelled):
        features = features_only(model.functions, group.numbers, group.positions)
        mask = np.ones(features.shape[:2], bool) if group.force_mask is None else group.force_mask
        frames += [(group.numbers[kept], values[kept]) for values, kept in zip(features, mask, strict=True)]
    return references(frames)


def snapshots(context: Context, blocks: Sequence[str]) -> FloatArray:
    """Geometries (T, N, 3) of the valid trajectories of some blocks, evenly over them all."""
    return spread_geometries([TrajectoryBlock.read(context.directory / name) for name in blocks], FRAME_COUNT)


def write_trust(context: Context, structure: Structure, model: Model, known: Trust, frames: FloatArray) -> TrustVerdict:
    """trust.json: every atom's distance from the training data over the frames; figures for the summary (rank 0)."""
    from hpcir.descriptors.derivatives import features_only
    from hpcir.models.evaluator import Evaluator

    if not len(frames):
        return TrustVerdict(verdict="no trajectory is valid: their distance from the training data is unknown")
    features = features_only(model.functions, structure.numbers, frames)
    evaluator = Evaluator(model, structure.numbers, 1, charge=structure.charge)
    spreads = np.array([evaluator.force_spread(frame[:, :, None])[:, 0] for frame in frames]) / KCAL_PER_MOL_ANGSTROM
    table = trust_table(known, model.functions, structure.numbers, features, spreads)
    trust_map = TrustMap(atoms=tuple(table), frames=len(frames))
    write_json(context.directory / layout.TRUST, as_dict(trust_map))
    worst, widest = table[0], max(table, key=lambda row: row.largest_spread)
    text = (
        f"the environment farthest from the training data is that of {worst.name}, {worst.largest_distance:.1f} "
        f"times the usual distance between training environments ({worst.mean_distance:.1f} on average)"
    )
    outside = max(table, key=lambda row: row.excess)
    if outside.function >= 0:
        text += (
            f"; {outside.name} leaves the range of a symmetry function by {100 * outside.excess:.0f} % "
            f"({outside.description})"
        )
    text += f"; the committee spread is largest for {widest.name}, {widest.largest_spread:.2f} kcal/mol/A"
    return TrustVerdict(
        atom=worst.name,
        largest_distance=worst.largest_distance,
        mean_distance=float(np.mean([row.mean_distance for row in table])),
        outside=float(np.mean([row.outside for row in table])),
        largest_spread_kcal_per_mol_angstrom=widest.largest_spread,
        verdict=text,
    )


def ensemble(structure: Structure, minimum: FloatArray, frames: FloatArray) -> ConformerVerdict:
    """Distribution of the frames over conformers, and the verdict whether the minimum (N, 3) of the harmonic lines
    represents them.

    Mirror images count as one conformer where the molecule has no stereogenic centre. There is no verdict on a molecule
    whose bonds cannot be assigned.
    """
    try:
        graph = bond_graph(structure)
    except InputError:
        return ConformerVerdict(rotatable=0)
    torsions = rotors(graph)
    if not torsions or not len(frames):
        return ConformerVerdict(rotatable=len(torsions), in_minimum=1.0, conformers=1)
    angles = np.array([[rotor_angle(frame, graph, item) for item in torsions] for frame in frames])
    own = np.array([rotor_angle(minimum, graph, item) for item in torsions])
    mirrored = not stereogenic(graph)
    same = _near(angles, own) | (_near(angles, -own) if mirrored else False)
    states = rotamer_states(angles)
    distinct = len({min(row, mirror_states(row)) if mirrored else row for row in map(tuple, states.tolist())})
    share, trans = float(same.mean()), float((states == 0).mean())
    text = ""
    if share < MIN_BASIN_FRACTION:
        text = (
            f"one minimum does not represent the ensemble: {100 * share:.0f} % of the frames have the torsions of the "
            f"minimum of {structure.name} that the harmonic lines belong to, and {len(frames)} frames show {distinct} "
            f"conformers ({100 * trans:.0f} % of the torsions are trans)"
        )
    return ConformerVerdict(
        rotatable=len(torsions), in_minimum=share, conformers=distinct, trans_fraction=trans, verdict=text
    )


def _near(angles: FloatArray, own: FloatArray) -> BoolArray:
    """(T,) True where every torsion of a frame is within `MAX_TORSION_DIFFERENCE` of a conformer's."""
    apart = np.abs((angles - own + 180) % 360 - 180)
    return np.asarray((apart < MAX_TORSION_DIFFERENCE).all(1), bool)
