//! The model: random stories told to the store and to the state machine, answer by answer.
//!
//! Each story is up to thirty calls by one client after another on fresh slots, with the clock moved in
//! between. Tokens come again on purpose, and so do old grants. Where the store's answer isn't the one of
//! `oncekey_core::state::step`, the story is made as short as it stays wrong, and told as a timeline.

mod meet;
mod place;
mod play;
mod step;
mod timeline;

use std::time::{Duration, Instant};

use proptest::strategy::ValueTree;

use crate::case::{Case, Context, Failure, Level};
use crate::harness::Capability;
use play::Stage;
use step::{Menu, Step};

/// Stories a case.
const STORIES: u64 = 250;
/// A shorter story is worth some seconds.
const SHRINKING: Duration = Duration::from_secs(5);

/// The suite's cases of this kind.
pub(crate) fn cases() -> Vec<Case> {
    let case = |id, rules, needs, run| Case { id, rules, level: Level::Model, needs, run };
    vec![
        case(
            "sequences_of_calls_answer_as_the_state_machine",
            &["R1", "R2", "R3", "R9", "R11", "C1", "C3", "W1", "L1", "Q1"],
            &[],
            |context| Box::pin(run(context, Menu::default())),
        ),
        case(
            "sequences_in_moving_time_answer_as_the_state_machine",
            &["R5", "R6", "C2", "C4", "C5", "W1", "W3", "W4", "L2", "L5", "S2", "S4", "G2"],
            &[Capability::ShiftTime],
            |context| Box::pin(run(context, Menu { advance: true, ..Menu::default() })),
        ),
        case(
            "sequences_on_a_clock_that_steps_back_answer_as_the_state_machine",
            &["S4", "R3", "W1", "W4"],
            &[Capability::ShiftTime, Capability::RewindTime],
            |context| Box::pin(run(context, Menu { advance: true, rewind: true, ..Menu::default() })),
        ),
        case(
            "sequences_with_operators_answer_as_the_state_machine",
            &["O1", "O2", "S2"],
            &[Capability::ShiftTime, Capability::Resolve, Capability::Purge],
            |context| Box::pin(run(context, Menu { advance: true, operators: true, ..Menu::default() })),
        ),
    ]
}

async fn run(context: Context, menu: Menu) -> Result<(), Failure> {
    let mut stage = Stage::new(&context).await?;
    for number in 0..STORIES {
        let mut tree = step::story(context.seed, number, menu)?;
        if let Err(first) = stage.play(&tree.current()).await {
            let told = shrink(&mut stage, &mut tree, first).await;
            return Err(Failure(format!("seed {}, story {number}, made short:\n{told}", context.seed)));
        }
    }
    Ok(())
}

/// Takes away what isn't needed to fail. The last story that failed is the one that is told.
async fn shrink(
    stage: &mut Stage,
    tree: &mut (impl ValueTree<Value = Vec<Step>> + Send),
    first: Failure,
) -> Failure {
    let began = Instant::now();
    let mut shortest = first;
    let mut shrinks = tree.simplify();
    while shrinks && began.elapsed() < SHRINKING {
        shrinks = match stage.play(&tree.current()).await {
            Err(told) => {
                shortest = told;
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
    }
    shortest
}
