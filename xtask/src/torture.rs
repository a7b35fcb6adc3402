//! `cargo xtask torture`: the long proofs, each with a seed and a number of rounds.

use std::time::{Duration, Instant};

use lexopt::prelude::*;

use crate::tools;

/// A long proof: a test, in release, with the number of rounds and a seed in its environment.
struct Proof {
    name: &'static str,
    what: &'static str,
    /// Arguments of `cargo test --release`.
    test: &'static [&'static str],
    /// Set beside seed and rounds.
    env: &'static [(&'static str, &'static str)],
    rounds: Rounds,
}

/// Who counts the rounds.
enum Rounds {
    /// The test does, told by ONCEKEY_ROUNDS; so many unless the command says otherwise.
    Inside(u64),
    /// It is run so many times, each with the next seed.
    Runs(u64),
    /// It is exhaustive.
    None,
}

/// All of them. One more is one more entry.
const PROOFS: &[Proof] = &[
    Proof {
        name: "kill",
        what: "kill -9 of a process that reserves and completes on one SQLite file",
        test: &["-p", "oncekey-sqlite", "--test", "crash", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(1000),
    },
    Proof {
        name: "postgres-server",
        what: "kill -9 of a PostgreSQL server under clients that do anything",
        test: &["-p", "oncekey-postgres", "--test", "broken", "killed_server::", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(500),
    },
    Proof {
        name: "postgres-client",
        what: "kill -9 of a process of clients of a PostgreSQL server, and others in their place",
        test: &["-p", "oncekey-postgres", "--test", "broken", "killed_client::", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(500),
    },
    Proof {
        name: "postgres-wire",
        what: "connections to PostgreSQL that are cut behind every byte of every call",
        test: &["-p", "oncekey-postgres", "--test", "broken", "wire::", "--", "--nocapture"],
        // More places than any exchange has bytes.
        env: &[("ONCEKEY_ROUNDS", "100000")],
        rounds: Rounds::None,
    },
    Proof {
        name: "postgres-crowd",
        what: "clients of PostgreSQL that do anything, over connections that break all the time",
        test: &["-p", "oncekey-postgres", "--test", "broken", "suite::what_a_crowd", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(200),
    },
    Proof {
        name: "redis-server",
        what: "kill -9 of a Redis server with appendfsync always, under clients that do anything",
        test: &["-p", "oncekey-redis", "--test", "broken", "killed::", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(500),
    },
    Proof {
        name: "redis-wire",
        what: "connections to Redis that are cut behind every byte of every call",
        test: &["-p", "oncekey-redis", "--test", "broken", "wire::", "--", "--nocapture"],
        // More places than any exchange has bytes.
        env: &[("ONCEKEY_ROUNDS", "100000")],
        rounds: Rounds::None,
    },
    Proof {
        name: "redis-crowd",
        what: "clients of Redis that do anything, over connections that break all the time",
        test: &["-p", "oncekey-redis", "--test", "broken", "suite::what_a_crowd", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(200),
    },
    Proof {
        name: "redis-mishaps",
        what: "Redis under load: scripts forgotten, clients sent away, restarts, memory full, stops",
        test: &["-p", "oncekey-redis", "--test", "broken", "mishaps::", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(30),
    },
    Proof {
        name: "redis-slots",
        what: "slots that move between a cluster's masters under clients that do anything",
        test: &["-p", "oncekey-redis", "--test", "broken", "while_slots_move", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(10),
    },
    Proof {
        name: "redis-failover",
        what: "masters that fail, in a cluster and behind Sentinel: what was lost is counted",
        test: &["-p", "oncekey-redis", "--test", "broken", "failover", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(10),
    },
    Proof {
        name: "exec",
        what: "kill -9 of `oncekey exec` at any moment",
        test: &["-p", "oncekey-cli", "--test", "program", "rounds::", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(200),
    },
    Proof {
        name: "transfer",
        what: "kill -9 of a transfer of money that is done exactly once",
        test: &["-p", "oncekey-example-transfer", "killed_at_any_moment", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(1000),
    },
    Proof {
        name: "transfer-postgres",
        what: "kill -9 of transfers of money that are done exactly once in two ways, and of their server",
        test: &["-p", "oncekey-example-transfer-postgres", "killed_at_any_moment", "--", "--nocapture"],
        env: &[],
        rounds: Rounds::Inside(1000),
    },
    Proof {
        name: "search",
        what: "every state of two clients with two executors each",
        test: &["-p", "oncekey-core", "--all-features", "--test", "exhaustive", "--", "--nocapture"],
        env: &[("ONCEKEY_SEARCH", "deep")],
        rounds: Rounds::None,
    },
    Proof {
        name: "suite",
        what: "the conformance suite on memory, on SQLite in memory and on SQLite files",
        test: &[
            "--quiet",
            "-p",
            "oncekey-conformance",
            "--test",
            "memory",
            "-p",
            "oncekey-sqlite",
            "--test",
            "conformance_memory",
            "--test",
            "conformance_file",
        ],
        env: &[],
        rounds: Rounds::Runs(100),
    },
];

/// Runs the proofs that `args` name, or all, and prints what each took.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<bool, String> {
    let (mut seed, mut rounds, mut wanted) = (None, None, Vec::new());
    while let Some(arg) = args.next().map_err(|e| e.to_string())? {
        match arg {
            Long("seed") => seed = Some(number(&mut args)?),
            Long("rounds") => rounds = Some(number(&mut args)?),
            Long("list") => {
                for Proof { name, what, .. } in PROOFS {
                    println!("{name:<17} {what}");
                }
                return Ok(true);
            }
            Value(name) => wanted.push(name.string().map_err(|e| e.to_string())?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    if let Some(name) = wanted.iter().find(|name| !PROOFS.iter().any(|p| p.name == **name)) {
        return Err(format!("no proof `{name}`: cargo xtask torture --list"));
    }
    let seed = seed.unwrap_or_else(drawn);
    println!("seed {seed}");
    let mut figures = Vec::new();
    for proof in PROOFS.iter().filter(|p| wanted.is_empty() || wanted.iter().any(|w| w == p.name)) {
        println!("\n==== {}: {} ====", proof.name, proof.what);
        let begun = Instant::now();
        let result = prove(proof, seed, rounds);
        figures.push((proof, begun.elapsed(), result));
    }
    println!("\n==== cargo xtask torture, seed {seed} ====");
    for (proof, took, result) in &figures {
        println!("{}", figure(proof, *took, result));
    }
    Ok(figures.iter().all(|(.., result)| result.is_ok()))
}

/// Runs one proof; how many rounds it had.
fn prove(proof: &Proof, seed: u64, asked: Option<u64>) -> Result<u64, String> {
    let runs = match proof.rounds {
        Rounds::Runs(runs) => asked.unwrap_or(runs),
        Rounds::Inside(_) | Rounds::None => 1,
    };
    for run in 0..runs {
        let seed = seed.wrapping_add(run);
        let mut test = tools::cargo(["test", "--release"].iter().chain(proof.test).copied());
        test.env("ONCEKEY_SEED", seed.to_string()).envs(proof.env.iter().copied());
        if let Rounds::Inside(rounds) = proof.rounds {
            test.env("ONCEKEY_ROUNDS", asked.unwrap_or(rounds).to_string());
        }
        tools::status(&mut test).map_err(|why| {
            format!("round {} of {runs}: {why}\n  repeat it with: cargo xtask torture --seed {seed} --rounds 1 {}", run + 1, proof.name)
        })?;
    }
    Ok(match proof.rounds {
        Rounds::Inside(rounds) => asked.unwrap_or(rounds),
        Rounds::Runs(_) | Rounds::None => runs,
    })
}

fn figure(proof: &Proof, took: Duration, result: &Result<u64, String>) -> String {
    let (took, name, what) = (took.as_secs_f64(), proof.name, proof.what);
    match (result, &proof.rounds) {
        (Ok(_), Rounds::None) => format!("{took:>8.1} s  ok      {name:<17} {what}"),
        (Ok(rounds), _) => format!("{took:>8.1} s  ok      {name:<17} {rounds} rounds: {what}"),
        (Err(why), _) => format!("{took:>8.1} s  FAILED  {name:<17} {why}"),
    }
}

fn number(args: &mut lexopt::Parser) -> Result<u64, String> {
    args.value().map_err(|e| e.to_string())?.parse().map_err(|e| e.to_string())
}

/// A seed for a run that was given none; short enough to be typed from a screen.
fn drawn() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() % 1_000_000_000_000
}
