//! R8: what a reserve saw may have changed by the time it has the row's lock, so its statement judges it anew. Here it
//! does change: somebody holds the row, lets the reserve look and wait, changes the row, and commits.

use std::time::Duration;

use oncekey_postgres::sqlx;
use oncekey_postgres::{
    ErrorKind, IdempotencyStore, Policy, PostgresStore, Renewal, ReservationOutcome, StoreError, Token,
};

use crate::kit::{HOUR, eventually, fresh_url, granted, in_time, plain, request_with, run, slot};

const WAIT: Duration = Duration::from_secs(60);

/// How the slot is when the reserve looks.
enum Before {
    Lapsed(Policy),
    Released,
    Own,
}

/// The outcome of a reserve by `policy` with `token`, on a slot that is changed by `change` while it waits.
async fn outcome(
    before: &Before,
    policy: Policy,
    token: Token,
    change: &str,
) -> Result<ReservationOutcome, StoreError> {
    let url = fresh_url();
    let builder = PostgresStore::builder().always_batches().connections(1);
    let builder = builder.lock_timeout(WAIT).statement_deadline(2 * WAIT).call_deadline(3 * WAIT);
    // `cargo xtask guards` takes clauses out.
    let builder = match std::env::var_os("ONCEKEY_SQL") {
        Some(folder) => builder.sql_folder(folder),
        None => builder,
    };
    let store = builder.connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let (slot, theirs) = (slot("a"), if let Before::Own = before { token } else { Token::fresh() });
    let first = if let Before::Lapsed(policy) = before { *policy } else { Policy::TakeOver };
    let grant = granted(store.reserve_or_fetch(&slot, theirs, &request_with(first, HOUR)).await);
    match before {
        // Under `Refuse`, not begun, a hand-over would free it.
        Before::Lapsed(_) => {
            let mut session = plain(&url).await;
            run(&mut session, "UPDATE oncekey_slots SET lease_expires_at = now() - interval '1 minute'")
                .await;
        }
        Before::Released => drop(store.release(&slot, &grant).await.unwrap()),
        Before::Own => drop(store.renew(&slot, &grant, &Renewal::extend(HOUR).unwrap()).await.unwrap()),
    }
    let mut holder = plain(&url).await;
    run(&mut holder, "BEGIN").await;
    run(&mut holder, "SELECT FROM oncekey_slots FOR UPDATE").await;
    let asking = {
        let store = store.clone();
        tokio::spawn(async move { store.reserve_or_fetch(&slot, token, &request_with(policy, HOUR)).await })
    };
    let mut watcher = plain(&url).await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually("the reserve to wait", async || {
        match sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut watcher).await.unwrap() {
            1 => Ok(()),
            count => Err(format!("{count} wait")),
        }
    })
    .await;
    // By its bytes, beside whatever the change is.
    let spent = format!("{:032x}", u128::from_be_bytes(*token.as_bytes()));
    run(
        &mut holder,
        format!("UPDATE oncekey_slots SET {}", change.replace("$token", &format!("'\\x{spent}'"))),
    )
    .await;
    run(&mut holder, "COMMIT").await;
    in_time("the reserve", asking).await.unwrap()
}

#[tokio::test]
async fn a_token_that_is_released_meanwhile_is_spent() {
    let token = Token::fresh();
    let told = outcome(&Before::Released, Policy::TakeOver, token, "token = $token").await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::TokenSpent);
}

#[tokio::test]
async fn another_request_meanwhile_is_a_conflict() {
    let change = "fingerprint = decode(repeat('77', 32), 'hex')";
    for before in [Before::Lapsed(Policy::TakeOver), Before::Own] {
        let told = outcome(&before, Policy::TakeOver, Token::fresh(), change).await;
        assert!(matches!(told, Ok(ReservationOutcome::Conflict)), "{told:?}");
    }
}

#[tokio::test]
async fn a_record_that_nobody_may_take_over_any_longer_isnt_taken_over() {
    let begun = "policy = 'refuse', begun = true";
    for (of, by, change) in [
        (Policy::TakeOver, Policy::TakeOver, begun),
        (Policy::Refuse, Policy::TakeOver, "begun = true"),
        (Policy::Refuse, Policy::Refuse, "policy = 'take_over'"),
    ] {
        let told = outcome(&Before::Lapsed(of), by, Token::fresh(), change).await;
        assert!(matches!(told, Ok(ReservationOutcome::Indeterminate(_))), "{of:?} by {by:?}: {told:?}");
    }
}

#[tokio::test]
async fn a_lease_that_is_renewed_meanwhile_is_live() {
    let change = "lease_expires_at = now() + interval '1 hour'";
    let told = outcome(&Before::Lapsed(Policy::TakeOver), Policy::TakeOver, Token::fresh(), change).await;
    assert!(matches!(told, Ok(ReservationOutcome::InFlight(_))), "{told:?}");
}

#[tokio::test]
async fn what_became_its_own_meanwhile_is_its_own() {
    let told =
        outcome(&Before::Lapsed(Policy::TakeOver), Policy::TakeOver, Token::fresh(), "token = $token").await;
    let Ok(ReservationOutcome::Reserved(grant)) = told else { panic!("{told:?}") };
    assert_eq!(grant.attempt, 1, "its own retry is no takeover");
}
