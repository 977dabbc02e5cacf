"""Checks of a deck before anything is computed: its molecules, and rules between keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcir.deck.chain_checks import chain_keys
from hpcir.deck.loader import LoadedDeck
from hpcir.deck.messages import join, nearest
from hpcir.deck.sections import Deck, EngineSettings, FilesSettings
from hpcir.deck.study import Study, read_molecules, structure_file
from hpcir.errors import InputError
from hpcir.molecules.isotopes import check_mass
from hpcir.molecules.pieces import pieces, structure_notes
from hpcir.molecules.structures import Structure, check_vibrates, read_structure
from hpcir.units import FS, KELVIN, PER_CM

# Velocity Verlet is unstable past a timestep of 2 / omega; an X-H stretch of 3,800 cm-1 has 2 / omega = 2.8 fs.
MAX_TIMESTEP = 2.0 * FS
# Above it every molecule of the lightest elements is atoms (H2 dissociates by half at 3,000 K and 1 atm).
MAX_TEMPERATURE = 6000 * KELVIN
MAX_USUAL_TIMESTEP = 1.0 * FS
# Least thermostatted time in which collapsed ring polymers take their shape.
MIN_SPREADING_TIME = 500.0 * FS
# Relative rounding error of products of units.
UNIT_ROUNDING = 1e-9
# Above every fundamental but those of H2 and HF: wavenumbers that a dipole series must resolve against aliasing.
MAX_WAVENUMBER_PER_CM = 4000.0

_ISOTOPE = re.compile(r"^([A-Z][a-z]?)(\d{0,6})$", re.ASCII)


def longest_depth(deck: Deck) -> float:
    """The longest correlation depth that the trajectories allow, atomic units: what is correlated are differences of
    successive dipoles, one fewer than the dipoles."""
    dynamics = deck.dynamics
    dipoles = -(-round(dynamics.duration / dynamics.timestep) // dynamics.dipole_every)
    return (dipoles - 1) * dynamics.dipole_every * dynamics.timestep


def check_deck(loaded: LoadedDeck) -> Study:
    """Read the deck's molecules and check them, and every rule that ties keys together.

    Computes nothing and imports no label engine. Raises InputError with a line for everything that is wrong.
    """
    errors = [*_keys(loaded), *_engine_keys(loaded), *chain_keys(loaded)]
    study: Study | None = None
    try:
        structure = _structure(loaded)
    except InputError as error:
        errors.append(error)
    else:
        study, problems = read_molecules(loaded, structure)
        errors += problems
        if study is not None:
            errors += _isotopes(loaded, study)
            errors += _restraint(loaded, study)
    if errors or study is None:
        raise join(sorted(errors, key=loaded.file.line_of))
    return study


def deck_warnings(study: Study) -> list[str]:
    """Warnings of settings that are allowed but rarely intended, one sentence each."""
    loaded = study.loaded
    dynamics, spectrum = loaded.deck.dynamics, loaded.deck.spectrum
    found = [f"{item.source}: {note}" for item in study.targets for note in structure_notes(item)]
    if dynamics.timestep > MAX_USUAL_TIMESTEP:
        found.append(
            f"{loaded.where('dynamics.timestep')}: {dynamics.timestep / FS:g} fs is long for stretches of "
            "hydrogen; 0.5 fs is usual"
        )
    if nyquist_per_cm(loaded) < MAX_WAVENUMBER_PER_CM:
        found.append(
            f"{loaded.where('dynamics.dipole_every')}: bands above {nyquist_per_cm(loaded):.0f} cm-1 fold back into "
            "the spectrum; take dipoles more often"
        )
    if spectrum.depth > dynamics.duration / 2:
        found.append(
            f"{loaded.where('spectrum.depth')}: the correlation depth is more than half of dynamics.duration; "
            "the error bars grow"
        )
    if dynamics.trajectories < 8:
        found.append(
            f"{loaded.where('dynamics.trajectories')}: error bars from {dynamics.trajectories} trajectories are rough; "
            "32 or more are usual"
        )
    return found


def friction_width_per_cm(deck: Deck) -> float:
    """The full width at half maximum (cm-1) that the thermostat's friction gives to every line of production: 1 / tau
    for Langevin dynamics, whose velocities decay as exp(-t / tau) and a vibration's with half that rate."""
    dynamics = deck.dynamics
    # PILE of ring polymers is Langevin's for the centroids, whatever the thermostat.
    friction = dynamics.thermostat == "langevin" or dynamics.nuclei == "trpmd"
    return 1 / dynamics.time_constant / PER_CM if friction and dynamics.ensemble == "nvt" else 0.0


