//! A service's own code would be here; what this project shows is in its tests and its lockfile.
