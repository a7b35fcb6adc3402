//! A master behind Sentinel fails over under load, and a sentinel is silent.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use oncekey_conformance::history::{Call, Moment};
use oncekey_redis::{
    Fingerprint, IdempotencyStore, Principal, RedisStore, ReservationOutcome, ReserveRequest, Terms, Token,
};
use oncekey_storm::crowd::{Crowd, Member};
use oncekey_storm::deed::LEASE;
use oncekey_storm::ledger::Ledger;
use oncekey_storm::loss::Lost;
use oncekey_storm::rounds::{random, rounds};
use oncekey_testbed::redis::Watched;
use oncekey_testbed::wait_until;

use crate::bench::{answers, until_promoted};
use crate::cluster::look_at_all;

const CLIENTS: usize = 6;

/// How a master ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Killed,
    /// And nobody has what it acknowledged last.
    KilledAlone,
    /// It comes back as the master that it was, with what lies in its sockets.
    Stopped,
}

/// What it may lose is in docs/guarantees.md; no other answer is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_failover_the_store_finds_the_new_master() {
    let (mut random, watched) = (random(), Watched::start().unwrap());
    let store = || RedisStore::builder().connect_lazy(&watched.url()).unwrap();
    let members: Vec<Member> = (0..CLIENTS).map(|_| store().into()).collect();
    let ends = [End::Killed, End::KilledAlone, End::Stopped];
    let mut lost = ends.map(|end| (end, Lost::default()));
    for round in 0..rounds(1) {
        for (end, lost) in &mut lost {
            let crowd = Crowd::new(format!("failover-{round}-{end:?}"), LEASE, Ledger::still());
            let mut clients = crowd.start(&members, &mut random);
            let moment = tokio::task::block_in_place(|| fails_over(&watched, &crowd, *end));
            crowd.stop();
            while let Some(ended) = clients.join_next().await {
                ended.unwrap();
            }
            look_at_all(&crowd, &store()).await;
            lost.settle(&format!("failover, {end:?}"), &crowd.ledger, moment);
        }
    }
    for (end, lost) in &lost {
        println!("{end:?}: {lost}");
        assert!(lost.kept() > 0, "all was lost");
        assert!(
            *end != End::KilledAlone || !lost.slots().is_empty(),
            "nothing was lost, so nothing was shown"
        );
    }
}

/// When the master had answered all that it ever did, and its successor nothing.
fn fails_over(watched: &Watched, crowd: &Crowd, end: End) -> Moment {
    answers(crowd, 200);
    let master = watched.master().unwrap();
    let replica = watched.servers().iter().find(|server| server.pid() != master.pid()).unwrap();
    match end {
        End::Killed => master.kill().unwrap(),
        End::KilledAlone => {
            master.forget_replicas().unwrap();
            answers(crowd, 50);
            master.kill().unwrap();
        }
        End::Stopped => master.stop(),
    }
    crowd.ledger.trouble();
    let moment = until_promoted(crowd, replica);
    watched.has_another_master(master).unwrap();
    until_all_are_answered(crowd, moment);
    match end {
        End::Stopped => master.cont(),
        _ => master.start_again().unwrap(),
    }
    watched.agrees().unwrap();
    answers(crowd, 200);
    moment
}

/// By the new master: none waits for the one before any more.
fn until_all_are_answered(crowd: &Crowd, since: Moment) {
    wait_until("an answer to each client", Duration::from_secs(120), || {
        let late = |call: &Call| call.answered.as_ref().is_some_and(|(at, _)| at.order > since.order);
        let all = crowd.ledger.all();
        let heard: BTreeSet<usize> = all
            .iter()
            .flat_map(|(_, calls)| calls)
            .filter(|call| late(call))
            .map(|call| call.client)
            .collect();
        if heard.len() == CLIENTS { Ok(()) } else { Err(format!("to {heard:?}")) }
    })
    .unwrap();
}

/// Each of these writes has a connection to itself, and each asks who the master is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_first_sentinel_that_says_nothing_holds_nobody_up_for_long() {
    const WRITES: u32 = 32;
    let watched = Watched::start().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = watched.url().replacen("://", &format!("://{},", silent.local_addr().unwrap()), 1);
    let builder = RedisStore::builder().wait_for_replicas(1, Duration::from_secs(1));
    let store = builder.call_deadline(Duration::from_secs(8)).connect_lazy(&url).unwrap();
    let principal = Principal::new("sentinels").unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..WRITES {
        let (store, slot) = (store.clone(), principal.slot(n.to_string()).unwrap());
        let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), Terms::default());
        writes.spawn(async move { store.reserve_or_fetch(&slot, Token::fresh(), &request).await });
    }
    while let Some(written) = writes.join_next().await {
        let written = written.unwrap().unwrap();
        assert!(matches!(written, ReservationOutcome::Reserved(_)), "{written:?}");
    }
}
