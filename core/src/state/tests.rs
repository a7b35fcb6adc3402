//! SPEC.md, cell by cell.
