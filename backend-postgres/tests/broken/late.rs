//! Requests that the network swallowed and delivers late: their client gave up, made the call again, or lost its
//! slot to somebody else.
//!
//! ```text
//!   A  complete ──▶ (swallowed) ✗ gives up               ┌──▶ arrives
//!   B                                takes over ═════════╪══════▶ nothing of it changes
//! ```

use std::time::Duration;

use oncekey_postgres::state::{Answer, Operation};
use oncekey_postgres::{CompleteOutcome, Effect, Renewal, Token};
use oncekey_testbed::proxy::Direction::ToServer;
use tokio::task::JoinSet;

use crate::bench::{Bench, statements, writes_in};
use oncekey_storm::deed::{Deed, Stage as _, Staged, complete, fence, granted, reserve};

/// Long enough to reach the statement that is held.
const DEADLINE: Duration = Duration::from_secs(1);

/// What happens while the request is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    Nothing,
    /// The same call again, through another connection.
    Retried,
    /// Somebody else holds the slot.
    Superseded,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_arrives_late_changes_nothing_that_came_after_it() {
    let mut all = JoinSet::new();
    for deed in Deed::ALL {
        all.spawn(async move {
            for meanwhile in [Meanwhile::Nothing, Meanwhile::Retried, Meanwhile::Superseded] {
                late(deed, meanwhile, 1).await;
                if statements(deed) == 2 {
                    late(deed, meanwhile, 2).await;
                }
            }
        });
    }
    all.join_all().await;
}

/// The call's statement of this number is late; one before it is answered.
async fn late(deed: Deed, meanwhile: Meanwhile, statement: u32) {
    let what = format!("{deed:?}, statement {statement}, {meanwhile:?}");
    let bench = Bench::open().await;
    // A replay is the first statement of any reserve.
    let before = if statement == 2 { bench.measure(Deed::Replay).await.requests } else { 0 };
    bench.warm(deed).await;
    let slot = bench.slot();
    let Staged { operation, holder } = deed.stage(&bench, &slot).await;

    let hasty = bench.hasty(DEADLINE, |builder| builder).await;
    bench.proxy.hold_after(ToServer, before);
    let error = bench.by(&hasty, &slot, &operation).await.expect_err(&what);
    assert_eq!(error.effect(), Effect::Unknown, "{what}: {error}");
    assert_eq!(bench.proxy.strand(), 1, "{what}");
    bench.proxy.pass().unwrap();

    let heard = match meanwhile {
        Meanwhile::Nothing => None,
        Meanwhile::Retried => Some(bench.clean(&slot, &operation).await),
        Meanwhile::Superseded => {
            if let (Some(grant), false) = (holder, deed.has_lapsed()) {
                bench.clean(&slot, &Operation::Renew { grant, renewal: Renewal::hand_over() }).await;
            }
            Some(bench.clean(&slot, &reserve(Token::fresh())).await)
        }
    };
    let row = bench.row(&slot);
    assert_eq!(bench.sessions().await, 1, "{what}");
    bench.proxy.deliver().unwrap();
    bench.ended().await;

    match (meanwhile, heard) {
        // It did arrive: the other two say something.
        (Meanwhile::Nothing, _) => {
            assert_eq!(bench.row(&slot) != row, writes_in(deed, statement), "{what}");
            deed.right(&bench.clean(&slot, &operation).await);
        }
        // S6: one of both had an effect.
        (Meanwhile::Retried, heard) => {
            let heard = heard.unwrap();
            deed.right(&heard);
            let again = bench.clean(&slot, &operation).await;
            deed.right(&again);
            assert_eq!(fence(&heard), fence(&again), "{what}: one grant");
        }
        // S2
        (Meanwhile::Superseded, heard) => {
            assert_eq!(bench.row(&slot), row, "{what}: it changed another's record");
            if deed != Deed::Replay {
                let done = bench.clean(&slot, &complete(&granted(&heard.unwrap()))).await;
                assert_eq!(done, Answer::Complete(CompleteOutcome::Stored), "{what}");
            }
        }
    }
    bench.clean(&slot, &reserve(Token::fresh())).await;
    bench.settle(&what);
}
