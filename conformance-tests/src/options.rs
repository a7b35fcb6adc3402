//! What a run of the suite may be told.

use std::time::Duration;

use crate::case::Case;

/// The environment variable that replays a failed random case: its value is the seed that was printed.
pub const SEED_VARIABLE: &str = "ONCEKEY_SEED";

/// How to run the suite, and which of it.
///
/// ```
/// use oncekey_conformance::Options;
/// use std::time::Duration;
///
/// let races_of_r7 = Options::default().only("R7").seed(42).deadline(Duration::from_secs(10));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The seed of everything random; none draws one for the run.
    pub seed: Option<u64>,
    /// A case that hasn't ended after so long has failed. 60 s unless told otherwise.
    pub deadline: Duration,
    /// How many cases run at once; none means one a core, and at least four.
    pub threads: Option<usize>,
    /// Only cases whose id contains one of these, or that test the rule of this name; empty means all.
    pub only: Vec<String>,
    /// Whether to start no further case once one has failed.
    pub fail_fast: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: None,
            deadline: Duration::from_secs(60),
            threads: None,
            only: Vec::new(),
            fail_fast: false,
        }
    }
}

impl Options {
    /// The defaults, with the seed of the environment's `ONCEKEY_SEED`.
    ///
    /// # Errors
    /// When it is set and no number: a run that silently drew another seed would replay nothing.
    pub fn from_env() -> Result<Self, String> {
        match std::env::var(SEED_VARIABLE) {
            Ok(text) => match text.trim().parse() {
                Ok(seed) => Ok(Self::default().seed(seed)),
                Err(e) => Err(format!("{SEED_VARIABLE}={text}: {e}: give the number that a failure printed")),
            },
            Err(_) => Ok(Self::default()),
        }
    }

    /// With this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// With this deadline for each case.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With so many cases at once.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Only cases whose id contains `text`, or that test the rule `text`. Said twice, either is enough.
    #[must_use]
    pub fn only(mut self, text: impl Into<String>) -> Self {
        self.only.push(text.into());
        self
    }

    /// Starts no further case once one has failed.
    #[must_use]
    pub fn fail_fast(mut self) -> Self {
        self.fail_fast = true;
        self
    }

    pub(crate) fn wants(&self, case: &Case) -> bool {
        let fits = |text: &String| case.id.contains(text) || case.rules.contains(&text.as_str());
        self.only.is_empty() || self.only.iter().any(fits)
    }

    pub(crate) fn seed_or_drawn(&self) -> u64 {
        // Short enough to be typed from a screen.
        self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000_000))
    }

    pub(crate) fn threads_or_cores(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).max(4);
        self.threads.unwrap_or_else(cores).max(1)
    }
}
