//! `cargo xtask guards`: takes the guards of the SQL statements and of `state.rs` out, one at a time, in a
//! copy of the project, and says which cases of the suite notice.
//!
//! A guard that can be taken out unnoticed is either not needed or not tested.

mod postgres;
mod redis;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lexopt::prelude::*;

use crate::tools;

/// A guard: where it stands, and what stands there once it is out.
struct Guard {
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

impl Guard {
    /// Its file, in the project or a copy.
    fn path(&self, root: &Path) -> PathBuf {
        match self.file {
            whole if whole.contains('/') => root.join(whole),
            statement => root.join(SQL).join(statement),
        }
    }
}

const fn guard(file: &'static str, from: &'static str, to: &'static str) -> Guard {
    Guard { file, from, to }
}

const SQL: &str = "backend-sqlite/sql";
const STATE: &str = "core/src/state.rs";

/// In the statements, file by file. What is left out has no effect that anybody could see: `reserve.sql`'s
/// `checkpoint = NULL` (its sequence of 0 hides it).
const STATEMENTS: &[Guard] = &[
    guard("reserve.sql", "WHERE oncekey_slots.expires_at <= ?3", "WHERE 0"),
    guard("reserve.sql", " AND oncekey_slots.token <> ?5", ""),
    guard("reserve.sql", "max(oncekey_slots.fence + 1, excluded.fence)", "excluded.fence"),
    guard("reserve.sql", "    attempt = 1,\n", ""),
    guard("reserve.sql", "    checkpoint_sequence = 0,\n", ""),
    guard("reserve.sql", "    begun = 0,\n", ""),
    guard("reserve.sql", "    policy = excluded.policy,\n", ""),
    guard("reserve.sql", "    retention = excluded.retention,\n", ""),
    guard("reserve.sql", "    fingerprint = excluded.fingerprint,\n", ""),
    guard("take_over.sql", "max(fence + 1, ?3)", "?3"),
    guard("take_over.sql", "    begun = 0,\n", ""),
    guard("take_over.sql", "  AND fingerprint = ?4\n", ""),
    guard("take_over.sql", "  AND token <> ?5\n", ""),
    guard("take_over.sql", "  AND lease_expires_at <= ?3\n", ""),
    guard("take_over.sql", "?6 = 'take_over'", "1"),
    guard("take_over.sql", "ELSE begun = 0 END\nRET", "ELSE 1 END\nRET"),
    guard(
        "take_over.sql",
        "retention = CASE policy WHEN 'refuse' THEN max(retention, ?8) ELSE ?8 END",
        "retention = ?8",
    ),
    guard("take_over.sql", "expires_at = max(expires_at, ", "expires_at = max(0, "),
    guard("retry.sql", "lease_expires_at = max(lease_expires_at, ?3 + ?6)", "lease_expires_at = ?3 + ?6"),
    guard("retry.sql", "max(expires_at, max(lease_expires_at, ?3 + ?6) + retention)", "expires_at"),
    guard("retry.sql", "  AND fingerprint = ?4\n", ""),
    guard("retry.sql", "  AND token = ?5\n", ""),
    guard("complete.sql", "AND token = ?4 AND fence = ?5", "AND fence = ?5"),
    guard("complete.sql", "AND token = ?4 AND fence = ?5", "AND token = ?4"),
    guard("complete.sql", "  AND expires_at > ?3", ""),
    guard("complete.sql", " AND state = 'pending'", ""),
    guard("complete.sql", "        WHEN ?6 IS NOT NULL THEN ?3 + ?6\n", ""),
    guard(
        "complete.sql",
        "        WHEN expires_at = 9223372036854775807 THEN max(?3, lease_expires_at) + retention\n",
        "",
    ),
    guard("complete.sql", "        WHEN lease_expires_at <= ?3 THEN max(expires_at, ?3 + retention)\n", ""),
    guard("renew.sql", "    begun = 1,\n", ""),
    guard("renew.sql", "lease_expires_at = max(lease_expires_at, ?3 + ?6)", "lease_expires_at = ?3 + ?6"),
    guard("renew.sql", "WHEN 'refuse' THEN 9223372036854775807", "WHEN 'x' THEN 0"),
    guard("renew.sql", "ELSE max(expires_at, max(lease_expires_at, ?3 + ?6) + retention)", "ELSE expires_at"),
    guard(
        "renew.sql",
        "CASE WHEN ?7 > checkpoint_sequence THEN ?8 ELSE checkpoint END",
        "coalesce(?8, checkpoint)",
    ),
    guard("renew.sql", "max(checkpoint_sequence, ?7)", "?7"),
    guard("renew.sql", "AND token = ?4 AND fence = ?5", "AND token = ?4"),
    guard("renew.sql", "AND token = ?4 AND fence = ?5", "AND fence = ?5"),
    guard("renew.sql", "  AND expires_at > ?3\n", ""),
    guard("renew.sql", " AND state = 'pending'", ""),
    guard(
        "hand_over.sql",
        "CASE WHEN policy = 'refuse' AND begun = 0 THEN 'released' ELSE state END",
        "state",
    ),
    guard("hand_over.sql", "lease_expires_at = 0", "lease_expires_at = ?3"),
    guard("hand_over.sql", "AND token = ?4 AND fence = ?5", "AND token = ?4"),
    guard("hand_over.sql", "  AND expires_at > ?3\n", ""),
    guard("hand_over.sql", " AND state = 'pending'", ""),
    guard(
        "hand_over.sql",
        "CASE WHEN ?6 > checkpoint_sequence THEN ?7 ELSE checkpoint END",
        "coalesce(?7, checkpoint)",
    ),
    guard(
        "release.sql",
        "CASE WHEN attempt = 1 OR policy = 'refuse' THEN 'released' ELSE state END",
        "'released'",
    ),
    guard("release.sql", "attempt = 1 OR policy = 'refuse'", "attempt = 1"),
    guard(
        "release.sql",
        "WHEN 9223372036854775807 THEN max(?3, lease_expires_at) + retention",
        "WHEN 1 THEN 1",
    ),
    guard("release.sql", "    lease_expires_at = 0", "    lease_expires_at = ?3"),
    guard("release.sql", "AND token = ?4 AND fence = ?5", "AND token = ?4"),
    guard("release.sql", "  AND expires_at > ?3", ""),
    guard("release.sql", " AND state = 'pending'", ""),
    guard("resolve_complete.sql", "  AND lease_expires_at <= ?3\n", ""),
    guard("resolve_complete.sql", " AND lease_expires_at = ?5", ""),
    guard("resolve_complete.sql", "AND fence = ?4 ", ""),
    guard("resolve_complete.sql", "  AND expires_at > ?3", ""),
    guard("resolve_complete.sql", " AND state = 'pending'", ""),
    guard("resolve_complete.sql", "        WHEN ?6 IS NOT NULL THEN ?3 + ?6\n", ""),
    guard("resolve_complete.sql", "        WHEN expires_at = 9223372036854775807 THEN ?3 + retention\n", ""),
    guard("resolve_complete.sql", "ELSE max(expires_at, ?3 + retention)", "ELSE expires_at"),
    guard("resolve_release.sql", "  AND lease_expires_at <= ?3\n", ""),
    guard("resolve_release.sql", " AND lease_expires_at = ?5", ""),
    guard("resolve_release.sql", "AND fence = ?4 ", ""),
    guard("resolve_release.sql", "  AND expires_at > ?3", ""),
    guard(
        "resolve_release.sql",
        "CASE expires_at WHEN 9223372036854775807 THEN ?3 + retention ELSE expires_at END",
        "expires_at",
    ),
    guard("purge.sql", " AND fence = ?3", " AND ?3 = ?3"),
    guard("garbage_collect.sql", " LIMIT ?2", " LIMIT max(?2, 1000000)"),
    guard("garbage_collect.sql", "WHERE expires_at <= ?1", "WHERE 1 OR expires_at <= ?1"),
    guard("scan.sql", "  AND expires_at > ?3\n", ""),
    guard("scan.sql", "(principal, key) > (?1, ?2)", "(principal, key) >= (?1, ?2)"),
    guard("scan.sql", "state = 'pending' AND lease_expires_at <= ?3", "state = 'pending'"),
    guard("scan.sql", "ELSE state <> 'released'", "ELSE 1"),
];

/// In the state machine, in the order of the file.
const MACHINE: &[Guard] = &[
    guard(STATE, "self.token == grant.token && self.fence == grant.fence", "self.token == grant.token"),
    guard(STATE, "self.token == grant.token && self.fence == grant.fence", "self.fence == grant.fence"),
    guard(STATE, "Policy::TakeOver => caller == Policy::TakeOver,", "Policy::TakeOver => true,"),
    guard(STATE, "Policy::Refuse => !self.begun,", "Policy::Refuse => true,"),
    guard(STATE, "self.lease_expires_at.max(now + lease)", "now + lease"),
    guard(STATE, "self.expires_at.max(self.lease_expires_at + self.retention)", "self.expires_at"),
    guard(STATE, "&& new.sequence() > self.sequence()", ""),
    guard(
        STATE,
        "Timestamp::NEVER => now.max(self.lease_expires_at) + self.retention,",
        "Timestamp::NEVER => self.expires_at,",
    ),
    guard(STATE, "Some(retention) => now + retention,", "Some(_) => leaving,"),
    guard(STATE, "leaving.max(now + self.retention)", "leaving"),
    guard(
        STATE,
        "self.token == grant.token && self.record.fence == grant.fence",
        "self.token == grant.token",
    ),
    guard(
        STATE,
        "Some(expired) if expired.is_expired(now) => Shown::Absent { last_fence: Some(expired.fence()) },",
        "Some(expired) if expired.is_expired(now) => Shown::Absent { last_fence: None },",
    ),
    guard(STATE, "Fence::new(above.max(now.as_micros()))", "Fence::new(now.as_micros())"),
    guard(STATE, "Fence::new(above.max(now.as_micros()))", "Fence::new(above)"),
    guard(STATE, "Shown::Released(r) if r.token == token => Step::keep(Err(TokenSpent)),", ""),
    guard(
        STATE,
        "Shown::Released(r) => first_grant(Some(r.fence)),",
        "Shown::Released(_) => first_grant(None),",
    ),
    guard(STATE, "Shown::Pending(p) if p.fingerprint != fingerprint => Step::keep(Ok(Conflict)),", ""),
    guard(
        STATE,
        "Shown::Completed(c) if c.record.fingerprint != fingerprint => Step::keep(Ok(Conflict)),",
        "",
    ),
    guard(
        STATE,
        "Shown::Pending(p) if p.token == token => {",
        "Shown::Pending(p) if p.token == token && false => {",
    ),
    guard(
        STATE,
        "Shown::Pending(p) if !p.is_lapsed(now) => {",
        "Shown::Pending(p) if !p.is_lapsed(now) && false => {",
    ),
    guard(STATE, "terms.retention().max(p.retention)", "terms.retention()"),
    guard(STATE, "fence: next_fence(Some(p.fence), now),", "fence: next_fence(None, now),"),
    guard(STATE, "attempt: p.attempt.saturating_add(1),", "attempt: p.attempt,"),
    guard(STATE, "                begun: false,\n                retention,", "                retention,"),
    guard(STATE, "p.expires_at.max(lease_expires_at + retention)", "lease_expires_at + retention"),
    guard(STATE, "Timestamp::ZERO => None,\n                end =>", "end =>"),
    guard(STATE, "held.begun = true;", ""),
    guard(STATE, "held.expires_at = Timestamp::NEVER;", ""),
    guard(STATE, "None if held.policy == Policy::Refuse && !held.begun => {", "None if false => {"),
    guard(STATE, "held.lease_expires_at = Timestamp::ZERO;", "held.lease_expires_at = now;"),
    guard(STATE, "&& (p.attempt == 1 || p.policy == Policy::Refuse) =>", "=>"),
    guard(STATE, "(p.attempt == 1 || p.policy == Policy::Refuse)", "(p.attempt == 1)"),
    guard(
        STATE,
        "Pending { lease_expires_at: Timestamp::ZERO, ..p.clone() }",
        "Pending { lease_expires_at: now, ..p.clone() }",
    ),
    guard(STATE, "if r.token == grant.token && r.fence == grant.fence =>", "if r.token == grant.token =>"),
    guard(STATE, "if p.fence == seen.fence && !p.is_lapsed(now) =>", "if false && !p.is_lapsed(now) =>"),
    guard(
        STATE,
        "p.fence == seen.fence && p.lease_expires_at == seen.lease_expires_at",
        "p.fence == seen.fence",
    ),
    guard(
        STATE,
        "p.fence == seen.fence && p.lease_expires_at == seen.lease_expires_at",
        "p.lease_expires_at == seen.lease_expires_at",
    ),
    guard(STATE, "&& c.record.response == *completion.response() =>", "=>"),
    guard(
        STATE,
        "Some(record) if record.fence() == fence =>",
        "Some(record) if record.fence() >= Fence::new(0) =>",
    ),
];

/// Takes each guard out in turn; whether the suite noticed all. `args` may name a part of a file's name.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<bool, String> {
    let mut wanted = Vec::new();
    while let Some(arg) = args.next().map_err(|e| e.to_string())? {
        match arg {
            Value(name) => wanted.push(name.string().map_err(|e| e.to_string())?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let copy = copy_of_the_project()?;
    let all = STATEMENTS.iter().chain(MACHINE).chain(postgres::GUARDS).chain(redis::GUARDS);
    let (mut tried, mut unnoticed, mut untouched) = (0, 0, Vec::new());
    for guard in all.filter(|g| wanted.is_empty() || wanted.iter().any(|w| g.file.contains(w.as_str()))) {
        // First untouched: a suite that fails by itself would seem to notice everything.
        let first = Suite::of(guard.file);
        for suite in [Some(first), first.staged()].into_iter().flatten() {
            if !untouched.contains(&suite) {
                let failed = cases_that_fail(&copy, suite)?;
                if !failed.is_empty() {
                    return Err(format!("with every guard in its place these fail: {}", failed.join(", ")));
                }
                untouched.push(suite);
            }
        }
        tried += 1;
        let failed = without(&copy, guard)?;
        unnoticed += usize::from(failed.is_empty());
        let seen = match failed.as_slice() {
            [] => "UNNOTICED".to_owned(),
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        };
        println!(
            "{:<22} {:<60} {seen}",
            guard.file.rsplit('/').next().unwrap_or_default(),
            one_line(guard.from)
        );
    }
    println!("\n{tried} guards taken out, {} noticed, {unnoticed} unnoticed", tried - unnoticed);
    Ok(tried > 0 && unnoticed == 0)
}

fn without(copy: &Path, guard: &Guard) -> Result<Vec<String>, String> {
    let path = guard.path(copy);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if !text.contains(guard.from) {
        return Err(format!(
            "{} has no {:?} any more: bring xtask/src/guards.rs up to date",
            guard.file, guard.from
        ));
    }
    let write = |text: &str| fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()));
    write(&text.replacen(guard.from, guard.to, 1))?;
    let suite = Suite::of(guard.file);
    let mut failed = cases_that_fail(copy, suite);
    // What the suite comes by once in a thousand races is staged.
    if let (Some(staged), true) = (suite.staged(), failed.as_ref().is_ok_and(Vec::is_empty)) {
        failed = cases_that_fail(copy, staged);
    }
    write(&text)?;
    failed
}

/// Which run of the suite a guard is noticed by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    /// The memory store, which executes the state machine.
    Machine,
    /// SQLite in memory.
    Sqlite,
    /// PostgreSQL, a lone call by the statements of lone calls.
    Postgres,
    /// PostgreSQL, every call by the statements of batches.
    PostgresBatches,
    /// The same, where a row changes between two statements of a call.
    PostgresStaged,
    Redis,
    /// What becomes of a key, which the suite's moving time doesn't see, and a memory that is full.
    RedisKeys,
}

