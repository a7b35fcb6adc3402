//! The bank: accounts in a SQLite file, and transfers that happen exactly once.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use oncekey_example_killed::step;
use oncekey_sqlite::rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use oncekey_sqlite::{
    Completion, Fingerprint, OnceTx, Principal, ReservationOutcome, ReserveRequest, SqliteStore,
    StoredResponse, Terms,
};

/// The transfer was made.
pub(crate) const MADE: u16 = 201;
/// It was refused: an answer too, and kept like any other.
const REFUSED: u16 = 409;

/// A bank in a file.
pub(crate) struct Bank {
    store: SqliteStore,
    db: Connection,
}

/// What is to be transferred.
pub(crate) struct Order {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) cents: i64,
}

/// What became of it.
pub(crate) enum Outcome {
    /// It was made, or refused, by this call.
    Now(StoredResponse),
    /// It was by an earlier call, and this is what that answered.
    Before(StoredResponse),
    /// The key was used for another transfer.
    KeyReused,
    /// Somebody holds the key: not by `once`, which is never seen half-way.
    Busy,
}

impl Bank {
    pub(crate) fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let store = SqliteStore::open(path)?;
        let db = Connection::open(path)?;
        // This connection commits, so its settings decide: a commit that a power cut may take back would
        // take a transfer back that somebody was told of.
        db.pragma_update(None, "synchronous", "FULL")?;
        // Other processes transfer too: wait for them.
        db.busy_timeout(Duration::from_secs(10))?;
        db.execute_batch(include_str!("../sql/bank.sql"))?;
        Ok(Self { store, db })
    }

    /// Transfers, or says what the first call of this key said.
    ///
    /// Reservation, debit, credit and answer are one transaction: at every moment all of them are in the file,
    /// or none is.
    pub(crate) fn transfer(&mut self, key: &str, order: &Order) -> Result<Outcome, Box<dyn Error>> {
        let slot = Principal::new("bank")?.slot(key)?;
        let meaning = Fingerprint::builder("transfer/v1")
            .part(&order.from)
            .part(&order.to)
            .part(order.cents.to_le_bytes())
            .finish();
        let request = ReserveRequest::new(meaning, Terms::default());

        step("before-begin");
        let tx = Transaction::new(&mut self.db, TransactionBehavior::Immediate)?;
        step("after-begin");
        Ok(match self.store.once(tx, &slot, &request)? {
            ReservationOutcome::Reserved(once) => {
                step("after-reserve");
                // An error drops `once`, and with it everything.
                let answer = move_money(&once, key, order)?;
                step("before-commit");
                once.commit(&Completion::new(answer.clone()))?;
                step("after-commit");
                Outcome::Now(answer)
            }
            ReservationOutcome::Replay(record) => Outcome::Before(record.response),
            ReservationOutcome::Conflict => Outcome::KeyReused,
            ReservationOutcome::InFlight(_) | ReservationOutcome::Indeterminate(_) => Outcome::Busy,
        })
    }

    /// Opens an account.
    pub(crate) fn open_account(&self, name: &str, cents: i64) -> Result<(), Box<dyn Error>> {
        self.db.execute("INSERT INTO accounts (name, cents) VALUES (?1, ?2)", (name, cents))?;
        Ok(())
    }

    /// All accounts, by name.
    pub(crate) fn accounts(&self) -> Result<Vec<(String, i64)>, Box<dyn Error>> {
        let mut statement = self.db.prepare("SELECT name, cents FROM accounts ORDER BY name")?;
        let accounts = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(accounts.collect::<Result<_, _>>()?)
    }
}

fn move_money(once: &OnceTx<'_>, key: &str, order: &Order) -> Result<StoredResponse, Box<dyn Error>> {
    let Order { from, to, cents } = order;
    let balance = |name: &str| {
        once.query_one("SELECT cents FROM accounts WHERE name = ?1", (name,), |row| row.get::<_, i64>(0))
            .optional()
    };
    let refused = |why: String| Ok(StoredResponse::new(REFUSED, "", why));
    let (Some(has), Some(_)) = (balance(from)?, balance(to)?) else {
        return refused(format!("refused: {from} or {to} has no account\n"));
    };
    if has < *cents {
        return refused(format!("refused: {from} has {has} cents\n"));
    }
    once.execute("UPDATE accounts SET cents = cents - ?2 WHERE name = ?1", (from, cents))?;
    step("after-debit");
    once.execute("UPDATE accounts SET cents = cents + ?2 WHERE name = ?1", (to, cents))?;
    step("after-credit");
    let entry = "INSERT INTO transfers (key, debtor, creditor, cents) VALUES (?1, ?2, ?3, ?4)";
    once.execute(entry, (key, from, to, cents))?;
    let (number, left) = (once.last_insert_rowid(), has - cents);
    let text = format!("transfer {number}: {cents} cents from {from} to {to}; {from} has {left} left\n");
    Ok(StoredResponse::new(MADE, "", text))
}
