"""Whether what some images of a class share is a hidden bias: measured, tested, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.hidden_groups import Group, together
from explgraph.answers.log_odds import Made
from explgraph.answers.suspicion import Suspicion
from explgraph.network.class_names import class_title

__all__ = ["judged", "suspicion_of"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


class _Measured(NamedTuple):
    """What one half says of a group, and how probable each of it is by chance."""

    with_it: int
    elsewhere: int
    fall: float
    lead: float
    surplus: float
    errors: NDArray[np.int64]  # (2, 2) wrong and right, with it and without
    p: tuple[float, float, float, float]  # two groups, goes with the class, falls, surplus


def suspicion_of(
    made: Made, group: tuple[Group, ...], margin: float, names: Sequence[str], *, test: bool
) -> Suspicion:
    """Measure and test one group, by each half on the other.

    Parameters
    ----------
    made : Made
    group : tuple of Group
        What one half or both found, with what the log-odds are `after` it is replaced.
    margin : float
    names : sequence of str
        Of the classes.
    test : bool
        Whether the images' classes are known.
    """
    from scipy import stats  # takes a second to import

    halves = [_measured(made, one, margin) for one in group]
    p = p_errors = np.nan
    errors = np.sum([half.errors for half in halves], axis=0)
    if test:
        # an intersection-union test: all must hold, each by both halves together
        p = max(together(each) for each in zip(*(half.p for half in halves), strict=True))
        if errors.sum(0).all():
            p_errors = float(stats.fisher_exact(errors).pvalue)
    rows = [_members(made, one, alone=len(group) == 1) for one in group]
    typical = np.concatenate([
        np.einsum("c,ncs->n", one.weights, made.maps[its], optimize=True)
        for one, its in zip(group, rows, strict=True)
    ])  # fmt: skip
    regions = np.concatenate([one.regions[its] for one, its in zip(group, rows, strict=True)])
    order = np.argsort(-typical, kind="stable")
    members = np.concatenate(rows)[order]
    rest = np.setdiff1d(np.flatnonzero(made.classes == group[0].number), members)
    by_part = made.parts[members].mean(0) - made.parts[rest].mean(0)
    first = np.argsort(-by_part, kind="stable")[:3]
    return Suspicion(
        target=class_title(group[0].number, names),
        images=tuple(made.names[i] for i in members),
        rows=tuple(int(i) for i in members),
        regions=regions[order].reshape(-1, *made.grid),
        share=sum(half.with_it for half in halves) / sum(len(one.tested) for one in group),
        elsewhere=sum(half.elsewhere for half in halves) / sum(len(one.elsewhere) for one in group),
        fall=float(np.mean([half.fall for half in halves])),
        lead=float(np.mean([half.lead for half in halves])),
        surplus=float(np.mean([half.surplus for half in halves])),
        parts=tuple((made.titles[k], float(by_part[k])) for k in first if by_part[k] > 0),
        errors=(float(errors[0, 0] / errors[0].sum()), float(errors[1, 0] / errors[1].sum())),
        p_errors=float(p_errors),
        q_errors=float("nan"),
        p=float(p),
        q=float("nan"),
        suspicious=False,
    )


def _members(made: Made, one: Group, *, alone: bool) -> NDArray[np.int64]:
    """Tell which images have it: all of the class, or of a pair those of the half that tests."""
    rows = np.flatnonzero(made.classes == one.number) if alone else one.tested
    members: NDArray[np.int64] = rows[one.has[rows]]
    return members


def _measured(made: Made, group: Group, margin: float) -> _Measured:
    """Measure and test what one half found on the other."""
    from scipy import stats

    rows = group.tested
    has = group.has[rows]
    with_it, elsewhere = int(has.sum()), int(group.has[group.elsewhere].sum())
    table = [
        [with_it, len(rows) - with_it],
        [elsewhere, len(group.elsewhere) - elsewhere],
    ]
    before, after = made.odds[rows], group.after[rows]
    fall = before - after
    spread = float(before.std()) or 1.0
    lead, _ = _difference(before, has, group.beside[rows])
    both, error = _difference((before + after) / 2, has, group.beside[rows])
    above = both - margin * spread / 2
    wrong = made.scores[rows].argmax(1) != made.classes[rows]
    return _Measured(
        with_it,
        elsewhere,
        float(fall[has].mean() - fall[~has].mean()),
        lead,
        2 * both / spread,
        np.array([[wrong[mask].sum(), (~wrong[mask]).sum()] for mask in (has, ~has)]),
        (
            group.p,
            float(stats.fisher_exact(table, alternative="greater").pvalue),
            # falls that don't vary at all tell nothing
            float(
                np.nan_to_num(
                    stats.ttest_ind(
                        fall[has], fall[~has], equal_var=False, alternative="greater"
                    ).pvalue,
                    nan=1.0,
                )
            ),
            float(stats.t.sf(above / error, with_it - 1)) if error > 0 else float(above <= 0),
        ),
    )


def _difference(values: Array, has: Flags, beside: Array) -> tuple[float, float]:
    """Regress values on membership and other directions: its coefficient and standard error.

    The error holds where groups vary differently (HC1: MacKinnon and White 1985).
    """
    design = np.column_stack([has, np.ones(len(has)), beside])
    solved = np.linalg.pinv(design)
    coefficients = solved @ values
    residual = values - design @ coefficients
    free = max(len(values) - design.shape[1], 1)
    error = np.sqrt((solved[0] ** 2 * residual**2).sum() * len(values) / free)
    return float(coefficients[0]), float(error)


def judged(rows: list[Suspicion], fdr: float) -> tuple[Suspicion, ...]:
    """Correct for the number of groups, and put what is suspicious first."""
    from scipy.stats import false_discovery_control

    for p, q in (("p", "q"), ("p_errors", "q_errors")):
        known = [k for k, row in enumerate(rows) if not np.isnan(getattr(row, p))]
        if known:
            corrected = false_discovery_control([getattr(rows[k], p) for k in known])
            for k, value in zip(known, corrected.tolist(), strict=True):
                rows[k] = rows[k]._replace(**{q: value})
    rows = [row._replace(suspicious=bool(row.q <= fdr)) for row in rows]
    rows.sort(key=lambda row: (not row.suspicious, -row.surplus))
    return tuple(rows)
