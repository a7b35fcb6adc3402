//! [`Settled`]: slots that were seen Completed, which are read by one native command first.
//!
//! A script costs the server some four times what a `GET` does, and it is needed for what is decided or written. A
//! replay is neither: a Completed record changes no more, and where its key ends with it, whoever finds it finds it
//! alive. So it is a hint that can't be wrong, but in vain: then the script is run as ever, a round trip later.
//!
//! The command is `GETEX` without an option. It says what `GET` says, but counts as one that writes: a master that has
//! become a replica refuses it, and never answers from a past that it can't know to be one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many slots are remembered, 8 bytes each; the newer of two with one place.
const PLACES: usize = 1 << 16;

pub(crate) struct Settled(Box<[AtomicU64]>);

impl Settled {
    pub(crate) fn new() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }

    /// The slot whose digest begins so was seen Completed.
    pub(crate) fn insert(&self, prefix: u64) {
        self.place(prefix).store(prefix, Ordering::Relaxed);
    }

    pub(crate) fn contains(&self, prefix: u64) -> bool {
        self.place(prefix).load(Ordering::Relaxed) == prefix
    }

    /// It was, and is no more.
    pub(crate) fn remove(&self, prefix: u64) {
        let _ = self.place(prefix).compare_exchange(prefix, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn place(&self, prefix: u64) -> &AtomicU64 {
        // A remainder by the number of places: it is in range.
        &self.0[(prefix % PLACES as u64) as usize]
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_holds_the_newer_of_two() {
        let settled = Settled::new();
        let (one, other) = (7, 7 + PLACES as u64);
        assert!(!settled.contains(one));
        settled.insert(one);
        assert!(settled.contains(one) && !settled.contains(other));
        settled.insert(other);
        assert!(!settled.contains(one) && settled.contains(other));
        settled.remove(one);
        assert!(settled.contains(other));
        settled.remove(other);
        assert!(!settled.contains(other));
    }
}
