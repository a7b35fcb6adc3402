//! The cases, one file an operation or a theme.

mod reserve;

use crate::case::Case;

pub(crate) fn all() -> Vec<Case> {
    [reserve::cases()].concat()
}
