//! How the program ends: [`Exit`], and [`Trouble`], which is an exit with a line that says why.

use std::fmt;
use std::process::ExitCode;

use oncekey_core::{InvalidInput, StoreError};

/// The exit codes. The command's own codes pass through, so these keep to where commands rarely are:
/// sysexits.h where it has the word (64 to 78), the free numbers after it, and 126 and 127 as in a shell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done, or the command's own exit code; 128 and the signal's number where one killed it.
    Code(u8),
    /// The suite found the store wrong.
    StoreWrong,
    /// The command line can't be meant: an unknown option, a bad duration, key or store.
    Usage,
    /// The key was used for another command.
    KeyReused,
    /// The store can't be opened or gave no answer; the command did not run.
    StoreUnavailable,
    /// A bug of this program's.
    Bug,
    /// The system gave no pipe, thread or temporary folder; the command did not run.
    System,
    /// The command ran and is kept, but its output could not be written out.
    OutputLost,
    /// Somebody is at work on this key.
    InFlight,
    /// An earlier run began and fell silent, and the key asks for at most once.
    Indeterminate,
    /// The command ran, but the lease was lost meanwhile: somebody else may have run it too.
    LeaseLost,
    /// The command ran, but it is not known whether the store keeps that.
    NotSaved,
    /// The command is there and can't be executed.
    NotExecutable,
    /// There is no such command.
    NotFound,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::StoreWrong => 1,
            Self::Usage => 64,
            Self::KeyReused => 65,
            Self::StoreUnavailable => 69,
            Self::Bug => 70,
            Self::System => 71,
            Self::OutputLost => 74,
            Self::InFlight => 75,
            Self::Indeterminate => 80,
            Self::LeaseLost => 81,
            Self::NotSaved => 82,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why the program ends as it does, in a line for people.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) exit: Exit,
    message: String,
}

impl Trouble {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The store can't be used for `purpose`.
    pub(crate) fn store(error: &StoreError) -> Self {
        let exit = if error.is_invalid_input() { Exit::Usage } else { Exit::StoreUnavailable };
        Self::new(exit, format!("the store can't be used: {error}"))
    }
}

impl From<InvalidInput> for Trouble {
    fn from(invalid: InvalidInput) -> Self {
        Self::usage(invalid.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
