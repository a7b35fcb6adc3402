//! A command's output and exit code as a stored answer: [`Recorder`] while it runs, [`Recorded`] after.
//!
//! In a [`StoredResponse`] `status` is the exit code, `headers` are the text
//! `oncekey-exec/1 stdout=<bytes> stderr=<bytes>`, and `body` is what was printed, in the order in which it
//! arrived, as chunks: a byte `1` or `2` (the descriptor's number in ASCII), four bytes of length, little
//! endian, and the bytes. So a replay is the same in each stream byte for byte, and looks the same where
//! both are one terminal.

use oncekey_core::{Answer, AnswerError, Bytes, StoredResponse};

use crate::outlet::Stream;

const FORMAT: &str = "oncekey-exec/1";
/// Before each chunk: its stream and length.
const FRAME: usize = 5;
/// What the headers take at most, for a store's limit.
pub(crate) const HEADERS: usize = 128;

/// Collects what a command prints, up to a bound.
#[derive(Debug)]
pub(crate) struct Recorder {
    chunks: Vec<u8>,
    /// The stream of the last chunk, and where its bytes begin: more of the same stream lengthens it.
    last: Option<(Stream, usize)>,
    lengths: Lengths,
    bound: usize,
    over: bool,
    /// Whether some of it could not be shown.
    lost: bool,
}

/// How many bytes each stream had.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Lengths {
    out: u64,
    err: u64,
}

impl Lengths {
    fn add(&mut self, stream: Stream, bytes: usize) {
        match stream {
            Stream::Out => self.out += bytes as u64,
            Stream::Err => self.err += bytes as u64,
        }
    }
}

impl Recorder {
    /// Keeps at most `bound` bytes, five for each change between the streams among them; of more it keeps
    /// nothing but how much there was.
    pub(crate) fn new(bound: usize) -> Self {
        Self { chunks: Vec::new(), last: None, lengths: Lengths::default(), bound, over: false, lost: false }
    }

    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        self.lengths.add(stream, bytes.len());
        let frame = if self.continues(stream).is_some() { 0 } else { FRAME };
        if self.over || self.chunks.len() + frame + bytes.len() > self.bound {
            self.over = true;
            self.chunks = Vec::new();
            return;
        }
        let start = match self.continues(stream) {
            Some(start) => start,
            None => {
                self.chunks.push(tag(stream));
                self.chunks.extend_from_slice(&[0; 4]);
                self.last = Some((stream, self.chunks.len()));
                self.chunks.len()
            }
        };
        self.chunks.extend_from_slice(bytes);
        // The bound is far below 4 GiB (args.rs).
        let length = u32::try_from(self.chunks.len() - start).unwrap_or(u32::MAX);
        if let Some(field) = self.chunks.get_mut(start - 4..start) {
            field.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Some of it could not be shown.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    fn continues(&self, stream: Stream) -> Option<usize> {
        self.last.filter(|(last, _)| *last == stream).map(|(_, start)| start)
    }

    /// What was printed so far, of a command that ended with `code`.
    pub(crate) fn finish(&mut self, code: u8) -> Recorded {
        let chunks = std::mem::take(&mut self.chunks);
        let chunks = (!self.over).then(|| Bytes::from(chunks));
        Recorded { code, lengths: self.lengths, chunks, lost: self.lost }
    }
}

/// What a command printed, and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Recorded {
    pub(crate) code: u8,
    lengths: Lengths,
    /// None where it was too long to keep.
    chunks: Option<Bytes>,
    /// Whether this run could not show some of it. Not part of the answer.
    lost: bool,
}

impl Recorded {
    /// How much was printed.
    pub(crate) fn total(&self) -> u64 {
        self.lengths.out + self.lengths.err
    }

    /// Whether this run could not show some of it.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// What was printed, in its order.
    pub(crate) fn chunks(&self) -> Chunks<'_> {
        Chunks(self.chunks.as_deref().unwrap_or_default())
    }
}

impl Answer for Recorded {
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        let Lengths { out, err } = self.lengths;
        let headers = format!("{FORMAT} stdout={out} stderr={err}");
        Ok(match &self.chunks {
            Some(chunks) => StoredResponse::new(u16::from(self.code), headers, chunks.clone()),
            None => StoredResponse::not_kept(u16::from(self.code), headers, self.total()),
        })
    }

    fn from_stored(stored: StoredResponse) -> Result<Self, AnswerError> {
        let wrong = |what: &str| AnswerError::new(what.to_owned());
        let code = u8::try_from(stored.status).map_err(|_| wrong("its status is no exit code"))?;
        let headers = std::str::from_utf8(&stored.headers).map_err(AnswerError::new)?;
        let lengths = parse(headers).ok_or_else(|| wrong("it was not written by oncekey exec"))?;
        let recorded = Self { code, lengths, chunks: stored.body.bytes().cloned(), lost: false };
        let mut seen = Lengths::default();
        for chunk in recorded.chunks() {
            let (stream, bytes) = chunk.ok_or_else(|| wrong("its output is cut"))?;
            seen.add(stream, bytes.len());
        }
        if recorded.chunks.is_some() && seen != lengths {
            return Err(wrong("its output is not as long as it says"));
        }
        Ok(recorded)
    }
}

