//! What a call means: the command line, and stdin where it is asked for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use oncekey_core::Fingerprint;

/// The program and its arguments, byte for byte; with `stdin`, those bytes before them, in a domain of
/// their own, so that a call with `--stdin` never means one without. Neither the working directory nor the
/// environment counts.
pub(crate) fn of(command: &[OsString], stdin: Option<&[u8]>) -> Fingerprint {
    let begun = match stdin {
        None => Fingerprint::builder("oncekey-exec/1"),
        Some(bytes) => Fingerprint::builder("oncekey-exec/1+stdin").part(bytes),
    };
    command.iter().fold(begun, |builder, word| builder.part(word.as_bytes())).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn words_their_bounds_and_stdin_all_count() {
        let f = |words: &[&[u8]], stdin: Option<&[u8]>| {
            let words: Vec<_> = words.iter().map(|w| OsString::from_vec(w.to_vec())).collect();
            of(&words, stdin)
        };
        let all = [
            f(&[b"echo", b"a b"], None),
            f(&[b"echo", b"a", b"b"], None),
            f(&[b"echo a b"], None),
            f(&[b"echo", b"\xff"], None),
            f(&[b"echo", b"\xfe"], None),
            f(&[b"echo"], None),
            f(&[b"echo"], Some(b"")),
            f(&[b"echo"], Some(b"x")),
            f(&[b"x", b"echo"], None),
        ];
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!(i == j, a == b, "{i} and {j}");
            }
        }
    }
}
