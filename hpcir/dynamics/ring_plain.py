"""Chunks of ring-polymer trajectories: their request, and the steps in plain numpy, the kernels' twin."""

from __future__ import annotations

from dataclasses import dataclass

from hpcir.arrays import FloatArray
from hpcir.dynamics.chunks import Request
from hpcir.dynamics.plain import PlainRun
from hpcir.dynamics.ring_polymer import Pile, RingPolymer, centroid_virial_kinetic, free_step
from hpcir.dynamics.streams import RING_BLOCK_STEPS
from hpcir.models.potential import ReplicaPotential


@dataclass(frozen=True, kw_only=True)
class RingRequest(Request):
    """The arguments of run_rings."""

    ring: RingPolymer
    pile: Pile | None
    degrees: int

    @property
    def noise_steps(self) -> int:
        return 0 if self.pile is None else RING_BLOCK_STEPS

    def noise(self, step: int) -> FloatArray | None:
        """Random numbers (RING_BLOCK_STEPS, N, 3, P, R) of the block of steps that `step` is in."""
        if self.pile is None:
            return None
        return self.pile.noise(self.block.trajectories, step // RING_BLOCK_STEPS, len(self.masses), self.ring.beads)


class PlainRings(PlainRun):
    """Ring polymers; recorded are centroids and means over the beads."""

    request: RingRequest

    def __init__(self, potential: ReplicaPotential, request: RingRequest) -> None:
        super().__init__(potential, request, request.ring.beads)
        self.ring, self.noise = request.ring, request.noise(request.block.step)

    def drift(self, step: int) -> tuple[FloatArray, FloatArray]:
        request, within = self.request, (step - 1) % RING_BLOCK_STEPS
        if within == 0:
            self.noise = request.noise(step - 1)
        noise = None if self.noise is None else self.noise[within]
        return free_step(self.ring, self.x, self.v, request.masses, request.timestep, request.pile, noise)

    def observables(self) -> dict[str, FloatArray | None]:
        return {
            "kinetic": centroid_virial_kinetic(self.ring, self.x, self.forces, self.request.degrees),
            "potential": self.ring.centroid(self.energies),
            "dipoles": None if self.dipoles is None else self.ring.centroid(self.dipoles),
            "positions": self.ring.centroid(self.x),
            "velocities": self.ring.centroid(self.v),
        }
