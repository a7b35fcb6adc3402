//! What a server is to be like, and its first start.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::Server;
use crate::leash::Leash;
use crate::user::User;
use crate::{Binaries, Error, folder, port, run};

/// What is set unless the caller sets it otherwise. The first three are PostgreSQL's defaults: they are said
/// because a test of durability stands on them.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("log_line_prefix", "%m [%p] %d "),
];

/// The port where only the socket's name has one.
const SOCKET_PORT: u16 = 5432;

/// A server that is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Vec<(String, String)>,
    tcp: bool,
    inside: Option<PathBuf>,
    pub(super) binaries: Binaries,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { settings: Vec::new(), tcp: false, inside: None, binaries: Binaries::of_postgres() }
    }

    /// Sets a parameter of postgresql.conf. The last one of a name wins, also over the durable defaults.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Listens on a free port of 127.0.0.1 too, besides its socket.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Puts data and socket into a new folder in `parent`: on a certain disk. It has to be a short path, that
    /// the server's user may go through.
    #[must_use]
    pub fn inside(mut self, parent: impl Into<PathBuf>) -> Self {
        self.inside = Some(parent.into());
        self
    }

    /// Takes the binaries from these folders alone: those of another version.
    #[must_use]
    pub fn binaries_in<P: Into<PathBuf>>(mut self, folders: impl IntoIterator<Item = P>) -> Self {
        self.binaries = self.binaries.only_in(folders);
        self
    }

    /// Makes a database cluster and starts a server on it.
    ///
    /// # Errors
    ///
    /// A binary is missing, and then the error says how to install it; or the server didn't become ready, and
    /// then the end of its log is in the error.
    pub fn start(self) -> Result<Server, Error> {
        self.start_on(|builder, user, folder| {
            let mut initdb = run::postgres_program(&builder.binaries.find("initdb")?);
            initdb.args(["-D", "data", "--username=postgres", "--auth=trust", "--encoding=UTF8"]);
            // What it writes is not what the tests are about.
            initdb.args(["--locale=C", "--no-sync", "--no-instructions"]);
            run::output(user.runs(initdb.current_dir(folder))).map(drop)
        })
    }

    /// The same on what `make` puts into the folder `data` of its folder.
    pub(super) fn start_on(
        self,
        make: impl FnOnce(&Self, User, &Path) -> Result<(), Error>,
    ) -> Result<Server, Error> {
        let postgres = self.binaries.find("postgres")?;
        let psql = self.binaries.find("psql")?;
        let user = User::find()?;
        let folder = folder::create("oncekey-pg-", self.inside.as_deref(), user)?;
        // SIGQUIT is an immediate shutdown: no checkpoint, and its shared memory is given back.
        let leash = Leash::new(folder, user, "QUIT", &postgres, &["-D", "data"])?;
        make(&self, user, leash.folder())?;

        let mut server = Server::new(leash, self.binaries.clone(), psql);
        port::with_free(self.tcp, |free| {
            let port = free.unwrap_or(SOCKET_PORT);
            self.configure(server.folder(), port)?;
            server.listens_at(port, self.tcp);
            server.start_again()
        })?;
        Ok(server)
    }

    /// Appends the settings to the configuration in `folder`: there, the last one wins.
    fn configure(&self, folder: &Path, port: u16) -> Result<(), Error> {
        let folder_name = folder.to_string_lossy();
        let (port, host) = (port.to_string(), if self.tcp { "127.0.0.1" } else { "" });
        let place = [("unix_socket_directories", &*folder_name), ("port", &port), ("listen_addresses", host)];
        let asked = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = String::from("\n");
        for (name, value) in place.into_iter().chain(SETTINGS.iter().copied()).chain(asked) {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        let path = folder.join("data/postgresql.conf");
        let written =
            OpenOptions::new().append(true).open(&path).and_then(|mut f| f.write_all(text.as_bytes()));
        written.map_err(Error::when(path.display()))
    }
}
