"""Neighbour lists with a skin, in time linear in the atoms, and their arrangement in lanes.

Linked cells of the list's reach (Hockney and Eastwood) find the neighbours. Atoms are appended in ascending order to
the lists of their neighbours, so every list is sorted without sorting and depends on the positions alone.
"""

from __future__ import annotations

from hpcir.descriptors.lanes import KERNEL, WIDTH, njit


@njit(**KERNEL)
def fill_cells(x, stride, replica, atoms, reach, heads, nexts, shape, origin):  # type: ignore[no-untyped-def]
    """Sort the atoms of a replica into linked cells; returns the edge of a cell, `reach` or more.

    Cells grow where a molecule has flown apart, so that there are never more than len(heads).
    """
    widest = 0.0
    for axis in range(3):
        low = high = x[axis * stride + replica]
        for atom in range(atoms):
            value = x[(atom * 3 + axis) * stride + replica]
            low, high = min(low, value), max(high, value)
        origin[axis] = low
        widest = max(widest, high - low)
        shape[axis] = int((high - low) / reach) + 1
    edge = reach
    while shape[0] * shape[1] * shape[2] > heads.size:
        edge *= 1.5
        for axis in range(3):
            shape[axis] = int(widest / edge) + 1
    heads[:] = -1
    for atom in range(atoms):
        cell = 0
        for axis in range(3):
            place = int((x[(atom * 3 + axis) * stride + replica] - origin[axis]) / edge)
            cell = cell * shape[axis] + min(place, shape[axis] - 1)
        nexts[atom] = heads[cell]
        heads[cell] = atom
    return edge


@njit(**KERNEL)
def find_neighbours(x, stride, replica, atoms, reach, heads, nexts, lists, counts):  # type: ignore[no-untyped-def]
    """Neighbours within `reach` of each atom of a replica: lists (atoms, capacity), counts (atoms,).

    Returns the largest count; when that exceeds the capacity the lists are cut short.
    """
    shape = [0, 0, 0]
    origin = [0.0, 0.0, 0.0]
    edge = fill_cells(x, stride, replica, atoms, reach, heads, nexts, shape, origin)
    counts[:] = 0
    most = 0
    for j in range(atoms):
        xj = x[j * 3 * stride + replica]
        yj = x[(j * 3 + 1) * stride + replica]
        zj = x[(j * 3 + 2) * stride + replica]
        cx = min(int((xj - origin[0]) / edge), shape[0] - 1)
        cy = min(int((yj - origin[1]) / edge), shape[1] - 1)
        cz = min(int((zj - origin[2]) / edge), shape[2] - 1)
        for a in range(max(cx - 1, 0), min(cx + 2, shape[0])):
            for b in range(max(cy - 1, 0), min(cy + 2, shape[1])):
                for c in range(max(cz - 1, 0), min(cz + 2, shape[2])):
                    i = heads[(a * shape[1] + b) * shape[2] + c]
                    while i >= 0:
                        dx = x[i * 3 * stride + replica] - xj
                        dy = x[(i * 3 + 1) * stride + replica] - yj
                        dz = x[(i * 3 + 2) * stride + replica] - zj
                        if i != j and dx * dx + dy * dy + dz * dz < reach * reach:
                            if counts[i] < lists.shape[1]:
                                lists[i, counts[i]] = j
                            counts[i] += 1
                            most = max(most, counts[i])
                        i = nexts[i]
    return most


@njit(**KERNEL)
def group_widths(replica_of, centre_of, groups, lists, counts, species, starts, group_columns):  # type: ignore[no-untyped-def]
    """First slots of the groups of every vector of lanes of one element; returns the most slots of a vector.

    replica_of, centre_of (lanes,): -1 in empty lanes; groups: element indices of the neighbour groups; species
    (atoms,). A group is as wide as its fullest lane.
    """
    most = 0
    for vector in range(replica_of.size // WIDTH):
        first = vector * group_columns
        starts[first] = 0
        for group in range(groups.size):
            widest = 0
            for lane in range(vector * WIDTH, (vector + 1) * WIDTH):
                if replica_of[lane] < 0:
                    continue
                count = 0
                r, i = replica_of[lane], centre_of[lane]
                for n in range(counts[r, i]):
                    count += species[lists[r, i, n]] == groups[group]
                widest = max(widest, count)
            starts[first + group + 1] = starts[first + group] + widest
        most = max(most, starts[first + groups.size])
    return most


@njit(**KERNEL)
def fill_slots(  # type: ignore[no-untyped-def]
    replica_of, centre_of, groups, lists, counts, species, starts, group_columns, slots, most, stride, absent
):
    """Places of the neighbours in the slots of every vector of one element; `absent` is the place of no atom."""
    for vector in range(replica_of.size // WIDTH):
        for lane in range(WIDTH):
            r, i = replica_of[vector * WIDTH + lane], centre_of[vector * WIDTH + lane]
            for group in range(groups.size):
                slot = starts[vector * group_columns + group]
                if r >= 0:
                    for n in range(counts[r, i]):
                        j = lists[r, i, n]
                        if species[j] == groups[group]:
                            slots[(vector * most + slot) * WIDTH + lane] = j * 3 * stride + r
                            slot += 1
                for empty in range(slot, starts[vector * group_columns + group + 1]):
                    slots[(vector * most + empty) * WIDTH + lane] = absent


@njit(**KERNEL)
def moved_beyond(x, reference, limit, atoms, stride, replicas):  # type: ignore[no-untyped-def]
    """True when an atom of a replica is further than `limit` from its reference place, or nowhere (NaN)."""
    for atom in range(atoms):
        for r in range(replicas):
            squared = 0.0
            for axis in range(3):
                place = (atom * 3 + axis) * stride + r
                squared += (x[place] - reference[place]) ** 2
            if not squared <= limit * limit:
                return True
    return False
