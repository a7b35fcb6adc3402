//! The conformance suite on stores that are opened in this way and that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncekey_conformance::{
    BoxError, Capability, Case, Harness, Level, Namespace, Options, ShiftTime, TimeControl, cases, run,
};
use oncekey_postgres::sqlx::postgres::PgPool;
use oncekey_postgres::{ClockOffset, IdempotencyStore, PostgresStore, PostgresStoreBuilder, async_trait};

const STALL: Duration = Duration::from_secs(4);

/// How the suite's clients get at their database.
#[derive(Clone, Debug)]
pub enum Way {
    /// A pool of the store's own.
    Own(String),
    /// By a pooler in transaction mode, on so many connections.
    Pooler(String, u32),
    /// The pool of an application, which each client shares.
    Theirs(PgPool),
}

/// Stores in a database with settings of its own.
#[derive(Debug)]
struct Tables {
    name: &'static str,
    way: Way,
}

impl Tables {
    fn connect(&self, builder: PostgresStoreBuilder) -> Result<PostgresStore, BoxError> {
        Ok(match &self.way {
            Way::Own(url) => builder.connect_lazy(url)?,
            Way::Pooler(url, connections) => {
                builder.transaction_pooler().connections(*connections).connect_lazy(url)?
            }
            Way::Theirs(pool) => {
                let opened = builder.from_pool(pool.clone());
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(opened))?
            }
        })
    }
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

#[async_trait]
impl Harness for Tables {
    fn name(&self) -> &str {
        self.name
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let offset = ClockOffset::shiftable();
        let table = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // A busy machine may stall a session that holds a row's lock for longer than the default, and the others
        // hear `InFlight` (T3), which is no answer of the state machine.
        let builder = PostgresStore::builder().table(table).without_notifications();
        let builder = builder.clock_offset(offset.clone()).lock_timeout(STALL);
        self.connect(builder.clone())?.ensure_schema().await?;
        let this = Self { name: self.name, way: self.way.clone() };
        let connect = move || Ok(Arc::new(this.connect(builder.clone())?) as _);
        Ok(Namespace::new(TimeControl::Shift(Arc::new(Clock(offset))), connect))
    }
}

/// The cases that `fit`, but for those of who is woken: no matter of sessions.
pub fn options_for(fit: impl Fn(&Case) -> bool) -> Options {
    let wanted = cases().into_iter().filter(|case| fit(case) && !case.needs.contains(&Capability::Wake));
    wanted.fold(Options::from_env().unwrap(), |options, case| options.only(case.id))
}

pub fn levels(levels: &[Level]) -> Options {
    options_for(|case| levels.contains(&case.level))
}

#[track_caller]
pub fn passes(name: &'static str, way: Way, options: &Options) {
    let tables: Arc<dyn Harness> = Arc::new(Tables { name, way });
    let report = run(&tables, options);
    assert!(report.passed(), "{report}");
    println!(
        "{} cases of {}, in {:?}, seed {}",
        report.results.len(),
        report.store,
        report.elapsed,
        report.seed
    );
}
