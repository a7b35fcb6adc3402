//! Killed at any moment, many times.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;

use fastrand::Rng;
use oncekey_example_killed::{Victim, a_moment, number};
use oncekey_testbed::postgres::Server;
use tempfile::NamedTempFile;

use crate::kit::{ACCOUNTS, Bank, Order};

/// Programs at once, in each round.
const CLIENTS: u64 = 3;
/// Transfers in a round. Each client is asked for most of them, so that most are asked for by several at once.
const ORDERS: usize = 24;
/// One round in so many has its server killed too.
const SERVER_KILLS: u32 = 16;

/// What a client was answered, by key: status and text.
type Answers = BTreeMap<String, String>;

#[test]
fn killed_at_any_moment_transfers_are_whole_and_made_once() {
    let rounds = number("ONCEKEY_ROUNDS").unwrap().unwrap_or(6);
    let seed = number("ONCEKEY_SEED").unwrap().unwrap_or_else(|| fastrand::u64(..1_000_000_000_000));
    println!("{rounds} rounds, ONCEKEY_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    // A start after a kill flushes all files, and one by one that takes seconds.
    let server = Server::builder().setting("recovery_init_sync_method", "syncfs").start().unwrap();
    let bank = Bank::on(&server);
    let (mut heard, mut made, mut kills) = (0, 0, 0);
    for round in 0..rounds {
        // At least one, however few the rounds.
        let kills_server = round == rounds / 2 || random.u32(..SERVER_KILLS) == 0;
        kills += u32::from(kills_server);
        let when = format!("ONCEKEY_SEED={seed}, round {round}, server killed: {kills_server}");
        let orders: Vec<Order> = (0..ORDERS).map(|n| order(&format!("{round}-{n}"), &mut random)).collect();
        let acknowledged = thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|client| {
                let (mut random, orders, bank, server) = (random.fork(), &orders, &bank, &server);
                let kills_server = kills_server && client == 0;
                scope.spawn(move || killed(bank, kills_server.then_some(server), orders, &mut random))
            });
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<Answers>>()
        });
        bank.assert_whole(&when);

        // Whoever was answered heard what everybody hears now.
        let answers = all_answers(&bank, &orders, &mut random);
        for (key, answer) in acknowledged.iter().flatten() {
            assert_eq!(answer, &answers[key], "{when}: {key}");
        }
        assert_eq!(all_answers(&bank, &orders, &mut random), answers, "{when}: a replay is the first answer");
        bank.assert_whole(&when);
        let list = format!("SELECT key FROM transfers WHERE key LIKE '{round}-%' ORDER BY key COLLATE \"C\"");
        let listed = bank.query(&list);
        let expected: Vec<&str> = answers
            .iter()
            .filter(|(_, answer)| answer.starts_with("201 "))
            .map(|(key, _)| key.as_str())
            .collect();
        assert_eq!(listed.lines().collect::<Vec<_>>(), expected, "{when}: the transfers made");
        heard += acknowledged.iter().map(Answers::len).sum::<usize>();
        made += expected.len();
    }
    let killed = rounds * CLIENTS;
    println!(
        "{killed} programs and {kills} servers killed; {made} transfers made, {heard} answers heard before"
    );
}

/// Some money from one account to another; now and then more than there is.
fn order(key: &str, random: &mut Rng) -> Order {
    let from = random.usize(..ACCOUNTS.len());
    let to = (from + random.usize(1..ACCOUNTS.len())) % ACCOUNTS.len();
    let cents = if random.u32(..16) == 0 { 1_000_000_000 } else { random.i64(1..100) };
    Order { key: key.to_owned(), from: ACCOUNTS[from], to: ACCOUNTS[to], cents }
}

/// The orders as a file of the program's, in another order, each to be done in one way or the other.
fn file(orders: &[Order], random: &mut Rng) -> NamedTempFile {
    let mut orders: Vec<&Order> = orders.iter().collect();
    random.shuffle(&mut orders);
    let mut text = String::new();
    for Order { key, from, to, cents } in orders {
        let way = random.choice(["once", "complete-in"]).unwrap();
        writeln!(text, "{way} {key} {from} {to} {cents}").unwrap();
    }
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// A program with most of the orders, killed at a random moment after a random step, and the server before it,
/// if there is one; what it had answered until then.
fn killed(bank: &Bank<'_>, server: Option<&Server>, orders: &[Order], random: &mut Rng) -> Answers {
    let most: Vec<Order> = orders.iter().filter(|_| random.u32(..4) != 0).cloned().collect();
    let file = file(&most, random);
    let mut command = bank.command();
    command.arg("--orders").arg(file.path()).arg(format!("--at-once={}", random.u32(1..=6)));
    let mut victim = Victim::start(&mut command, "none").unwrap();
    if let Some(server) = server {
        // Near the begin: the steps before it are announced already when it happens.
        after_steps(&mut victim, random.usize(..ORDERS * 2), random);
        server.kill().unwrap();
        server.start_again().unwrap();
    }
    after_steps(&mut victim, random.usize(..ORDERS * 6), random);
    let end = victim.kill().unwrap();
    assert_eq!(end.complaints, "");
    // The last line may be a part of one.
    answers(end.said.rsplit_once('\n').map_or("", |(whole, _)| whole))
}

fn after_steps(victim: &mut Victim, steps: usize, random: &mut Rng) {
    for _ in 0..steps {
        if victim.next_step().is_none() {
            break;
        }
    }
    a_moment(random.u32(..20));
}

/// What a program says that nobody kills.
fn all_answers(bank: &Bank<'_>, orders: &[Order], random: &mut Rng) -> Answers {
    let file = file(orders, random);
    let output = bank.command().arg("--orders").arg(file.path()).arg("--at-once=8").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    answers(&crate::kit::said(&output))
}

fn answers(said: &str) -> Answers {
    let lines = said.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(key, answer)| (key.to_owned(), answer.to_owned())).collect()
}
