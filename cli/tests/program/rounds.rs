//! Rounds of kill -9 at random moments.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;

use crate::kit::Place;

/// `ONCEKEY_ROUNDS` and `ONCEKEY_SEED`, or a short run with a drawn seed.
fn asked() -> (usize, u64) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
    };
    let rounds = number("ONCEKEY_ROUNDS").unwrap_or(5);
    (usize::try_from(rounds).unwrap(), number("ONCEKEY_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)))
}

/// Each round has a key of its own. Calls are made until one ends with 0; most are killed before. The log
/// then tells what ran.
#[test]
fn whenever_it_is_killed_a_key_runs_at_most_once_per_attempt_and_never_after_its_answer() {
    let (rounds, seed) = asked();
    let mut random = fastrand::Rng::with_seed(seed);
    let place = Place::new();
    for round in 0..rounds {
        let key = format!("key-{round}");
        let log = format!("log-{round}");
        // Begun, and ended: what lies between is where a kill leaves a doubt.
        let script = format!(
            "echo b $ONCEKEY_ATTEMPT $ONCEKEY_FENCE >> {log}
            echo e $ONCEKEY_ATTEMPT $ONCEKEY_FENCE >> {log}; echo $ONCEKEY_ATTEMPT"
        );
        let call = || place.exec(&key).with(["--lease", "50ms", "--wait", "20s"]).sh(&script);
        let story = |lines: &[String]| format!("ONCEKEY_SEED={seed}, round {round}: {lines:?}");

        for _ in 0..random.usize(1..4) {
            let mut running = call().start();
            // A moment anywhere in the 20 ms or so that a call takes.
            std::thread::park_timeout(Duration::from_micros(random.u64(0..25_000)));
            running.signal(Signal::KILL);
        }
        let answer = call().run();
        let lines = place.lines(&log);
        assert_eq!(answer.code, Some(0), "{}: {answer:?}", story(&lines));
        // Replayed, by several at once, and nothing runs any more.
        let again: Vec<_> = (0..3).map(|_| call().start()).collect();
        for one in again {
            // On a busy machine the one that ran may have said that its short lease ran out meanwhile.
            let one = one.end();
            assert_eq!((one.code, &one.out), (answer.code, &answer.out), "{}", story(&lines));
        }
        assert_eq!(place.lines(&log), lines, "ran after its answer: {}", story(&lines));

        let mut begun: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        let mut ended = Vec::new();
        for line in &lines {
            let words: Vec<&str> = line.split(' ').collect();
            let (attempt, fence): (u64, u64) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            match words[0] {
                "b" => begun.entry(attempt).or_insert((fence, 0)).1 += 1,
                _ => ended.push(attempt),
            }
        }
        for (attempt, (_, times)) in &begun {
            assert_eq!(*times, 1, "attempt {attempt} ran {times} times: {}", story(&lines));
        }
        let fences: Vec<u64> = begun.values().map(|(fence, _)| *fence).collect();
        assert!(fences.is_sorted_by(|a, b| a < b), "fences: {}", story(&lines));
        let winner: u64 = answer.out().trim().parse().unwrap();
        assert_eq!(ended.iter().filter(|e| **e == winner).count(), 1, "the answer's: {}", story(&lines));
        assert_eq!(begun.keys().max(), Some(&winner), "nothing began after it: {}", story(&lines));
    }
}
