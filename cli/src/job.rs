//! The work of `exec`: runs the command, shows and records what it prints, and passes signals on.
//!
//! ```text
//!  command ──stdout──▶ pump thread ──▶ recorder, our stdout      main thread: the runner, its heartbeat,
//!          ──stderr──▶ pump thread ──▶ recorder, our stderr      signals, checkpoints
//!          ──ends────▶ waiting thread ──────────────────────────▶
//! ```
//!
//! Writing out blocks for as long as nobody reads (`| less`), and the heartbeat must not: hence threads.

use std::env;
use std::ffi::OsString;
use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use oncekey_core::{Held, Lost, OnError, Policy};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::args::Keep;
use crate::exit::{Exit, Trouble};
use crate::location::VARIABLE;
use crate::notebook::{Notebook, as_variable};
use crate::outlet::{Outlet, Stream, say};
use crate::recorder::{Recorded, Recorder};
use crate::secret::without_password;
use crate::signals::{Caught, Signals};
use crate::tether;

/// For output that is on its way already, once a signal says that no more is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// A command to run once.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) command: Vec<OsString>,
    /// What goes to its stdin, where this program has read it already.
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) keep: Keep,
    /// The longest output to keep.
    pub(crate) bound: usize,
}

/// A run that leaves no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The command did not begin.
    NotBegun(Trouble),
    /// It failed, and failures aren't kept.
    Failed { code: u8, then: OnError<Recorded> },
}

impl NoAnswer {
    /// What becomes of the slot.
    pub(crate) fn then(&self) -> OnError<Recorded> {
        match self {
            Self::NotBegun(_) => OnError::Release,
            Self::Failed { then, .. } => then.clone(),
        }
    }
}

/// After a failure the next call may run the command again: under at-least-once as a later attempt, which
/// knows that something may have been done and finds its checkpoint. Under at-most-once a command that says
/// itself that it failed (an exit code) is free to run anew; one that was killed said nothing, and stays
/// unknown as if this program had been killed.
fn after_failure(policy: Policy, status: ExitStatus) -> OnError<Recorded> {
    match policy {
        Policy::Refuse if status.code().is_some() => OnError::Release,
        Policy::Refuse | Policy::TakeOver => OnError::HandOver,
    }
}

impl Job {
    pub(crate) async fn run(self, held: Held) -> Result<Recorded, NoAnswer> {
        let mut running = self.begin(&held).map_err(NoAnswer::NotBegun)?;
        let lease = watch_lease(&held);
        let ending = running.end(&held);
        let status = tokio::select! {
            status = ending => status,
            never = lease => match never {},
        };
        let program = self.command.first().cloned().unwrap_or_default();
        if let Some(error) = tether::why_not(running.notebook.folder()) {
            return Err(NoAnswer::NotBegun(not_executed(&program, &error)));
        }
        let status = status.map_err(|e| {
            say(format_args!("the command can't be waited for: {e}"));
            NoAnswer::Failed { code: Exit::System.code(), then: OnError::Leave }
        })?;
        let code = code_of(status);
        if self.keep == Keep::Success && code != 0 {
            running.notebook.save(&held).await;
            if held.grant().policy == Policy::Refuse && status.code().is_none() {
                say(
                    "the command was killed; what it did is unknown, so --on-lapse refuse won't run it again",
                );
            }
            return Err(NoAnswer::Failed { code, then: after_failure(held.grant().policy, status) });
        }
        Ok(locked(&running.recorder).finish(code))
    }

    /// Starts the command. Whatever can fail comes before it, so that an error means that nothing began.
    fn begin(&self, held: &Held) -> Result<Running, Trouble> {
        let system = |e: io::Error| Trouble::new(Exit::System, format!("the command is not run: {e}"));
        let (program, arguments) = self.command.split_first().ok_or_else(|| Trouble::usage("no command"))?;
        let inherited = held.checkpoint().map(|checkpoint| &checkpoint.data()[..]);
        let notebook = Notebook::open(inherited).map_err(system)?;
        let signals = Signals::catch().map_err(system)?;
        let recorder = Arc::new(Mutex::new(Recorder::new(self.bound)));

        let mut command = tether::command(notebook.folder(), program, arguments);
        command
            .env("ONCEKEY_KEY", held.slot().key())
            .env("ONCEKEY_ATTEMPT", held.attempt().to_string())
            .env("ONCEKEY_FENCE", held.fence().to_string())
            .env("ONCEKEY_CHECKPOINT", as_variable(inherited))
            .env("ONCEKEY_CHECKPOINT_FILE", notebook.file());
        if let Some(url) = env::var_os(VARIABLE).as_deref().and_then(without_password) {
            command.env(VARIABLE, url);
        }
        if let Some(bytes) = self.stdin.clone() {
            command.stdin(feed(bytes).map_err(system)?);
        }
        let (stdout, out) = pump(Stream::Out, &recorder).map_err(system)?;
        let (stderr, err) = pump(Stream::Err, &recorder).map_err(system)?;
        command.stdout(stdout).stderr(stderr);
        let (started, ended) = wait_thread().map_err(system)?;

        let child = command.spawn().map_err(|error| not_executed(program, &error))?;
        // Its ends of the pipes, kept here, would hold them open for ever.
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| started.send(pid));
        Ok(Running { child, pid, ended, printed: [out, err], recorder, signals, notebook })
    }
}

