//! The words that cases are written in.
//!
//! A [`Stage`] is a case's own namespace. On it, a [`Desk`] is one slot seen through one client, and a
//! [`Caller`] is somebody who asks: a token and what it asks for. Answers are taken apart by the methods
//! of [`expect`], each of which fails with what it expected, what it saw, and the line of the case.

mod caller;
pub(crate) mod crowd;
mod desk;
pub(crate) mod expect;
mod stage;

pub(crate) use caller::Caller;
pub(crate) use desk::Desk;
pub(crate) use stage::Stage;

/// All that a file of cases needs.
pub(crate) mod prelude {
    pub(crate) use std::time::Duration;

    pub(crate) use oncekey_core::{
        Completion, ErrorKind, Fence, Grant, Loss, Policy, Renewal, Timestamp, Token,
    };

    pub(crate) use super::caller::{checkpoint, extend, response, under_fence, under_token};
    pub(crate) use super::expect::{
        Completing, Found, Releasing, Renewing, Reserving, failed, holds, refused, same, woken,
    };
    pub(crate) use super::stage::{DAY, HOUR, MINUTE, SECOND, YEAR};
    pub(crate) use super::{Caller, Desk, Stage, Told, case};
    pub(crate) use crate::case::{Case, Failure};
}

/// What a case returns.
pub(crate) type Told = Result<(), crate::case::Failure>;

/// A case as data: `case!(Table, ["R5", "S4"], takeover_raises_the_fence, needs ShiftTime)`.
macro_rules! case {
    ($level:ident, $rules:expr, $name:ident $(, needs $($need:ident)+)?) => {
        $crate::case::Case {
            id: stringify!($name),
            rules: &$rules,
            level: $crate::case::Level::$level,
            needs: &[$($($crate::harness::Capability::$need),+)?],
            run: |context| Box::pin(async move { $name($crate::kit::Stage::new(context)?).await }),
        }
    };
}
pub(crate) use case;
