//! The program, killed (SIGKILL) at every step and at random moments: the money is whole, each transfer is
//! made exactly once, and its first answer stays.
//!
//! ONCEKEY_ROUNDS: how many random kills (30 unless told otherwise). ONCEKEY_SEED: the seed of all that is
//! random; a failure prints it. A power cut is another matter: a killed process leaves its writes to the
//! system.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use fastrand::Rng;
use oncekey_example_killed::{Victim, a_moment, number};
use oncekey_sqlite::rusqlite::Connection;
use tempfile::TempDir;

/// The program's steps, in order.
const STEPS: [&str; 7] = [
    "before-begin",
    "after-begin",
    "after-reserve",
    "after-debit",
    "after-credit",
    "before-commit",
    "after-commit",
];

const ACCOUNTS: [&str; 3] = ["ann", "bob", "cyd"];
/// In each account at first. No transfer here exceeds what is left.
const CENTS: i64 = 1_000_000;

/// A bank in a file of its own.
struct Bank {
    folder: TempDir,
}

impl Bank {
    fn new() -> Self {
        let bank = Self { folder: tempfile::tempdir().unwrap() };
        let mut command = bank.command();
        for name in ACCOUNTS {
            command.arg(format!("--open={name}={CENTS}"));
        }
        assert!(command.status().unwrap().success());
        bank
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("bank.db")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transfer"));
        command.arg(self.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn transfer(&self, order: &Order) -> Command {
        let mut command = self.command();
        command.args([order.from, order.to, &order.cents.to_string(), "--key", &order.key]);
        command
    }

    /// Asks and hears the answer.
    fn ask(&self, order: &Order) -> String {
        let output = self.transfer(order).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{order:?}: {}, {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    fn number(&self, sql: &str) -> i64 {
        let db = Connection::open(self.path()).unwrap();
        db.query_one(sql, (), |row| row.get(0)).unwrap()
    }

    /// How often the transfer was made.
    fn made(&self, key: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM transfers WHERE key = '{key}'"))
    }

    fn balance(&self, name: &str) -> i64 {
        self.number(&format!("SELECT cents FROM accounts WHERE name = '{name}'"))
    }

    /// No money came or went, and each account is what its transfers say.
    fn assert_whole(&self, when: &str) {
        let all = i64::try_from(ACCOUNTS.len()).unwrap() * CENTS;
        assert_eq!(self.number("SELECT sum(cents) FROM accounts"), all, "all the money, {when}");
        let wrong = format!(
            "SELECT count(*) FROM accounts a WHERE cents != {CENTS} + (SELECT coalesce(sum(
                 CASE a.name WHEN creditor THEN cents WHEN debtor THEN -cents ELSE 0 END), 0) FROM transfers)"
        );
        assert_eq!(self.number(&wrong), 0, "accounts that differ from their transfers, {when}");
        let damage = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check != 'ok'";
        assert_eq!(self.number(damage), 0, "damage, {when}");
    }
}

#[derive(Clone, Debug)]
struct Order {
    key: String,
    from: &'static str,
    to: &'static str,
    cents: i64,
}

impl Order {
    fn new(key: &str) -> Self {
        Self { key: key.to_owned(), from: "ann", to: "bob", cents: 500 }
    }
}

#[test]
fn it_announces_every_step_of_a_transfer() {
    let bank = Bank::new();
    let mut victim = Victim::start(&mut bank.transfer(&Order::new("key-1")), "none").unwrap();
    let announced: Vec<String> = std::iter::from_fn(|| victim.next_step()).collect();
    assert_eq!(announced, STEPS);
}

#[test]
fn killed_at_any_step_a_transfer_is_whole_and_made_once() {
    let bank = Bank::new();
    for (step, number) in STEPS.into_iter().zip(1..) {
        let order = Order::new(step);
        let mut victim = Victim::start(&mut bank.transfer(&order), step).unwrap();
        assert!(victim.comes_to(step), "it ended before {step}");
        let answered = victim.kill().unwrap().said;

        let when = format!("killed at {step}");
        assert_eq!(answered, "", "{when}: nobody has heard of it");
        bank.assert_whole(&when);
        assert_eq!(bank.made(step), i64::from(step == "after-commit"), "{when}: the transfers made");

        let first = bank.ask(&order);
        assert_eq!(bank.ask(&order), first, "{when}: a replay is the first answer");
        let left = CENTS - 500 * number;
        assert!(
            first.ends_with(&format!("500 cents from ann to bob; ann has {left} left\n")),
            "{when}: {first}"
        );
        assert_eq!(bank.made(step), 1, "{when}, and asked again");
        bank.assert_whole(&when);
    }
    assert_eq!(bank.balance("bob"), CENTS + 500 * i64::try_from(STEPS.len()).unwrap());
}

#[test]
fn asked_by_many_at_once_a_transfer_is_made_once() {
    let bank = Bank::new();
    let order = Order::new("key-1");
    let children: Vec<Child> = (0..8).map(|_| bank.transfer(&order).spawn().unwrap()).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{output:?}");
        let answer = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(answer(output), answer(&outputs[0]));
    }
    assert_eq!(bank.made("key-1"), 1);
    bank.assert_whole("asked by many");
}

