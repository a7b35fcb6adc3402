//! S7: what a caller hears whose deadline passes while its call is about to be sent, or is answered.

use std::time::Duration;

use oncekey_postgres::{Effect, Entry, IdempotencyStore, PostgresStore, ReservationOutcome, Token};

use crate::kit::{
    answer, eventually, fresh_url, granted, in_time, plain, pool, random, request, reserve, run, slot,
};

/// Deadlines as short as a call takes: some pass before it is sent, some while it is, and some as the answer comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_not_to_be_applied_is_not_there() {
    let url = fresh_url();
    let patient = PostgresStore::connect(&url).await.unwrap();
    patient.ensure_schema().await.unwrap();
    let mut random = random();
    let stores: Vec<_> = [1, 2, 3, 4, 6, 8]
        .map(|ms| {
            PostgresStore::builder().call_deadline(Duration::from_millis(ms)).connect_lazy(&url).unwrap()
        })
        .into();
    let (mut unknown, mut granted, mut not_applied) = (0, 0, Vec::new());
    let mut key = 0;
    for _ in 0..600 {
        let mut wave = Vec::new();
        for _ in 0..random.usize(2..40) {
            key += 1;
            let (store, key) = (stores[random.usize(..stores.len())].clone(), key.to_string());
            wave.push(tokio::spawn(async move { (reserve(&store, &key).await, key) }));
        }
        for call in wave {
            match in_time("a call", call).await.unwrap() {
                (Ok(ReservationOutcome::Reserved(_)), _) => granted += 1,
                (Err(error), key) if error.effect() == Effect::NotApplied => not_applied.push(key),
                (Err(_), _) => unknown += 1,
                (Ok(other), key) => panic!("{key}: {other:?}"),
            }
        }
    }
    // What was under way has ended when the pools are closed.
    for store in &stores {
        in_time("the end of all statements", store.pool().close()).await;
    }
    for key in &not_applied {
        let found = patient.lookup(&slot(key)).await.unwrap();
        assert!(found.is_none(), "{key} was not applied, it was said: {found:?}");
    }
    println!("{granted} granted, {unknown} unknown, {} not applied and not there", not_applied.len());
}

/// A call that goes alone waits for its place, and for a connection. Whoever gave up meanwhile was told so.
#[tokio::test]
async fn what_was_given_up_before_it_was_sent_is_not_sent() {
    let url = fresh_url();
    let theirs = pool(&url, 1).await;
    let builder = PostgresStore::builder().call_deadline(Duration::from_millis(500));
    let store = builder.lock_timeout(Duration::from_millis(100)).from_pool(theirs.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    let grant = granted(reserve(&store, "a").await);
    // Both slots are taken for locked.
    drop(store.once(theirs.begin().await.unwrap(), &slot("f"), &request()).await.unwrap());
    let mut holder = plain(&url).await;
    run(&mut holder, "BEGIN; SELECT FROM oncekey_slots WHERE key = 'a' FOR UPDATE").await;
    in_time("a locked slot", store.complete(&slot("a"), &grant, &answer("x"))).await.unwrap_err();
    run(&mut holder, "ROLLBACK").await;

    let taken = in_time("the only connection", theirs.acquire()).await.unwrap();
    let (f, a, request, paid) = (slot("f"), slot("a"), request(), answer("x"));
    let (reserved, completed) =
        tokio::join!(store.reserve_or_fetch(&f, Token::fresh(), &request), store.complete(&a, &grant, &paid));
    assert_eq!(reserved.unwrap_err().effect(), Effect::NotApplied);
    assert_eq!(completed.unwrap_err().effect(), Effect::NotApplied);
    drop(taken);
    // Whatever stood in line for the connection has had it by then.
    for n in 0..20 {
        eventually("a turn", async || match reserve(&store, &format!("later-{n}")).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
    }
    assert!(store.lookup(&f).await.unwrap().is_none());
    let found = store.lookup(&a).await.unwrap();
    assert!(matches!(found, Some(Entry::Pending(_))), "{found:?}");
}
