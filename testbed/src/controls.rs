//! What a test does to a server of either kind from outside, by signals to its processes.

/// The methods that all servers have, by their `leash`.
macro_rules! controls {
    ($server:ty) => {
        impl $server {
            /// The server's folder. What it says is in its file `log`.
            #[must_use]
            pub fn folder(&self) -> &std::path::Path {
                self.leash.folder()
            }

            /// The last lines that the server said.
            #[must_use]
            pub fn log(&self) -> String {
                self.leash.log()
            }

            /// The server's process, the parent of its others; the last one where it has ended.
            #[must_use]
            pub fn pid(&self) -> u32 {
                self.leash.pid()
            }

            /// Whether it runs, also where it is stopped.
            #[must_use]
            pub fn is_running(&self) -> bool {
                self.leash.runs()
            }

            /// Stops the server and all its children where they are (SIGSTOP): connections stay open, and
            /// nobody answers.
            pub fn stop(&self) {
                self.leash.stop();
            }

            /// Lets them go on (SIGCONT).
            pub fn cont(&self) {
                self.leash.cont();
            }

            /// Kills the server and all its children (SIGKILL). What it wrote stays, as far as the system
            /// has it: a machine that loses its power loses more. Returns when they are gone.
            ///
            /// # Errors
            ///
            /// They don't end.
            pub fn kill(&self) -> Result<(), crate::Error> {
                self.leash.kill()
            }
        }
    };
}

pub(crate) use controls;
