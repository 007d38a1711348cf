//! Hides secrets in what is shown: every occurrence becomes `***`.
//!
//! All values are looked for at once, by an automaton (Aho and Corasick) that reads each byte once, so a log of any size
//! streams through. Of a secret of several lines each line is looked for too, since layers print them one by one. It is
//! unaware of where values come from, and of who is shown what.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use laminar_core::event::{Event, Record};
use laminar_core::executor::Exit;

/// What stands in the place of a secret.
const HIDDEN: &[u8] = b"***";
/// A secret of fewer bytes would be found everywhere, and is not looked for.
pub(crate) const SHORTEST: usize = 4;
/// A line of a longer secret that has fewer bytes is not looked for by itself.
const SHORTEST_LINE: usize = 8;
/// The end of a stream that is the beginning of a secret is hidden if it is so long.
const TELLING: u32 = 8;

/// Values that are not to be shown. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Mask(Option<Arc<Automaton>>);

/// Says nothing of what it hides.
impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_empty() { "no mask" } else { "a mask" })
    }
}

impl Mask {
    /// Hides these values.
    pub(crate) fn new<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Mask {
        let mut automaton = Automaton::new();
        for value in values {
            let value = value.trim_ascii();
            if value.len() < SHORTEST {
                continue;
            }
            automaton.add(value);
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            lines.filter(|line| line.len() >= SHORTEST_LINE).for_each(|line| automaton.add(line));
        }
        if automaton.nodes.len() == 1 {
            return Mask(None);
        }
        automaton.link();
        Mask(Some(Arc::new(automaton)))
    }

    /// Whether there is nothing to hide.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What is shown of a stream.
    pub(crate) fn stream(&self) -> Stream {
        Stream {
            mask: self.0.clone(),
            state: ROOT,
            held: VecDeque::new(),
            start: 0,
            hidden: VecDeque::new(),
            inside: false,
        }
    }

    /// What is shown of all these bytes.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.stream();
        let mut shown = stream.next(bytes).into_owned();
        shown.extend(stream.end());
        shown
    }

    /// What is shown of a text.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.is_empty() {
            true => text.into(),
            false => String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned().into(),
        }
    }

    /// What is shown of an exit.
    pub(crate) fn exit(&self, exit: &Exit) -> Exit {
        Exit { evidence: self.text(&exit.evidence).into_owned(), ..exit.clone() }
    }

    /// What is shown of an event: what others have said in it is masked.
    pub(crate) fn record<'r>(&self, record: &'r Record) -> Cow<'r, Record> {
        if self.is_empty() {
            return Cow::Borrowed(record);
        }
        let event = match &record.event {
            Event::AttemptExited { attempt, exit } => Event::AttemptExited { attempt: *attempt, exit: self.exit(exit) },
            Event::AttemptRejected { attempt, reason } => {
                Event::AttemptRejected { attempt: *attempt, reason: self.text(reason).into_owned() }
            }
            Event::LayerFailed { layer, reason } => {
                Event::LayerFailed { layer: *layer, reason: self.text(reason).into_owned() }
            }
            _ => return Cow::Borrowed(record),
        };
        Cow::Owned(Record { event, ..record.clone() })
    }
}

/// The place of the node that stands for nothing read.
const ROOT: u32 = 0;
/// No node.
const NONE: u32 = u32::MAX;

/// A node: what has been read last is the beginning of a value, as long as the way here.
struct Node {
    byte: u8,
    child: u32,
    sibling: u32,
    /// The node of the longest end of this way that is the beginning of a value too.
    fall: u32,
    depth: u32,
    /// The length of the longest value that ends here; 0 if none does.
    value: u32,
}

struct Automaton {
    nodes: Vec<Node>,
}