#[test]
fn another_amount_under_the_same_key_is_refused() {
    let bank = Bank::new();
    let order = Order::new("key-1");
    bank.ask(&order);
    let other = bank.transfer(&Order { cents: 501, ..order }).output().unwrap();
    assert_eq!(other.status.code(), Some(3), "{other:?}");
    assert_eq!((bank.made("key-1"), bank.balance("bob")), (1, CENTS + 500));
}

#[test]
fn a_refusal_is_an_answer_that_stays() {
    let bank = Bank::new();
    let order = Order { cents: CENTS + 1, ..Order::new("key-1") };
    let refuse = || bank.transfer(&order).output().unwrap();
    let first = refuse();
    assert_eq!(first.status.code(), Some(1), "{first:?}");
    bank.ask(&Order { from: "cyd", to: "ann", ..Order::new("key-2") });
    let again = refuse();
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((again.status.code(), said(&again)), (Some(1), said(&first)), "though ann has it now");
    bank.assert_whole("refused");
}

#[test]
fn killed_at_any_moment_transfers_are_whole_and_made_once() {
    let rounds = number("ONCEKEY_ROUNDS").unwrap().unwrap_or(30);
    let seed = number("ONCEKEY_SEED").unwrap().unwrap_or_else(|| fastrand::u64(..1_000_000_000_000));
    println!("{rounds} rounds, ONCEKEY_SEED={seed}");
    let bank = Bank::new();
    // Two clients at once: one writes on while the other dies.
    let clients: Vec<Vec<Order>> = std::thread::scope(|scope| {
        let client = |n: u64| {
            let bank = &bank;
            scope.spawn(move || client(bank, n, rounds.div_ceil(2), Rng::with_seed(seed.wrapping_add(n))))
        };
        let clients = [1, 2].map(client);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for order in clients.iter().flatten() {
        assert_eq!(bank.made(&order.key), 1, "{order:?}");
    }
    assert_eq!(bank.number("SELECT count(*) FROM transfers"), clients.concat().len() as i64);
}

/// Makes transfers until it has killed the program so often; each is asked for until it is answered, and then
/// once more.
fn client(bank: &Bank, n: u64, kills: u64, mut random: Rng) -> Vec<Order> {
    let (mut orders, mut killed) = (Vec::new(), 0);
    while killed < kills {
        let from = random.usize(..ACCOUNTS.len());
        let to = (from + random.usize(1..ACCOUNTS.len())) % ACCOUNTS.len();
        let key = format!("client-{n}-{}", orders.len());
        let order = Order { key, from: ACCOUNTS[from], to: ACCOUNTS[to], cents: random.i64(1..100) };
        let mut heard = String::new();
        while heard.is_empty() && killed < kills {
            heard = ask_and_kill(bank, &order, &mut random);
            killed += 1;
            assert!(bank.made(&order.key) <= 1, "{order:?}, killed {killed} times");
        }
        let answer = bank.ask(&order);
        assert!(heard.is_empty() || heard == answer, "{order:?}: heard {heard}, then {answer}");
        assert_eq!(bank.ask(&order), answer, "{order:?}");
        bank.assert_whole(&format!("client {n}, {killed} kills"));
        orders.push(order);
    }
    orders
}

/// Kills the program at a random moment after a random step; its answer, if it was out by then.
fn ask_and_kill(bank: &Bank, order: &Order, random: &mut Rng) -> String {
    let mut victim = Victim::start(&mut bank.transfer(order), "none").unwrap();
    for _ in 0..random.usize(..=STEPS.len()) {
        // An answered transfer has fewer steps.
        if victim.next_step().is_none() {
            break;
        }
    }
    a_moment(random.u32(..20));
    victim.kill().unwrap().said
}
