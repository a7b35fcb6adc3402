//! A counter-example, told: the calls that fit, those that don't, and a drawing of when they ran.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oncekey_core::Fence;

use super::call::Call;
use super::expected::Expected;
use super::names::{Names, response, saved, seconds};
use super::record::{Record, State};
use super::search::CounterExample;
use super::zone::Var;

/// The calls at the end of the prefix that are drawn.
const DRAWN: usize = 10;
/// The width of a moment in the drawing: room for `[12!`.
const WIDTH: usize = 4;

/// What would have been right, with what is known of it.
pub(super) fn right(names: &Names, expected: Expected, after: &State) -> String {
    match (expected, &after.record) {
        (Expected::Reserved, Record::Pending(held)) => {
            let fence = match after.zone.value(Var::Fence) {
                Some(fence) => names.of_fence(Fence::new(fence.unsigned_abs())),
                None => " under a larger fence than before".to_owned(),
            };
            let (token, saved) = (names.of_token(held.token), saved(held.checkpoint.as_ref()));
            format!("Reserved({token}{fence}, attempt {}{saved})", held.attempt)
        }
        (Expected::Replay | Expected::CompletedAlready, Record::Completed(done)) => {
            format!("{expected}({})", response(&done.response))
        }
        _ => expected.to_string(),
    }
}

/// The whole counter-example.
pub(super) fn draw(found: &CounterExample, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let story = Story::of(found);
    writeln!(f, "no order of these calls is legal (S9); the longest legal beginning, in its order:")?;
    writeln!(f, "  call  client  sent at    what")?;
    for &index in &found.prefix {
        story.line(f, index)?;
    }
    writeln!(f, "and then none of these can come next:")?;
    for (index, right) in &found.stuck {
        story.line(f, *index)?;
        let right = if right.is_empty() { "nothing".to_owned() } else { right.join(", or ") };
        writeln!(f, "{:26}right would be: {right}", "")?;
    }
    story.lanes(f)
}

struct Story<'a> {
    found: &'a CounterExample,
    names: Names,
    /// The number of each call, in the order that they were sent.
    numbers: Vec<usize>,
    /// The one that has to come next soonest.
    offending: Option<usize>,
}

impl<'a> Story<'a> {
    fn of(found: &'a CounterExample) -> Self {
        let calls = &found.calls;
        let mut by_sending: Vec<usize> = (0..calls.len()).collect();
        by_sending.sort_by_key(|&index| calls[index].called.order);
        let mut numbers = vec![0; calls.len()];
        for (place, &index) in by_sending.iter().enumerate() {
            numbers[index] = place + 1;
        }
        let answer = |index: &usize| answered(&calls[*index]);
        let offending = found.stuck.iter().map(|(index, _)| *index).min_by_key(answer);
        Self { found, names: Names::of(calls), numbers, offending }
    }

    /// `   3!    B     0.104 s   complete(a#1, "x") -> Stored`
    fn line(&self, f: &mut fmt::Formatter<'_>, index: usize) -> fmt::Result {
        let call = &self.found.calls[index];
        let answer = match &call.answered {
            Some((_, answer)) => self.names.answer(answer),
            None => "?".to_owned(),
        };
        let mark = if self.offending == Some(index) { '!' } else { ' ' };
        let (number, client) = (self.numbers[index], lane(call.client));
        let (sent, what) = (seconds(call.called.time), self.names.operation(&call.operation));
        writeln!(f, "  {number:>3}{mark}  {client:<6}  {sent:<10} {what} -> {answer}")
    }

    /// A lane for each client, from the left to the right as time passes: each call and each answer has a
    /// column of its own.
    fn lanes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = &self.found.calls;
        let last = self.found.prefix.len().saturating_sub(DRAWN);
        let mut drawn: BTreeSet<usize> = self.found.prefix[last..].iter().copied().collect();
        drawn.extend(self.found.stuck.iter().map(|(index, _)| *index));

        let moments: BTreeSet<u64> = drawn
            .iter()
            .flat_map(|&index| [Some(calls[index].called.order), answered_at(&calls[index])])
            .flatten()
            .collect();
        let columns: BTreeMap<u64, usize> =
            moments.into_iter().enumerate().map(|(place, moment)| (moment, place * WIDTH)).collect();
        let width = (columns.len() + 1) * WIDTH;

        let mut lanes: BTreeMap<usize, Vec<char>> = BTreeMap::new();
        for &index in &drawn {
            let call = &calls[index];
            let lane = lanes.entry(call.client).or_insert_with(|| vec![' '; width]);
            let from = columns.get(&call.called.order).copied().unwrap_or(0);
            let to = answered_at(call).and_then(|moment| columns.get(&moment).copied());
            let fill = if to.is_some() { '=' } else { '~' };
            lane[from..to.unwrap_or(width)].fill(fill);
            if let Some(to) = to {
                lane[to] = ']';
            }
            let mark = if self.offending == Some(index) { "!" } else { "" };
            let label = format!("[{}{mark}", self.numbers[index]);
            for (place, letter) in lane[from..].iter_mut().zip(label.chars()) {
                *place = letter;
            }
        }
        writeln!(f, "when they ran, from call [ to answer ] (~ open, ! the one that can't wait):")?;
        for (client, cells) in lanes {
            let cells: String = cells.into_iter().collect();
            writeln!(f, "  {:<3} {}", lane(client), cells.trim_end())?;
        }
        Ok(())
    }
}

fn answered_at(call: &Call) -> Option<u64> {
    call.answered.as_ref().map(|(moment, _)| moment.order)
}

fn answered(call: &Call) -> u64 {
    answered_at(call).unwrap_or(u64::MAX)
}

/// Clients are `A`, `B`, ..
fn lane(client: usize) -> String {
    match u8::try_from(client) {
        Ok(number) if number < 26 => char::from(b'A' + number).to_string(),
        _ => format!("C{client}"),
    }
}
