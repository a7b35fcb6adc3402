//! Servers that aren't there, aren't ours, or don't let us in: what the error says, when, and what it doesn't.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use oncekey_postgres::{ErrorKind, IdempotencyStore, PostgresStore, ReservationOutcome, StoreError};
use oncekey_testbed::postgres::Server;
use oncekey_testbed::proxy::Proxy;

use crate::kit::{answer, fails, fresh_url, in_time, request, reserve, server, slot, works};

const SECRET: &str = "hunter2-sesame";
const BRIEF: Duration = Duration::from_millis(600);

/// All that an error shows, with its causes: no password.
#[track_caller]
fn keeps_the_secret(error: &StoreError) {
    let mut shown = format!("{error} {error:?} {error:#?}");
    let mut cause = std::error::Error::source(error);
    while let Some(of) = cause {
        shown.push_str(&format!(" {of} {of:?}"));
        cause = of.source();
    }
    assert!(!shown.contains(SECRET), "{shown}");
}

#[track_caller]
fn fails_and_keeps_the_secret(error: &StoreError, kinds: &[ErrorKind], words: &[&str]) {
    keeps_the_secret(error);
    assert!(kinds.contains(&error.kind()), "{error}");
    fails(error, error.kind(), words);
}

/// What `connect` says of this URL, and what the first call of a store that connects later says.
async fn fails_everywhere(url: &str, kinds: &[ErrorKind], words: &[&str]) {
    let builder = || PostgresStore::builder().call_deadline(BRIEF);
    let error = in_time("connect", builder().connect(url)).await.unwrap_err();
    fails_and_keeps_the_secret(&error, kinds, words);
    let store = builder().connect_lazy(url).unwrap();
    assert!(!format!("{store:?} {store:#?}").contains(SECRET), "{store:?}");
    let error = in_time("reserve", reserve(&store, "a")).await.unwrap_err();
    fails_and_keeps_the_secret(&error, kinds, words);
    let error = in_time("ensure_schema", store.ensure_schema()).await.unwrap_err();
    fails_and_keeps_the_secret(&error, kinds, words);
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_repeating_it() {
    let odd = [
        format!("mysql://app:{SECRET}@db/app"),
        format!("app:{SECRET}@db/app"),
        format!("postgres://app:{SECRET}@db:port/app"),
        format!("postgres://app:{SECRET}@[::1/app"),
        format!("postgres://app:{SECRET}@db/app?sslmode=sometimes"),
        format!("host=db password={SECRET}"),
        String::new(),
    ];
    for url in odd {
        let error = PostgresStore::connect(&url).await.unwrap_err();
        fails_and_keeps_the_secret(&error, &[ErrorKind::InvalidInput], &["postgres://user:password@host"]);
        let error = PostgresStore::builder().connect_lazy(&url).unwrap_err();
        fails_and_keeps_the_secret(&error, &[ErrorKind::InvalidInput], &["postgres://user:password@host"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_isnt_there_is_an_error_by_the_deadline() {
    use ErrorKind::{Timeout, Unavailable};
    let proxy = Proxy::before(server().socket()).unwrap();
    proxy.refuse().unwrap();
    let by = |address| format!("postgres://postgres:{SECRET}@{address}/postgres");
    fails_everywhere(
        &by(proxy.address().to_string()),
        &[Timeout, Unavailable],
        &["is the pool too small, the server down"],
    )
    .await;
    proxy.pass().unwrap();
    proxy.black_hole();
    fails_everywhere(&by(proxy.address().to_string()), &[Timeout, Unavailable], &["the server down"]).await;
    fails_everywhere(&by("db.invalid".to_owned()), &[Unavailable, Timeout], &["can't be reached"]).await;
    let nowhere = format!("postgres:///postgres?host=/nonexistent&user=postgres&password={SECRET}");
    fails_everywhere(&nowhere, &[Unavailable, Timeout], &["can't be reached"]).await;
}

#[tokio::test]
async fn who_is_let_in_nowhere_hears_why() {
    let other = |url: String, words: &'static str| async move {
        fails_everywhere(&url, &[ErrorKind::Other], &[words]).await;
    };
    other(server().url("absent"), "database \"absent\" does not exist").await;
    let address = server().tcp_address().unwrap();
    other(format!("postgres://nobody:{SECRET}@{address}/postgres"), "role \"nobody\" does not exist").await;
    // No TLS, where it has to be.
    let tls = format!("postgres://postgres:{SECRET}@{address}/postgres?sslmode=require");
    fails_everywhere(&tls, &[ErrorKind::Unavailable, ErrorKind::Timeout], &["TLS"]).await;
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown() {
    let server = Server::builder().tcp().start().unwrap();
    let role = format!("CREATE ROLE app LOGIN PASSWORD '{SECRET}'; GRANT CREATE ON SCHEMA public TO app");
    server.psql(&role).unwrap();
    let rules = server.folder().join("data/pg_hba.conf");
    let trusting = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all app 127.0.0.1/32 scram-sha-256\n{trusting}")).unwrap();
    server.psql("SELECT pg_reload_conf()").unwrap();
    let url =
        |password: &str| format!("postgres://app:{password}@{}/postgres", server.tcp_address().unwrap());
    let right = format!("{SECRET}-but-wrong");
    // Once the server has read its rules again.
    crate::kit::eventually("the new rules", async || match PostgresStore::connect(&url(&right)).await {
        Ok(_) => Err("anybody is let in".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    fails_everywhere(&url(&right), &[ErrorKind::Other], &["password authentication failed"]).await;
    let store = PostgresStore::connect(&url(SECRET)).await.unwrap();
    assert!(!format!("{store:?} {:?}", store.pool()).contains(SECRET));
    store.ensure_schema().await.unwrap();
    works(&store, "a").await;
}

/// Something answers, and it is no PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_kind_is_an_error_by_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut asked = [0; 64];
            let _ = client.read(&mut asked);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let url = format!("postgres://app:{SECRET}@{address}/app");
    fails_everywhere(&url, &[ErrorKind::Unavailable, ErrorKind::Timeout], &["can't be reached"]).await;
}

#[tokio::test]
async fn deadlines_that_never_come_are_taken_for_long_ones() {
    let never = Duration::MAX;
    for builder in [PostgresStore::builder(), PostgresStore::builder().transaction_pooler()] {
        let builder = builder.statement_deadline(never).lock_timeout(never).call_deadline(never);
        let store = builder.connect(&fresh_url()).await.unwrap();
        store.ensure_schema().await.unwrap();
        works(&store, "a").await;
        let once = store.once(store.pool().begin().await.unwrap(), &slot("b"), &request()).await.unwrap();
        let ReservationOutcome::Reserved(once) = once else { panic!("{once:?}") };
        once.commit(&answer("paid")).await.unwrap();
    }
}
