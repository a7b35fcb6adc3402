//! The command line, and what is said about a bad one.

use crate::kit::{Ended, Place};

fn oncekey(arguments: &[&str]) -> Ended {
    Ended::of(Place::new().program().args(arguments).output().unwrap())
}

#[test]
fn help_and_version_are_no_errors() {
    let version = oncekey(&["--version"]);
    version.printed(&format!("oncekey {}\n", env!("CARGO_PKG_VERSION")));
    for arguments in [
        &["--help"][..],
        &["help"],
        &["exec", "--help"],
        &["exec", "-h"],
        &["conformance", "--help"],
        &["schema", "--help"],
    ] {
        let help = oncekey(arguments);
        assert_eq!((help.code, help.err()), (Some(0), ""), "{arguments:?}");
        assert!(help.out().contains("Usage: oncekey"), "{}", help.out());
    }
}

#[test]
fn the_help_names_every_exit_code() {
    let help = oncekey(&["exec", "--help"]);
    for code in [64, 65, 69, 70, 71, 74, 75, 80, 81, 82, 126, 127] {
        assert!(help.out().contains(&format!("\n  {code:<5}")), "{code} is not in {}", help.out());
    }
}

#[test]
fn rubbish_is_one_line_and_exit_64() {
    let long = "k".repeat(256);
    for (arguments, words) in [
        (&[][..], "say what to do"),
        (&["frobnicate"], "frobnicate"),
        (&["exec"], "--key"),
        (&["exec", "--key", "k"], "<COMMAND>"),
        (&["exec", "--key", "k", "--"], "<COMMAND>"),
        (&["exec", "--", "date"], "--key"),
        (&["exec", "--key", "k", "date"], "'date'"),
        (&["exec", "--key", "k", "--frob", "--", "date"], "'--frob'"),
        (
            &["exec", "--key", "k", "--leese", "1s", "--", "date"],
            "'--leese' found; tip: a similar argument exists: '--lease'",
        ),
        (&["exec", "--key", "", "--", "date"], "key is empty"),
        (&["exec", "--key", &long, "--", "date"], "255 is the most"),
        (&["exec", "--key", "a\nb", "--", "date"], "control character"),
        (&["exec", "--key", "k", "--principal", "", "--", "date"], "principal is empty"),
        (&["exec", "--key", "k", "--lease", "30", "--", "date"], "--lease"),
        (&["exec", "--key", "k", "--lease", "soon", "--", "date"], "'soon' for '--lease"),
        (&["exec", "--key", "k", "--lease", "0s", "--", "date"], "a lease of 0ns is outside"),
        (&["exec", "--key", "k", "--lease", "2years", "--", "date"], "is outside 1 ms .. 1 year"),
        (&["exec", "--key", "k", "--retention", "11years", "--", "date"], "over 10 years"),
        (
            &["exec", "--key", "k", "--on-lapse", "refuse", "--retention", "0s", "--", "date"],
            "retention is 0",
        ),
        (&["exec", "--key", "k", "--wait", "-1s", "--", "date"], "'-1'"),
        (&["exec", "--key", "k", "--on-lapse", "maybe", "--", "date"], "takeover, refuse"),
        (&["exec", "--key", "k", "--keep", "never", "--", "date"], "success, always"),
        (&["exec", "--key", "k", "--max-output", "1T", "--", "date"], "none of K, M, G"),
        (&["exec", "--key", "k", "--key", "l", "--", "date"], "--key"),
        (&["conformance", "--seed", "x"], "--seed"),
        (&["conformance", "--filter", "no-such-case", "--store", "memory:"], "no case has such an id"),
    ] {
        let ended = oncekey(arguments);
        assert_eq!(ended.code, Some(64), "{arguments:?}: {ended:?}");
        ended.refused(64, words);
    }
}
