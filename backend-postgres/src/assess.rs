//! What about this deployment is unsafe, read from the live server.

use std::time::Duration;

use oncekey_core::{Clock, Effect, Finding, Severity, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{Row, ValueRef};
use tokio::time::{Instant, timeout_at};

use crate::connection::Link;
use crate::error::{Failure, too_late};
use crate::identifier::{Table, literal};

const NAME: &str = "assess";
const ASSESS: &str = include_str!("../sql/assess.sql");

/// A setting, the value under which an acknowledged record survives, and what another one means.
struct Wanted {
    setting: &'static str,
    id: &'static str,
    safe: fn(&str) -> bool,
    severity: Severity,
    otherwise: &'static str,
}

const SETTINGS: [Wanted; 6] = [
    Wanted {
        setting: "fsync",
        id: "postgres.fsync",
        safe: |value| value == "on",
        severity: Severity::Danger,
        otherwise: "a crash of the host may lose or destroy every record: turn it on",
    },
    Wanted {
        setting: "full_page_writes",
        id: "postgres.full_page_writes",
        safe: |value| value == "on",
        severity: Severity::Danger,
        otherwise: "a page torn by a crash stays torn, unless the file system writes pages whole: turn it on",
    },
    Wanted {
        setting: "synchronous_commit",
        id: "postgres.synchronous_commit",
        safe: |value| value != "off",
        severity: Severity::Danger,
        otherwise: "an answer comes before its record is on disk, and a crash forgets the last ones: turn it on \
                    for this role or database",
    },
    Wanted {
        setting: "default_transaction_isolation",
        id: "postgres.isolation",
        safe: |value| value == "read committed",
        severity: Severity::Warning,
        otherwise: "calls that meet are made again (40001), which costs time; ours on their own pool ask for \
                    read committed themselves",
    },
    Wanted {
        setting: "autovacuum",
        id: "postgres.autovacuum",
        safe: |value| value == "on",
        severity: Severity::Warning,
        otherwise: "dead rows pile up and every call slows down: turn it on",
    },
    Wanted {
        setting: "statement_timeout",
        id: "postgres.statement_timeout",
        safe: |value| value != "0",
        severity: Severity::Warning,
        otherwise: "while somebody locks the table, calls that were given up leave sessions behind until the server has \
                    no more: set it in the options of the pool that the store was given",
    },
];

/// How far two clocks may be apart that are kept right.
const APART: Duration = Duration::from_secs(5);

pub(crate) async fn findings(
    link: &Link,
    table: &Table,
    deadline: Instant,
) -> Result<Vec<Finding>, StoreError> {
    let failed = |failure: Failure| failure.into_error(NAME, Effect::NotApplied);
    let mut connection = link.connection(deadline).await.map_err(failed)?;
    let sql = sqlx::AssertSqlSafe(ASSESS.replace("{table_literal}", &literal(&table.quoted())));
    let Ok(rows) = timeout_at(deadline, sqlx::raw_sql(sql).fetch_all(&mut *connection)).await else {
        // It has half an exchange on it.
        drop(connection.detach());
        return Err(too_late(NAME, Effect::NotApplied, None));
    };
    let rows = rows.map_err(|error| failed(Failure::of(error).not_applied()))?;
    let text = |row: &PgRow, column| {
        row.try_get_raw(column).ok().filter(|value| !value.is_null())?.as_str().ok().map(str::to_owned)
    };
    let read: Vec<_> = rows.iter().filter_map(|row| Some((text(row, 0)?, text(row, 1)))).collect();
    let value = |name| read.iter().find(|(read, _)| read == name).and_then(|(_, value)| value.as_deref());

    let mut found = Vec::new();
    // Behind a pooler each transaction sets its own.
    let theirs = |wanted: &&Wanted| !(link.pooled && wanted.setting == "statement_timeout");
    for wanted in SETTINGS.iter().filter(theirs) {
        let finding = |severity, message| Finding::new(wanted.id, severity, message);
        match value(wanted.setting) {
            None => found.push(finding(Severity::Warning, format!("{} could not be read", wanted.setting))),
            Some(value) if !(wanted.safe)(value) => {
                let message = format!("{} is {value}: {}", wanted.setting, wanted.otherwise);
                found.push(finding(wanted.severity, message));
            }
            Some(_) => {}
        }
    }
    if value("table autovacuum") != Some("on") {
        let message = format!(
            "autovacuum is off for {}: dead rows pile up there and every call slows down: reset autovacuum_enabled",
            table.quoted()
        );
        found.push(Finding::new("postgres.table_autovacuum", Severity::Warning, message));
    }
    if value("table logged") != Some("on") {
        let message = format!(
            "{} is unlogged: a crash of the server empties it: ALTER TABLE .. SET LOGGED",
            table.quoted()
        );
        found.push(Finding::new("postgres.table_unlogged", Severity::Danger, message));
    }
    if let Some(waiting) = value("sessions that wait for a standby").filter(|count| *count != "0") {
        let message = format!(
            "{waiting} sessions wait for a synchronous standby: no timeout ends that, nor does the end of their client, \
             and each call that is given up leaves one more behind; bring the standby back, or take it out of \
             synchronous_standby_names"
        );
        found.push(Finding::new("postgres.sync_standby", Severity::Danger, message));
    }
    let server = value("clock").and_then(|micros| micros.parse::<i64>().ok());
    let apart = server.map(|micros| micros.saturating_add(link.offset.micros())).map(|micros| {
        let here = i64::try_from(Clock::system().now().as_micros()).unwrap_or(i64::MAX);
        Duration::from_micros(micros.abs_diff(here))
    });
    if apart.is_none_or(|apart| apart > APART) {
        let message = match apart {
            Some(apart) => format!(
                "the server's clock and this host's are {} s apart: leases and fences follow the server's, and after \
                 a failover another's; keep them right (NTP)",
                apart.as_secs()
            ),
            None => "the server's clock could not be read".to_owned(),
        };
        found.push(Finding::new("postgres.clock", Severity::Warning, message));
    }
    if link.pooled {
        let message = "a pooler in transaction mode is in between: callers that wait for a running holder are not \
                       woken, and look now and then";
        found.push(Finding::new("postgres.pooler", Severity::Info, message));
    }
    if value("standby") != Some("false") {
        found.push(Finding::new("postgres.standby", Severity::Danger, crate::error::read_only()));
    }
    Ok(found)
}
