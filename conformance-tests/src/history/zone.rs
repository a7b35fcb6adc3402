//! What is known of moments and fences that nobody saw: a set of bounds on the differences between them.
//!
//! A client doesn't know when, between its call and its answer, the store read its clock, nor which fence
//! a lost answer held. So the checker computes with all of them at once. A [`Zone`] is every assignment
//! of the variables that keeps bounds of the form `x - y <= c`, the difference-bound matrix of the
//! timed-automata literature. Bounds are whole numbers (microseconds, fences), so each question is
//! answered exactly: a zone that isn't empty holds an assignment in whole numbers.

/// A number that the checker reasons about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Var {
    /// Zero: the store's epoch, and no fence at all.
    Zero,
    /// What the store's clock said when the history's own time was zero.
    Base,
    /// What the store's clock said in the call at hand.
    Now,
    Lease,
    Expires,
    Created,
    Completed,
    Fence,
    /// A value on its way into one of the others.
    Temp,
}

const VARS: usize = 9;
/// No bound.
const FREE: i64 = i64::MAX;

/// The assignments with `x - y <= bounds[x][y]`, for each `x` and `y`: never empty, and tight (each bound
/// is reached), so that equal sets are equal matrices.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Zone([[i64; VARS]; VARS]);

fn add(a: i64, b: i64) -> i64 {
    if a == FREE || b == FREE { FREE } else { a.saturating_add(b) }
}

impl Zone {
    /// Nothing is known.
    pub(super) fn free() -> Self {
        let mut bounds = [[FREE; VARS]; VARS];
        for (x, row) in bounds.iter_mut().enumerate() {
            row[x] = 0;
        }
        Self(bounds)
    }

    /// Those with `x - y <= c`; none where there are none.
    pub(super) fn at_most(mut self, x: Var, y: Var, c: i64) -> Option<Self> {
        let (x, y) = (x as usize, y as usize);
        if self.0[x][y] <= c {
            return Some(self);
        }
        if add(self.0[y][x], c) < 0 {
            return None;
        }
        // The one new edge is from x to y, so each path that gets shorter goes over it.
        let from_y = self.0[y];
        for row in &mut self.0 {
            let via = add(row[x], c);
            for (bound, rest) in row.iter_mut().zip(from_y) {
                *bound = (*bound).min(add(via, rest));
            }
        }
        Some(self)
    }

    /// Those with `x - y >= c`.
    pub(super) fn at_least(self, x: Var, y: Var, c: i64) -> Option<Self> {
        self.at_most(y, x, c.saturating_neg())
    }

    /// Those with `x - y` in `low..=high`.
    pub(super) fn within(self, x: Var, y: Var, low: i64, high: i64) -> Option<Self> {
        self.at_least(x, y, low)?.at_most(x, y, high)
    }

    /// Those with `x = y + c`.
    pub(super) fn equal(self, x: Var, y: Var, c: i64) -> Option<Self> {
        self.within(x, y, c, c)
    }

    /// Those with `x - y <= c`, and the others.
    pub(super) fn split(self, x: Var, y: Var, c: i64) -> (Option<Self>, Option<Self>) {
        let others = self.clone().at_least(x, y, c.saturating_add(1));
        (self.at_most(x, y, c), others)
    }

    /// The same, with nothing known of `x`.
    pub(super) fn forget(mut self, x: Var) -> Self {
        let x = x as usize;
        for y in 0..VARS {
            self.0[x][y] = FREE;
            self.0[y][x] = FREE;
        }
        self.0[x][x] = 0;
        self
    }

    /// `x`, which isn't `y`, becomes something from `y + low` to `y + high`.
    pub(super) fn put(self, x: Var, y: Var, low: i64, high: i64) -> Option<Self> {
        self.forget(x).within(x, y, low, high)
    }

    /// `x` becomes [`Var::Temp`], which is free again.
    pub(super) fn take_temp(mut self, x: Var) -> Self {
        self = self.forget(x);
        let (to, from) = (x as usize, Var::Temp as usize);
        self.0[to] = self.0[from];
        self.0[to][to] = 0;
        for row in &mut self.0 {
            row[to] = row[from];
        }
        self.0[to][to] = 0;
        self.forget(Var::Temp)
    }

    /// Whether each of these assignments is one of `other` too.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().flatten().zip(other.0.iter().flatten()).all(|(ours, theirs)| ours <= theirs)
    }

    /// The value of `x`, where there is one alone.
    pub(super) fn value(&self, x: Var) -> Option<i64> {
        let (high, low) = (self.0[x as usize][Var::Zero as usize], self.0[Var::Zero as usize][x as usize]);
        (high != FREE && high == low.saturating_neg()).then_some(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Var::{Base, Fence, Lease, Now, Temp, Zero};

    #[test]
    fn bounds_follow_from_bounds() {
        let zone = Zone::free().within(Now, Base, 5, 7).unwrap().equal(Lease, Now, 10).unwrap();
        assert!(zone.clone().at_most(Lease, Base, 14).is_none());
        let late = zone.at_least(Lease, Base, 17).unwrap();
        assert!(late.clone().at_most(Now, Base, 6).is_none(), "the lease's end tells when it began");
        assert_eq!(late.forget(Now), Zone::free().equal(Lease, Base, 17).unwrap());
    }

    #[test]
    fn a_split_loses_nothing_and_shares_nothing() {
        let zone = Zone::free().within(Now, Zero, 0, 9).unwrap();
        let (low, high) = zone.clone().split(Now, Zero, 4);
        let (low, high) = (low.unwrap(), high.unwrap());
        for value in 0..10 {
            let holds = |zone: &Zone| zone.clone().equal(Now, Zero, value).is_some();
            assert_eq!((holds(&low), holds(&high)), (value <= 4, value > 4), "{value}");
        }
        assert_eq!(zone.split(Now, Zero, 9).1, None);
    }

    #[test]
    fn temp_hands_over_all_that_was_known_of_it() {
        let zone = Zone::free().equal(Fence, Zero, 3).unwrap().at_least(Temp, Fence, 1).unwrap();
        let zone = zone.take_temp(Fence);
        assert!(zone.clone().equal(Fence, Zero, 3).is_none());
        assert_eq!(zone.clone().equal(Fence, Zero, 4).unwrap().value(Fence), Some(4));
        assert_eq!(zone, Zone::free().at_least(Fence, Zero, 4).unwrap());
    }
}