def nyquist_per_cm(loaded: LoadedDeck) -> float:
    """The highest wavenumber (cm-1) that the dipole series resolves."""
    return loaded.deck.dynamics.highest_wavenumber


def _keys(loaded: LoadedDeck) -> Iterator[InputError]:
    """Rules between keys."""
    deck = loaded.deck
    dynamics, sampling = deck.dynamics, deck.sampling
    if dynamics.temperature > MAX_TEMPERATURE:
        yield InputError(
            "no molecule is whole at this temperature",
            where=loaded.where("dynamics.temperature"),
            value=f"{dynamics.temperature / KELVIN:g} K",
            hint="molecules are measured at 10 to 4000 K",
        )
    if dynamics.timestep > MAX_TIMESTEP:
        yield InputError(
            "too long for the vibrations of hydrogen",
            where=loaded.where("dynamics.timestep"),
            value=f"{dynamics.timestep / FS:g} fs",
            hint="0.5 fs is usual, 2 fs the most",
        )
    for key, time in (("dynamics.duration", dynamics.duration), ("sampling.duration", sampling.duration)):
        if time < dynamics.timestep:
            yield InputError("shorter than one timestep", where=loaded.where(key), value=f"{time / FS:g} fs")
    yield from _spectrum_keys(loaded)
    for key, number in (("initial_labels", sampling.initial_labels), ("round_labels", sampling.round_labels)):
        if number > sampling.max_labels:
            yield InputError(
                f"must not be more than sampling.max_labels, {sampling.max_labels}",
                where=loaded.where(f"sampling.{key}"),
                value=number,
            )
    for index, temperature in enumerate(sampling.temperatures):
        if temperature <= 0:
            yield InputError(
                "must be more than 0",
                where=loaded.file.where(("sampling", "temperatures", index)),
                value=f"{temperature / KELVIN:g} K",
            )
    yield from _nuclei_keys(loaded)
    if deck.model.members < 2 and sampling.rounds > 0:
        yield InputError(
            "exploration needs the spread of a committee, and one member has none",
            where=loaded.where("model.members"),
            value=deck.model.members,
            hint="give 2 or more (4 is usual), or sampling.rounds: 0",
        )
    if deck.model.shells and not deck.model.zetas:
        yield InputError("angular functions need an exponent", where=loaded.where("model.zetas"), hint="give [1, 2, 4]")


def _spectrum_keys(loaded: LoadedDeck) -> Iterator[InputError]:
    """Rules of the spectrum's range and depth, and of the trajectories that it comes from."""
    deck = loaded.deck
    dynamics, spectrum = deck.dynamics, deck.spectrum
    if spectrum.last <= spectrum.first:
        yield InputError(
            f"must be more than spectrum.first, {spectrum.first:g} cm-1",
            where=loaded.where("spectrum.last"),
            value=f"{spectrum.last:g} cm-1",
        )
    if nyquist_per_cm(loaded) < spectrum.last:
        steps = int(dynamics.dipole_every * nyquist_per_cm(loaded) / spectrum.last)
        yield InputError(
            f"dipoles every {dynamics.dipole_every * dynamics.timestep / FS:g} fs resolve {nyquist_per_cm(loaded):.0f} "
            f"cm-1 at most, and spectrum.last is {spectrum.last:g} cm-1",
            where=loaded.where("dynamics.dipole_every"),
            value=dynamics.dipole_every,
            hint=f"give {steps} or less" if steps else "give a shorter dynamics.timestep or a lower spectrum.last",
        )
    if (broad := friction_width_per_cm(deck)) > 0:
        yield InputError(
            f"Langevin friction in production makes every line {broad:.0f} cm-1 broader",
            where=loaded.where("dynamics.ensemble"),
            value="nvt",
            hint="give ensemble: nve (the thermostat then acts in the equilibration alone), or with classical nuclei "
            "thermostat: svr, which leaves line shapes alone",
        )
    longest = longest_depth(deck)
    if spectrum.depth > longest * (1 + UNIT_ROUNDING):
        yield InputError(
            f"must not be more than {longest / FS:g} fs: dynamics.duration without the last dipole",
            where=loaded.where("spectrum.depth"),
            value=f"{spectrum.depth / FS:g} fs",
        )