/// A command that runs.
struct Running {
    child: Child,
    pid: Option<Pid>,
    ended: oneshot::Receiver<()>,
    /// Each says when its pipe is at its end.
    printed: [oneshot::Receiver<()>; 2],
    recorder: Arc<Mutex<Recorder>>,
    signals: Signals,
    notebook: Notebook,
}

impl Running {
    /// Waits for the command's end, and then for the end of its output.
    async fn end(&mut self, held: &Held) -> io::Result<ExitStatus> {
        let Self { child, pid, ended, printed: [out, err], signals, notebook, .. } = self;
        {
            let mut looking = std::pin::pin!(notebook.watch(held));
            loop {
                tokio::select! {
                    _ = &mut *ended => break,
                    caught = signals.next() => forward(*pid, caught),
                    () = &mut looking => {}
                }
            }
        }
        // Only now is it reaped: until here the pid was surely its own, and no signal went astray.
        let status = child.wait()?;
        // Like a shell's `$(..)`: what the command left running may print on.
        let mut printed = std::pin::pin!(async { tokio::join!(out, err) });
        let cut = tokio::select! {
            _ = &mut printed => false,
            _ = signals.next() => timeout(GRACE, printed).await.is_err(),
        };
        if cut {
            say("the command has ended; what it left running may print more, which is not waited for");
        }
        Ok(status)
    }
}

fn forward(pid: Option<Pid>, caught: Caught) {
    if let (Some(pid), Some(signal), false) = (pid, Signal::from_named_raw(caught.number), caught.by_key) {
        // It may have ended this very moment.
        let _ = kill_process(pid, signal);
    }
}

enum Never {}

/// Says once that the slot may be somebody else's. The command goes on: to stop it half way is no better,
/// and whoever cares hands ONCEKEY_FENCE to a downstream that refuses old ones.
async fn watch_lease(held: &Held) -> Never {
    let what = match held.lost().await {
        Lost::Said(_) => "the lease is lost: somebody else may run this key now; the command goes on here",
        Lost::Completed => "this key was completed by somebody else; the command goes on here",
        _ => "the lease ran out before the store could be told; somebody else may run this key now",
    };
    say(what);
    std::future::pending().await
}

/// Starts the thread that brings one stream out, and gives the end for the command.
fn pump(stream: Stream, recorder: &Arc<Mutex<Recorder>>) -> io::Result<(Stdio, oneshot::Receiver<()>)> {
    let (reader, writer) = pipe()?;
    let (tell, done) = oneshot::channel();
    let recorder = Arc::clone(recorder);
    thread::Builder::new().name(format!("oncekey-{stream:?}")).spawn(move || {
        bring_out(reader, stream, &recorder);
        let _ = tell.send(());
    })?;
    Ok((writer.into(), done))
}

fn bring_out(mut reader: PipeReader, stream: Stream, recorder: &Mutex<Recorder>) {
    let mut outlet = Outlet::new(stream);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        // Recorded first, and with the lock gone before it blocks: a stdout that nobody reads must not hold
        // up stderr. Where writing fails, the command goes on all the same, and its answer is whole.
        locked(recorder).push(stream, bytes);
        if let Err(error) = outlet.write(bytes) {
            locked(recorder).lose();
            say(format_args!("output could not be written: {error}; it is recorded all the same"));
        }
    }
}

/// A stdin that gives `bytes` and ends.
fn feed(bytes: Vec<u8>) -> io::Result<Stdio> {
    let (reader, mut writer) = pipe()?;
    // A command that doesn't read it all is within its rights.
    let feed = move || drop(writer.write_all(&bytes));
    thread::Builder::new().name("oncekey-stdin".to_owned()).spawn(feed)?;
    Ok(reader.into())
}

/// Starts the thread that waits for the process it is told, without reaping it.
fn wait_thread() -> io::Result<(mpsc::Sender<Pid>, oneshot::Receiver<()>)> {
    let (started, pid) = mpsc::channel::<Pid>();
    let (tell, ended) = oneshot::channel();
    thread::Builder::new().name("oncekey-wait".to_owned()).spawn(move || {
        let Ok(pid) = pid.recv() else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), options).is_err_and(|e| e == Errno::INTR) {}
        let _ = tell.send(());
    })?;
    Ok((started, ended))
}

fn not_executed(program: &OsString, error: &io::Error) -> Trouble {
    let what = match tether::exit(error) {
        Exit::NotFound => "command not found".to_owned(),
        _ => format!("can't be executed: {error}"),
    };
    Trouble::new(tether::exit(error), format!("{}: {what}", program.display()))
}

/// As a shell has it: 128 and the signal's number for a command that was killed.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(u8::MAX.into());
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn locked(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}
