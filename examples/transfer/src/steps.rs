//! Where a test kills the program.

use std::io::{Read, Write, stderr, stdin};

/// Announces a step of a transfer, if the environment's TRANSFER_STEPS asks for it. At the step that it
/// names, the program waits for its end.
pub(crate) fn step(name: &str) {
    let Ok(asked) = std::env::var("TRANSFER_STEPS") else { return };
    // One write, so that a reader never sees half a line. Nobody may be reading any more.
    let _ = stderr().write_all(format!("step {name}\n").as_bytes());
    if asked == name {
        // Until it is killed, or whoever wanted to kill it is gone.
        let _ = stdin().read(&mut [0]);
        std::process::abort();
    }
}
