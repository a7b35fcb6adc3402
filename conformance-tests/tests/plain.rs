//! The suite as plain tests.

oncekey_conformance::plain_tests!(oncekey_conformance::MemoryHarness);