impl Suite {
    fn of(file: &str) -> Self {
        match file {
            STATE => Self::Machine,
            script if script.starts_with("backend-redis") => Self::Redis,
            one if one.ends_with("_one.sql") => Self::Postgres,
            batch if batch.starts_with("backend-postgres") => Self::PostgresBatches,
            _ => Self::Sqlite,
        }
    }

    /// Where what it doesn't notice is looked at from nearby.
    fn staged(self) -> Option<Self> {
        match self {
            Self::PostgresBatches => Some(Self::PostgresStaged),
            Self::Redis => Some(Self::RedisKeys),
            _ => None,
        }
    }

    fn test(self) -> &'static [&'static str] {
        match self {
            Self::Machine => &["-p", "oncekey-conformance", "--test", "memory"],
            Self::Sqlite => &["-p", "oncekey-sqlite", "--test", "conformance_memory"],
            Self::Postgres => &["-p", "oncekey-postgres", "--test", "conformance"],
            Self::PostgresBatches => &["-p", "oncekey-postgres", "--test", "conformance_batches"],
            Self::PostgresStaged => &["-p", "oncekey-postgres", "--test", "hostile", "judged_anew"],
            Self::Redis => &["-p", "oncekey-redis", "--test", "conformance"],
            Self::RedisKeys => &["-p", "oncekey-redis", "--test", "keys", "--test", "full"],
        }
    }
}

