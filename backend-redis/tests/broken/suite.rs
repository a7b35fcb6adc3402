//! The suite over a wire: its cases of calls that fail, on connections that break; its races and histories, on
//! connections that are slow. And a crowd of our own, on connections that break all the time.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fastrand::Rng;
use oncekey_conformance::history::Tolerance;
use oncekey_conformance::{BoxError, Capabilities, Capability, Faults as _, Harness, Namespace, TimeControl};
use oncekey_redis::{RedisStoreBuilder, async_trait};
use oncekey_storm::crowd::{Crowd, Member};
use oncekey_storm::deed::LEASE;
use oncekey_storm::ledger::Ledger;
use oncekey_storm::rounds::{random, rounds};
use oncekey_storm::sabotage::{SILENCE, Saboteur};
use oncekey_storm::suite::{needs_faults, passes, races};
use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::Proxy;

use crate::bench::{answers, prefix, server};
use crate::common::suite::Clock;

/// Stores behind a proxy. Each byte comes a little late; none is lost unless the case says so.
#[derive(Debug)]
struct OverAWire {
    impatient: bool,
}

/// Calls give up before a long silence ends.
fn impatient(builder: RedisStoreBuilder) -> RedisStoreBuilder {
    builder.call_deadline(SILENCE - Duration::from_millis(300))
}

#[async_trait]
impl Harness for OverAWire {
    fn name(&self) -> &str {
        "redis, over a wire"
    }

    fn capabilities(&self) -> Capabilities {
        // What is published may be lost on such a wire, and then a watch is a hint that never comes.
        Capabilities::all().with(Capability::Faults).without(Capability::Wake)
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let (builder, offset) = prefix();
        let proxy = Arc::new(Proxy::before(server().socket())?);
        let url = server().url_by(proxy.address(), 0);
        for direction in [ToServer, ToClient] {
            proxy.delay(direction, Duration::from_micros(fastrand::u64(..2_000)));
        }
        let faults = Saboteur::before(Arc::clone(&proxy), Rng::new());
        let builder = if self.impatient { impatient(builder) } else { builder };
        let connect = move || Ok(Arc::new(builder.clone().connect_lazy(&url)?) as _);
        let time = TimeControl::Shift(Arc::new(Clock(offset)));
        Ok(Namespace::new(time, connect).with_faults(faults).keeping(proxy))
    }
}

/// They are all that the suite's other runs leave out.
#[test]
fn the_suites_calls_that_fail_say_their_effect_and_may_be_repeated() {
    passes(OverAWire { impatient: true }, needs_faults);
}

#[test]
fn the_suites_races_and_histories_hold_on_slow_connections() {
    passes(OverAWire { impatient: false }, races);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_crowd_hears_over_connections_that_break_has_an_order() {
    let (mut random, rounds) = (random(), rounds(6));
    // Not its clock moves, but its connections break: a replay may come by the key alone.
    let builder = oncekey_redis::RedisStore::builder().prefix("crowd-over-a-wire");
    let proxy = Arc::new(Proxy::before(server().socket()).unwrap());
    let url = server().url_by(proxy.address(), 0);
    let very = builder.clone().call_deadline(Duration::from_millis(30));
    let member = |builder: RedisStoreBuilder| {
        let connections = Arc::new(AtomicU64::new(0));
        let store = builder.counting_connections(Arc::clone(&connections)).connect_lazy(&url);
        Member { store: Arc::new(store.unwrap()), connections: Some(connections) }
    };
    let members: Vec<Member> =
        [builder.clone(), impatient(builder.clone()), impatient(builder), very].map(member).into();
    let saboteur = Saboteur::before(proxy, random.fork());
    for round in 0..rounds {
        let crowd = Crowd::new(format!("{round}"), LEASE, Ledger::still());
        saboteur.begin();
        let mut clients = crowd.start(&members, &mut random);
        tokio::task::block_in_place(|| answers(&crowd, 200));
        saboteur.end();
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        crowd.ledger.settle(&format!("round {round}"), Tolerance::COARSE);
    }
}
