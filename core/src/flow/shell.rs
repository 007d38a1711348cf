//! Where in a shell script something stands: what the shell would do with a reference to a variable put there.
//!
//! Pure, and unaware of expressions: it is given the script and the places of what will be replaced, *slots*, and answers
//! with one [`Context`] for each. It reads the POSIX shell's grammar with what bash, ksh and zsh add, as far as quoting goes:
//! nested `$( )`, backticks, `${ }`, arithmetic, comments, here-documents and the lone `)` of `case` patterns.
//!
//! Invariant: when in doubt a slot is refused, never quoted wrongly.

use std::ops::Range;

use simple::Simple;

mod here;
mod simple;

/// What the shell would do with a reference in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// It would split it and expand globs: the reference needs double quotes.
    Unquoted,
    /// It would insert the value as it is: the reference must stand bare.
    Quoted,
    /// A reference cannot stand there.
    Refused(Refusal),
}

/// Why a reference cannot stand in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `' … '`
    SingleQuotes,
    /// `$' … '`
    DollarQuotes,
    /// `<<'END' … END`
    QuotedHereDocument,
    /// `$(( … ))`, `(( … ))`, `$[ … ]`
    Arithmetic,
    /// `${x[ … ]}`, `${x: … }` and whatever else the shell evaluates.
    Expansion,
    /// `[[ … ]]`, which evaluates what it compares.
    DoubleBrackets,
    /// `name[ … ]`
    Subscript,
    /// An argument that a builtin evaluates, or takes for the name of a variable.
    Evaluated,
    /// An argument that a builtin runs.
    Code,
    /// The first argument of `printf`.
    Format,
    /// `\` before it.
    Backslash,
    /// `$` before it.
    Dollar,
    /// Backticks within double quotes or each other.
    Backticks,
    /// The word after `<<`.
    Delimiter,
    /// A here-document without its end.
    Unended,
    /// More levels than anybody writes by hand.
    Nesting,
}

/// The deepest that constructs may be nested.
const NESTING: usize = 200;

/// The context of each slot; slots are in order and do not overlap.
pub(super) fn contexts(script: &str, slots: &[Range<usize>]) -> Vec<Context> {
    let mut contexts = vec![Context::Refused(Refusal::Nesting); slots.len()];
    // What is written in a slot is none of the shell's business, not even its newlines.
    let mut text = script.as_bytes().to_vec();
    for slot in slots {
        text[slot.clone()].fill(1);
    }
    let frame = Frame::commands(Close::End);
    let (end, stack) = (script.len(), vec![frame]);
    Lexer {
        text: &text,
        slots,
        contexts: &mut contexts,
        at: 0,
        end,
        stack,
        here: 0,
        glued: usize::MAX,
        escaped: false,
    }
    .run();
    contexts
}

/// What ends a stretch of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    End,
    Paren,
    /// `))`, or two single ones when it was a subshell within a subshell after all.
    Arithmetic,
    Backtick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// `:-` and the like: a word.
    Word,
    /// `#`, `%`, `/`: a pattern.
    Pattern,
    /// Something that the shell evaluates.
    Other,
}

#[derive(Debug)]
enum Kind {
    Commands(Close),
    Double,
    Braces { operator: Operator, quoted: bool },
    Brackets,
    HereDocument,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// Parentheses open within an arithmetic frame.
    parens: u32,
    /// `case`s open.
    cases: u32,
    /// The next word is in the place of a command's name.
    at_command: bool,
    /// The last word was the `in` of a `case`.
    after_in: bool,
    /// It is part of a word, as `$( )` is and a subshell is not.
    in_word: bool,
    /// The command at hand, of a stretch of commands.
    simple: Simple,
    /// Here-documents whose bodies follow the next newline: delimiter, quoted, tabs stripped.
    pending: Vec<(Vec<u8>, bool, bool)>,
}

impl Frame {
    fn new(kind: Kind) -> Frame {
        Frame {
            kind,
            parens: 0,
            cases: 0,
            at_command: true,
            after_in: false,
            in_word: false,
            simple: Simple::default(),
            pending: Vec::new(),
        }
    }

