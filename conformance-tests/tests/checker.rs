//! Histories that every checker must judge right. The clock reads one second a place in the order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its failure is a panic")]

use std::time::Duration;

use oncekey_conformance::history::{BUDGET, Call, CounterExample, Moment, Tolerance, Verdict, check};
use oncekey_core::state::{Answer, Operation};
use oncekey_core::{
    CompleteOutcome, Completion, Fence, Fingerprint, Grant, IdempotencyRecord, InFlight, Loss, Policy,
    ReleaseOutcome, RenewOutcome, Renewal, Renewed, ReservationOutcome, ReserveRequest, StoredResponse,
    Terms, Timestamp, Token,
};

const LEASE: u64 = 30;
const RETENTION: u64 = 1_000;
/// What the store's clock says at the history's zero.
const BASE: u64 = 1_700_000_000;

#[derive(Default)]
struct History(Vec<Call>);

impl History {
    /// Nobody else is between call and answer.
    fn alone(&mut self, client: usize, operation: Operation, answer: Answer) -> &mut Self {
        let last = self.0.iter().flat_map(|c| [Some(c.called.order), c.answered.as_ref().map(|a| a.0.order)]);
        let place = last.flatten().max().unwrap_or(0) + 1;
        self.call(client, place..place + 1, operation, answer)
    }

    fn call(
        &mut self,
        client: usize,
        places: std::ops::Range<u64>,
        operation: Operation,
        answer: Answer,
    ) -> &mut Self {
        let answered = Some((at(places.end), answer));
        self.0.push(Call { client, operation, called: at(places.start), answered });
        self
    }

    fn unanswered(&mut self, client: usize, place: u64, operation: Operation) -> &mut Self {
        self.0.push(Call { client, operation, called: at(place), answered: None });
        self
    }

    #[track_caller]
    fn is_legal(&self) {
        match check(&self.0, Tolerance::EXACT, BUDGET) {
            Verdict::Legal => {}
            Verdict::Illegal(why) => panic!("{why}"),
            Verdict::Undecided { states } => panic!("undecided after {states}"),
        }
    }

    #[track_caller]
    fn is_illegal(&self) -> CounterExample {
        match check(&self.0, Tolerance::EXACT, BUDGET) {
            Verdict::Illegal(why) => why,
            other => panic!("{other:?}"),
        }
    }
}

fn at(order: u64) -> Moment {
    Moment { order, time: Duration::from_secs(order) }
}

fn token(name: u8) -> Token {
    Token::from_bytes([name; 16])
}

fn grant(name: u8, fence: u64, attempt: u32) -> Grant {
    Grant::new(token(name), Fence::new(fence), attempt, Policy::TakeOver, None)
}

fn reserve(name: u8) -> Operation {
    let (lease, retention) = (Duration::from_secs(LEASE), Duration::from_secs(RETENTION));
    let terms = Terms::new(Policy::TakeOver, lease, retention).unwrap();
    let request = ReserveRequest::new(Fingerprint::from_bytes([1; 32]), terms);
    Operation::Reserve { token: token(name), request }
}

fn complete(grant: &Grant, body: &'static str) -> Operation {
    let completion = Completion::new(StoredResponse::new(200, "", body));
    Operation::Complete { grant: grant.clone(), completion }
}

fn renew(grant: &Grant) -> Operation {
    let renewal = Renewal::extend(Duration::from_secs(LEASE)).unwrap();
    Operation::Renew { grant: grant.clone(), renewal }
}

fn reserved(grant: &Grant) -> Answer {
    Answer::Reserve(Ok(ReservationOutcome::Reserved(grant.clone())))
}

fn in_flight(rest: u64) -> Answer {
    Answer::Reserve(Ok(ReservationOutcome::InFlight(InFlight::new(Duration::from_secs(rest)))))
}

/// A record reserved at `created` and completed at `completed`.
fn replay(grant: &Grant, body: &'static str, created: u64, completed: u64) -> Answer {
    let moment = |place| Timestamp::from_micros((BASE + place) * 1_000_000);
    let record = IdempotencyRecord::new(
        Fingerprint::from_bytes([1; 32]),
        grant.fence,
        grant.attempt,
        StoredResponse::new(200, "", body),
        moment(created),
        moment(completed),
        moment(created + LEASE + RETENTION),
    );
    Answer::Reserve(Ok(ReservationOutcome::Replay(record)))
}

const STORED: Answer = Answer::Complete(CompleteOutcome::Stored);
const TAKEN_OVER: Answer = Answer::Complete(CompleteOutcome::Lost(Loss::TakenOver));

