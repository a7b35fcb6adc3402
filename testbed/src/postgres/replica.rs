//! A second server that follows the first.

use super::Server;
use crate::{Error, run};

impl Server {
    /// A replica of this server: a copy of its data that follows what it writes and answers reads. It is of
    /// this server's settings, and listens on a socket alone.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start).
    pub fn replica(&self) -> Result<Self, Error> {
        let mut builder = Self::builder();
        builder.binaries = self.binaries.clone();
        let url = self.url("postgres");
        builder.start_on(|builder, user, folder| {
            let mut copy = run::postgres_program(&builder.binaries.find("pg_basebackup")?);
            copy.args(["--pgdata=data", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
            // Leaves standby.signal, and where the primary is.
            copy.arg("--write-recovery-conf").arg("--dbname").arg(&url);
            run::output(user.runs(copy.current_dir(folder))).map(drop)
        })
    }

    /// Makes a replica a primary of its own. Returns when it takes writes.
    ///
    /// # Errors
    ///
    /// It is none, or doesn't become one.
    pub fn promote(&self) -> Result<(), Error> {
        match self.psql("select pg_promote(true, 60)")?.as_str() {
            "t" => Ok(()),
            other => Err(Error::new(format!("pg_promote answered `{other}`")).with(&self.log())),
        }
    }
}
