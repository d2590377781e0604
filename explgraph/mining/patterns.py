"""Which part patterns a filter's maps hold: stepwise, by held-out likelihood.

A filter starts as background alone. Again and again

1. *Propose.* What the patterns in place do not answer for (the background's share of every unit) is
   gathered under a Gaussian along every candidate motion. A motion counts for what it gathers
   beyond what the same motion gathers at its places in other images, less two standard errors; a
   still place for what it gathers.
2. *Fit.* The best candidate joins the patterns in place; all are fitted together by EM (`mixture`),
   on either half of the images.
3. *Judge.* Each fit is judged on the other half. The currency is the held-out log-likelihood per
   unit of activation (nats). The candidate is accepted if its gain exceeds a share of the first
   pattern's, and it keeps away from the patterns in place.

At the first refusal the filter is done with what moves, and still places are tried in the same way
for what is left: offered at the same time, one still place in the middle would answer for two
parts that move. What was found gets a motion of its own (`mixture.regress`): trajectories are few,
and which of two like ones a pattern was found with must not matter. Then

    gain       what a pattern added to the held-out likelihood when it joined
    following  what the held-out likelihood loses when the pattern's motion is that of other images:
               how far it follows, by its own evidence. Nothing for what stands still.

Because a filter has the best of many motions, chance has many chances. So filters are looked at
once more with their maps exchanged among the images, as *decoys* whose evidence can only be
chance (`reliability`).

References
----------
Zhang et al., AAAI 2018: the mixture. Stepwise growth: Vlassis and Likas, "A greedy EM algorithm for
Gaussian mixture learning" (Neural Processing Letters 2002); the held-out judge in place of their
stopping rule is from Smyth, "Model selection for probabilistic clustering using cross-validated
likelihood" (Statistics and Computing 2000). Decoys: Barber and Candes (Annals of Statistics 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.progress import Part
from explgraph.statistics.mixture import (
    Bounds,
    Counts,
    Grid,
    Mixture,
    e_step,
    gaussians,
    m_step,
    regress,
)
from explgraph.statistics.pose import displacements

__all__ = [
    "Motions",
    "Patterns",
    "Rules",
    "find_patterns",
    "pose_worth",
    "still_places",
]


class Motions(NamedTuple):
    """What patterns may move by: A candidates.

    Attributes
    ----------
    mean : (A, 2)
        Usual place, px.
    loading : (A, 2, q)
        px for each unit of the pose; 0 for what stands still.
    moves : (A,) bool
        False for what stands still.
    """

    mean: Tensor
    loading: Tensor
    moves: Tensor


class Rules(NamedTuple):
    """When a pattern is proposed, fitted and accepted. Lengths in px.

    Attributes
    ----------
    area : float
        Of the image, px^2.
    look : float
        Spread of the Gaussian under which candidates gather.
    start : float
        Spread that a new pattern starts with.
    apart : float
        Least distance of two patterns of a filter, root mean square over the images.
    bounds : Bounds
        Of the fit.
    first_gain : float
        Least gain of a filter's first pattern, nats.
    further_gain : float
        Least gain of a further one, as a share of the first one's.
    least_share : float
        Least share of the filter's activation.
    """

    area: float
    look: float
    start: float
    apart: float
    bounds: Bounds
    first_gain: float
    further_gain: float
    least_share: float


class Patterns(NamedTuple):
    """The patterns found in C filters, at most K each; unused ones have the share 0.

    Attributes
    ----------
    mixture : Mixture
        Fitted to all images.
    loading : (C, K, 2, q)
        How each moves with the pose, px for each unit of it; 0 for what stands still.
    motion : (C, K) int64
        Which of the candidates it was found with.
    gain : (C, K)
        What it added to the held-out likelihood, nats per unit of the filter's activation.
    following : (C, K)
        What that loses with other images' motion, less three standard errors; at least 0.
    """

    mixture: Mixture
    loading: Tensor
    motion: Tensor
    gain: Tensor
    following: Tensor


_MARGIN = 2.0  # standard errors; three miss parts that are there on occasion only
_FIT = 4  # EM iterations between proposals; the next proposal starts from there
_LAST = 8  # after the last one; more move nothing
_NEW_SHARE = 0.3  # that a new pattern starts with; EM forgets it
_TINY = 1e-9
_CELLS = 1 << 25  # floats that are worked on at a time
_DOUBTED = 3.0  # standard errors, for a filter has the best of some hundred motions
# of a filter's time, for the bar: until nothing more that moves is found, that stands still
_MOVING, _STILL = 0.25, 0.45
_EXCHANGES = (1 / 3, 2 / 3)  # images whose motion is taken are so far ahead, as shares of all


def still_places(grid: Grid, q: int) -> Motions:
    """Give the units' centres, at most 27 along a side, as motions that are none."""
    step = max(1, max(len(grid.x), len(grid.y)) // 14)
    x, y = grid.x[step // 2 :: step], grid.y[step // 2 :: step]
    mean = torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], -1)
    moves = torch.zeros(len(mean), dtype=torch.bool, device=mean.device)
    return Motions(mean, mean.new_zeros((len(mean), 2, q)), moves)