/// The suite's cases that fail in the copy. PostgreSQL's statements and Redis's scripts are read when a store is opened,
/// so that nothing has to be built for them.
fn cases_that_fail(copy: &Path, suite: Suite) -> Result<Vec<String>, String> {
    let mut test = tools::cargo(["test", "--quiet"].into_iter().chain(suite.test().iter().copied()));
    match suite {
        Suite::Postgres | Suite::PostgresBatches | Suite::PostgresStaged => {
            test.env("ONCEKEY_SQL", copy.join("backend-postgres/sql"));
        }
        Suite::Redis | Suite::RedisKeys => {
            test.env("ONCEKEY_LUA", copy.join("backend-redis/lua"));
        }
        Suite::Machine | Suite::Sqlite => {
            test.current_dir(copy).env("CARGO_TARGET_DIR", copy.with_file_name("guards-build"));
            test.env("RUSTFLAGS", "--cap-lints=allow");
        }
    }
    test.stdin(Stdio::null());
    let done = test.output().map_err(|e| e.to_string())?;
    let output = String::from_utf8_lossy(&done.stdout);
    let mut failed: Vec<String> = output
        .lines()
        .skip_while(|line| *line != "failures:")
        .filter_map(|line| line.strip_prefix("    "))
        .filter_map(|name| name.rsplit("::").next())
        .filter(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
        })
        .map(str::to_owned)
        .collect();
    failed.sort();
    failed.dedup();
    if failed.is_empty() && !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr);
        return Err(format!("the suite did not run without that guard:\n{output}\n{errors}"));
    }
    Ok(failed)
}

/// The files that git knows or would, as they are now, under the target folder.
fn copy_of_the_project() -> Result<PathBuf, String> {
    let copy = tools::root().join("target/guards");
    let mut list = std::process::Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(tools::root());
    let listed = list.output().map_err(|e| format!("git: {e}"))?;
    for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name).map_err(|e| e.to_string())?;
        let (from, to) = (tools::root().join(name), copy.join(name));
        let Ok(new) = fs::read(&from) else { continue };
        // An unchanged file keeps its time, and cargo its build.
        if fs::read(&to).is_ok_and(|old| old == new) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        fs::write(&to, new).map_err(|e| format!("{}: {e}", to.display()))?;
    }
    Ok(copy)
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 58 { line } else { line.chars().take(56).chain("..".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guard_stands_where_it_is_said_to() {
        for guard in STATEMENTS.iter().chain(MACHINE).chain(postgres::GUARDS).chain(redis::GUARDS) {
            let path = guard.path(&tools::root());
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(guard.from), "{} has no {:?}", guard.file, guard.from);
        }
    }
}
