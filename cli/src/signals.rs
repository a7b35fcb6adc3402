//! Signals that this program gets while a command runs: they are the command's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::thread;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::mpsc;

const FORWARDED: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// What this program was sent since it began to catch.
#[derive(Debug)]
pub(crate) struct Signals(mpsc::UnboundedReceiver<Caught>);

/// A signal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caught {
    pub(crate) number: i32,
    /// A key of the terminal's: the kernel has sent it to the command as well, which is in the same process
    /// group. Sent again, it would be a second Ctrl-C, which many programs take for "at once".
    pub(crate) by_key: bool,
}

impl Signals {
    /// Begins to catch. From here to the end of the process no signal of these ends it: what the command did
    /// is stored first.
    ///
    /// A signal that was ignored when the program began (`nohup`) stays so, for the command as well:
    /// caught here, it would be the default again after exec.
    pub(crate) fn catch() -> io::Result<Self> {
        let ignored = ignored();
        // An ignored SIGCHLD would take the command's exit code away; caught, it doesn't.
        let wanted = FORWARDED.into_iter().filter(|signal| !ignored.contains(signal)).chain([SIGCHLD]);
        let mut source = SignalsInfo::<WithOrigin>::new(wanted)?;
        let (tell, caught) = mpsc::unbounded_channel();
        thread::Builder::new().name("oncekey-signals".to_owned()).spawn(move || {
            for Origin { signal, cause, .. } in source.forever().filter(|origin| origin.signal != SIGCHLD) {
                let by_key = matches!(signal, SIGINT | SIGQUIT) && cause == Cause::Kernel;
                // Nobody listens once the command has ended.
                let _ = tell.send(Caught { number: signal, by_key });
            }
        })?;
        Ok(Self(caught))
    }

    /// The next; never, if none comes.
    pub(crate) async fn next(&mut self) -> Caught {
        match self.0.recv().await {
            Some(caught) => caught,
            None => std::future::pending().await,
        }
    }
}

/// The signals that are ignored, as Linux shows them. Elsewhere none are known to be.
fn ignored() -> BTreeSet<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    (1..=64).filter(|signal| mask & (1 << (signal - 1)) != 0).collect()
}
