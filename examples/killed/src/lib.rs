//! Programs that a test kills: the steps that they announce, and who kills them there.
//!
//! The program calls [`step`] wherever a kill would be interesting. The test starts it as a [`Victim`].

use std::io::{self, BufRead, BufReader, Read, Write, stderr, stdin};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Which step a program is to stop at; with any other text it announces its steps and goes on.
const STEPS: &str = "ONCEKEY_STEPS";

/// Announces a step on the standard error, if a test asks for it; and waits there, the first time, if the test
/// names it, until the test lets it go on, or kills it.
pub fn step(name: &str) {
    let Ok(asked) = std::env::var(STEPS) else { return };
    // One write, so that a reader never sees half a line. Nobody may be reading any more.
    let _ = stderr().write_all(format!("step {name}\n").as_bytes());
    static STOPPED: AtomicBool = AtomicBool::new(false);
    if asked == name && !STOPPED.swap(true, Ordering::Relaxed) && !matches!(stdin().read(&mut [0]), Ok(1)) {
        // Whoever wanted to kill it is gone.
        std::process::abort();
    }
}

/// A program that runs, and is killed when somebody has seen enough.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    steps: BufReader<ChildStderr>,
    complaints: String,
}

/// What is left of a program.
#[derive(Debug)]
pub struct End {
    /// None where it was killed.
    pub code: Option<i32>,
    /// What it had answered.
    pub said: String,
    /// What it said besides, but for its steps.
    pub complaints: String,
}

impl Victim {
    /// Starts it. It announces its steps, and stops at the one of this name, the first time.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(command: &mut Command, stops_at: &str) -> io::Result<Self> {
        command.env(STEPS, stops_at);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let steps = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, steps: BufReader::new(steps), complaints: String::new() })
    }

    /// Its next step; none once it has ended.
    pub fn next_step(&mut self) -> Option<String> {
        let mut line = String::new();
        // What isn't text is no step.
        while self.steps.read_line(&mut line).is_ok_and(|read| read > 0) {
            if let Some(step) = line.strip_prefix("step ") {
                return Some(step.trim_end().to_owned());
            }
            self.complaints.push_str(&line);
            line.clear();
        }
        None
    }

    /// Waits until it has come to this step; whether it has, before its end.
    pub fn comes_to(&mut self, step: &str) -> bool {
        std::iter::from_fn(|| self.next_step()).any(|next| next == step)
    }

    /// Lets it go on from the step that it stopped at.
    ///
    /// # Errors
    /// It has ended.
    pub fn go_on(&mut self) -> io::Result<()> {
        self.child.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(b"\n")
    }

    /// Kills it (SIGKILL), unless it has ended.
    ///
    /// # Errors
    /// It can't be killed, or said what isn't text.
    pub fn kill(mut self) -> io::Result<End> {
        self.child.kill()?;
        self.end()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It said what isn't text.
    pub fn end(mut self) -> io::Result<End> {
        while self.next_step().is_some() {}
        let mut said = String::new();
        self.child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?.read_to_string(&mut said)?;
        Ok(End { code: self.child.wait()?.code(), said, complaints: self.complaints })
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
