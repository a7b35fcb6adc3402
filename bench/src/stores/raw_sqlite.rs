//! The limit: a bare loop of prepared statements on one thread, with no store around it.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Statement, params};
use uuid::Uuid;

use crate::load::{BODY_BYTES, Done, Failure, Span, Work, check_body};
use crate::stores::sql::{
    AUTOCHECKPOINT, CACHE_KIB, COMPLETE, RECORD, RESERVE, SCHEMA, SqlGrant, SqlItem, Times,
};

/// How much of the work a transaction takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gathering {
    /// One autocommit statement an operation.
    None,
    /// So many operations a transaction: n reserves in one, then their n completions in the next. A store
    /// that answers after COMMIT can't do better with n callers, for nobody completes before the answer.
    Operations(usize),
    /// So many reserves *and* their completions in one transaction, which no store could answer.
    Pairs(usize),
}

/// A file with the table, in WAL with `synchronous=FULL`.
pub(crate) fn open(path: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT)?;
    connection.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// Works from `from` on until the span or the items end.
pub(crate) fn run(
    connection: &Connection,
    items: &[SqlItem],
    from: usize,
    work: Work,
    gathering: Gathering,
    span: Span,
) -> Result<Done, Failure> {
    let mut bare = Loop::prepare(connection)?;
    let begun = Instant::now();
    let (mut next, batch) = match gathering {
        Gathering::None => (from, 1),
        Gathering::Operations(n) | Gathering::Pairs(n) => (from, n),
    };
    loop {
        let over = match span {
            Span::Time(limit) => begun.elapsed() >= limit,
            Span::Count(all) => next - from >= all,
        };
        let last = next + batch;
        if over || (work != Work::Replay && last > items.len()) {
            break;
        }
        match work {
            Work::Replay => bare.replays(items, next..last)?,
            Work::Reserve | Work::Cycle => bare.fresh(&items[next..last], work, gathering)?,
        }
        next = last;
    }
    let took = begun.elapsed();
    if next == from || took == Duration::ZERO {
        return Err("nothing was done within the round".into());
    }
    Ok(Done { operations: next - from, took, next })
}

struct Loop<'c> {
    reserve: Statement<'c>,
    complete: Statement<'c>,
    record: Statement<'c>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    body: Vec<u8>,
}

impl<'c> Loop<'c> {
    fn prepare(connection: &'c Connection) -> Result<Self, Failure> {
        Ok(Self {
            reserve: connection.prepare(RESERVE)?,
            complete: connection.prepare(COMPLETE)?,
            record: connection.prepare(RECORD)?,
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            body: vec![b'x'; BODY_BYTES],
        })
    }

    fn fresh(&mut self, items: &[SqlItem], work: Work, gathering: Gathering) -> Result<(), Failure> {
        if gathering == Gathering::None {
            for item in items {
                let grant = self.reserve(item)?;
                if work == Work::Cycle {
                    self.complete(item, grant)?;
                }
            }
            return Ok(());
        }
        self.begin.execute([])?;
        let grants = items.iter().map(|item| self.reserve(item)).collect::<Result<Vec<_>, _>>()?;
        if work == Work::Cycle {
            if matches!(gathering, Gathering::Operations(_)) {
                self.commit.execute([])?;
                self.begin.execute([])?;
            }
            for (item, grant) in items.iter().zip(grants) {
                self.complete(item, grant)?;
            }
        }
        self.commit.execute([])?;
        Ok(())
    }

    /// Steps to the end: a RETURNING row is not a commit.
    fn reserve(&mut self, item: &SqlItem) -> Result<SqlGrant, Failure> {
        let token = Uuid::new_v4();
        let Times { now, lease_expires_at, expires_at } = Times::now()?;
        let mut rows = self.reserve.query(params![
            item.principal,
            item.key,
            item.fingerprint,
            token.as_bytes(),
            now,
            lease_expires_at,
            expires_at
        ])?;
        let fence = rows.next()?.ok_or("a fresh slot was taken")?.get(0)?;
        while rows.next()?.is_some() {}
        Ok(SqlGrant { token, fence })
    }

    fn complete(&mut self, item: &SqlItem, grant: SqlGrant) -> Result<(), Failure> {
        let now = Times::now()?.now;
        let written = self.complete.execute(params![
            item.principal,
            item.key,
            grant.token.as_bytes(),
            grant.fence,
            now,
            200,
            self.body
        ])?;
        if written == 1 { Ok(()) } else { Err("completing wrote nothing".into()) }
    }

    fn replays(&mut self, items: &[SqlItem], range: std::ops::Range<usize>) -> Result<(), Failure> {
        for index in range {
            let item = &items[index % items.len()];
            let now = Times::now()?.now;
            let mut rows = self.record.query(params![item.principal, item.key])?;
            let row = rows.next()?.ok_or("a completed slot has no record")?;
            let (state, expires_at): (i64, i64) = (row.get(0)?, row.get(6)?);
            let fingerprint: [u8; 32] = row.get(1)?;
            let body: Vec<u8> = row.get(8)?;
            if state != 1 || expires_at <= now || fingerprint != item.fingerprint {
                return Err("a completed slot's record is another".into());
            }
            while rows.next()?.is_some() {}
            check_body(body.len())?;
        }
        Ok(())
    }
}
