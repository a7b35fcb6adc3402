//! A master behind Sentinel fails over, under load.

use oncekey_redis::RedisStore;
use oncekey_storm::crowd::{Crowd, Member};
use oncekey_storm::deed::LEASE;
use oncekey_storm::ledger::Ledger;
use oncekey_storm::rounds::{random, rounds};
use oncekey_testbed::redis::Watched;

use crate::bench::answers;
use crate::cluster::Lost;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_failover_the_store_finds_the_new_master() {
    let (mut random, watched) = (random(), Watched::start().unwrap());
    let store = || RedisStore::builder().connect_lazy(&watched.url()).unwrap();
    let members: Vec<Member> = (0..6).map(|_| store().into()).collect();
    let mut lost = Lost::default();
    for round in 0..rounds(1) {
        let crowd = Crowd::new(format!("failover-{round}"), LEASE, Ledger::still());
        let mut clients = crowd.start(&members, &mut random);
        tokio::task::block_in_place(|| {
            answers(&crowd, 200);
            let master = watched.master().unwrap();
            master.kill().unwrap();
            crowd.ledger.trouble();
            watched.has_another_master(master).unwrap();
            answers(&crowd, 200);
            master.start_again().unwrap();
            watched.agrees().unwrap();
        });
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        lost.count(&crowd, &store()).await;
    }
    println!("failovers: {lost}");
}
