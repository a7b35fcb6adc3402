//! Processes of a server, and signals to them.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::run;

/// A process that isn't a zombie.
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
}

/// All that run. Looked up rather than remembered: a server starts and ends processes all the time.
pub(crate) fn all() -> Vec<Process> {
    match fs::read_dir("/proc/self") {
        Ok(_) => fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let stat = fs::read(entry.path().join("stat")).ok()?;
                let stat = String::from_utf8_lossy(&stat);
                // `pid (name) state parent ..`, and the name may be anything.
                let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
                let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
                (!ended(state)).then_some(Process { pid, parent })
            })
            .collect(),
        // No Linux.
        Err(_) => run::output(Command::new("ps").args(["-A", "-o", "pid=,ppid=,state="]))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace();
                let (pid, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
                (!ended(fields.next()?)).then_some(Process { pid, parent })
            })
            .collect(),
    }
}

fn ended(state: &str) -> bool {
    state.starts_with(['Z', 'X'])
}

/// The children of `parent`.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    all().into_iter().filter(|process| process.parent == parent).map(|process| process.pid).collect()
}

/// Whether any of `pids` runs.
pub(crate) fn any_runs(pids: &[u32]) -> bool {
    all().iter().any(|process| pids.contains(&process.pid))
}

/// Sends `signal`; to a process that is gone, nothing.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended since it was looked up, and then there is nothing to do.
        let _ = kill_process(pid, signal);
    }
}