#[test]
fn two_grants_at_once_have_no_order() {
    let (a, b) = (grant(1, 10, 1), grant(2, 11, 1));
    let mut history = History::default();
    history.call(0, 1..4, reserve(1), reserved(&a)).call(1, 2..3, reserve(2), reserved(&b));
    let why = history.is_illegal();
    assert_eq!(why.prefix.len(), 1);
    let story = why.to_string();
    assert!(story.contains("right would be: InFlight"), "{story}");
}

#[test]
fn the_second_of_two_callers_hears_of_the_first() {
    let a = grant(1, 10, 1);
    let mut history = History::default();
    history.call(0, 1..4, reserve(1), reserved(&a)).call(1, 2..3, reserve(2), in_flight(29));
    history.is_legal();
    // At place 3 the first has 30 s from place 1 at the earliest: 28 s at least, 30 s at most.
    history.0[1].answered = Some((at(3), in_flight(27)));
    history.is_illegal();
}

#[test]
fn a_rest_of_zero_is_never_right() {
    let mut history = History::default();
    history.alone(0, reserve(1), reserved(&grant(1, 10, 1)));
    history.call(1, 30..31, reserve(2), in_flight(0));
    let Some((_, Answer::Reserve(Ok(ReservationOutcome::InFlight(busy))))) = &mut history.0[1].answered
    else {
        panic!("{:?}", history.0)
    };
    busy.retry_after = Duration::ZERO;
    assert!(matches!(check(&history.0, Tolerance::COARSE, BUDGET), Verdict::Illegal(_)));
}

