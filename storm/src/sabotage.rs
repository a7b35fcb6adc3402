//! [`Saboteur`]: breaks connections at random, as long as it is told to.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;
use oncekey_conformance::Faults;
use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::{Ending, Proxy};

/// Longer than a call is tried, where a network is silent for long.
pub const SILENCE: Duration = Duration::from_millis(2_300);

/// Breaks the connections of a proxy.
#[derive(Clone, Debug)]
pub struct Saboteur {
    proxy: Arc<Proxy>,
    random: Arc<Mutex<Rng>>,
    /// Whether it is over.
    over: Arc<(Mutex<bool>, Condvar)>,
    works: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Saboteur {
    pub fn before(proxy: Arc<Proxy>, random: Rng) -> Self {
        let random = Arc::new(Mutex::new(random));
        Self { proxy, random, over: Arc::default(), works: Arc::default() }
    }

    /// One mishap; how long until the next.
    fn mishap(&self) -> Duration {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        self.proxy.pass().unwrap();
        let direction = if random.bool() { ToServer } else { ToClient };
        let ending = if random.bool() { Ending::Reset } else { Ending::Close };
        let bytes = random.u64(..700);
        match random.u8(..14) {
            0..6 => self.proxy.cut_after(direction, bytes, ending),
            6 => self.proxy.end_all(ending),
            7..9 => self.proxy.hold_after(direction, bytes),
            9..11 => {
                // Who sent what is held gives up, and it comes some time later.
                self.proxy.strand();
                self.proxy.swallow_requests();
            }
            11 => self.proxy.delay(direction, Duration::from_millis(random.u64(1..20))),
            12 => self.proxy.refuse().unwrap(),
            _ => self.proxy.deliver().unwrap(),
        }
        match random.u8(..24) {
            0 => SILENCE,
            _ => Duration::from_millis(random.u64(1..20)),
        }
    }

    fn work(&self, mut pause: Duration) {
        let (over, told) = &*self.over;
        loop {
            let over = over.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = told.wait_timeout_while(over, pause, |over| !*over);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
            pause = self.mishap();
        }
    }
}

impl Faults for Saboteur {
    fn begin(&self) {
        *self.over.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        // The first one is there before the first call.
        let (pause, works) = (self.mishap(), self.clone());
        let works = thread::spawn(move || works.work(pause));
        *self.works.lock().unwrap_or_else(PoisonError::into_inner) = Some(works);
    }

    fn end(&self) {
        *self.over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.1.notify_all();
        if let Some(works) = self.works.lock().unwrap_or_else(PoisonError::into_inner).take() {
            works.join().unwrap();
        }
        // What was under way arrives now, beside whatever comes next.
        self.proxy.pass().unwrap();
        self.proxy.deliver().unwrap();
    }
}
