//! Servers that start again, and sessions that somebody ends, in the middle of a load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncekey_postgres::{
    CompleteOutcome, Effect, Entry, Grant, IdempotencyStore, PostgresStore, ReleaseOutcome, RenewOutcome,
    Renewal, ReservationOutcome, Token,
};
use oncekey_testbed::postgres::Server;
use tokio::task::JoinSet;

use crate::kit::{
    HOUR, SOON, answer, database, eventually, fails_or_unknown, granted, in_time, plain, pool, random,
    request, run, server, slot, works,
};

/// What a caller was told last of its slot.
#[derive(Clone, Debug)]
enum Told {
    /// Nothing that says what is there.
    Unknown,
    /// Reserve failed, and surely had no effect.
    NotReserved,
    Reserved(Grant),
    Completed(Grant),
    Released,
}

/// Callers that reserve, renew and complete or release slots of their own, until they are told to stop.
struct Load {
    stop: AtomicBool,
    answers: AtomicU64,
    errors: AtomicU64,
    told: Mutex<BTreeMap<String, Told>>,
}

impl Load {
    fn start(stores: &[PostgresStore], callers: usize) -> (Arc<Self>, JoinSet<()>) {
        let load = Arc::new(Self {
            stop: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            told: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (load, store) = (Arc::clone(&load), stores[caller % stores.len()].clone());
            tasks.spawn(async move {
                for n in 0.. {
                    if load.stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let key = format!("{caller}-{n}");
                    let told = load.one(&store, &key, n).await;
                    load.told.lock().unwrap().insert(key, told);
                }
            });
        }
        (load, tasks)
    }

    fn heard<T>(&self, said: Result<T, oncekey_postgres::StoreError>) -> Result<T, Effect> {
        match said {
            Ok(answer) => {
                self.answers.fetch_add(1, Ordering::SeqCst);
                Ok(answer)
            }
            Err(error) => {
                fails_or_unknown(&error);
                self.errors.fetch_add(1, Ordering::SeqCst);
                Err(error.effect())
            }
        }
    }

    /// A slot's life. Nobody else knows of it, so that there is one right answer to each call.
    async fn one(&self, store: &PostgresStore, key: &str, n: u64) -> Told {
        let at = slot(key);
        let grant = match self.heard(store.reserve_or_fetch(&at, Token::fresh(), &request()).await) {
            Ok(ReservationOutcome::Reserved(grant)) if grant.attempt == 1 => grant,
            Ok(other) => panic!("{key}: {other:?}"),
            Err(Effect::NotApplied) => return Told::NotReserved,
            Err(Effect::Unknown) => return Told::Unknown,
        };
        if n.is_multiple_of(3) {
            match self.heard(store.renew(&at, &grant, &Renewal::extend(HOUR).unwrap()).await) {
                Ok(RenewOutcome::Renewed(_)) | Err(_) => {}
                Ok(other) => panic!("{key}: {other:?}"),
            }
        }
        let ended = if n.is_multiple_of(5) {
            self.heard(store.release(&at, &grant).await).map(|said| {
                assert_eq!(said, ReleaseOutcome::Released, "{key}");
                Told::Released
            })
        } else {
            self.heard(store.complete(&at, &grant, &answer(key)).await).map(|said| match said {
                // The second where an earlier try of this very call was committed.
                CompleteOutcome::Stored | CompleteOutcome::AlreadyStored(_) => Told::Completed(grant.clone()),
                CompleteOutcome::Lost(loss) => panic!("{key}: {loss:?}"),
            })
        };
        match ended {
            Ok(told) => told,
            Err(Effect::NotApplied) => Told::Reserved(grant),
            Err(Effect::Unknown) => Told::Unknown,
        }
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    /// Returns when there are so many more answers.
    async fn goes_on(&self, more: u64) {
        let wanted = self.answers() + more;
        eventually("answers", async || match self.answers() {
            answers if answers >= wanted => Ok(()),
            answers => Err(format!("{answers} of {wanted}")),
        })
        .await;
    }

    /// Ends it, and compares what was told with what is there.
    async fn settle(&self, mut tasks: JoinSet<()>, store: &PostgresStore) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = in_time("the load", tasks.join_next()).await {
            ended.unwrap();
        }
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        for (key, told) in &told {
            let found = store.lookup(&slot(key)).await.unwrap();
            let holds = match (told, &found) {
                (Told::Unknown, _) | (Told::NotReserved | Told::Released, None) => true,
                (Told::Reserved(grant), Some(Entry::Pending(pending))) => pending.fence == grant.fence,
                (Told::Completed(grant), Some(Entry::Completed(record))) => {
                    record.fence == grant.fence && record.response == *answer(key).response()
                }
                _ => false,
            };
            assert!(holds, "{key}: was told {told:?}, and there is {found:?}");
        }
        let (answers, errors) = (self.answers(), self.errors.load(Ordering::SeqCst));
        println!("{} slots, {answers} answers, {errors} errors", told.len());
    }
}

/// One on its own pool and one on an application's.
async fn two_stores(url: &str, deadline: Duration) -> Vec<PostgresStore> {
    let builder = || PostgresStore::builder().call_deadline(deadline);
    let own = builder().connect(url).await.unwrap();
    own.ensure_schema().await.unwrap();
    vec![own, builder().from_pool(pool(url, 4).await).await.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_starts_again_is_noticed_by_no_caller_with_time() {
    let server = Arc::new(Server::start().unwrap());
    let stores = two_stores(&server.url("postgres"), SOON).await;
    let (load, tasks) = Load::start(&stores, 12);
    for _ in 0..3 {
        load.goes_on(100).await;
        let restarted = Arc::clone(&server);
        tokio::task::spawn_blocking(move || restarted.restart()).await.unwrap().unwrap();
    }
    load.goes_on(100).await;
    assert_eq!(load.errors.load(Ordering::SeqCst), 0, "a call with a deadline of {SOON:?} failed");
    load.settle(tasks, &stores[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_starts_again_is_an_error_that_tells_the_truth_to_callers_without() {
    let server = Arc::new(Server::start().unwrap());
    let stores = two_stores(&server.url("postgres"), Duration::from_millis(150)).await;
    let (load, tasks) = Load::start(&stores, 12);
    for _ in 0..3 {
        load.goes_on(60).await;
        let ended = Arc::clone(&server);
        tokio::task::spawn_blocking(move || ended.shut_down_fast()).await.unwrap().unwrap();
        let before = load.errors.load(Ordering::SeqCst);
        eventually("errors while there is no server", async || {
            match load.errors.load(Ordering::SeqCst) - before {
                0..12 => Err(String::new()),
                _ => Ok(()),
            }
        })
        .await;
        let begun = Arc::clone(&server);
        tokio::task::spawn_blocking(move || begun.start_again()).await.unwrap().unwrap();
    }
    load.goes_on(60).await;
    let direct = PostgresStore::connect(&server.url("postgres")).await.unwrap();
    load.settle(tasks, &direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_an_operator_ends_every_few_milliseconds_lose_and_invent_nothing() {
    let mut random = random();
    let url = server().url(&database());
    let stores = two_stores(&url, SOON).await;
    let (load, tasks) = Load::start(&stores, 12);
    let killing = tokio::spawn({
        let load = Arc::clone(&load);
        let url = url.clone();
        async move {
            let mut killer = plain(&url).await;
            let mut kills = 0;
            while load.answers() < 600 {
                // The pause is the server's: time in which connections are made and statements begin.
                let kill = format!(
                    "SELECT pg_sleep({}); SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                    f64::from(random.u32(2..30)) / 1_000.0
                );
                run(&mut killer, kill).await;
                kills += 1;
            }
            kills
        }
    });
    let kills = in_time("answers between the kills", killing).await.unwrap();
    println!("{kills} times all sessions were ended");
    assert!(kills > 10, "{kills} kills are no storm");
    load.goes_on(100).await;
    assert_eq!(load.errors.load(Ordering::SeqCst), 0, "a call with a deadline of {SOON:?} failed");
    load.settle(tasks, &stores[1]).await;
    works(&stores[0], "afterwards").await;
}

/// It ends one statement and no session.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn statements_that_an_operator_cancels_are_made_again() {
    let url = server().url(&database());
    let stores = two_stores(&url, SOON).await;
    let (load, tasks) = Load::start(&stores, 12);
    let cancelling = tokio::spawn({
        let (load, url) = (Arc::clone(&load), url.clone());
        async move {
            let mut canceller = plain(&url).await;
            while load.answers() < 600 {
                let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'";
                run(&mut canceller, cancel).await;
            }
        }
    });
    in_time("answers between the cancels", cancelling).await.unwrap();
    assert_eq!(load.errors.load(Ordering::SeqCst), 0);
    load.settle(tasks, &stores[0]).await;
    let grant = granted(crate::kit::reserve(&stores[1], "afterwards").await);
    let stored = stores[0].complete(&slot("afterwards"), &grant, &answer("x")).await;
    assert_eq!(stored.unwrap(), CompleteOutcome::Stored);
}