def _even(maps: Tensor) -> Tensor:
    """Weaken images in which a filter fires more than usual to what is usual.

    A few images in which it fires ten times as strongly would decide for all, and differently in
    either half. Squares sum to 1 per image in mean again.
    """
    total = maps.square().sum((2, 3))
    kept = (total.mean(0) / total.clamp(min=_TINY)).clamp(max=1)
    usual = (kept * total).mean(0).clamp(min=_TINY)
    return maps * (kept / usual).sqrt()[..., None, None]


class _Search:
    """Some filters' maps, the candidates' places, and what is done with both."""

    def __init__(
        self, maps: Tensor, poses: Tensor, motions: Motions, grid: Grid, rules: Rules
    ) -> None:
        self.grid, self.rules, self.motions = grid, rules, motions
        self.moved = displacements(motions.loading, poses)  # (N, A, 2)
        self.maps = maps = _even(maps)
        self.halves = [torch.arange(h, len(maps), 2, device=maps.device) for h in (0, 1)]
        self.half_maps = [maps[half] for half in self.halves]
        self.half_moved = [self.moved[half] for half in self.halves]
        self.moving = motions.moves.nonzero()[:, 0]
        places = motions.mean[self.moving] + self.moved[:, self.moving]
        self._usual = torch.stack(
            [self._under(places[i : i + 16]).sum(0) for i in range(0, len(places), 16)]
        ).sum(0) / max(len(places), 1)
        self._places = places
        self._still = self._under(motions.mean[~motions.moves])

    def _under(self, places: Tensor) -> Tensor:
        """Weights of units around places."""
        return gaussians(places, self.rules.look, self.grid)

    def count(
        self, half: int | None, which: Tensor, mixture: Mixture, motion: Tensor, rest: bool = False
    ) -> Counts:
        """Do the E step over one half of the images, or all.

        `motion` are candidates (F, K), or how each pattern moves in each image, (n, F, K, 2) px.
        """
        if motion.ndim == 2:
            motion = (self.moved if half is None else self.half_moved[half])[:, motion]
        return e_step(
            self.maps if half is None else self.half_maps[half],
            which,
            mixture.places(motion),
            mixture.sigma,
            mixture.share[None],
            mixture.background[None] / self.rules.area,
            self.grid,
            rest=rest,
        )

    def fit(
        self, half: int | None, which: Tensor, mixture: Mixture, motion: Tensor, n_iter: int
    ) -> Mixture:
        """Do some iterations of EM."""
        moved = (self.moved if half is None else self.half_moved[half])[:, motion]
        for _ in range(n_iter):
            counts = self.count(half, which, mixture, moved)
            mixture = m_step(counts, mixture, moved, self.rules.bounds)
        return mixture

    def judge(self, fits: Sequence[Mixture], which: Tensor, motion: Tensor) -> Tensor:
        """Held-out log-likelihood (F,) of what was fitted on either half."""
        return sum(
            (_likelihood(self.count(1 - h, which, fits[h], motion)) / 2 for h in (0, 1)),
            torch.zeros(()),
        )

    def gathered(self, which: Tensor, mixture: Mixture, motion: Tensor, *, moving: bool) -> Tensor:
        """Measure what candidates gather of what is left, (F, A); -1 for those of other kinds."""
        rest = self.count(None, which, mixture, motion, rest=True).rest
        assert rest is not None
        rest = rest.flatten(2)
        n, filters, _ = rest.shape
        value = rest.new_full((filters, len(self.motions.moves)), -1)
        if not moving:
            value[:, ~self.motions.moves] = rest.sum(0) @ self._still.T / n
            return value
        total = rest.new_zeros((filters, len(self.moving)))
        square = torch.zeros_like(total)
        step = max(1, _CELLS // max(1, filters * len(self.moving)))
        for i in range(0, n, step):
            under = self._under(self._places[i : i + step]) - self._usual
            beyond = rest[i : i + step] @ under.transpose(1, 2)
            total += beyond.sum(0)
            square += beyond.square().sum(0)
        mean = total / n
        error = ((square / n - mean.square()).clamp(min=0) / max(n - 1, 1)).sqrt()
        value[:, self.moving] = mean - _MARGIN * error
        return value

    def near(self, mixture: Mixture, motion: Tensor) -> Tensor:
        """Candidates that are too close to a pattern in place, (F, A)."""
        n = len(self.moved)
        places = (self.motions.mean + self.moved).transpose(0, 1).flatten(1)  # (A, 2 N)
        close = torch.zeros(len(motion), len(places), dtype=torch.bool, device=places.device)
        for k in range(motion.shape[1]):
            here = mixture.places(self.moved[:, motion])[:, :, k].transpose(0, 1).flatten(1)
            apart = torch.cdist(here, places) / n**0.5
            close |= (apart < self.rules.apart) & (mixture.share[:, k] > 0)[:, None]
        return close

    def distance(self, mixture: Mixture, motion: Tensor, slot: Tensor) -> Tensor:
        """Least distance of each filter's pattern `slot` (F,) from its others, (F,) px."""
        places = mixture.places(self.moved[:, motion])
        rows = torch.arange(len(slot), device=slot.device)
        apart = (places - places[:, rows, slot][:, :, None]).square().sum(-1).mean(0).sqrt()
        others = mixture.share > 0
        others[rows, slot] = False
        return torch.where(others, apart, torch.inf).amin(1)


def _likelihood(counts: Counts) -> Tensor:
    """Log-likelihood per unit of activation, (F,)."""
    return counts.likelihood.sum(0) / counts.total.sum(0).clamp(min=1e-9)


class _State(NamedTuple):
    """Where the search of some filters is: fits on either half, and their patterns."""

    fits: tuple[Mixture, Mixture]
    motion: Tensor  # (F, K)
    gain: Tensor  # (F, K)
    held: Tensor  # (F,) held-out likelihood

    def middle(self) -> Mixture:
        """Mean of both fits."""
        return Mixture(*((a + b) / 2 for a, b in zip(*self.fits, strict=True)))

    def alive(self) -> Tensor:
        """Which patterns there are, (F, K)."""
        return self.fits[0].share > 0

    def take(self, filters: Tensor) -> _State:
        """Keep some filters."""
        first, second = (fit.take(filters) for fit in self.fits)
        return _State((first, second), self.motion[filters], self.gain[filters], self.held[filters])

    def put(self, filters: Tensor, other: _State) -> _State:
        """Put others in the place of some filters."""
        first, second = (
            mine.put(filters, new) for mine, new in zip(self.fits, other.fits, strict=True)
        )
        rest = [values.clone() for values in self[1:]]
        for values, new in zip(rest, other[1:], strict=True):
            values[filters] = new
        return _State((first, second), *rest)

    def wider(self) -> _State:
        """Make room for one more pattern."""

        def pad(values: Tensor, by: float = 0) -> Tensor:
            return torch.cat([values, torch.full_like(values[:, :1], by)], 1)

        first, second = (
            Mixture(pad(f.mean), pad(f.follow), pad(f.sigma, 1), pad(f.share), f.background)
            for f in self.fits
        )
        return _State((first, second), pad(self.motion), pad(self.gain), self.held)


def find_patterns(
    maps: Tensor,
    poses: Tensor,
    motions: Motions,
    grid: Grid,
    rules: Rules,
    tick: Part | None = None,
) -> Patterns:
    """Take filters apart: see the module.

    Parameters
    ----------
    maps : (N, C, H, W)
        Rectified, each filter divided by its scale, so that squares sum to 1 per image in mean.
    poses : (N, q)
    motions : Motions
    grid : Grid
    rules : Rules
    tick : callable, optional
        Is told now and then how many more filters are done, 0.3 of one that is nearly.

    Returns
    -------
    Patterns
        Of every filter by itself: it makes no difference which others there are.
    """
    n, c = maps.shape[:2]
    step = max(1, _CELLS // max(1, n * maps.shape[2] * maps.shape[3]))
    parts = [
        _find(maps[:, i : i + step].contiguous(), poses, motions, grid, rules, tick or _untold)
        for i in range(0, c, step)
    ]
    most = max(p.motion.shape[1] for p in parts)
    columns = zip(*(_flat(p, most) for p in parts), strict=True)
    *mixture, loading, motion, gain, following = (torch.cat(column) for column in columns)
    return Patterns(Mixture(*mixture), loading, motion, gain, following)


def _untold(_filters: float) -> None:
    """Tell nobody."""


def pose_worth(maps: Tensor, poses: Tensor, motions: Motions, grid: Grid, rules: Rules) -> Tensor:
    """Measure what a pose is worth to filters: how far all that moves by it follows it.

    Parameters are those of `find_patterns`; all motions are of one pose.

    Returns
    -------
    (C,)
        Nats per unit of activation that are lost with other images' motion; 0 for silent filters.
    """
    search = _Search(maps, poses, motions, grid, rules)
    state, which, fires = _begin(search)
    state = _grow(search, state, fires, _untold, moving=True)
    return _follow(search, which, state).sum(1)


def _flat(patterns: Patterns, most: int) -> list[Tensor]:
    """All values in a row, with room for `most` patterns."""
    missing = most - patterns.motion.shape[1]
    values = [*patterns.mixture, *patterns[1:]]
    return [
        v if v.ndim == 1 else torch.cat([v, v.new_zeros((len(v), missing, *v.shape[2:]))], 1)
        for v in values
    ]


def _find(
    maps: Tensor, poses: Tensor, motions: Motions, grid: Grid, rules: Rules, tick: Part
) -> Patterns:
    """Take as many filters apart as memory bears."""
    search = _Search(maps, poses, motions, grid, rules)
    state, which, fires = _begin(search)
    for moving in (True, False):  # what stands still is last
        if bool((motions.moves == moving).any()):
            state = _grow(search, state, fires, tick, moving=moving)
    mixture = search.fit(None, which, state.middle(), state.motion, _LAST)
    # one that stood in for a part until the right one joined has lost its share
    stays = mixture.share > rules.least_share
    some = (state.alive() & ~stays).any(1).nonzero()[:, 0]
    if len(some):  # these filters alone: the others are done
        stay, left = stays[some], state.take(some)
        fitted = _only(mixture.take(some), stay)
        mixture = mixture.put(some, search.fit(None, some, fitted, left.motion, _LAST))
        first, second = (_only(fit, stay) for fit in left.fits)
        gain = torch.where(stay, left.gain, 0.0)
        state = state.put(some, left._replace(fits=(first, second), gain=gain))
    mixture, loading = _own_motions(search, which, mixture, state.motion, poses)
    return Patterns(mixture, loading, state.motion, state.gain, _follow(search, which, state))


def _own_motions(
    search: _Search, which: Tensor, mixture: Mixture, motion: Tensor, poses: Tensor
) -> tuple[Mixture, Tensor]:
    """Fit a motion of its own to each pattern; give mixtures and loadings (F, K, 2, q)."""
    usual = mixture.follow[..., None, None] * search.motions.loading[motion]
    usual = torch.where((mixture.share > 0)[..., None, None], usual, 0.0)
    loading, follow = usual, torch.ones_like(mixture.follow)
    for _ in range(_LAST):
        moved = displacements(loading, poses)
        counts = search.count(None, which, mixture._replace(follow=follow), moved)
        mixture, loading = regress(counts, mixture, loading, usual, poses, search.rules.bounds)
    return mixture, loading


def _only(mixture: Mixture, stays: Tensor) -> Mixture:
    """Give the shares of patterns that don't stay (F, K) to the background."""
    share = torch.where(stays, mixture.share, 0.0)
    return mixture._replace(share=share, background=1 - share.sum(1))


def _begin(search: _Search) -> tuple[_State, Tensor, Tensor]:
    """Start with the background alone; give all filters, and those that fire at all."""
    c, device = search.maps.shape[1], search.maps.device
    which = torch.arange(c, device=device)
    empty = Mixture.empty(c, 1, device)
    none = torch.zeros(c, 1, dtype=torch.float32, device=device)
    state = _State((empty, empty), none.long(), none, none[:, 0])
    state = state._replace(held=search.judge(state.fits, which, state.motion))
    return state, which, which[search.maps.flatten(2).amax((0, 2)) > 0]


def _grow(search: _Search, state: _State, active: Tensor, tick: Part, *, moving: bool) -> _State:
    """Add patterns that move, or that stand still, to some filters as long as it is worth it."""
    while len(active):
        if bool(state.alive()[active].all(1).any()):
            state = state.wider()
        better, accepted = _improve(search, active, state.take(active), moving=moving)
        tick((_MOVING if moving else _STILL) * (len(active) - int(accepted.sum())))
        active = active[accepted]
        state = state.put(active, better.take(accepted))
    return state


def _improve(search: _Search, which: Tensor, now: _State, *, moving: bool) -> tuple[_State, Tensor]:
    """Add the best candidate to each filter; tell where it is worth it, (F,) bool."""
    rules = search.rules
    slot = now.alive().sum(1)
    rows = torch.arange(len(which), device=which.device)
    middle = now.middle()
    value = search.gathered(which, middle, now.motion, moving=moving)
    value = value.masked_fill(search.near(middle, now.motion), -1)
    top, candidate = value.max(1)
    motion = now.motion.clone()
    motion[rows, slot] = candidate
    fits = []
    for h in (0, 1):
        mixture = Mixture(*(values.clone() for values in now.fits[h]))
        mixture.mean[rows, slot] = search.motions.mean[candidate]
        mixture.follow[rows, slot] = float(moving)
        mixture.sigma[rows, slot] = rules.start
        mixture.share[rows, slot] = _NEW_SHARE
        norm = mixture.share.sum(1) + mixture.background
        mixture = mixture._replace(
            share=mixture.share / norm[:, None], background=mixture.background / norm
        )
        fits.append(search.fit(h, which, mixture, motion, _FIT))
    new = _State((fits[0], fits[1]), motion, now.gain.clone(), search.judge(fits, which, motion))
    gain = new.held - now.held
    least = torch.where(slot == 0, rules.first_gain, rules.further_gain * now.gain[:, 0])
    middle = new.middle()
    accepted = (top > 0) & (gain > least) & (middle.share[rows, slot] > rules.least_share)
    accepted &= search.distance(middle, motion, slot) >= rules.apart
    new.gain[rows, slot] = gain
    return new, accepted


def _follow(search: _Search, which: Tensor, state: _State) -> Tensor:
    """Measure what the held-out likelihood loses when a motion is that of other images, (F, K).

    Less three standard errors over the images: a few that fire strongly must not decide alone.
    """
    loss = torch.zeros_like(state.gain)
    moving = state.alive() & search.motions.moves[state.motion]
    for k in range(loss.shape[1]):
        here = moving[:, k].nonzero()[:, 0]
        if not len(here):
            continue
        some = state.take(here)
        lost, total = [], []
        for h in (0, 1):
            moved = search.half_moved[1 - h][:, some.motion]
            known = search.count(1 - h, which[here], some.fits[h], some.motion)
            turns = sorted({max(1, round(share * len(moved))) for share in _EXCHANGES})
            other = torch.zeros_like(known.likelihood)
            for turn in turns:
                exchanged = moved.clone()
                exchanged[:, :, k] = moved[:, :, k].roll(turn, 0)
                other += search.count(1 - h, which[here], some.fits[h], exchanged).likelihood
            lost.append(known.likelihood - other / len(turns))
            total.append(known.total)
        images, weight = torch.cat(lost), torch.cat(total)
        norm = weight.sum(0).clamp(min=1e-9)
        mean = images.sum(0) / norm
        error = (images - mean * weight).square().sum(0).sqrt() / norm
        loss[here, k] = mean - _DOUBTED * error
    return loss.clamp(min=0)