#[test]
fn a_stale_read_has_no_order() {
    let a = grant(1, 10, 1);
    let mut history = History::default();
    history.alone(0, reserve(1), reserved(&a)).alone(0, complete(&a, "x"), STORED);
    history.alone(1, reserve(2), in_flight(26));
    let story = history.is_illegal().to_string();
    assert!(story.contains(r#"right would be: Replay("x")"#), "{story}");
}

#[test]
fn a_lost_update_has_no_order() {
    // Both completed, and both were told that theirs is the answer.
    let (a, b) = (grant(1, 10, 1), grant(2, 11, 2));
    let mut history = History::default();
    history.alone(0, reserve(1), reserved(&a));
    history.call(1, 40..41, reserve(2), reserved(&b));
    history.call(0, 42..45, complete(&a, "x"), STORED).call(1, 43..44, complete(&b, "y"), STORED);
    history.is_illegal();
    history.0[2].answered = Some((at(45), TAKEN_OVER));
    history.is_legal();
}

#[test]
fn a_replay_before_the_completion_has_no_order() {
    let a = grant(1, 10, 1);
    let mut history = History::default();
    history.call(0, 1..2, reserve(1), reserved(&a));
    history.call(1, 3..4, reserve(2), replay(&a, "x", 1, 3));
    history.call(0, 5..6, complete(&a, "x"), STORED);
    history.is_illegal();
    // Sent before the replay was heard, it may have happened before.
    history.0[2].called = at(3);
    history.is_legal();
}

#[test]
fn a_replay_shows_the_same_each_time() {
    let a = grant(1, 10, 1);
    let mut history = History::default();
    history.alone(0, reserve(1), reserved(&a)).alone(0, complete(&a, "x"), STORED);
    history.alone(1, reserve(2), replay(&a, "x", 1, 3)).alone(1, reserve(2), replay(&a, "x", 1, 3));
    history.is_legal();
    history.0[3].answered = Some((at(8), replay(&a, "x", 1, 4)));
    history.is_illegal();
    history.0[3].answered = Some((at(8), replay(&a, "y", 1, 3)));
    history.is_illegal();
}

#[test]
fn an_unanswered_call_may_have_to_have_happened() {
    let a = grant(1, 10, 1);
    let mut history = History::default();
    history.call(0, 1..2, reserve(1), reserved(&a));
    history.call(1, 5..6, reserve(2), replay(&a, "x", 1, 4));
    history.is_illegal();
    history.unanswered(0, 4, complete(&a, "x"));
    history.is_legal();
    // Sent only after its answer was replayed, it is no explanation.
    history.0[2].called = at(7);
    history.is_illegal();
}

#[test]
fn an_unanswered_call_may_have_to_have_not_happened_yet() {
    let (a, b) = (grant(1, 10, 1), grant(2, 12, 2));
    let mut history = History::default();
    history.call(0, 1..2, reserve(1), reserved(&a));
    history.unanswered(0, 3, renew(&a));
    // The lease ends at 32 at the latest, unless the renewal came in time; then at 33 at least.
    history.call(1, 40..41, reserve(2), reserved(&b));
    history.is_legal();
    // Late, it is nobody's: the takeover stands.
    let renewed = Answer::Renew(RenewOutcome::Renewed(Renewed::new(Duration::from_secs(LEASE), 0)));
    history.call(1, 42..43, renew(&b), renewed);
    history.is_legal();
    history.call(1, 44..45, reserve(3), replay(&a, "x", 1, 43));
    history.is_illegal();
}

#[test]
fn a_lost_answer_may_hide_a_grant_whose_fence_lies_between() {
    let (a, c) = (grant(1, 10, 1), grant(3, 12, 3));
    let mut history = History::default();
    history.call(0, 1..2, reserve(1), reserved(&a)).unanswered(1, 40, reserve(2));
    // The third attempt: so the second was granted, and has lapsed.
    history.call(2, 80..81, reserve(3), reserved(&c));
    history.is_legal();
    // Its fence was larger than 10 and smaller than 11: there is none.
    history.0[2].answered = Some((at(81), reserved(&grant(3, 11, 3))));
    history.is_illegal();
}

#[test]
fn a_lease_that_ends_within_a_call_counts_either_way() {
    let (a, b) = (grant(1, 10, 1), grant(2, 11, 2));
    for (places, live, lapsed) in [(28..30, true, false), (30..32, true, true), (33..34, false, true)] {
        let mut history = History::default();
        history.call(0, 1..2, reserve(1), reserved(&a));
        history.call(1, places.clone(), reserve(2), reserved(&b));
        let takes_over = matches!(check(&history.0, Tolerance::EXACT, BUDGET), Verdict::Legal);
        let waits = (0..3).any(|rest| {
            history.0[1].answered = Some((at(places.end), in_flight(rest)));
            matches!(check(&history.0, Tolerance::EXACT, BUDGET), Verdict::Legal)
        });
        assert_eq!((waits, takes_over), (live, lapsed), "{places:?}");
    }
}

#[test]
fn fences_rise_through_expiry() {
    let (a, b) = (grant(1, 10, 1), grant(2, 11, 1));
    let mut history = History::default();
    history.call(0, 1..2, reserve(1), reserved(&a));
    let later = 2 + LEASE + RETENTION;
    history.call(1, later..later + 1, reserve(2), reserved(&b));
    history.is_legal();
    history.0[1].answered = Some((at(later + 1), reserved(&grant(2, 9, 1))));
    history.is_illegal();
}

#[test]
fn nothing_is_remembered_of_what_was_purged() {
    let purge = Operation::Purge { fence: Fence::new(10) };
    let mut history = History::default();
    history.alone(0, reserve(1), reserved(&grant(1, 10, 1)));
    history.alone(1, purge, Answer::Purge(true));
    history.alone(2, reserve(2), reserved(&grant(2, 9, 1)));
    history.is_legal();
    history.0[1].answered = Some((at(4), Answer::Purge(false)));
    history.is_illegal();
}

#[test]
fn a_released_token_is_spent() {
    let a = grant(1, 10, 1);
    let mut history = History::default();
    history.alone(0, reserve(1), reserved(&a));
    history.alone(0, Operation::Release { grant: a }, Answer::Release(ReleaseOutcome::Released));
    history.alone(0, reserve(1), reserved(&grant(1, 11, 1)));
    let story = history.is_illegal().to_string();
    assert!(story.contains("right would be: TokenSpent"), "{story}");
}

#[test]
fn a_search_that_gives_up_says_so() {
    let mut history = History::default();
    for client in 0..12 {
        history.unanswered(usize::from(client), 1, reserve(client));
    }
    history.alone(0, Operation::Lookup, Answer::Lookup(None));
    history.alone(0, reserve(99), replay(&grant(99, 1, 1), "x", 1, 2));
    assert!(
        matches!(check(&history.0, Tolerance::EXACT, 1_000), Verdict::Undecided { states } if states > 1_000)
    );
}

#[test]
fn a_counter_example_draws_what_happened() {
    let (a, b) = (grant(1, 10, 1), grant(2, 11, 1));
    let mut history = History::default();
    history.call(0, 1..5, reserve(1), reserved(&a)).call(1, 2..4, reserve(2), reserved(&b));
    history.unanswered(2, 3, complete(&a, "x"));
    history.call(0, 6..7, Operation::Lookup, Answer::Lookup(None));
    let story = history.is_illegal().to_string();
    let expected = "\
no order of these calls is legal (S9); the longest legal beginning, in its order:
  call  client  sent at    what
    2   B       2 s        reserve(b, lease 30 s, keep 1000 s) -> Reserved(b#2, attempt 1)
and then none of these can come next:
    1!  A       1 s        reserve(a, lease 30 s, keep 1000 s) -> Reserved(a#1, attempt 1)
                          right would be: InFlight
when they ran, from call [ to answer ] (~ open, ! the one that can't wait):
  A   [1!=========]
  B       [2==]
";
    assert_eq!(story, expected, "\n{story}");
}
