//! Answers and checkpoints come back byte for byte, and what is too large is refused before it is sent.

use oncekey_core::{Bytes, Checkpoint, MAX_CHECKPOINT_BYTES, Resolution, StoredResponse};

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Hostile, ["R9", "S3"], an_answer_comes_back_byte_for_byte),
        case!(Hostile, ["R9", "S3"], a_body_that_was_not_kept_says_how_long_it_was),
        case!(Hostile, ["R9", "S3"], the_largest_answer_comes_back),
        case!(Hostile, ["S7"], a_larger_answer_is_refused_and_changes_nothing),
        case!(Hostile, ["S7", "O1"], a_larger_resolution_is_refused_and_changes_nothing, needs Resolve),
        case!(Hostile, ["W1", "R5"], a_checkpoint_comes_back_byte_for_byte),
    ]
}

/// The largest answer that the suite tries, however much more a store takes.
const MOST: usize = 16 * 1024 * 1024;

fn every_byte() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// Bytes that don't repeat within a page, and aren't text.
fn noise(length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(length as u64);
    let page: Vec<u8> = (0..65_521).map(|_| random.u8(..)).collect();
    page.iter().copied().cycle().take(length).collect::<Vec<u8>>().into()
}

async fn comes_back(s: &Stage, given: StoredResponse) -> Told {
    let desk = s.slot()?;
    let grant = desk.reserve(&s.caller()).await?.granted()?;
    desk.complete(&grant, given.clone()).await?.stored()?;
    // `StoredResponse` shows lengths alone, so a difference is told apart from what it is.
    for (how, record) in [
        ("Replay", desk.reserve(&s.caller()).await?.replayed()?),
        ("lookup", desk.lookup().await?.completed()?),
        ("AlreadyStored", desk.complete(&grant, response("late")).await?.already_stored()?),
    ] {
        let seen = record.response;
        holds(format!("{how} brings back {given:?}; it brought {seen:?}, with other bytes"), seen == given)?;
    }
    Ok(())
}

async fn an_answer_comes_back_byte_for_byte(s: Stage) -> Told {
    for status in [0, 1, 99, 200, 404, 599, 32_768, u16::MAX] {
        comes_back(&s, StoredResponse::new(status, "", "")).await?;
    }
    let texts: [&[u8]; 10] = [
        b"",
        b"\0",
        b"x",
        b"a\0b",
        b"\r\n\r\n",
        b"\xff\xfe",
        b"\xc3\x28 is no UTF-8",
        b"NULL",
        b"{\"a\":\"\\u0000\"}",
        "gr\u{fc}\u{df} \u{1f600}".as_bytes(),
    ];
    for text in texts {
        comes_back(&s, StoredResponse::new(200, text, "")).await?;
        comes_back(&s, StoredResponse::new(200, "", text)).await?;
    }
    comes_back(&s, StoredResponse::new(200, every_byte(), every_byte())).await?;
    for byte in [0, b'\n', b'\'', b'\\', 0x7f, 0x80, 0xff] {
        comes_back(&s, StoredResponse::new(200, vec![byte], vec![byte; 3])).await?;
    }
    // Around sizes where engines change how they keep a value.
    for length in [255, 256, 4_095, 4_096, 65_535, 65_536, 1_000_000] {
        comes_back(&s, StoredResponse::new(200, noise(length / 100), noise(length))).await?;
    }
    Ok(())
}

async fn a_body_that_was_not_kept_says_how_long_it_was(s: Stage) -> Told {
    for length in [0, 1, 17 * 1024 * 1024, u64::from(u32::MAX) + 1, i64::MAX as u64] {
        comes_back(&s, StoredResponse::not_kept(200, "content-type: video/mp4", length)).await?;
    }
    Ok(())
}

async fn the_largest_answer_comes_back(s: Stage) -> Told {
    let most = s.store.limits().response_bytes.min(MOST);
    comes_back(&s, StoredResponse::new(200, "", noise(most))).await?;
    // The limit is on both together.
    let headers = most.min(1_000);
    comes_back(&s, StoredResponse::new(200, noise(headers), noise(most - headers))).await
}

/// An answer of one byte more than the store takes; none where that is too much to try.
fn too_large(s: &Stage) -> Option<StoredResponse> {
    let most = s.store.limits().response_bytes;
    (most <= 4 * MOST).then(|| StoredResponse::new(200, "x", vec![0; most]))
}

async fn a_larger_answer_is_refused_and_changes_nothing(s: Stage) -> Told {
    let Some(too_large) = too_large(&s) else { return Ok(()) };
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let before = desk.record().await?;
    let whole = Completion::new(too_large.clone());
    refused(s.store.complete(&desk.slot, &grant, &whole).await, ErrorKind::InvalidInput)?;
    same("the record", desk.record().await?, before)?;
    // Nobody else may take it for finished, and the holder says instead that it is not kept.
    desk.reserve(&who.other()).await?.in_flight()?;
    let length = too_large.len() as u64;
    let instead = StoredResponse::not_kept(200, "x", length);
    desk.complete(&grant, instead.clone()).await?.stored()?;
    same("response", desk.reserve(&who.other()).await?.replayed()?.response, instead)
}

async fn a_larger_resolution_is_refused_and_changes_nothing(s: Stage) -> Told {
    let Some(too_large) = too_large(&s) else { return Ok(()) };
    let desk = s.slot()?;
    let grant = desk.reserve(&s.caller()).await?.granted()?;
    desk.hand_over(&grant).await?.renewed()?;
    let seen = desk.lookup().await?.pending()?;
    let resolution = Resolution::Complete(Completion::new(too_large));
    refused(s.store.resolve(&desk.slot, seen.seen(), &resolution).await, ErrorKind::InvalidInput)?;
    same("the record", desk.lookup().await?.pending()?, seen)?;
    desk.complete(&grant, response("paid")).await?.stored()
}

async fn a_checkpoint_comes_back_byte_for_byte(s: Stage) -> Told {
    for (sequence, data) in [
        (1, Bytes::new()),
        (1, Bytes::from_static(b"\0")),
        (2, every_byte().into()),
        (3, noise(MAX_CHECKPOINT_BYTES)),
        (i64::MAX as u64, Bytes::from_static(b"the last number there is")),
    ] {
        let desk = s.slot()?;
        let grant = desk.reserve(&s.caller()).await?.granted()?;
        let saved = Checkpoint::new(sequence, data)?;
        desk.renew(&grant, Renewal::hand_over().with_checkpoint(saved.clone())).await?.renewed()?;
        let what = format!("a checkpoint of {} bytes, numbered {sequence}", saved.data().len());
        let seen = desk.lookup().await?.pending()?.checkpoint;
        holds(format!("{what} is looked up"), seen.as_ref() == Some(&saved))?;
        let seen = desk.reserve(&s.caller()).await?.granted()?.checkpoint;
        holds(format!("{what} is inherited"), seen.as_ref() == Some(&saved))?;
    }
    Ok(())
}