    fn commands(close: Close) -> Frame {
        Frame::new(Kind::Commands(close))
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    slots: &'a [Range<usize>],
    contexts: &'a mut [Context],
    at: usize,
    end: usize,
    stack: Vec<Frame>,
    here: usize,
    /// Where a word goes on, although the byte before looks as if it had ended.
    glued: usize,
    /// Whether a backslash was seen in the backticks that are open: it means something else there.
    escaped: bool,
}

impl Lexer<'_> {
    fn run(&mut self) {
        while self.at < self.end && self.stack.len() < NESTING {
            let Some(top) = self.stack.last() else { return };
            if self.slot().is_some() {
                self.word_at();
                let context = self.context();
                self.take_slot(context);
                continue;
            }
            match top.kind {
                Kind::Commands(_) => self.commands(),
                Kind::Double => self.double(),
                Kind::Braces { operator, quoted } => self.braces(operator, quoted),
                Kind::Brackets => self.brackets(),
                Kind::HereDocument => self.here_document(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> u8 {
        let at = self.at + ahead;
        if at < self.end { self.text[at] } else { 0 }
    }

    fn starts_with(&self, what: &[u8]) -> bool {
        self.text[self.at..self.end].starts_with(what)
    }

    /// The slot that starts here.
    fn slot(&self) -> Option<usize> {
        self.slots.binary_search_by(|slot| slot.start.cmp(&self.at)).ok()
    }

    fn take_slot(&mut self, context: Context) {
        if let Some(number) = self.slot() {
            self.contexts[number] = context;
            self.at = self.slots[number].end;
            if let Some(top) = self.stack.last_mut() {
                top.at_command = false;
                top.after_in = false;
            }
        }
    }

    /// What holds for a slot in the frame at the top.
    fn context(&self) -> Context {
        let refused = |frame: &Frame| match frame.kind {
            Kind::Commands(Close::Arithmetic) | Kind::Brackets => Some(Refusal::Arithmetic),
            Kind::Braces { operator: Operator::Other, .. } => Some(Refusal::Expansion),
            _ => None,
        };
        // Within `$( )` within arithmetic there are plain commands again.
        let Some(top) = self.stack.last() else { return Context::Refused(Refusal::Nesting) };
        let enclosing = self.stack.iter().rev().take_while(|frame| !matches!(frame.kind, Kind::Commands(Close::Paren)));
        if let Some(refusal) = enclosing.filter_map(refused).next() {
            return Context::Refused(refusal);
        }
        if self.backticks_in_quotes() || self.escaped && self.in_backticks() {
            return Context::Refused(Refusal::Backticks);
        }
        // What a command within a command prints is evaluated just as well.
        let commands = self.stack.iter().rev().filter(|frame| matches!(frame.kind, Kind::Commands(_)));
        if let Some(refusal) = commands.filter_map(|frame| frame.simple.refusal(self.text, self.at)).next() {
            return Context::Refused(refusal);
        }
        match top.kind {
            Kind::Commands(_) => Context::Unquoted,
            Kind::Double | Kind::HereDocument => Context::Quoted,
            Kind::Braces { operator: Operator::Word, quoted } if quoted => Context::Quoted,
            Kind::Braces { operator: Operator::Pattern, .. } if self.in_here_document() => {
                Context::Refused(Refusal::Expansion)
            }
            _ => Context::Unquoted,
        }
    }

    fn in_here_document(&self) -> bool {
        self.stack.iter().any(|frame| matches!(frame.kind, Kind::HereDocument))
    }

    fn in_backticks(&self) -> bool {
        self.stack.iter().any(|frame| matches!(frame.kind, Kind::Commands(Close::Backtick)))
    }

    /// Whether the top is within backticks that are within quotes, where shells disagree about quotes.
    fn backticks_in_quotes(&self) -> bool {
        let ticks = self.stack.iter().rposition(|frame| matches!(frame.kind, Kind::Commands(Close::Backtick)));
        ticks.is_some_and(|at| {
            self.stack[..at]
                .iter()
                .any(|frame| !matches!(frame.kind, Kind::Commands(Close::End | Close::Paren | Close::Arithmetic)))
        })
    }

    /// A word of the command at hand begins here, or goes on.
    fn word_at(&mut self) {
        let at = self.at;
        if let Some(Frame { kind: Kind::Commands(_), simple, .. }) = self.stack.last_mut() {
            simple.word_at(at);
        }
    }

    fn simple(&mut self, step: impl FnOnce(&mut Simple, &[u8], usize)) {
        let (text, at) = (self.text, self.at);
        if let Some(top) = self.stack.last_mut() {
            step(&mut top.simple, text, at);
        }
    }

    fn push(&mut self, skip: usize, kind: Kind) {
        self.at += skip;
        self.stack.push(Frame::new(kind));
    }

    /// The same for what is part of a word.
    fn push_in_word(&mut self, skip: usize, kind: Kind) {
        self.at += skip;
        self.stack.push(Frame { in_word: true, ..Frame::new(kind) });
    }

    fn pop(&mut self, skip: usize) {
        self.at += skip;
        if self.stack.len() > 1
            && let Some(closed) = self.stack.pop()
        {
            if closed.in_word {
                self.glued = self.at;
            }
            self.escaped &= !matches!(closed.kind, Kind::Commands(Close::Backtick));
        }
        if let Some(top) = self.stack.last_mut() {
            top.at_command = false;
            top.after_in = false;
        }
    }

    /// `\` and what it quotes.
    fn backslash(&mut self) {
        let (begins, before) = (self.at_word_start(), self.at.checked_sub(1).map_or(b'\n', |before| self.text[before]));
        self.at += 1;
        if self.slot().is_some() {
            return self.take_slot(Context::Refused(Refusal::Backslash));
        }
        let joins = self.peek(0) == b'\n';
        self.escaped |= !joins && self.in_backticks();
        self.at += 1;
        if joins && b"$(<".contains(&before) {
            // It may go on on the next line, as `$((` or `<<`.
            self.refuse(self.at..self.end, Refusal::Backslash);
            self.at = self.end;
        } else if !(joins && begins) {
            self.glued = self.at;
        }
    }

    /// `$` and what follows, where it is special. `quoted`: within double quotes or a here-document.
    fn dollar(&mut self, quoted: bool) {
        if self.starts_with(b"$((") {
            return self.push_in_word(3, Kind::Commands(Close::Arithmetic));
        }
        match self.peek(1) {
            b'(' => self.push_in_word(2, Kind::Commands(Close::Paren)),
            b'[' => self.push(2, Kind::Brackets),
            b'{' => {
                let (name, operator) = self.parameter();
                self.push(name, Kind::Braces { operator, quoted });
            }
            b'\'' if !quoted => {
                self.at += 2;
                self.quoted_until(Refusal::DollarQuotes);
            }
            b'$' | b'?' | b'!' | b'#' | b'*' | b'@' | b'-' | b'0'..=b'9' if !self.slot_at(1) => {
                self.at += 2;
                self.word_goes_on();
            }
            _ => {
                self.at += 1;
                if self.slot().is_some() {
                    self.take_slot(Context::Refused(Refusal::Dollar));
                }
                self.word_goes_on();
            }
        }
    }

    fn slot_at(&self, ahead: usize) -> bool {
        self.slots.binary_search_by(|slot| slot.start.cmp(&(self.at + ahead))).is_ok()
    }

    fn word_goes_on(&mut self) {
        if let Some(top) = self.stack.last_mut() {
            top.at_command = false;
            top.after_in = false;
        }
    }

    /// After `${`: how long the name is, with the operator, and what kind the operator is of.
    fn parameter(&self) -> (usize, Operator) {
        let mut ahead = 2;
        if self.slot_at(ahead) {
            return (ahead, Operator::Other);
        }
        if matches!(self.peek(ahead), b'#' | b'!')
            && !matches!(self.peek(ahead + 1), b'}' | b':' | b'-' | b'=' | b'?' | b'+')
        {
            ahead += 1;
        }
        if self.peek(ahead).is_ascii_alphanumeric() || self.peek(ahead) == b'_' {
            while self.peek(ahead).is_ascii_alphanumeric() || self.peek(ahead) == b'_' {
                ahead += 1;
            }
        } else if !self.slot_at(ahead) && b"@*?$!-#".contains(&self.peek(ahead)) {
            ahead += 1;
        }
        if self.slot_at(ahead) {
            return (ahead, Operator::Other);
        }
        let colon = usize::from(self.peek(ahead) == b':');
        match self.peek(ahead + colon) {
            b'-' | b'=' | b'?' | b'+' => (ahead + colon + 1, Operator::Word),
            b'#' | b'%' | b'/' if colon == 0 => (ahead + 1, Operator::Pattern),
            _ => (ahead, Operator::Other),
        }
    }

    /// To behind the closing `'`; slots until there are refused.
    fn quoted_until(&mut self, refusal: Refusal) {
        let ticks = self.in_backticks();
        while self.at < self.end {
            if self.slot().is_some() {
                self.take_slot(Context::Refused(refusal));
                continue;
            }
            let byte = self.peek(0);
            if ticks && byte == b'`' {
                break; // the shell looks for the end of backticks before it looks at quotes
            }
            self.at += 1;
            match byte {
                b'\'' => break,
                b'\\' if refusal == Refusal::DollarQuotes && self.slot().is_none() => self.at += 1,
                _ => {}
            }
        }
        self.word_goes_on();
    }

    fn double(&mut self) {
        match self.peek(0) {
            b'"' => self.pop(1),
            b'\\' => self.backslash(),
            b'$' => self.dollar(true),
            b'`' => self.backtick(),
            _ => self.at += 1,
        }
    }

    fn here_document(&mut self) {
        match self.peek(0) {
            b'\\' => self.backslash(),
            b'$' => self.dollar(true),
            b'`' => self.backtick(),
            _ => self.at += 1,
        }
    }

    fn braces(&mut self, operator: Operator, quoted: bool) {
        match self.peek(0) {
            b'}' => self.pop(1),
            b'\\' => self.backslash(),
            b'$' => self.dollar(quoted),
            b'`' => self.backtick(),
            b'"' => self.push(1, Kind::Double),
            b'\'' if !quoted || operator == Operator::Pattern => {
                self.at += 1;
                self.quoted_until(Refusal::SingleQuotes);
            }
            _ => self.at += 1,
        }
    }

    fn brackets(&mut self) {
        match self.peek(0) {
            b']' => self.pop(1),
            b'\\' => self.backslash(),
            b'$' => self.dollar(true),
            b'`' => self.backtick(),
            _ => self.at += 1,
        }
    }

    /// A backtick closes what the last one opened.
    fn backtick(&mut self) {
        let open = self.stack.iter().rposition(|frame| matches!(frame.kind, Kind::Commands(Close::Backtick)));
        let hidden =
            |at: usize| self.stack[at + 1..].iter().any(|frame| matches!(frame.kind, Kind::Commands(Close::Paren)));
        match open {
            Some(at) if !hidden(at) => {
                self.stack.truncate(at + 1);
                self.pop(1);
            }
            _ => self.push_in_word(1, Kind::Commands(Close::Backtick)),
        }
    }

    fn commands(&mut self) {
        let Some(Frame { kind: Kind::Commands(close), cases, .. }) = self.stack.last() else { return };
        let (close, cases) = (*close, *cases);
        let byte = self.peek(0);
        let redirects = matches!(byte, b'<' | b'>') && close != Close::Arithmetic;
        let is_comment = byte == b'#' && close != Close::Arithmetic && self.at_word_start();
        if !is_comment && !redirects && !b" \t\r\n;&|()".contains(&byte) && !self.closes_backtick(byte) {
            self.word_at();
        }
        match byte {
            b'\\' => {
                self.backslash();
                self.word_goes_on();
            }
            b'\'' => {
                self.at += 1;
                self.quoted_until(Refusal::SingleQuotes);
            }
            b'"' => self.push(1, Kind::Double),
            b'$' => self.dollar(false),
            b'`' => self.backtick(),
            b'#' if is_comment => self.comment(),
            b'<' | b'>' if redirects => self.angle(),
            b'(' => self.open_paren(close),
            b')' => self.close_paren(close, cases),
            b'\n' => {
                self.separator();
                self.bodies();
            }
            b'&' if self.peek(1) == b'>' => {
                self.simple(Simple::redirection);
                self.at += 1;
            }
            b';' | b'&' | b'|' => self.separator(),
            b'{' | b'!' => {
                self.at += 1;
                self.command_follows();
            }
            b' ' | b'\t' | b'\r' => {
                self.simple(Simple::word_ends);
                self.at += 1;
            }
            _ => self.word(),
        }
    }

    fn closes_backtick(&self, byte: u8) -> bool {
        byte == b'`' && self.stack.last().is_some_and(|top| matches!(top.kind, Kind::Commands(Close::Backtick)))
    }

    fn separator(&mut self) {
        self.simple(Simple::separator);
        self.at += 1;
        self.command_follows();
    }

    /// `<` or `>`, and what belongs to it.
    fn angle(&mut self) {
        if self.peek(1) == b'(' {
            self.word_at();
            self.at += 1;
            return self.word_goes_on();
        }
        self.simple(Simple::redirection);
        if self.starts_with(b"<<") {
            return self.redirection();
        }
        self.at += 1;
        if matches!(self.peek(0), b'&' | b'|' | b'>') {
            self.at += 1;
        }
        self.word_goes_on();
    }

    fn command_follows(&mut self) {
        if let Some(top) = self.stack.last_mut() {
            top.at_command = true;
            top.after_in = false;
        }
    }

    fn at_word_start(&self) -> bool {
        let before = self.at.checked_sub(1).map_or(b'\n', |before| self.text[before]);
        // What stands right behind a slot belongs to its word.
        let behind_slot = self.slots.binary_search_by(|slot| slot.end.cmp(&self.at)).is_ok();
        !behind_slot && self.glued != self.at && b" \t\n;&|()`".contains(&before)
    }

    fn comment(&mut self) {
        let ticks = self.in_backticks();
        while self.at < self.end && self.peek(0) != b'\n' && !(ticks && self.peek(0) == b'`') {
            if self.slot().is_some() {
                self.take_slot(Context::Quoted);
            } else {
                self.at += 1;
            }
        }
    }

    fn open_paren(&mut self, close: Close) {
        if close == Close::Arithmetic {
            if let Some(top) = self.stack.last_mut() {
                top.parens += 1;
            }
            self.at += 1;
        } else if self.starts_with(b"((") {
            self.simple(|simple, text, at| {
                simple.parenthesis(text, at);
            });
            self.push(2, Kind::Commands(Close::Arithmetic));
        } else {
            let in_word = self.at.checked_sub(1).is_some_and(|before| b"<>=@?*+!".contains(&self.text[before]));
            let mut is_array = false;
            self.simple(|simple, text, at| is_array = simple.parenthesis(text, at));
            if in_word {
                self.push_in_word(1, Kind::Commands(Close::Paren));
            } else {
                self.push(1, Kind::Commands(Close::Paren));
            }
            if let Some(top) = self.stack.last_mut().filter(|_| is_array) {
                top.simple = Simple::array();
            }
        }
    }

    fn close_paren(&mut self, close: Close, cases: u32) {
        match close {
            Close::Arithmetic => {
                let two = self.starts_with(b"))");
                let Some(top) = self.stack.last_mut() else { return };
                if top.parens > 0 {
                    top.parens -= 1;
                    self.at += 1;
                } else if two {
                    self.pop(2);
                } else {
                    // `((` were two subshells: this closes the inner one.
                    top.kind = Kind::Commands(Close::Paren);
                    self.at += 1;
                }
            }
            Close::Paren if cases == 0 => self.pop(1),
            Close::End | Close::Paren | Close::Backtick => self.separator(),
        }
    }

    /// A run of bytes that mean nothing by themselves, and whether it is a reserved word.
    fn word(&mut self) {
        let start = self.at;
        let begins = self.at_word_start();
        while self.at < self.end && !b" \t\r\n;&|()<>'\"\\$`".contains(&self.peek(0)) && self.slot().is_none() {
            self.at += 1;
        }
        // `<` and `>`.
        self.at = self.at.max(start + 1);
        let ends = self.at >= self.end || b" \t\r\n;&|()".contains(&self.peek(0)) && self.slot().is_none();
        let word = if begins && ends { &self.text[start..self.at] } else { b"" };
        let Some(top) = self.stack.last_mut() else { return };
        let reserved = top.at_command;
        let after_in = std::mem::replace(&mut top.after_in, false);
        match word {
            b"case" if reserved => {
                top.cases += 1;
                top.at_command = false;
            }
            b"esac" if (reserved || after_in) && top.cases > 0 => {
                top.cases -= 1;
                top.at_command = false;
            }
            b"in" if top.cases > 0 => {
                top.after_in = true;
                top.at_command = false;
            }
            b"if" | b"then" | b"else" | b"elif" | b"do" | b"while" | b"until" | b"time" | b"}" | b"fi" | b"done"
                if reserved => {}
            _ => top.at_command = false,
        }
    }

    fn refuse(&mut self, bytes: Range<usize>, refusal: Refusal) {
        for (slot, context) in self.slots.iter().zip(self.contexts.iter_mut()) {
            if bytes.contains(&slot.start) {
                *context = Context::Refused(refusal);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
