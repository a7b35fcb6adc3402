//! A case as data: what it is called, which rule it tests, what it needs, and what it does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Capability, Namespace};

/// One test of one rule, the same for every store.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, after what holds: `takeover_hands_on_the_checkpoint`. Unique in the suite.
    pub id: &'static str,
    /// The rules of docs/spec.md that it tests, the first above all: `R5`.
    pub rules: &'static [&'static str],
    /// What kind of case it is.
    pub level: Level,
    /// What the store must be able to do.
    pub needs: &'static [Capability],
    /// What it does. `Err` is the failure, told as what was expected and what was seen.
    pub run: fn(Context) -> CaseFuture,
}

/// What a case returns.
pub type CaseFuture = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Where a case sits in the suite.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// One cell of the spec's tables, one caller after another.
    Table,
    /// Input that tries to break in.
    Hostile,
    /// Many callers at once.
    Race,
    /// Random sequences against the state machine.
    Model,
    /// Concurrent histories, checked for linearizability.
    History,
}

/// What a case is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// A namespace of its own.
    pub namespace: Namespace,
    /// The seed of everything random in it. Printed with a failure; the same seed does the same.
    pub seed: u64,
    /// What the harness said that the store can do.
    pub capabilities: Arc<crate::harness::Capabilities>,
    /// After how long the suite gives it up.
    pub deadline: Duration,
}

/// Why a case failed: told to somebody who has to mend the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    /// The error with its causes, and the line that it came up in.
    #[track_caller]
    fn from(error: E) -> Self {
        let at = crate::kit::expect::place(std::panic::Location::caller());
        Self(Self::from_error(&error).0 + &at)
    }
}

impl Failure {
    /// The error with its causes.
    pub(crate) fn from_error(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self(text)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rules.join(" "), self.id)
    }
}
