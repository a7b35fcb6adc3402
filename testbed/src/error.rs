//! What went wrong, in one sentence for whoever reads the test's output.

use std::fmt;

/// Why a server could not be started, spoken to or ended. It is for reading: no caller can do better than
/// fail its test with it.
#[derive(Clone, Debug)]
pub struct Error {
    message: String,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// For `map_err`: what was being done when `why` came.
    pub(crate) fn when<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |why| Self::new(format!("{what}: {why}"))
    }

    /// The same error, with what is worth knowing besides on lines of its own.
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.message.push('\n');
        self.message.push_str(more);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