impl Automaton {
    fn new() -> Automaton {
        Automaton { nodes: vec![Node { byte: 0, child: NONE, sibling: NONE, fall: ROOT, depth: 0, value: 0 }] }
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn child(&self, at: u32, byte: u8) -> Option<u32> {
        let mut next = self.node(at).child;
        while next != NONE {
            let node = self.node(next);
            if node.byte == byte {
                return Some(next);
            }
            next = node.sibling;
        }
        None
    }

    fn add(&mut self, value: &[u8]) {
        let mut at = ROOT;
        for byte in value {
            at = self.child(at, *byte).unwrap_or_else(|| {
                let new = u32::try_from(self.nodes.len()).unwrap_or(NONE);
                let Node { child, depth, .. } = *self.node(at);
                let node = Node { byte: *byte, child: NONE, sibling: child, fall: ROOT, depth: depth + 1, value: 0 };
                self.nodes.push(node);
                self.nodes[at as usize].child = new;
                new
            });
        }
        self.nodes[at as usize].value = self.node(at).depth;
    }

    /// Finds out where to fall, level by level.
    fn link(&mut self) {
        let mut queue = VecDeque::from([ROOT]);
        while let Some(at) = queue.pop_front() {
            let mut next = self.node(at).child;
            while next != NONE {
                let byte = self.node(next).byte;
                let fall = if at == ROOT { ROOT } else { self.step(self.node(at).fall, byte) };
                let value = self.node(next).value.max(self.node(fall).value);
                let node = &mut self.nodes[next as usize];
                (node.fall, node.value) = (fall, value);
                queue.push_back(next);
                next = node.sibling;
            }
        }
    }

    fn step(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            match self.child(at, byte) {
                Some(next) => return next,
                None if at == ROOT => return ROOT,
                None => at = self.node(at).fall,
            }
        }
    }
}

/// A stream on its way. What may be the beginning of a secret waits until that is known.
pub(crate) struct Stream {
    mask: Option<Arc<Automaton>>,
    state: u32,
    held: VecDeque<u8>,
    /// The place in the stream of the first byte that is held.
    start: u64,
    /// What of the bytes held is hidden: beginnings and ends, in order, none touching another.
    hidden: VecDeque<(u64, u64)>,
    /// Whether the byte before those was hidden.
    inside: bool,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a masked stream")
    }
}

impl Default for Stream {
    fn default() -> Stream {
        Mask::default().stream()
    }
}

