//! Programs that a test kills: the steps that they announce, and who kills them there.
//!
//! The program calls [`step`] wherever a kill would be interesting. The test starts it as a [`Victim`].

use std::io::{self, BufRead, BufReader, Read, Write, stderr, stdin};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

/// Which step a program is to stop at; with any other text it announces its steps and goes on.
const STEPS: &str = "ONCEKEY_STEPS";

/// Announces a step on the standard error, if a test asks for it; and waits there for the program's end, if the
/// test names it.
pub fn step(name: &str) {
    let Ok(asked) = std::env::var(STEPS) else { return };
    // One write, so that a reader never sees half a line. Nobody may be reading any more.
    let _ = stderr().write_all(format!("step {name}\n").as_bytes());
    if asked == name {
        // Until it is killed, or whoever wanted to kill it is gone.
        let _ = stdin().read(&mut [0]);
        std::process::abort();
    }
}

/// A program that runs, and is killed when somebody has seen enough.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    steps: BufReader<ChildStderr>,
    said: ChildStdout,
}

impl Victim {
    /// Starts it. It announces its steps, and stops at the one of this name, if it comes to it.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(command: &mut Command, stops_at: &str) -> io::Result<Self> {
        command.env(STEPS, stops_at);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(steps), Some(said)) = (child.stderr.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self { child, steps: BufReader::new(steps), said })
    }

    /// Its next step; none once it has ended.
    pub fn next_step(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            // What isn't text is no step.
            if self.steps.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(step) = line.strip_prefix("step ") {
                return Some(step.trim_end().to_owned());
            }
        }
    }

    /// Waits until it has come to this step; whether it has, before its end.
    pub fn comes_to(&mut self, step: &str) -> bool {
        while let Some(next) = self.next_step() {
            if next == step {
                return true;
            }
        }
        false
    }

    /// Kills it (SIGKILL), unless it has ended; what it had answered until then.
    ///
    /// # Errors
    /// It can't be killed, or answered what isn't text.
    pub fn kill(mut self) -> io::Result<String> {
        self.child.kill()?;
        self.child.wait()?;
        let mut said = String::new();
        self.said.read_to_string(&mut said)?;
        Ok(said)
    }
}

/// Lets some time pass, from nothing to some milliseconds, in an order of magnitude that `magnitude` chooses:
/// within a step's work, its flush above all.
pub fn a_moment(magnitude: u32) {
    for _ in 0..1_u32 << (magnitude % 20) {
        std::hint::spin_loop();
    }
}

/// A number that the environment gives: `ONCEKEY_ROUNDS`, how many rounds a proof has, and `ONCEKEY_SEED`, which
/// repeats one.
///
/// # Errors
/// It is no number.
pub fn number(name: &str) -> Result<Option<u64>, std::num::ParseIntError> {
    std::env::var(name).ok().map(|text| text.parse()).transpose()
}
