//! The suite over a wire: its cases of calls that fail, on connections that break; its races and histories, on
//! connections that are slow. And a crowd of our own, on connections that break all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use fastrand::Rng;
use oncekey_conformance::history::Tolerance;
use oncekey_conformance::{
    BoxError, Capabilities, Capability, Faults as _, Harness, Namespace, ShiftTime, TimeControl,
};
use oncekey_postgres::sqlx::postgres::PgPoolOptions;
use oncekey_postgres::{ClockOffset, IdempotencyStore, PostgresStoreBuilder, async_trait};
use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::Proxy;
use oncekey_testbed::wait_until;

use crate::bench::{SLACK, server, table};
use oncekey_storm::crowd::{Crowd, Member};
use oncekey_storm::deed::LEASE;
use oncekey_storm::ledger::Ledger;
use oncekey_storm::rounds::{random, rounds};
use oncekey_storm::sabotage::{SILENCE, Saboteur};
use oncekey_storm::suite::{needs_faults, passes, races};

/// Stores behind a proxy. Each byte comes a little late; none is lost unless the case says so.
#[derive(Debug)]
struct OverAWire {
    impatient: bool,
}

struct Clock(ClockOffset);

impl ShiftTime for Clock {
    fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
    fn rewind(&self, by: Duration) -> bool {
        self.0.rewind(by);
        true
    }
}

/// How long they wait for a lock; and the default.
const BRIEFLY: Duration = Duration::from_millis(200);
const USUALLY: Duration = Duration::from_secs(1);

/// Calls give up before a long silence ends, and have some tries before that.
fn impatient(builder: PostgresStoreBuilder) -> PostgresStoreBuilder {
    builder
        .lock_timeout(BRIEFLY)
        .statement_deadline(Duration::from_millis(700))
        .call_deadline(SILENCE - Duration::from_millis(300))
}

#[async_trait]
impl Harness for OverAWire {
    fn name(&self) -> &str {
        "postgres, over a wire"
    }

    fn capabilities(&self) -> Capabilities {
        // A notification may be lost on such a wire, and then a watch is a hint that never comes.
        Capabilities::all().with(Capability::Faults).without(Capability::Wake)
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let (_, builder, offset) = table();
        let proxy = Arc::new(Proxy::before(server().socket())?);
        let url = server().url_by(proxy.address(), "postgres");
        let store = builder.clone().connect_lazy(&url)?;
        store.ensure_schema().await?;
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

/// A member of a crowd with one connection at a time, counted.
async fn member(builder: PostgresStoreBuilder, url: &str) -> Member {
    let connections = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&connections);
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = pool.after_connect(move |_, _| {
        counts.fetch_add(1, SeqCst);
        Box::pin(std::future::ready(Ok(())))
    });
    let pool = pool.connect_lazy(url).unwrap();
    loop {
        // One that is so hasty may need some tries.
        match builder.clone().from_pool(pool.clone()).await {
            Ok(store) => return Member { store: Arc::new(store), connections: Some(connections) },
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_crowd_hears_over_connections_that_break_has_an_order() {
    let (mut random, rounds) = (random(), rounds(6));
    let (_, builder, _) = table();
    let proxy = Arc::new(Proxy::before(server().socket()).unwrap());
    let url = server().url_by(proxy.address(), "postgres");
    builder.clone().connect_lazy(&url).unwrap().ensure_schema().await.unwrap();
    let very = impatient(builder.clone()).call_deadline(Duration::from_millis(30));
    let mut members = Vec::new();
    for builder in [builder.clone(), impatient(builder.clone()), impatient(builder), very] {
        members.push(member(builder, &url).await);
    }
    let saboteur = Saboteur::before(proxy, random.fork());
    for round in 0..rounds {
        let crowd = Crowd::new(format!("{round}"), LEASE, Ledger::still().doubting(&[BRIEFLY, USUALLY]));
        saboteur.begin();
        let mut clients = crowd.start(&members, &mut random);
        let look = || match crowd.answers() {
            200.. => Ok(()),
            n => Err(format!("{n} answers")),
        };
        tokio::task::block_in_place(|| wait_until("answers to the crowd", 12 * SLACK, look)).unwrap();
        saboteur.end();
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        crowd.ledger.settle(&format!("round {round}"), Tolerance::COARSE);
    }
}
