//! Prints which case tests which rule of docs/spec.md, a pair a line. `cargo xtask tidy` reads it.
#![allow(clippy::print_stdout, reason = "a program whose output is its purpose")]

fn main() {
    for (rule, cases) in oncekey_conformance::rules_covered() {
        for case in cases {
            println!("{rule} {case}");
        }
    }
}
