//! Keeps a server from outliving its owner.
//!
//! A test binary ends in many ways: a static is never dropped, an abort runs no destructor, and a `kill -9`
//! runs nothing at all. What always happens is that the kernel closes its files. So a small shell stands
//! between the owner and the server and reads from a pipe whose other end the owner alone holds: at its end
//! of file it ends the server and removes its folder.
//!
//! The shell is in a process group of its own, so that a Ctrl-C or a `kill` of the owner's group doesn't
//! take the shell away before it has done so. It isn't for servers that make themselves daemons.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::folder::tail;
use crate::user::User;
use crate::{Error, process, wait_until};

/// Each line that it reads starts the server anew, after the end of the one before.
///
/// No signal may end it before its work: not a write to an owner that is gone, nor a machine that shuts down,
/// nor the SIGHUP that the system sends to a group with a stopped member when the group's last tie to its
/// session, the owner, ends. The servers set their own handlers, whatever they inherit.
const SHELL: &str = r#"
trap '' HUP INT PIPE TERM
folder=$1 signal=$2
shift 2
server=
while read -r line; do
    if [ -n "$server" ]; then wait "$server"; fi
    "$@" </dev/null >>"$folder/log" 2>&1 &
    server=$!
    echo "$server"
done
if [ -n "$server" ]; then
    kill -CONT "$server"
    kill "-$signal" "$server"
    wait "$server"
fi
cd /
rm -rf "$folder"
"#;

/// How long a server may take to end.
const END: Duration = Duration::from_secs(30);

/// A server's process, or the place for one, and its folder. Both are gone when this is.
///
/// Shared by threads: one of them kills the server while others use it.
#[derive(Debug)]
pub(crate) struct Leash {
    shell: Child,
    pipes: Mutex<Pipes>,
    folder: PathBuf,
    server: AtomicU32,
}

#[derive(Debug)]
struct Pipes {
    /// None once the shell was told to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Leash {
    /// For a server that `program` with `args` starts, in the foreground, in `folder`. `ends` is the shell's
    /// name of the signal that ends it at once, whatever it is doing.
    pub(crate) fn new(
        folder: TempDir,
        user: User,
        ends: &str,
        program: &Path,
        args: &[&str],
    ) -> Result<Self, Error> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SHELL, "testbed"]).arg(folder.path()).arg(ends).arg(program).args(args);
        shell.current_dir(folder.path()).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = user.runs(&mut shell).spawn().map_err(Error::when("/bin/sh didn't start"))?;
        let orders = shell.stdin.take();
        let answers = shell.stdout.take().ok_or_else(|| Error::new("/bin/sh has no standard output"))?;
        // From here on the shell removes it.
        let folder = folder.keep();
        let pipes = Mutex::new(Pipes { orders, answers: BufReader::new(answers) });
        Ok(Self { shell, pipes, folder, server: AtomicU32::new(0) })
    }

    /// The folder, and the working directory of the server.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The last lines of what the server said.
    pub(crate) fn log(&self) -> String {
        tail(&self.folder.join("log"))
    }

    /// Starts the server, and returns before it is ready.
    pub(crate) fn start(&self) -> Result<(), Error> {
        let mut pipes = self.pipes();
        if self.runs() {
            return Err(Error::new("the server runs already"));
        }
        let mut answer = String::new();
        if let Some(orders) = &mut pipes.orders {
            orders.write_all(b"start\n").map_err(Error::when("the server's shell is gone"))?;
            pipes.answers.read_line(&mut answer).map_err(Error::when("the server's shell said nothing"))?;
        }
        let said = format!("the server's shell said `{}`", answer.trim());
        self.server.store(answer.trim().parse().map_err(Error::when(said))?, Ordering::SeqCst);
        Ok(())
    }

    fn pipes(&self) -> MutexGuard<'_, Pipes> {
        // Whoever panicked left a pipe between two lines, at worst.
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's process; the last one where it has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.server.load(Ordering::SeqCst)
    }

    /// Whether it runs, also where it is stopped.
    pub(crate) fn runs(&self) -> bool {
        // The parent too: the number may be another's by now.
        let (server, shell) = (self.pid(), self.shell.id());
        process::all().iter().any(|process| process.pid == server && process.parent == shell)
    }

    /// The server and its children, the server first; none where it has ended.
    fn family(&self) -> Vec<u32> {
        if !self.runs() {
            return Vec::new();
        }
        let mut all = vec![self.pid()];
        all.extend(process::children(self.pid()));
        all
    }

    /// Sends `signal` to the server alone.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.runs() {
            process::signal(self.pid(), signal);
        }
    }

    /// Stops the server and all its children where they are.
    pub(crate) fn stop(&self) {
        // Itself first: then it starts no more of them.
        self.signal(Signal::STOP);
        self.family().into_iter().for_each(|pid| process::signal(pid, Signal::STOP));
    }

    /// Lets them go on.
    pub(crate) fn cont(&self) {
        self.family().into_iter().for_each(|pid| process::signal(pid, Signal::CONT));
    }

    /// Kills the server and all its children at once, and returns when they are gone.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        // Stopped first, it neither starts children nor notices that they end.
        self.signal(Signal::STOP);
        let family = self.family();
        family.iter().rev().for_each(|pid| process::signal(*pid, Signal::KILL));
        self.gone(&family)
    }

    /// Sends `signal`, which asks the server to end, and returns when it and its children are gone.
    pub(crate) fn end_by(&self, signal: Signal) -> Result<(), Error> {
        let family = self.family();
        self.signal(signal);
        self.gone(&family)
    }

    fn gone(&self, family: &[u32]) -> Result<(), Error> {
        wait_until("the server's end", END, || {
            if process::any_runs(family) { Err("it runs".to_owned()) } else { Ok(()) }
        })
        .map_err(|error| error.with(&self.log()))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // A stopped child would keep its parent from ending.
        self.cont();
        self.pipes().orders = None;
        // What the shell can't end stays its affair: a test that waits for ever tells less.
        let _ = wait_until("the shell's end", END, || match self.shell.try_wait() {
            Ok(None) => Err("it runs".to_owned()),
            Ok(Some(_)) | Err(_) => Ok(()),
        });
    }
}
