"""Molecular dynamics: integrators, thermostats, thermal velocities and the runner of lockstep replicas."""
