//! `oncekey exec`: a command, at most once per key.

use std::io::{self, Read};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use oncekey_core::{
    How, Idempotency, IdempotencyRecord, IdempotencyStore, Policy, Principal, RunError, RunOutcome, Unsaved,
};

use crate::args::Exec;
use crate::exit::{Exit, Trouble};
use crate::fingerprint;
use crate::job::{Job, NoAnswer};
use crate::location::Location;
use crate::outlet::{Outlet, Stream, say};
use crate::reach;
use crate::recorder::Recorded;
use crate::store::{self, Store};

/// The longest stdin that `--stdin` reads.
const MAX_STDIN: u64 = 16 << 20;
/// Expired records that a run clears away after it: the store stays as small as its retention, without cron.
const COLLECT: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

pub(crate) fn run(args: Exec) -> Result<Exit, Trouble> {
    // What can be wrong in the command line is said before the store is touched.
    let slot = Principal::new(&args.principal)?.slot(&args.key)?;
    let runner = |store: Arc<dyn IdempotencyStore>| match args.on_lapse.policy() {
        Policy::TakeOver => Idempotency::at_least_once(store),
        Policy::Refuse => Idempotency::at_most_once(store),
    };
    oncekey_core::Terms::new(args.on_lapse.policy(), args.lease, args.retention)?;
    let location = Location::find(&args.store)?;
    let stdin = if args.stdin { Some(read_stdin()?) } else { None };
    let meaning = fingerprint::of(&args.command, stdin.as_deref());
    store::runtime(&location)?.block_on(async {
        let store = Store::open(&location, args.max_output).await?;
        // No ceiling: a command that hangs is `timeout`'s business, and one that is long keeps its key.
        let runner = runner(store.shared()).terms(args.lease, args.retention)?.ceiling(Duration::MAX);
        let runner = runner.call_deadline(store.call_deadline());
        let job = Job { command: args.command, stdin, keep: args.keep, bound: args.max_output };
        let outcome = runner
            .call(&slot, meaning)
            .wait_up_to(args.wait)
            .on_error(NoAnswer::then)
            .run(move |held| job.run(held))
            .await;
        let ran = matches!(outcome, Ok(RunOutcome::Done { how: How::Ran | How::NotKept, .. }));
        let exit = conclude(outcome);
        if ran {
            let _a_later_run_may = store.shared().garbage_collect(COLLECT).await;
        }
        store.close().await;
        exit
    })
}

fn read_stdin() -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MAX_STDIN + 1).read_to_end(&mut bytes);
    read.map_err(|e| Trouble::new(Exit::System, format!("stdin: {e}; the command is not run")))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(Trouble::usage("stdin is over 16 MiB, the most that --stdin reads: pass a file's name"));
    }
    Ok(bytes)
}

type Outcome = Result<RunOutcome<Recorded>, RunError<NoAnswer>>;

/// What the caller hears.
fn conclude(outcome: Outcome) -> Result<Exit, Trouble> {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return failed(error),
    };
    match outcome {
        RunOutcome::Done { value, how } => done(&value, how),
        RunOutcome::NotKept(record) => Ok(replay_without_output(&record)),
        RunOutcome::InFlight(busy) => {
            let seconds = Duration::from_secs(busy.retry_after.as_secs().max(1));
            let message = format!(
                "in flight: somebody runs this key now, with {} of its lease left; try again later, or --wait",
                humantime::format_duration(seconds)
            );
            Err(Trouble::new(Exit::InFlight, message))
        }
        RunOutcome::Conflict => {
            let message = "the key was used for another command; one piece of work has one key";
            Err(Trouble::new(Exit::KeyReused, message))
        }
        RunOutcome::Indeterminate(lapsed) => {
            let message = format!(
                "indeterminate: attempt {} began and fell silent; it may have done its work, so it is not run \
                 again. Look, then run it under another key if it has to be",
                lapsed.attempt
            );
            Err(Trouble::new(Exit::Indeterminate, message))
        }
    }
}

fn done(value: &Recorded, how: How) -> Result<Exit, Trouble> {
    match how {
        How::Replayed => replay(value),
        How::Ran if value.is_lost() && value.code == 0 => Ok(Exit::OutputLost),
        How::Ran => Ok(Exit::Code(value.code)),
        How::NotKept => {
            say(format_args!(
                "the output of {} bytes is over --max-output and is not kept; later calls replay the exit code",
                value.total()
            ));
            Ok(Exit::Code(value.code))
        }
        How::Superseded => Err(Trouble::new(
            Exit::LeaseLost,
            "the command ran, but its lease was lost: somebody else's answer is kept, and later calls replay that",
        )),
        How::Unsaved(Unsaved::Lost(_)) => Err(Trouble::new(
            Exit::LeaseLost,
            "the command ran, but its lease was lost, and its answer is not kept: it may run again",
        )),
        How::Unsaved(Unsaved::NoAnswer(_)) => Err(Trouble::new(
            Exit::NotSaved,
            format!(
                "the command ran and ended with {}, but the store didn't say that it keeps that",
                value.code
            ),
        )),
    }
}

fn replay(recorded: &Recorded) -> Result<Exit, Trouble> {
    let mut outlets = [Outlet::new(Stream::Out), Outlet::new(Stream::Err)];
    let mut lost = None;
    for (stream, bytes) in recorded.chunks().flatten() {
        let [out, err] = &mut outlets;
        let outlet = if stream == Stream::Out { out } else { err };
        // One stream that is lost doesn't take the other along.
        lost = outlet.write(bytes).err().or(lost);
    }
    let Some(error) = lost else { return Ok(Exit::Code(recorded.code)) };
    let exit = if recorded.code == 0 { Exit::OutputLost } else { Exit::Code(recorded.code) };
    Err(Trouble::new(exit, format!("output could not be written: {error}")))
}

fn replay_without_output(record: &IdempotencyRecord) -> Exit {
    let code = u8::try_from(record.response.status).unwrap_or(u8::MAX);
    let length = match record.response.body {
        oncekey_core::Body::NotKept { len } => len,
        oncekey_core::Body::Kept(ref bytes) => bytes.len() as u64,
    };
    say(format_args!(
        "the command ran before and ended with {code}; its output of {length} bytes was not kept"
    ));
    Exit::Code(code)
}

fn failed(error: RunError<NoAnswer>) -> Result<Exit, Trouble> {
    match error {
        RunError::Work(NoAnswer::NotBegun(trouble)) => Err(trouble),
        RunError::Work(NoAnswer::Failed { code, .. }) => Ok(Exit::Code(code)),
        RunError::Store(error) => Err(reach::trouble(&error)),
        RunError::Panicked(panic) => {
            Err(Trouble::new(Exit::Bug, format!("a bug of oncekey's: {}", panic.message())))
        }
        other => Err(Trouble::new(Exit::Bug, other_text(&other))),
    }
}

/// An answer that isn't a command's, under a fingerprint that is: somebody wrote to the store by hand.
fn other_text(error: &RunError<NoAnswer>) -> String {
    match error {
        RunError::Answer(error) => {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("what is kept under this key can't be replayed: {cause}")
        }
        _ => "the program was shut down while the command ran".to_owned(),
    }
}
