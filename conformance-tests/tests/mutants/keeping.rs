//! Wrong in what is kept, and under which key: S5, R9, S3, W1; the store's limits.

use oncekey_core::state::Record;
use oncekey_core::{
    Body, Bytes, Checkpoint, Completion, Finding, InvalidInput, Limits, Severity, Slot, StoredResponse,
};

use crate::mutant::Wrong::{Assesses, Calls, Checks, Ensures, Keeps, Keys};
use crate::mutant::{Mutant, mutant};
use crate::store::lock;

/// Both parts, each changed by `change`, kept apart.
fn parts(slot: &Slot, change: impl Fn(&str) -> String) -> Vec<u8> {
    format!("{}\0{}", change(slot.principal().as_str()), change(slot.key())).into_bytes()
}

fn first_bytes(text: &str, most: usize) -> String {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= most).last();
    text[..end.unwrap_or(0)].to_owned()
}

/// A finished record with another response.
fn answering(record: Record, change: impl FnOnce(StoredResponse) -> StoredResponse) -> Record {
    match record {
        Record::Completed(mut done) => {
            done.record.response = change(done.record.response);
            Record::Completed(done)
        }
        other => other,
    }
}

/// A finished record with another body, where it was kept.
fn with_body(record: Record, change: impl FnOnce(Bytes) -> Bytes) -> Record {
    answering(record, |mut response| {
        if let Body::Kept(bytes) = response.body {
            response.body = Body::Kept(change(bytes));
        }
        response
    })
}

fn with_checkpoint(record: Record, change: impl FnOnce(Checkpoint) -> Option<Checkpoint>) -> Record {
    match record {
        Record::Pending(mut held) => {
            held.checkpoint = held.checkpoint.and_then(change);
            Record::Pending(held)
        }
        other => other,
    }
}

