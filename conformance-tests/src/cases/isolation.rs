//! Slots never meet: S5.

use std::collections::BTreeSet;

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Hostile, ["S5"], keys_that_try_to_meet_never_do),
        case!(Hostile, ["S5"], keys_that_try_to_be_commands_are_keys),
        case!(Hostile, ["S5"], the_longest_parts_differ_to_their_last_byte),
        case!(Table, ["S5"], principals_share_no_keys),
        case!(Table, ["S5", "C4"], a_grant_is_good_for_its_own_slot_alone),
        case!(Table, ["S5"], a_reservation_held_makes_nobody_else_wait),
    ]
}

/// Each of these slots has a record of its own.
async fn apart(s: &Stage, slots: &BTreeSet<(String, String)>) -> Told {
    let mut held = Vec::new();
    for (principal, key) in slots {
        let (desk, who) = (s.slot_named(principal, key)?, s.caller());
        let outcome = desk.reserve(&who).await?;
        let grant = outcome.granted().map_err(|e| Failure(format!("({principal:?}, {key:?}): {e}")))?;
        held.push((desk, grant));
    }
    for (number, (desk, grant)) in held.iter().enumerate() {
        desk.complete(grant, response(format!("answer {number}"))).await?.stored()?;
    }
    for (number, (desk, _)) in held.iter().enumerate() {
        let what = format!("the answer of ({:?}, {:?})", desk.slot.principal(), desk.slot.key());
        let replay = desk.reserve(&s.caller()).await?.replayed()?;
        same(what, replay.response, response(format!("answer {number}")))?;
    }
    Ok(())
}

async fn keys_that_try_to_meet_never_do(s: Stage) -> Told {
    let mut slots = BTreeSet::new();
    // Where a delimiter is all that keeps two parts apart.
    for between in [":", "|", "/", "#", ",", " ", "::", "%00", "\\", "\\:", "''", "{}", "-", "."] {
        for (principal, key) in [
            (format!("a{between}b"), "c".to_owned()),
            ("a".to_owned(), format!("b{between}c")),
            (format!("a{between}"), "b".to_owned()),
            ("a".to_owned(), format!("{between}b")),
            (format!("a{between}b{between}c"), between.to_owned()),
        ] {
            slots.insert((principal, key));
        }
    }
    for (principal, key) in [("ab", "c"), ("a", "bc"), ("abc", "ab"), ("a", "b"), ("b", "a"), ("1a", "1b")] {
        slots.insert((principal.to_owned(), key.to_owned()));
    }
    // Where case, width, form or invisible letters are all that keeps two keys apart.
    for key in [
        "a",
        "A",
        "a ",
        " a",
        "a\u{a0}",
        "ａ",
        "\u{200b}a",
        "a\u{200d}",
        "\u{feff}a",
        "\u{202e}a",
        "é",
        "e\u{301}",
        "Å",
        "A\u{30a}",
        "\u{212b}",
        "ß",
        "ss",
        "SS",
        "ﬁ",
        "fi",
        "i",
        "İ",
        "ı",
        "I",
        "ſ",
        "s",
        "Σ",
        "σ",
        "ς",
        "0",
        "00",
        "０",
        "0.0",
        "-0",
        "1",
        "01",
        "+1",
        "1e0",
        "null",
        "NULL",
        "nil",
        "true",
        "Ω",
        "\u{2126}",
        "가",
        "\u{1100}\u{1161}",
        "\u{2028}",
        "\u{10ffff}",
        "😀",
        "👩\u{200d}👩\u{200d}👧",
        "👩👩👧",
    ] {
        slots.insert(("p".to_owned(), key.to_owned()));
        slots.insert((key.to_owned(), "p".to_owned()));
    }
    apart(&s, &slots).await
}