def _nuclei_keys(loaded: LoadedDeck) -> Iterator[InputError]:
    """Rules of quantum nuclei. Whether beads are enough is known with the modes only."""
    dynamics, spectrum = loaded.deck.dynamics, loaded.deck.spectrum
    if dynamics.nuclei == "classical":
        return
    if spectrum.quantum_correction != "harmonic":
        yield InputError(
            f"dynamics.nuclei: {dynamics.nuclei} gives Kubo's correlation, which becomes km/mol by 'harmonic' alone",
            where=loaded.where("spectrum.quantum_correction"),
            value=spectrum.quantum_correction,
        )
    if dynamics.nuclei == "trpmd" and dynamics.equilibration < MIN_SPREADING_TIME:
        yield InputError(
            f"ring polymers need {MIN_SPREADING_TIME / FS:g} fs to spread",
            where=loaded.where("dynamics.equilibration"),
            value=f"{dynamics.equilibration / FS:g} fs",
        )
    if dynamics.nuclei == "pigs" and 0 < dynamics.pigs_temperature < dynamics.temperature:
        yield InputError(
            f"must not be less than dynamics.temperature, {dynamics.temperature / KELVIN:g} K",
            where=loaded.where("dynamics.pigs_temperature"),
            value=f"{dynamics.pigs_temperature / KELVIN:g} K",
            hint="0 chooses it by the stiffest mode",
        )


def _engine_keys(loaded: LoadedDeck) -> Iterator[InputError]:
    """Rules of each label engine that need none of its packages."""
    labels = loaded.deck.labels
    sections: dict[str, EngineSettings] = {f"levels.{n}": level for n, level in enumerate(loaded.deck.levels)}
    for section, settings in (sections or {"labels": labels}).items():
        yield from _settings_keys(loaded, section, settings)
    pretrain = labels.pretrain
    yield from _calculator_keys(loaded, "labels.pretrain", pretrain.engine, pretrain.calculator, pretrain.arguments)
    if not sections and not labels.dipoles:
        yield InputError(
            "an infrared spectrum needs dipoles",
            where=loaded.where("labels.dipoles"),
            value=False,
            hint="the first of several levels may lack them",
        )


def _settings_keys(loaded: LoadedDeck, section: str, labels: EngineSettings) -> Iterator[InputError]:
    """Rules of the engine of one section."""
    yield from _calculator_keys(loaded, section, labels.engine, labels.calculator, labels.arguments)
    if labels.engine == "pyscf":
        for key, text in (("functional", labels.functional), ("basis", labels.basis)):
            if not text.strip():
                yield InputError("must not be empty", where=loaded.where(f"{section}.{key}"), value=text)
    if labels.wavefunction != "none":
        yield from _wavefunction_keys(loaded, section, labels)
    if labels.engine != "files" and labels.files != FilesSettings():
        yield InputError(
            f"only the engine 'files' reads this, and {section}.engine is '{labels.engine}'",
            where=loaded.where(f"{section}.files"),
            hint="remove it, or give engine: files",
        )


