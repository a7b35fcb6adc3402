//! A place with a store of its own, and calls of the program there.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use oncekey_core::{Entry, PendingEntry, Principal};
use oncekey_sqlite::SqliteStore;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A condition that doesn't come true by then is a failure.
const PATIENCE: Duration = Duration::from_secs(40);

/// A folder that is home and working directory at once, and a store.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    store: String,
}

impl Place {
    /// With a SQLite file in the folder.
    pub(crate) fn new() -> Self {
        Self::on("once.db")
    }

    /// With the store at this URL.
    pub(crate) fn on(store: impl Into<String>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: store.into() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with nothing of the caller's environment that it looks at.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oncekey"));
        for variable in ["XDG_STATE_HOME", "ONCEKEY_STORE", "ONCEKEY_SEED"] {
            command.env_remove(variable);
        }
        for (variable, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(variable);
        }
        let folder = self.folder.path();
        command.current_dir(folder).env("HOME", folder).env("TMPDIR", folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `oncekey exec --store STORE --key KEY`, so far.
    pub(crate) fn exec(&self, key: &str) -> Call {
        let mut command = self.program();
        command.args(["exec", "--store", &self.store, "--key", key]);
        Call(command)
    }

    /// The lines of a file; none if it isn't there.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the file has a whole line, and gives the first.
    pub(crate) fn line_in(&self, name: &str) -> String {
        let path = self.path(name);
        until(&format!("a line in {name}"), || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.split_once('\n').map(|(line, _)| line.to_owned()).ok_or(text)
        })
    }

    /// The record of a key that somebody holds.
    pub(crate) fn pending(&self, key: &str) -> PendingEntry {
        let store = SqliteStore::open(self.path("once.db")).unwrap().blocking();
        let slot = Principal::new("cli").unwrap().slot(key).unwrap();
        match store.lookup(&slot).unwrap() {
            Some(Entry::Pending(pending)) => pending,
            other => panic!("{key} is not held: {other:?}"),
        }
    }

    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success(), "mkfifo {name}");
        path
    }
}

/// A call of `exec` in the making.
#[derive(Debug)]
pub(crate) struct Call(pub(crate) Command);

impl Call {
    pub(crate) fn with<S: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.0.args(options);
        self
    }

    pub(crate) fn command<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.0.arg("--").args(words);
        self
    }

    pub(crate) fn sh(self, script: &str) -> Self {
        self.command(["sh", "-c", script])
    }

    #[track_caller]
    pub(crate) fn run(self) -> Ended {
        self.start().end()
    }

    pub(crate) fn start(mut self) -> Running {
        Running(Some(self.0.spawn().unwrap()))
    }
}

/// A call under way; killed if the test fails.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Option<Child>);

impl Running {
    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        kill_process(pid(self.child().id()), signal).unwrap();
    }

    /// Waits for its end, and for the end of its output, which others may hold.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let child = self.child();
        let (out, err) = (read_on(child.stdout.take()), read_on(child.stderr.take()));
        let status = until("the end of the call", || child.try_wait().unwrap().ok_or("it runs"));
        let read = |pipe: Receiver<Vec<u8>>| pipe.recv_timeout(PATIENCE).expect("the end of its output");
        Ended::of(Output { status, stdout: read(out), stderr: read(err) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads a pipe to its end, elsewhere; nothing, where there is no pipe.
fn read_on(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        let _ = tell.send(bytes);
    });
    told
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
}

impl Ended {
    pub(crate) fn of(Output { status, stdout, stderr }: Output) -> Self {
        Self { code: status.code(), signal: status.signal(), out: stdout, err: stderr }
    }

    pub(crate) fn out(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    pub(crate) fn err(&self) -> &str {
        std::str::from_utf8(&self.err).unwrap()
    }

    /// Ended with 0, printed this, and nothing on stderr.
    #[track_caller]
    pub(crate) fn printed(&self, out: &str) {
        assert_eq!((self.code, self.out(), self.err()), (Some(0), out, ""), "{self:?}");
    }

    /// Ended with `code` and one line of ours, that has `words`; and printed nothing else.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &str) {
        assert_eq!((self.code, self.out()), (Some(code), ""), "{}", self.err());
        let line = self.err();
        assert!(line.starts_with("oncekey: ") && line.ends_with('\n'), "{line:?}");
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(line.contains(words), "{line:?} lacks {words:?}");
    }
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// Whether such a process runs, neither gone nor a zombie.
pub(crate) fn is_alive(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some(Some('Z' | 'X')))
}

/// Looks until `look` says Ok; fails with what it said last.
#[track_caller]
pub(crate) fn until<T, S: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, S>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if Instant::now() >= deadline => {
                panic!("{what}: not within {PATIENCE:?}; last {last:?}")
            }
            Err(_) => thread::park_timeout(Duration::from_millis(2)),
        }
    }
}

/// Lets whoever reads this FIFO go on. Waits for a reader, elsewhere: opening it has no deadline.
#[track_caller]
pub(crate) fn open_gate(fifo: &Path) {
    let (tell, told) = channel();
    let fifo = fifo.to_owned();
    thread::spawn(move || tell.send(fs::write(fifo, "go\n")));
    told.recv_timeout(PATIENCE).expect("somebody at the gate").unwrap();
}
