//! sqlx and oncekey-sqlite in one program: on stores of their own, and on one file.

use oncekey_sqlite::{
    CompleteOutcome, Completion, Fingerprint, IdempotencyStore, Principal, ReservationOutcome,
    ReserveRequest, SqliteStore, StoredResponse, Terms, Token,
};
use sqlx::Row;

type Shown = Result<(), Box<dyn std::error::Error>>;

async fn pay_once(store: &SqliteStore) -> Result<ReservationOutcome, Box<dyn std::error::Error>> {
    let slot = Principal::new("shop-17")?.slot("order-4711")?;
    let request =
        ReserveRequest::new(Fingerprint::builder("pay/v1").part("9 EUR").finish(), Terms::default());
    let outcome = store.reserve_or_fetch(&slot, Token::fresh(), &request).await?;
    if let ReservationOutcome::Reserved(grant) = &outcome {
        let paid = StoredResponse::new(201, "", "paid");
        assert_eq!(store.complete(&slot, grant, &Completion::new(paid)).await?, CompleteOutcome::Stored);
    }
    Ok(outcome)
}

#[tokio::test]
async fn a_service_with_sqlx_tests_on_the_store_in_memory() -> Shown {
    let store = SqliteStore::in_memory()?;
    assert!(matches!(pay_once(&store).await?, ReservationOutcome::Reserved(_)));
    assert!(matches!(pay_once(&store).await?, ReservationOutcome::Replay(_)));
    Ok(())
}

#[tokio::test]
async fn both_work_on_one_file() -> Shown {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("service.db");
    let store = SqliteStore::open(&path)?;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await?;
    sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY)").execute(&pool).await?;
    assert!(matches!(pay_once(&store).await?, ReservationOutcome::Reserved(_)));
    sqlx::query("INSERT INTO orders DEFAULT VALUES").execute(&pool).await?;
    assert!(matches!(pay_once(&store).await?, ReservationOutcome::Replay(_)));
    // One library serves both, new enough for the store.
    let sqlx_sees: String = sqlx::query("SELECT sqlite_version()").fetch_one(&pool).await?.get(0);
    assert_eq!(sqlx_sees, oncekey_sqlite::rusqlite::version());
    Ok(())
}