/// `None` where these are not our headers.
fn parse(headers: &str) -> Option<Lengths> {
    let (out, err) = headers.strip_prefix(FORMAT)?.strip_prefix(" stdout=")?.split_once(" stderr=")?;
    Some(Lengths { out: out.parse().ok()?, err: err.parse().ok()? })
}

/// The chunks of an output; `None` among them is a cut or a rubbish one, and the last.
#[derive(Debug)]
pub(crate) struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Option<(Stream, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut read = || {
            let (tag, rest) = self.0.split_first()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (bytes, rest) = rest.split_at_checked(length)?;
            let stream = [Stream::Out, Stream::Err].into_iter().find(|stream| self::tag(*stream) == *tag)?;
            self.0 = rest;
            Some((stream, bytes))
        };
        let chunk = read();
        if chunk.is_none() {
            self.0 = &[];
        }
        Some(chunk)
    }
}

fn tag(stream: Stream) -> u8 {
    match stream {
        Stream::Out => b'1',
        Stream::Err => b'2',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(recorded: &Recorded) -> Vec<(Stream, Vec<u8>)> {
        recorded.chunks().map(|chunk| chunk.map(|(s, b)| (s, b.to_vec())).unwrap()).collect()
    }

    #[test]
    fn an_answer_keeps_the_order_and_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        let mut recorder = Recorder::new(1 << 20);
        for (stream, bytes) in
            [(Stream::Out, &b"a"[..]), (Stream::Out, b"b"), (Stream::Err, &all), (Stream::Out, b"\0c")]
        {
            recorder.push(stream, bytes);
        }
        let stored = recorder.finish(7).to_stored().unwrap();
        assert_eq!(stored.status, 7);
        assert_eq!(&stored.headers[..], b"oncekey-exec/1 stdout=4 stderr=256");
        let back = Recorded::from_stored(stored).unwrap();
        let expected =
            vec![(Stream::Out, b"ab".to_vec()), (Stream::Err, all.clone()), (Stream::Out, b"\0c".to_vec())];
        assert_eq!(printed(&back), expected);
        assert_eq!(back.code, 7);
    }

    #[test]
    fn the_bound_counts_the_frames_and_is_kept_to_the_byte() {
        for (bound, kept) in [(FRAME + 3, true), (FRAME + 2, false)] {
            let mut recorder = Recorder::new(bound);
            recorder.push(Stream::Out, b"ab");
            recorder.push(Stream::Out, b"c");
            let stored = recorder.finish(0).to_stored().unwrap();
            assert_eq!(stored.body.bytes().is_some(), kept, "bound {bound}: {stored:?}");
            assert_eq!(&stored.headers[..], b"oncekey-exec/1 stdout=3 stderr=0");
        }
    }

    #[test]
    fn what_was_over_the_bound_stays_over_it() {
        let mut recorder = Recorder::new(8);
        recorder.push(Stream::Out, &[0; 9]);
        recorder.push(Stream::Out, b"x");
        assert_eq!(recorder.finish(0).chunks, None, "the rest alone would be a false answer");
    }

    #[test]
    fn rubbish_is_an_error_and_never_a_guess() {
        let good = || {
            let mut recorder = Recorder::new(100);
            recorder.push(Stream::Out, b"abc");
            recorder.push(Stream::Err, b"d");
            recorder.finish(0).to_stored().unwrap()
        };
        let body = good().body.bytes().unwrap().clone();
        for cut in 0..body.len() {
            let stored = StoredResponse::new(0, good().headers, body.slice(..cut));
            assert!(Recorded::from_stored(stored).is_err(), "cut at {cut}");
        }
        for (status, headers) in [(0, "content-type: x"), (0, ""), (256, "oncekey-exec/1 stdout=3 stderr=1")]
        {
            assert!(Recorded::from_stored(StoredResponse::new(status, headers, body.clone())).is_err());
        }
        let mut other = body.to_vec();
        other[0] = b'3';
        assert!(Recorded::from_stored(StoredResponse::new(0, good().headers, other)).is_err());
    }
}
