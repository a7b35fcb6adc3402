//! The cases, one file an operation or a theme.

mod complete;
mod expiry;
mod fences;
mod refuse;
mod release;
mod renew;
mod reserve;
mod takeover;

use crate::case::Case;

pub(crate) fn all() -> Vec<Case> {
    [
        reserve::cases(),
        takeover::cases(),
        refuse::cases(),
        complete::cases(),
        renew::cases(),
        release::cases(),
        expiry::cases(),
        fences::cases(),
    ]
    .concat()
}
