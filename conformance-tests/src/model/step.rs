//! What happens next in a story: [`Step`], and how stories are drawn so that they shrink.

use std::time::Duration;

use oncekey_core::Policy;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::case::Failure;

/// What a story may hold beside reserve, renew, complete, release, lookup and garbage collection.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Menu {
    /// The store's clock jumps forward.
    pub(super) advance: bool,
    /// It steps back, where the spec still promises something.
    pub(super) rewind: bool,
    /// Resolve and purge.
    pub(super) operators: bool,
}

/// Steps speak of grants by their age, so that they mean something in every shrunk story.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) slot: usize,
    pub(super) deed: Deed,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Reserve {
        token: usize,
        meaning: u8,
        policy: Policy,
        lease: Duration,
        retention: Duration,
    },
    Renew {
        grant: Pick,
        lease: Duration,
        checkpoint: Option<u64>,
    },
    HandOver {
        grant: Pick,
        checkpoint: Option<u64>,
    },
    Complete {
        grant: Pick,
        keep_for: Option<Duration>,
    },
    Release {
        grant: Pick,
    },
    Lookup,
    /// Of what the latest lookup saw, or the one before it.
    Resolve {
        seen: usize,
        complete: Option<Option<Duration>>,
    },
    Purge {
        grant: Pick,
    },
    Collect {
        limit: u32,
    },
    Advance(Duration),
    Rewind(Duration),
}

/// A grant of the slot: 0 is the latest, 1 the one before it. Perhaps under another token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    pub(super) age: usize,
    pub(super) token: Option<usize>,
}

pub(super) const SLOTS: usize = 2;
/// Few, so that tokens come again.
pub(super) const TOKENS: usize = 3;
const LENGTH: std::ops::RangeInclusive<usize> = 6..=30;

/// Some small numbers, of which a step is made. Smaller ones make simpler steps: that is how stories shrink.
type Gene = (u8, u8, u8, u8, u8);

/// The story number `story` of a seed, as the root of all that it shrinks to.
pub(super) fn story(
    seed: u64,
    story: u64,
    menu: Menu,
) -> Result<impl ValueTree<Value = Vec<Step>> + Send, Failure> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&story.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let gene = (0..100_u8, 0..8_u8, 0..16_u8, 0..8_u8, 0..8_u8);
    let step = gene.prop_map(move |gene| read(gene, menu));
    let steps = proptest::collection::vec(step, LENGTH);
    steps.new_tree(&mut runner).map_err(|reason| Failure(format!("no story could be drawn: {reason}")))
}

fn read((kind, place, who, what, how): Gene, menu: Menu) -> Step {
    // The second slot is there to show that nothing happens to it (S5).
    let slot = usize::from(place == 7);
    let grant = Pick {
        age: [0, 0, 0, 0, 0, 1, 1, 2][usize::from(who % 8)],
        token: (who == 15).then_some(usize::from(what) % TOKENS),
    };
    let checkpoint = [None, None, Some(1), Some(2), Some(1), Some(2), Some(3), Some(4)][usize::from(what)];
    // No two sums of these are equal before some steps: a lease's end is seldom near a call.
    let seconds = |choices: [u64; 4], by: u8| Duration::from_secs(choices[usize::from(by) % 4]);
    let lease = seconds([20, 20, 45, 20], how);
    let keep_for =
        [None, Some(Duration::from_secs(50)), None, Some(Duration::from_secs(900))][usize::from(how) % 4];
    let reserve = || {
        let policy = if how >= 6 { Policy::Refuse } else { Policy::TakeOver };
        let retention = match (what, policy) {
            (7, Policy::TakeOver) => Duration::ZERO,
            _ => seconds([60, 300, 60, 300], what),
        };
        let meaning = if who == 14 { 2 } else { 1 };
        let token = [0, 1, 0, 1, 0, 1, 2, 2][usize::from(who % 8)];
        Deed::Reserve { token, meaning, policy, lease, retention }
    };
    let deed = match kind {
        0..34 => reserve(),
        34..46 => Deed::Complete { grant, keep_for },
        46..57 => Deed::Renew { grant, lease, checkpoint },
        57..60 => Deed::HandOver { grant, checkpoint },
        60..67 => Deed::Release { grant },
        67..73 => Deed::Lookup,
        73..76 => Deed::Collect { limit: if what < 4 { 1_000 } else { 1 } },
        76..81 if menu.operators => {
            let complete = (what < 4).then_some(keep_for);
            Deed::Resolve { seen: usize::from(who == 15), complete }
        }
        81..83 if menu.operators => Deed::Purge { grant },
        83..87 if menu.rewind => Deed::Rewind(seconds([4, 4, 8, 4], how)),
        83.. if menu.advance => {
            Deed::Advance(Duration::from_secs([27, 27, 27, 7, 7, 70, 70, 540][usize::from(what)]))
        }
        _ => reserve(),
    };
    Step { slot, deed }
}
