//! A master behind Sentinel fails over under load, and a sentinel is silent.

use std::net::TcpListener;
use std::time::Duration;

use oncekey_redis::{
    Fingerprint, IdempotencyStore, Principal, RedisStore, ReservationOutcome, ReserveRequest, Terms, Token,
};
use oncekey_storm::crowd::{Crowd, Member};
use oncekey_storm::deed::LEASE;
use oncekey_storm::ledger::Ledger;
use oncekey_storm::loss::Lost;
use oncekey_storm::rounds::{random, rounds};
use oncekey_testbed::redis::Watched;

use crate::bench::{answers, until_promoted};
use crate::cluster::look_at_all;

/// What it may lose is in docs/guarantees.md; no other answer is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_failover_the_store_finds_the_new_master() {
    let (mut random, watched) = (random(), Watched::start().unwrap());
    let store = || RedisStore::builder().connect_lazy(&watched.url()).unwrap();
    let members: Vec<Member> = (0..6).map(|_| store().into()).collect();
    let (mut as_it_comes, mut cut_off) = (Lost::default(), Lost::default());
    for round in 0..2 * rounds(1) {
        let crowd = Crowd::new(format!("failover-{round}"), LEASE, Ledger::still());
        let mut clients = crowd.start(&members, &mut random);
        let moment = tokio::task::block_in_place(|| {
            answers(&crowd, 200);
            let master = watched.master().unwrap();
            let replica = watched.servers().iter().find(|server| server.pid() != master.pid()).unwrap();
            if round % 2 == 1 {
                master.forget_replicas().unwrap();
                answers(&crowd, 50);
            }
            master.kill().unwrap();
            crowd.ledger.trouble();
            let moment = until_promoted(&crowd, replica);
            watched.has_another_master(master).unwrap();
            answers(&crowd, 200);
            master.start_again().unwrap();
            watched.agrees().unwrap();
            moment
        });
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        look_at_all(&crowd, &store()).await;
        let lost = if round % 2 == 1 { &mut cut_off } else { &mut as_it_comes };
        lost.settle("failover", &crowd.ledger, moment);
    }
    println!("failovers: {as_it_comes}\nof a master that was cut off from its replica: {cut_off}");
    assert!(as_it_comes.kept() > 0 && cut_off.kept() > 0, "all was lost");
    assert!(!cut_off.slots().is_empty(), "nothing was lost, so nothing was shown");
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