const MEET: &[&str] = &["keys_that_try_to_meet_never_do"];
const BYTES: &[&str] = &["an_answer_comes_back_byte_for_byte"];

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "parts_are_joined_by_a_colon",
        "S5, fault 19",
        MEET,
        Keys(|slot| format!("{}:{}", slot.principal().as_str(), slot.key()).into_bytes()),
    ),
    mutant(
        "parts_are_joined_by_nothing",
        "S5, fault 19",
        MEET,
        Keys(|slot| format!("{}{}", slot.principal().as_str(), slot.key()).into_bytes()),
    ),
    mutant(
        "principals_dont_count",
        "S5, fault 40",
        &["principals_share_no_keys", "purge_spares_other_slots", "lookup_sees_its_own_slot_alone"],
        Keys(|slot| slot.key().as_bytes().to_vec()),
    ),
    mutant("all_slots_are_one", "S5", &["slots_have_fences_of_their_own"], Keys(|_| b"the one".to_vec())),
    mutant("keys_are_folded_to_lower_case", "S5", MEET, Keys(|slot| parts(slot, str::to_lowercase))),
    mutant("keys_are_trimmed", "S5", MEET, Keys(|slot| parts(slot, |part| part.trim().to_owned()))),
    mutant(
        "keys_are_composed",
        "S5",
        MEET,
        Keys(|slot| {
            let composed =
                |part: &str| part.replace("e\u{301}", "é").replace("A\u{30a}", "Å").replace('\u{212b}', "Å");
            parts(slot, composed)
        }),
    ),
    mutant(
        "keys_lose_their_invisible_letters",
        "S5",
        MEET,
        Keys(|slot| {
            let visible =
                |c: &char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{feff}');
            parts(slot, |part| part.chars().filter(visible).collect())
        }),
    ),
    mutant(
        "keys_that_look_like_numbers_are_numbers",
        "S5",
        MEET,
        Keys(|slot| parts(slot, |part| part.parse::<i64>().map_or(part.to_owned(), |n| n.to_string()))),
    ),
    mutant(
        "keys_are_latin",
        "S5",
        MEET,
        Keys(|slot| parts(slot, |part| part.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect())),
    ),
    mutant(
        "keys_lose_their_quotes_and_backslashes",
        "S5",
        &["keys_that_try_to_be_commands_are_keys"],
        Keys(|slot| parts(slot, |part| part.replace(['\'', '"', '`', '\\'], ""))),
    ),
    mutant(
        "keys_end_at_their_64th_byte",
        "S5",
        &["the_longest_parts_differ_to_their_last_byte"],
        Keys(|slot| parts(slot, |part| first_bytes(part, 64))),
    ),
    mutant(
        "keys_end_at_their_254th_byte",
        "S5",
        &["the_longest_parts_differ_to_their_last_byte"],
        Keys(|slot| parts(slot, |part| first_bytes(part, 254))),
    ),
    mutant(
        "a_digest_of_one_byte_is_the_key",
        "S5",
        MEET,
        Keys(|slot| slot.digest().as_bytes()[..1].to_vec()),
    ),
    mutant(
        "a_grant_is_found_by_its_token_in_any_slot",
        "S5, C4",
        &["a_grant_is_good_for_its_own_slot_alone"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let oncekey_core::state::Operation::Complete { grant, .. } = call else {
                    return Ok(client.step(slot, call));
                };
                let holds = |record: &Record| matches!(record, Record::Pending(p) if p.token == grant.token && p.fence == grant.fence);
                let found = lock(&client.shared.records)
                    .values()
                    .find(|(_, r)| holds(r))
                    .map(|(slot, _)| slot.clone());
                Ok(client.step(found.as_ref().unwrap_or(slot), call))
            })
        }),
    ),
    mutant(
        "the_oldest_record_makes_room_for_the_65th",
        "R9, S3, fault 23",
        &["keys_that_try_to_be_commands_are_keys", "keys_that_try_to_meet_never_do"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let answer = client.step(slot, call);
                let mut records = lock(&client.shared.records);
                if records.len() > 64 {
                    let oldest = records.iter().min_by_key(|(_, (_, record))| record.fence());
                    let oldest = oldest.map(|(key, _)| key.clone()).unwrap_or_default();
                    records.remove(&oldest);
                }
                Ok(answer)
            })
        }),
    ),
    mutant(
        "the_schema_is_made_anew_each_time",
        "S6",
        &["the_schema_may_be_ensured_again"],
        Ensures(std::collections::BTreeMap::clear),
    ),
    mutant(
        "a_body_ends_at_its_first_nul",
        "R9",
        BYTES,
        Keeps(|record| {
            with_body(record, |body| body.slice(..body.iter().position(|b| *b == 0).unwrap_or(body.len())))
        }),
    ),
    mutant(
        "a_body_is_text",
        "R9",
        BYTES,
        Keeps(|record| with_body(record, |body| String::from_utf8_lossy(&body).into_owned().into())),
    ),
    mutant(
        "a_body_ends_at_64_kib",
        "R9",
        BYTES,
        Keeps(|record| with_body(record, |body| body.slice(..body.len().min(65_535)))),
    ),
    mutant(
        "a_body_ends_at_a_mebibyte",
        "R9",
        &["the_largest_answer_comes_back"],
        Keeps(|record| with_body(record, |body| body.slice(..body.len().min(1_048_576)))),
    ),
    mutant(
        "a_bodys_last_line_end_is_lost",
        "R9",
        BYTES,
        Keeps(|record| {
            with_body(record, |body| body.slice(..body.len() - usize::from(body.ends_with(b"\n"))))
        }),
    ),
    mutant(
        "an_empty_body_was_not_kept",
        "R9",
        BYTES,
        Keeps(|record| {
            answering(record, |mut response| {
                if response.body == Body::Kept(Bytes::new()) {
                    response.body = Body::NotKept { len: 0 };
                }
                response
            })
        }),
    ),
    mutant(
        "a_body_that_was_not_kept_is_empty",
        "R9",
        &["a_body_that_was_not_kept_says_how_long_it_was"],
        Keeps(|record| {
            answering(record, |mut response| {
                if let Body::NotKept { .. } = response.body {
                    response.body = Body::Kept(Bytes::new());
                }
                response
            })
        }),
    ),
    mutant(
        "a_length_has_32_bits",
        "R9",
        &["a_body_that_was_not_kept_says_how_long_it_was"],
        Keeps(|record| {
            answering(record, |mut response| {
                if let Body::NotKept { len } = response.body {
                    response.body = Body::NotKept { len: len & u64::from(u32::MAX) };
                }
                response
            })
        }),
    ),
    mutant(
        "headers_are_dropped",
        "R9, fault 39",
        BYTES,
        Keeps(|record| {
            answering(record, |mut response| {
                response.headers = Bytes::new();
                response
            })
        }),
    ),
    mutant(
        "a_status_has_15_bits",
        "R9",
        BYTES,
        Keeps(|record| {
            answering(record, |mut response| {
                response.status = response.status.min(i16::MAX as u16);
                response
            })
        }),
    ),
    mutant(
        "a_status_of_0_is_200",
        "R9",
        BYTES,
        Keeps(|record| {
            answering(record, |mut response| {
                response.status = if response.status == 0 { 200 } else { response.status };
                response
            })
        }),
    ),
    mutant(
        "an_empty_checkpoint_is_none",
        "W1",
        &["a_checkpoint_comes_back_byte_for_byte"],
        Keeps(|record| with_checkpoint(record, |saved| Some(saved).filter(|saved| !saved.data().is_empty()))),
    ),
    mutant(
        "a_checkpoint_ends_one_byte_early",
        "W1",
        &["a_checkpoint_comes_back_byte_for_byte"],
        Keeps(|record| {
            with_checkpoint(record, |saved| {
                let data = saved.data().slice(..saved.data().len().min(65_535));
                Checkpoint::new(saved.sequence(), data).ok()
            })
        }),
    ),
    mutant(
        "a_checkpoints_number_has_32_bits",
        "W1",
        &["a_checkpoint_comes_back_byte_for_byte"],
        Keeps(|record| {
            with_checkpoint(record, |saved| {
                Checkpoint::new(saved.sequence() & u64::from(u32::MAX), saved.data().clone()).ok()
            })
        }),
    ),
    mutant(
        "a_large_answer_is_refused_after_the_work",
        "S7, fault 24",
        &["the_largest_answer_comes_back"],
        Checks(|limits, completion| Limits::new(limits.response_bytes / 16).check(completion)),
    ),
    mutant(
        "nobody_looks_at_the_limit",
        "S7",
        &[
            "a_larger_answer_is_refused_and_changes_nothing",
            "a_larger_resolution_is_refused_and_changes_nothing",
        ],
        Checks(|_: Limits, _: &Completion| Ok::<(), InvalidInput>(())),
    ),
    mutant(
        "a_finding_has_no_name",
        "S11",
        &["assess_finds_and_says"],
        Assesses(|| vec![Finding::new("", Severity::Info, "all is well")]),
    ),
];
