//! What a scheduler and a supervisor say to each other: frames over a Unix socket.
//!
//! A frame is a length (u32, of what follows), a kind (u8), a sequence number (u32) and a body of numbers (u64) and
//! byte strings (a u32 length, then the bytes), all little-endian. Paths and values cross as bytes, so nothing depends on
//! UTF-8. Arguments and variables end in NUL, so that the supervisor can pass them to the kernel where they lie. Unaware
//! of sockets and of what the frames mean.

/// Both sides must say the same.
pub(crate) const VERSION: u64 = 5;

/// What stands for a number that a task does not have.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a frame is about. Requests have a sequence number above 0, which the reply repeats; what has no reply has 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Both ways, first: the version.
    Hello = 1,
    /// Request: name, how many tasks may be alive then ([`NEVER`]: it does not stand in line), log, how many bytes of it are kept, the
    /// folder of its secrets (empty if it has none; removed when it is over), timeout, grace, whether the arguments are those of
    /// what launches the task, arguments, variables (one without `=` is taken away). Reply, once its turn has come:
    /// [`Kind::Found`] or [`Kind::Failed`]; that it never ran says that it was taken out of the line.
    Start,
    /// Request: name. Reply: [`Kind::Found`]. The exit of a task that runs follows as an event.
    Watch,
    /// Request: name, grace. Reply: [`Kind::Done`], once the task is over.
    Stop,
    /// Request: names. Those that stand in line are taken out. Reply: [`Kind::Done`].
    Withdraw,
    /// Request: names. Reply: [`Kind::Done`].
    Remove,
    /// Request. Reply: [`Kind::Names`].
    List,
    /// Reply: a [`State`], and the exit as JSON when it is over.
    Found,
    /// Reply: it is done.
    Done,
    /// Reply: names.
    Names,
    /// Reply: why it could not be done.
    Failed,
    /// Event: name, exit as JSON.
    Exited,
    /// Event: another scheduler has connected; the connection ends.
    Superseded,
    /// Said by the scheduler, without a reply: name, the task that it comes after, that one's folder for outputs, then as of
    /// [`Kind::Start`] what follows the places. It starts once the other is over by code 0, with its folder as it was made and
    /// nothing in line.
    Offer,
}

/// What a supervisor knows of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum State {
    /// It never ran.
    Never = 0,
    /// It runs.
    Running,
    /// It is over.
    Over,
    /// It ran, and nobody knows how it ended.
    Gone,
}

const KINDS: [Kind; 14] = [
    Kind::Hello,
    Kind::Start,
    Kind::Watch,
    Kind::Stop,
    Kind::Withdraw,
    Kind::Remove,
    Kind::List,
    Kind::Found,
    Kind::Done,
    Kind::Names,
    Kind::Failed,
    Kind::Exited,
    Kind::Superseded,
    Kind::Offer,
];

/// A frame that is being written.
#[derive(Debug)]
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    pub(crate) fn new(kind: Kind, seq: u32) -> Frame {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.push(kind as u8);
        bytes.extend_from_slice(&seq.to_le_bytes());
        Frame(bytes)
    }

    pub(crate) fn number(mut self, number: u64) -> Frame {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(crate) fn text(mut self, text: &[u8]) -> Frame {
        self.put(&[text]);
        self
    }

    /// One byte string made of these parts.
    pub(crate) fn put(&mut self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.0.extend_from_slice(&(length as u32).to_le_bytes());
        for part in parts {
            self.0.extend_from_slice(part);
        }
    }

    /// The frame's bytes, ready to be sent.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        let length = (self.0.len() - 4) as u32;
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

/// What was received and not yet read.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    read: usize,
}

/// The other side said something that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("it said something that cannot be understood")]
pub(crate) struct Malformed;

/// A frame that was received.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) kind: Kind,
    pub(crate) seq: u32,
    pub(crate) body: Body<'a>,
}

impl Inbox {
    /// Takes in bytes as they came.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete frame.
    pub(crate) fn next(&mut self) -> Result<Option<Received<'_>>, Malformed> {
        let rest = &self.bytes[self.read..];
        let Some((head, after)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if after.len() < length {
            return Ok(None);
        }
        self.read += 4 + length;
        let (kind, after) = after[..length].split_first().ok_or(Malformed)?;
        let (seq, body) = after.split_first_chunk::<4>().ok_or(Malformed)?;
        let kind = *KINDS.iter().find(|known| **known as u8 == *kind).ok_or(Malformed)?;
        Ok(Some(Received { kind, seq: u32::from_le_bytes(*seq), body: Body(body) }))
    }
}

/// The body of a frame, read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed)?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(Malformed)?;
        self.0 = rest;
        Ok(text)
    }

    /// A body to be read again later.
    pub(crate) fn kept(bytes: &'a [u8]) -> Body<'a> {
        Body(bytes)
    }

    /// What has not been read yet.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn name(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.text()?).map_err(|_| Malformed)
    }

    /// A number of byte strings, after their count.
    pub(crate) fn texts(&mut self) -> Result<Vec<&'a [u8]>, Malformed> {
        let count = self.number()?;
        (0..count).map(|_| self.text()).collect()
    }

    pub(crate) fn state(&mut self) -> Result<State, Malformed> {
        match self.number()? {
            0 => Ok(State::Never),
            1 => Ok(State::Running),
            2 => Ok(State::Over),
            3 => Ok(State::Gone),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_fragmentation() {
        let mut bytes = Frame::new(Kind::Start, 7).text(b"A.0.1").number(NEVER).text(b"\xff\n\0").bytes();
        bytes.extend(Frame::new(Kind::Superseded, 0).bytes());
        for step in 1..bytes.len() {
            let mut inbox = Inbox::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                inbox.extend(piece);
                while let Some(mut frame) = inbox.next().unwrap() {
                    seen.push((frame.kind, frame.seq));
                    if frame.kind == Kind::Start {
                        assert_eq!(frame.body.name().unwrap(), "A.0.1");
                        assert_eq!(frame.body.number().unwrap(), NEVER);
                        assert_eq!(frame.body.text().unwrap(), b"\xff\n\0");
                    }
                    assert!(frame.body.number().is_err());
                }
            }
            assert_eq!(seen, [(Kind::Start, 7), (Kind::Superseded, 0)]);
        }
    }

    #[test]
    fn nonsense_is_refused_not_obeyed() {
        for bytes in [&[0, 0, 0, 0][..], &[1, 0, 0, 0, 1], &[5, 0, 0, 0, 99, 0, 0, 0, 0]] {
            let mut inbox = Inbox::default();
            inbox.extend(bytes);
            assert!(inbox.next().is_err(), "{bytes:?}");
        }
        let mut inbox = Inbox::default();
        inbox.extend(&Frame::new(Kind::Remove, 1).number(u64::MAX).bytes());
        assert!(inbox.next().unwrap().unwrap().body.texts().is_err());
    }
}