impl Stream {
    /// What can be shown now, with this chunk.
    pub(crate) fn next<'c>(&mut self, chunk: &'c [u8]) -> Cow<'c, [u8]> {
        let Some(mask) = self.mask.clone() else { return chunk.into() };
        for byte in chunk {
            self.held.push_back(*byte);
            self.state = mask.step(self.state, *byte);
            let length = mask.node(self.state).value;
            if length > 0 {
                let end = self.end_of_held();
                self.hide(end - u64::from(length), end);
            }
        }
        let waits = mask.node(self.state).depth;
        self.pass(self.end_of_held() - u64::from(waits)).into()
    }

    /// What is still to be shown, when nothing more comes.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let end = self.end_of_held();
        let waits = self.mask.as_ref().map_or(0, |mask| mask.node(self.state).depth);
        if waits >= TELLING {
            self.hide(end - u64::from(waits), end);
        }
        self.state = ROOT;
        self.pass(end)
    }

    fn end_of_held(&self) -> u64 {
        self.start + self.held.len() as u64
    }

    /// These are hidden. They end where nothing hidden before does.
    fn hide(&mut self, mut start: u64, end: u64) {
        while let Some((before, until)) = self.hidden.back().copied().filter(|(_, until)| *until >= start) {
            debug_assert!(until <= end);
            start = start.min(before);
            self.hidden.pop_back();
        }
        self.hidden.push_back((start, end));
    }

    /// Lets go of everything before this place.
    fn pass(&mut self, until: u64) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        while self.start < until {
            let (hidden, end) = self.hidden.front().copied().unwrap_or((u64::MAX, u64::MAX));
            if self.start < hidden {
                let length = hidden.min(until) - self.start;
                shown.extend(self.held.drain(..length as usize));
                self.start += length;
                self.inside = false;
            } else {
                if !std::mem::replace(&mut self.inside, true) {
                    shown.extend_from_slice(HIDDEN);
                }
                let length = end.min(until) - self.start;
                drop(self.held.drain(..length as usize));
                self.start += length;
                if self.start == end {
                    self.hidden.pop_front();
                }
            }
        }
        shown
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mask(values: &[&str]) -> Mask {
        Mask::new(values.iter().map(|value| value.as_bytes()))
    }

    fn in_chunks(mask: &Mask, bytes: &[u8], size: usize) -> String {
        let mut stream = mask.stream();
        let mut shown = Vec::new();
        bytes.chunks(size).for_each(|chunk| shown.extend_from_slice(&stream.next(chunk)));
        shown.extend(stream.end());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_is_hidden_however_it_is_cut() {
        let mask = mask(&["s3cret", "secs3", "cretin-and-more", "a\nkey of\nthree long lines\n"]);
        for (text, shown) in [
            ("the s3cret.", "the ***."),
            ("s3crets3cret", "***"),
            ("s3cre s3cre", "s3cre s3cre"),
            // Two that overlap, and one that begins like another.
            ("-s3cretin-and-more-", "-***-"),
            ("-secs3cret-", "-***-"),
            ("-s3cretin-and-less-", "-***in-and-less-"),
            // The whole across its lines, one line of it, and one that is too short.
            ("[a\nkey of\nthree long lines]\n", "[***]\n"),
            ("  three long lines\r\nkey of\n", "  ***\r\nkey of\n"),
        ] {
            for size in 1..=text.len() {
                assert_eq!(in_chunks(&mask, text.as_bytes(), size), shown, "{text:?} in chunks of {size}");
            }
        }
    }

    #[test]
    fn a_stream_waits_for_no_more_than_what_may_become_a_secret() {
        let mask = mask(&["s3cret-of-mine"]);
        let mut stream = mask.stream();
        assert_eq!(*stream.next(b"password: "), *b"password: ");
        assert_eq!(*stream.next(b"s3c"), *b"");
        assert_eq!(*stream.next(b"ond"), *b"s3cond");
        // Most of a secret is not shown because the rest is missing; a letter is.
        assert_eq!((stream.next(b" s3cret-o").into_owned(), stream.end()), (b" ".to_vec(), b"***".to_vec()));
        assert_eq!((stream.next(b" s3").into_owned(), stream.end()), (b" ".to_vec(), b"s3".to_vec()));
    }

    #[test]
    fn short_values_are_not_looked_for() {
        assert!(mask(&["abc", " x\n", ""]).is_empty());
        assert_eq!(mask(&["abc"]).text("abcabc"), "abcabc");
    }

    /// Against the plain definition: a byte is hidden if any occurrence has it.
    #[test]
    fn what_is_hidden_is_every_byte_of_every_occurrence() {
        let mut seed = 7_u64;
        let mut dice = |sides: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % sides
        };
        for _ in 0..2000 {
            let mut word =
                |most: u64| -> Vec<u8> { (0..SHORTEST as u64 + dice(most)).map(|_| b'a' + dice(2) as u8).collect() };
            let values: Vec<Vec<u8>> = (0..3).map(|_| word(8)).collect();
            let text = word(60);
            let mask = Mask::new(values.iter().map(Vec::as_slice));
            let mut hidden = vec![false; text.len()];
            for value in &values {
                for at in 0..(text.len() + 1).saturating_sub(value.len()) {
                    if text[at..].starts_with(value) {
                        hidden[at..at + value.len()].fill(true);
                    }
                }
            }
            let mut plain = Vec::new();
            for (at, byte) in text.iter().enumerate() {
                match hidden[at] {
                    false => plain.push(*byte),
                    true if at == 0 || !hidden[at - 1] => plain.extend_from_slice(HIDDEN),
                    true => {}
                }
            }
            // The end may be the beginning of a secret.
            let shown = in_chunks(&mask, &text, 1 + dice(9) as usize);
            let plain = String::from_utf8(plain).unwrap();
            let common = shown.bytes().zip(plain.bytes()).take_while(|(a, b)| a == b).count();
            assert!(
                shown == plain || shown[common..] == *"***" || plain[..common].ends_with("***"),
                "{shown} {plain} {values:?}"
            );
        }
    }
}
