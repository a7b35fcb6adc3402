//! Starts the command so that it dies with this program.
//!
//! A holder killed by SIGKILL renews no longer, and somebody takes over after its lease; a command that
//! outlived it would run beside the next one. Linux sends a process a signal when its parent dies, but the
//! process has to ask for that itself, between fork and exec. So this program starts *itself*, which asks and
//! then becomes the command.
//!
//! It covers the command and not its children, not setuid programs, and no other system than Linux: there
//! the command may outlive a killed `oncekey`, and a downstream that refuses old fences is the answer (S10).

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid};

use crate::exit::Exit;

/// The first argument of this program when it is to become a command. Not for users.
const WORD: &str = "__become";
/// In the run's own folder: why the command could not be executed.
const WHY_NOT: &str = "exec-error";

/// What starts `command`. `folder` is this run's own.
///
/// The signal comes when the *thread* that started the command ends: start it from the main thread.
pub(crate) fn command(folder: &Path, program: &OsStr, arguments: &[OsString]) -> Command {
    let itself = Path::new("/proc/self/exe");
    if !cfg!(target_os = "linux") || !itself.exists() {
        let mut plain = Command::new(program);
        plain.args(arguments);
        return plain;
    }
    let mut tethered = Command::new(itself);
    tethered.arg0("oncekey").arg(WORD).arg(std::process::id().to_string()).arg(folder);
    tethered.arg(program).args(arguments);
    tethered
}

/// Why the command could not be executed, once what was started has ended; none where it was.
pub(crate) fn why_not(folder: &Path) -> Option<io::Error> {
    let code = fs::read_to_string(folder.join(WHY_NOT)).ok()?;
    Some(io::Error::from_raw_os_error(code.parse().ok()?))
}

/// How a shell would end for this error.
pub(crate) fn exit(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::NotExecutable }
}

/// Becomes the command, where this process was started for that. Returns only if it wasn't, or couldn't.
pub(crate) fn begin() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let mut take = || arguments.next().unwrap_or_default();
    let (parent, folder, program) = (take(), PathBuf::from(take()), take());
    let asked = ask_to_die_with_the_parent();
    // The parent may have died before the kernel was asked.
    let parent = parent.to_str().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    if parent.is_none() || getppid() != parent {
        return Some(Exit::LeaseLost.into());
    }
    let error = match asked {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    let code = error.raw_os_error().unwrap_or_default().to_string();
    // The exit code alone could be the command's own; without the file it is taken for that.
    let _ = fs::write(folder.join(WHY_NOT), code);
    Some(exit(&error).into())
}

#[cfg(target_os = "linux")]
fn ask_to_die_with_the_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

#[cfg(not(target_os = "linux"))]
fn ask_to_die_with_the_parent() -> io::Result<()> {
    let _ = Signal::KILL;
    Ok(())
}
