//! Killed, or stopped, at each step.

use std::process::{Output, Stdio};

use oncekey_example_killed::Victim;

use crate::kit::{ASK_AGAIN, Bank, CENTS, Order, said};

/// The program's steps in each way, in order.
const ONCE: (&str, &[&str]) = (
    "once",
    &[
        "before-begin",
        "after-begin",
        "after-reserve",
        "after-debit",
        "after-credit",
        "before-commit",
        "after-commit",
    ],
);
const COMPLETE_IN: (&str, &[&str]) = (
    "complete-in",
    &[
        "before-reserve",
        "after-reserve",
        "after-begin",
        "after-debit",
        "after-credit",
        "after-complete",
        "after-commit",
    ],
);
const WAYS: [(&str, &[&str]); 2] = [ONCE, COMPLETE_IN];

fn stopped_at(step: &str, bank: &Bank<'_>, way: &str, order: &Order) -> Victim {
    let mut victim = Victim::start(&mut bank.transfer(way, order), step).unwrap();
    assert!(victim.comes_to(step), "{way}: it ended before {step}");
    victim
}

#[test]
fn it_announces_every_step_of_a_transfer() {
    let bank = Bank::new();
    for (way, steps) in WAYS {
        let mut victim = Victim::start(&mut bank.transfer(way, &Order::new(way)), "none").unwrap();
        let announced: Vec<String> = std::iter::from_fn(|| victim.next_step()).collect();
        assert_eq!(announced, steps);
    }
}

#[test]
fn killed_at_any_step_a_transfer_is_whole_and_made_once() {
    let bank = Bank::new();
    let mut left = CENTS;
    for (way, steps) in WAYS {
        for step in steps {
            let when = format!("{way}, killed at {step}");
            let order = Order::new(&format!("{way}-{step}"));
            let end = stopped_at(step, &bank, way, &order).kill().unwrap();
            assert_eq!(end.said, "", "{when}: nobody has heard of it");
            bank.assert_whole(&when);
            assert_eq!(
                bank.made(&order.key),
                u32::from(*step == "after-commit"),
                "{when}: the transfers made"
            );

            let first = bank.ask(way, &order);
            left -= 500;
            assert!(
                first.ends_with(&format!("500 cents from ann to bob; ann has {left} left\n")),
                "{when}: {first}"
            );
            // In whichever way.
            for (way, _) in WAYS {
                assert_eq!(bank.ask(way, &order), first, "{when}: a replay is the first answer");
            }
            assert_eq!(bank.made(&order.key), 1, "{when}, and asked again");
            bank.assert_whole(&when);
        }
    }
}

#[test]
fn a_duplicate_of_a_transaction_that_stands_still_is_told_to_ask_again_and_then_replays() {
    let bank = Bank::new();
    for (way, step) in
        [("once", "after-reserve"), ("once", "before-commit"), ("complete-in", "after-complete")]
    {
        let order = Order::new(&format!("{way}-{step}"));
        let mut first = stopped_at(step, &bank, way, &order);
        // T3: after the lock timeout, and not when the first one ends.
        let other = bank.transfer("once", &order).output().unwrap();
        assert_eq!(other.status.code(), ASK_AGAIN, "{way}, {step}: {other:?}");
        first.go_on().unwrap();
        let end = first.end().unwrap();
        assert_eq!((end.code, &end.said), (Some(0), &bank.ask(way, &order)), "{way}, {step}: {end:?}");
        assert_eq!(bank.made(&order.key), 1);
    }
    bank.assert_whole("duplicates");
}

#[test]
fn a_holder_that_stood_still_and_was_taken_over_changes_nothing() {
    let bank = Bank::new();
    for step in ["after-reserve", "after-begin", "after-debit", "after-credit"] {
        let order = Order::new(step);
        let mut old = stopped_at(step, &bank, "complete-in", &order);
        // Its lease ends, and another one takes over; where the old one has the accounts, the other waits for them.
        let mut new = Victim::start(&mut bank.transfer("complete-in", &order), "none").unwrap();
        assert!(new.comes_to("after-reserve"));
        let waits = matches!(step, "after-debit" | "after-credit");
        if !waits {
            assert!(new.comes_to("after-commit"));
        }
        old.go_on().unwrap();
        let (old, new) = (old.end().unwrap(), new.end().unwrap());
        assert_eq!(old.code, ASK_AGAIN, "{step}: {old:?}");
        assert!(old.complaints.contains("taken over"), "{step}: {old:?}");
        assert_eq!((new.code, &new.said), (Some(0), &bank.ask("once", &order)), "{step}: {new:?}");
        assert_eq!(bank.made(step), 1, "{step}");
        bank.assert_whole(step);
    }
}

#[test]
fn asked_by_many_at_once_in_both_ways_a_transfer_is_made_once() {
    let bank = Bank::new();
    let order = Order::new("key-1");
    let ask = |way: &&str| bank.transfer(way, &order).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let children: Vec<_> = ["once", "complete-in"].repeat(4).iter().map(|way| ask(way).unwrap()).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let first = bank.ask("once", &order);
    for output in &outputs {
        // On a busy machine one that holds for longer than the lock timeout sends others away.
        assert!(matches!(output.status.code(), Some(0) | ASK_AGAIN), "{output:?}");
        assert!(!output.status.success() || said(output) == first, "{output:?}");
    }
    assert_eq!(bank.made("key-1"), 1);
    bank.assert_whole("asked by many");
}

#[test]
fn another_amount_under_the_same_key_is_refused_and_a_refusal_is_an_answer_that_stays() {
    for (way, _) in WAYS {
        let bank = Bank::new();
        let order = Order::new(way);
        bank.ask(way, &order);
        let other = bank.transfer(way, &Order { cents: 501, ..order.clone() }).output().unwrap();
        assert_eq!((other.status.code(), bank.made(way)), (Some(3), 1), "{other:?}");

        let much = Order { key: format!("{way}-much"), cents: CENTS + 1, ..order };
        let refuse = || bank.transfer(way, &much).output().unwrap();
        let (code, text) = (|o: &Output| o.status.code(), said);
        let first = refuse();
        assert_eq!(code(&first), Some(1), "{first:?}");
        bank.ask(way, &Order { key: format!("{way}-more"), from: "cyd", to: "ann", cents: 10_000 });
        let again = refuse();
        assert_eq!((code(&again), text(&again)), (Some(1), text(&first)), "though ann has it now");
        bank.assert_whole("refused");
    }
}
