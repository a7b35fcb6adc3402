//! What was asked for on the command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use crate::load::Failure;

pub(crate) const HELP: &str = "\
Measures oncekey beside its limits and its peers, in one run.

  cargo xtask bench ENGINE.. [OPTIONS]

ENGINE            sqlite, postgres, redis, memory
--quick           a smoke run of a few seconds, which writes nothing
--growth          with sqlite, postgres or redis: also 10 million records beside 10 thousand (some 10 to 25 GB, some minutes)
--only WORD       only the races of this work (reserve, cycle, replay); writes nothing
--callers N       only the races with so many callers; writes nothing
--pool N          connections of sqlx's pool for writes; writes nothing [1]
--connections N   with postgres: connections of our store's batches; writes nothing [the store's default]
--layouts         with postgres: where its time goes, and other layouts of the table; with redis: other layouts of a
                  slot; writes nothing
--socket          with postgres: by the server's socket and not by TCP; writes nothing
--alone           with postgres: only our store, for a profiler; writes nothing
--rounds N        rounds of each race [7]
--seconds S       seconds that an entrant works in a round [1]
--dir DIR         where databases are made, on a disk and not in memory [the system's temporary directory]
--out DIR         where benchmarks.md and its plots go [docs beside this workspace]
";

/// What to run, and how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sqlite: bool,
    pub(crate) postgres: bool,
    pub(crate) redis: bool,
    pub(crate) memory: bool,
    pub(crate) growth: bool,
    pub(crate) quick: bool,
    pub(crate) only: Option<String>,
    pub(crate) callers: Option<usize>,
    pub(crate) pool: Option<u32>,
    pub(crate) connections: Option<u32>,
    pub(crate) alone: bool,
    pub(crate) socket: bool,
    pub(crate) layouts: bool,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) dir: PathBuf,
    pub(crate) out: PathBuf,
}

impl Plan {
    /// From the arguments; none when help was asked for.
    pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Option<Self>, Failure> {
        let mut plan = Self {
            sqlite: false,
            postgres: false,
            redis: false,
            memory: false,
            growth: false,
            quick: false,
            only: None,
            callers: None,
            pool: None,
            connections: None,
            alone: false,
            socket: false,
            layouts: false,
            rounds: 7,
            seconds: 1.0,
            dir: std::env::temp_dir(),
            out: Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs"),
        };
        while let Some(arg) = args.next()? {
            match arg {
                Value(engine) if engine == "sqlite" => plan.sqlite = true,
                Value(engine) if engine == "postgres" => plan.postgres = true,
                Value(engine) if engine == "redis" => plan.redis = true,
                Value(engine) if engine == "memory" => plan.memory = true,
                Value(other) => return Err(format!("no engine {}\n{HELP}", other.display()).into()),
                Long("quick") => plan.quick = true,
                Long("growth") => plan.growth = true,
                Long("only") => plan.only = Some(args.value()?.string()?),
                Long("callers") => plan.callers = Some(args.value()?.parse()?),
                Long("pool") => plan.pool = Some(args.value()?.parse()?),
                Long("connections") => plan.connections = Some(args.value()?.parse()?),
                Long("layouts") => plan.layouts = true,
                Long("socket") => plan.socket = true,
                Long("alone") => plan.alone = true,
                Long("rounds") => plan.rounds = args.value()?.parse()?,
                Long("seconds") => plan.seconds = args.value()?.parse()?,
                Long("dir") => plan.dir = args.value()?.into(),
                Long("out") => plan.out = args.value()?.into(),
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        if !plan.sqlite && !plan.postgres && !plan.redis && !plan.memory {
            return Err(format!("which engine?\n{HELP}").into());
        }
        if plan.rounds == 0 || !(0.01..=3_600.0).contains(&plan.seconds) {
            return Err("at least one round, and 0.01 to 3600 seconds".into());
        }
        if plan.quick {
            // Long enough for a lone caller to do something on a machine that is busy otherwise.
            (plan.rounds, plan.seconds) = (1, 0.4);
        }
        Ok(Some(plan))
    }

    /// Whether this race was asked for.
    pub(crate) fn wants(&self, work: crate::load::Work, callers: usize) -> bool {
        self.only.as_deref().is_none_or(|only| only == work.name())
            && self.callers.is_none_or(|n| n == callers)
    }

    /// Whether the documents are to be written: only a whole run may replace one.
    pub(crate) fn writes(&self) -> bool {
        let narrowed = self.only.is_some() || self.callers.is_some();
        let changed = self.pool.is_some() || self.connections.is_some() || self.socket;
        !self.quick && !narrowed && !changed && !self.alone && !self.layouts
    }

    /// How long an entrant works in a round.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How long it works before that, uncounted.
    pub(crate) fn warm_up(&self) -> Duration {
        self.span() / 4
    }

    /// The command that gives this run again.
    pub(crate) fn command(&self, engine: &str) -> String {
        let growth = if self.growth && engine != "memory" { " --growth" } else { "" };
        format!("cargo xtask bench {engine}{growth}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Result<Option<Plan>, Failure> {
        Plan::parse(lexopt::Parser::from_args(args))
    }

    #[test]
    fn only_a_whole_run_writes() {
        let writes = |args: &[&str]| plan(args).unwrap().unwrap().writes();
        assert!(writes(&["sqlite", "memory"]));
        assert!(!writes(&["sqlite", "--quick"]));
        assert!(!writes(&["sqlite", "--only", "cycle"]));
        assert!(!writes(&["sqlite", "--callers", "64"]));
        assert!(!writes(&["postgres", "--connections", "3"]));
    }

    #[test]
    fn a_run_of_nothing_is_refused() {
        for args in [&[][..], &["oracle"], &["sqlite", "--rounds", "0"], &["sqlite", "--seconds", "0"]] {
            assert!(plan(args).is_err(), "{args:?}");
        }
        assert!(plan(&["--help"]).unwrap().is_none());
    }
}