def _calculator_keys(
    loaded: LoadedDeck, section: str, engine: str, calculator: str, arguments: dict[str, object]
) -> Iterator[InputError]:
    """The import path of an ASE calculator must be there for the engine 'ase', and for no other."""
    if engine == "ase":
        module, _, name = calculator.partition(":")
        if not module or not name:
            yield InputError(
                "the engine 'ase' needs the import path of a calculator class",
                where=loaded.where(f"{section}.calculator"),
                value=calculator,
                hint="such as 'ase.calculators.emt:EMT'",
            )
    elif calculator or arguments:
        yield InputError(
            f"only the engine 'ase' reads this, and {section}.engine is '{engine}'",
            where=loaded.where(f"{section}.{'calculator' if calculator else 'arguments'}"),
            hint="remove it, or give engine: ase",
        )


def _wavefunction_keys(loaded: LoadedDeck, section: str, labels: EngineSettings) -> Iterator[InputError]:
    """A correlated wavefunction is PySCF's, and has neither functional nor dispersion correction."""
    if labels.engine != "pyscf":
        yield InputError(
            f"only the engine 'pyscf' reads this, and {section}.engine is '{labels.engine}'",
            where=loaded.where(f"{section}.wavefunction"),
            value=labels.wavefunction,
        )
    if loaded.key_path(f"{section}.functional") in loaded.file.lines and labels.functional.lower() != "hf":
        yield InputError(
            f"{labels.wavefunction.upper()} stands on Hartree-Fock orbitals, and has no functional",
            where=loaded.where(f"{section}.functional"),
            value=labels.functional,
            hint=f"remove it, or {section}.wavefunction",
        )
    if labels.dispersion != "none":
        yield InputError(
            f"{labels.wavefunction.upper()} has dispersion of its own",
            where=loaded.where(f"{section}.dispersion"),
            value=labels.dispersion,
            hint="remove it",
        )


def _structure(loaded: LoadedDeck) -> Structure:
    path = structure_file(loaded, ("system", "structure"), loaded.deck.system.structure)
    system = loaded.deck.system
    spin = "multiplicity" if ("system", "multiplicity") in loaded.file.lines else "charge"
    structure = read_structure(
        path, system.charge, system.multiplicity, system.name or None, spin_where=loaded.where(f"system.{spin}")
    )
    check_vibrates(structure)
    return structure


def _isotopes(loaded: LoadedDeck, study: Study) -> Iterator[InputError]:
    """Every substituted element must be in a target, every substituted atom in the first one, every mass a mass."""
    for name, pattern in loaded.deck.system.isotopes.items():
        for key, mass in pattern.items():
            where = loaded.file.where(("system", "isotopes", name, key))
            problem = _isotope_problem(key, study)
            if problem:
                yield InputError(problem[0], where=where, value=key, hint=problem[1])
                continue
            try:
                check_mass(key.rstrip("0123456789"), mass, where)
            except InputError as error:
                yield error


def _restraint(loaded: LoadedDeck, study: Study) -> Iterator[InputError]:
    """A restraint needs a molecule of several pieces."""
    if loaded.deck.dynamics.restraint > 0 and all(len(pieces(target)) < 2 for target in study.targets):
        yield InputError(
            "a restraint holds the pieces of a cluster together, and the structure is one piece",
            where=loaded.where("dynamics.restraint"),
            hint="leave it out",
        )


def _isotope_problem(key: str, study: Study) -> tuple[str, str] | None:
    match, structure = _ISOTOPE.match(key), study.structure
    if match is None:
        return "neither an element nor an atom", "write an element, 'H', or an atom by its number, 'H6'"
    element, number = match.groups()
    symbols = {symbol for target in study.targets for symbol in target.symbols}
    if element not in symbols:
        return f"the molecule has no {element}", nearest(element, symbols)
    if number:
        atom = int(number)
        if not 1 <= atom <= len(structure):
            return f"the molecule has atoms 1 to {len(structure)}", ""
        if structure.symbols[atom - 1] != element:
            return f"atom {atom} of the molecule is {structure.symbols[atom - 1]}", "atoms count from 1, as in the file"
    return None
