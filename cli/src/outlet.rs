//! What the program prints: its own lines ([`say`]), and bytes that aren't its own ([`Outlet`]).

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::secret::hidden;

/// One of the two that a command prints to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Says one line on stderr, marked as ours among the command's own, without a password. A stderr that is gone is nobody's
/// trouble: the exit code says the same.
pub(crate) fn say(message: impl Display) {
    let message = message.to_string();
    let line = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let line = hidden(&line);
    let _ = io::stderr().lock().write_all(format!("oncekey: {line}\n").as_bytes());
}

/// The way out for bytes. They leave at once and as they are: neither buffered nor looked at.
///
/// A reader who has gone away (`oncekey exec .. | head -1`) is no error: the rest is dropped.
#[derive(Debug)]
pub(crate) struct Outlet {
    stream: Stream,
    open: bool,
}

impl Outlet {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, open: true }
    }

    /// Writes all of it, or drops it where nobody reads any longer.
    ///
    /// # Errors
    /// What the system said; said once, for everything later is dropped.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.open {
            return Ok(());
        }
        let written = match self.stream {
            Stream::Out => write_all(io::stdout().as_fd(), bytes),
            Stream::Err => write_all(io::stderr().as_fd(), bytes),
        };
        self.open = written.is_ok();
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Whoever shares a terminal or a socket may have set it non-blocking for all.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&to, PollFlags::OUT)], None).map(drop).or_else(|e| match e {
                    Errno::INTR => Ok(()),
                    e => Err(e),
                })?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