async fn keys_that_try_to_be_commands_are_keys(s: Stage) -> Told {
    let texts = [
        "'; DROP TABLE oncekey; --",
        "' OR '1'='1",
        "x' UNION SELECT token FROM oncekey --",
        "\"",
        "'",
        "`",
        "\\",
        "\\'",
        "\\\"",
        ";",
        "--",
        "/*",
        "*/",
        "%",
        "_",
        "a%",
        "a_",
        "*",
        "?",
        "[a-z]",
        "^.*$",
        "$1",
        "?1",
        ":key",
        "@key",
        "${key}",
        "{{key}}",
        "%s",
        "%n",
        "{key}",
        "{}",
        "{\"key\":1}",
        "[]",
        "]]",
        "[[",
        "return redis.call('FLUSHALL')",
        "') redis.call('FLUSHALL') --",
        "ARGV[1]",
        "KEYS[1]",
        "EVAL",
        "../../etc/passwd",
        "C:\\NUL",
        "~",
        "!",
        "&",
        "&amp;",
        "<a>",
        "\u{ff07}",
        "=1+1",
        "\\x00",
        "\\0",
        "%00",
        "\\u0000",
        "0x00",
        "NaN",
        "1; SELECT 1",
        "$$",
    ];
    let mut slots = BTreeSet::new();
    for text in texts {
        slots.insert((text.to_owned(), "key".to_owned()));
        slots.insert(("somebody".to_owned(), text.to_owned()));
        slots.insert((text.to_owned(), text.to_owned()));
    }
    apart(&s, &slots).await
}

async fn the_longest_parts_differ_to_their_last_byte(s: Stage) -> Told {
    let ascii = "k".repeat(254);
    let wide = "é".repeat(127);
    let widest = "\u{10ffff}".repeat(63);
    let mut slots = BTreeSet::new();
    for long in [
        ascii.clone(),
        format!("{ascii}k"),
        format!("{ascii}l"),
        format!("l{ascii}"),
        wide.clone(),
        format!("{wide}e"),
        format!("{wide}E"),
        widest.clone(),
        format!("{widest}abc"),
        format!("{widest}abd"),
    ] {
        slots.insert((long.clone(), "key".to_owned()));
        slots.insert(("somebody".to_owned(), long.clone()));
        slots.insert((long.clone(), long));
    }
    apart(&s, &slots).await
}

async fn principals_share_no_keys(s: Stage) -> Told {
    let (mine, yours) = (s.slot_named("me", "order-1")?, s.slot_named("you", "order-1")?);
    let grant = mine.reserve(&s.caller()).await?.granted()?;
    // Another request under the same key of somebody else: neither in flight nor a conflict.
    let other = yours.reserve(&s.caller().meaning_otherwise()).await?.granted()?;
    mine.complete(&grant, response("mine")).await?.stored()?;
    same("begun", yours.lookup().await?.pending()?.begun, false)?;
    yours.release(&other).await?.released()?;
    same("response", mine.reserve(&s.caller()).await?.replayed()?.response, response("mine"))?;
    yours.lookup().await?.absent()
}

async fn a_grant_is_good_for_its_own_slot_alone(s: Stage) -> Told {
    let (mine, yours, who) = (s.slot()?, s.slot()?, s.caller());
    // One token for two slots: it is two reservations.
    let grant = mine.reserve(&who).await?.granted()?;
    let other = yours.reserve(&who).await?.granted()?;
    let before = yours.record().await?;
    let grant = if grant.fence == other.fence { under_fence(&grant, grant.fence.get() - 1) } else { grant };
    yours.complete(&grant, response("mine")).await?.lost(Loss::TakenOver)?;
    yours.renew(&grant, extend(HOUR)?).await?.lost(Loss::TakenOver)?;
    yours.release(&grant).await?.lost(Loss::TakenOver)?;
    same("the record", yours.record().await?, before)?;
    yours.complete(&other, response("yours")).await?.stored()
}

async fn a_reservation_held_makes_nobody_else_wait(s: Stage) -> Told {
    let held = s.slot()?;
    let grant = held.reserve(&s.caller()).await?.granted()?;
    for store in [s.client()?, s.client()?, s.store.clone()] {
        for _ in 0..10 {
            let desk = s.slot()?.through(store.clone());
            let other = desk.reserve(&s.caller()).await?.granted()?;
            desk.complete(&other, response("paid")).await?.stored()?;
        }
    }
    held.complete(&grant, response("paid, at last")).await?.stored()
}
