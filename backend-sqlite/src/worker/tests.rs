//! The queue's bound, and what a call that ran twice says.

use super::*;

/// Back-pressure, not memory growth: behind a busy connection the queue takes so many calls, and the
/// next caller waits to enter.
#[test]
fn the_queue_is_bounded_and_its_callers_wait() {
    let worker = Worker::spawn("test", Connection::open_in_memory().unwrap(), Clock::system()).unwrap();
    let (started, running) = std::sync::mpsc::channel();
    let (resume, resumed) = std::sync::mpsc::channel::<()>();
    let busy = Job::Alone(Box::new(move |_| {
        started.send(()).unwrap();
        resumed.recv().unwrap();
    }));
    pollster::block_on(worker.send("test", busy)).unwrap();
    running.recv().unwrap();

    let done = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let job = || {
        let done = done.clone();
        Job::Alone(Box::new(move |_| {
            done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }))
    };
    let accepted = (0..2 * QUEUE).take_while(|_| worker.queue.try_send(job()).is_ok()).count();
    assert_eq!(accepted, QUEUE);
    resume.send(()).unwrap();
    pollster::block_on(worker.send("test", job())).unwrap();
    pollster::block_on(worker.close());
    assert_eq!(done.load(std::sync::atomic::Ordering::SeqCst), QUEUE + 1, "every accepted call was run");
}

/// A call whose first COMMIT fails, and whose second run fails at once.
struct Probe {
    runs: u32,
    reply: std::sync::mpsc::Sender<Effect>,
}

impl Call for Probe {
    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(5)
    }
    fn weight(&self) -> usize {
        0
    }
    fn answer_weight(&self) -> usize {
        0
    }
    fn is_abandoned(&self) -> bool {
        false
    }
    fn run(&mut self, db: &Connection, _: &Clock) -> rusqlite::Result<()> {
        self.runs += 1;
        let table = if self.runs == 1 { "child" } else { "nowhere" };
        db.execute(&format!("INSERT INTO {table} VALUES (7)"), []).map(drop)
    }
    fn committed(self: Box<Self>) {}
    fn failed(self: Box<Self>, effect: Effect, _: rusqlite::Error) {
        self.reply.send(effect).unwrap();
    }
    fn overdue(self: Box<Self>, _: &Connection, _: &Clock, _: Effect) {}
}

#[test]
fn a_call_whose_batch_failed_at_commit_stays_unknown() {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(
        "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (parent REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)",
    )
    .unwrap();
    let worker = Worker::spawn("test", db, Clock::system()).unwrap();
    let (reply, effects) = std::sync::mpsc::channel();
    let (resume, resumed) = std::sync::mpsc::channel::<()>();
    let wait = Job::Alone(Box::new(move |_| resumed.recv().unwrap()));
    pollster::block_on(worker.send("test", wait)).unwrap();
    for _ in 0..2 {
        let probe = Job::Call(Box::new(Probe { runs: 0, reply: reply.clone() }));
        pollster::block_on(worker.send("test", probe)).unwrap();
    }
    resume.send(()).unwrap();
    let effects: Vec<_> = effects.iter().take(2).collect();
    assert_eq!(effects, [Effect::Unknown, Effect::Unknown]);
}

#[test]
fn a_call_whose_caller_went_away_half_way_wakes_those_who_wait() {
    let watchers = Watchers::new();
    let slot = oncekey_core::Principal::new("test").unwrap().slot("a").unwrap();
    let worker = Worker::spawn("test", Connection::open_in_memory().unwrap(), Clock::system()).unwrap();
    let (reply, answer) = oneshot::channel();
    let mut caller = Some(answer);
    let call = Gathered {
        name: "test",
        deadline: Instant::now() + Duration::from_secs(60),
        weight: Weight { sent: 0, answered: |()| 0 },
        run: move |_: &Connection, _: Timestamp| {
            drop(caller.take()); // It waits no longer, and the statement runs.
            Ok(Ok(()))
        },
        overdue: |_: &Connection, _: Timestamp| None,
        wakes: Some((watchers.clone(), slot.clone())),
        answer: None,
        reply,
    };
    let watch = watchers.watch(&slot);
    pollster::block_on(worker.send("test", Job::Call(Box::new(call)))).unwrap();
    pollster::block_on(worker.close());
    assert!(watchers.is_empty(), "{watchers:?}");
    pollster::block_on(watch);
}
