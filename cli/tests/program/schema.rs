//! `oncekey schema`.

use crate::kit::{Ended, Place};

fn schema(environment: &[(&str, &str)], options: &[&str]) -> Ended {
    let place = Place::new();
    let mut command = place.program();
    command.arg("schema").args(options).envs(environment.iter().copied());
    Ended::of(command.output().unwrap())
}

#[test]
fn the_sql_is_that_of_the_url_and_the_options_and_nobody_connects() {
    let sql = |environment: &[(&str, &str)], options: &[&str]| {
        let ended = schema(environment, options);
        assert_eq!((ended.code, ended.err()), (Some(0), ""), "{options:?}: {ended:?}");
        ended.out().to_owned()
    };
    let nowhere = "postgres://nowhere.invalid/db?oncekey_schema=jobs";
    let plain = sql(&[], &["--store", "postgres://"]);
    assert!(plain.contains("CREATE TABLE \"public\".\"oncekey_slots\" ("), "{plain}");
    assert!(!plain.contains("PARTITION"), "{plain}");
    let of_url = sql(&[("ONCEKEY_STORE", nowhere)], &[]);
    assert!(of_url.contains("CREATE TABLE \"jobs\".\"oncekey_slots\" ("), "{of_url}");
    let chosen = sql(&[], &["--store", nowhere, "--schema", "a", "--table", "b", "--partitions", "4"]);
    assert!(chosen.contains("CREATE TABLE \"a\".\"b\" ("), "{chosen}");
    assert_eq!(chosen.matches("PARTITION OF").count(), 4, "{chosen}");
}

#[test]
fn what_has_no_sql_is_refused() {
    for (options, words) in [
        (&[][..], "say for which store: --store postgres://.. or ONCEKEY_STORE"),
        (&["--store", "once.db"], "makes its tables itself"),
        (&["--store", "memory:"], "makes its tables itself"),
        (&["--store", "redis://h"], "makes its tables itself"),
        (&["--store", "postgres://", "--partitions", "1"], "partitions: 2 to 1 024"),
        (&["--store", "postgres://", "--table", ""], "table's name is empty"),
    ] {
        schema(&[], options).refused(64, words);
    }
}
