//! How long a test is, and what it draws.

/// A count of rounds from `ONCEKEY_ROUNDS`, or few.
pub fn rounds(few: u64) -> u64 {
    std::env::var("ONCEKEY_ROUNDS").map_or(few, |n| n.parse().expect("ONCEKEY_ROUNDS is a number"))
}

/// A generator seeded from `ONCEKEY_SEED`, or anew; the seed is printed, for a failure to be replayed.
pub fn random() -> fastrand::Rng {
    let seed = std::env::var("ONCEKEY_SEED").map_or_else(
        |_| fastrand::u64(..1_000_000_000_000),
        |n| n.parse().expect("ONCEKEY_SEED is a number"),
    );
    println!("ONCEKEY_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
