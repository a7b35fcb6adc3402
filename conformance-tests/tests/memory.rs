//! The reference store passes its own suite.

fn main() {
    oncekey_conformance::main(oncekey_conformance::MemoryHarness)
}
