//! The simple command at hand: its name, its words so far, and whether its builtin would evaluate a value put into the next.
//!
//! bash, ksh and zsh evaluate more than `$(( ))`: both sides of `[[ a -eq b ]]`, subscripts, what `let` and `declare -i` are
//! given, and whatever names a variable for `read`, `unset`, `printf -v` and `test -v`. An evaluated text can run commands.
//!
//! It is unaware of how words are found: the lexer says where each begins and ends.

use std::ops::Range;

use super::Refusal;

/// A simple command, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Simple {
    name: Option<Name>,
    /// Where the word at hand begins.
    word: Option<usize>,
    /// The word at hand is the target of a redirection.
    redirect: bool,
    /// Within `[[ … ]]`.
    test: bool,
    /// Within `name=( … )`.
    array: bool,
    /// How many arguments there were.
    arguments: usize,
    /// The last of them.
    last: Range<usize>,
    /// Options of a declaration that let it evaluate.
    evaluates: bool,
}

/// What the command's name says of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// They are words.
    Plain,
    /// They are evaluated, or name variables.
    Evaluates,
    /// They are shell commands.
    Code,
    /// `name=value`
    Declares,
    /// The one behind `-v` names a variable, and the first one may be that option.
    Prints,
    /// The one behind `-v` names a variable.
    Tests,
}

impl Simple {
    /// Within `name=( … )`, whose words are no commands.
    pub(super) fn array() -> Simple {
        Simple { name: Some(Name::Plain), array: true, ..Simple::default() }
    }

    /// A word begins here, or goes on.
    pub(super) fn word_at(&mut self, at: usize) {
        self.word.get_or_insert(at);
    }

    /// The word at hand, if there is one, ends before `at`.
    pub(super) fn word_ends(&mut self, text: &[u8], at: usize) {
        let Some(start) = self.word.take() else { return };
        let raw = &text[start..at];
        let word = plain(raw);
        if std::mem::take(&mut self.redirect) || word.is_empty() && raw.starts_with(b"\\") {
            return;
        }
        if self.test {
            self.test = raw != b"]]";
            return;
        }
        let Some(name) = self.name else { return self.first(raw, &word) };
        self.arguments += 1;
        self.last = start..at;
        if name == Name::Declares && !is_assignment(&word) {
            let options = word.strip_prefix(b"-").filter(|rest| rest.iter().all(|byte| b"grxtlufp-".contains(byte)));
            let is_name = word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            self.evaluates |= options.is_none() && !is_name;
        }
        // `function name {`
        if raw == b"{" && name == Name::Plain && !self.array {
            *self = Simple::default();
        }
    }

    /// The word in the place of the command's name.
    fn first(&mut self, raw: &[u8], word: &[u8]) {
        let goes_on: [&[u8]; 19] = [
            b"if",
            b"then",
            b"else",
            b"elif",
            b"fi",
            b"do",
            b"done",
            b"while",
            b"until",
            b"time",
            b"esac",
            b"{",
            b"}",
            b"!",
            b"command",
            b"builtin",
            b"coproc",
            b"noglob",
            b"nocorrect",
        ];
        if raw == b"[[" {
            self.test = true;
            self.name = Some(Name::Plain);
        } else if !goes_on.contains(&word) && !word.starts_with(b"-") && !is_assignment(word) {
            self.name = Some(named(word));
        }
    }

    /// A separator: another command follows.
    pub(super) fn separator(&mut self, text: &[u8], at: usize) {
        self.word_ends(text, at);
        if !self.test && !self.array {
            *self = Simple::default();
        }
    }

    /// A parenthesis opens, and it is not one of `$(`: a subshell, a function's, a pattern's. Whether it opens an array.
    pub(super) fn parenthesis(&mut self, text: &[u8], at: usize) -> bool {
        match at.checked_sub(1).map(|before| text[before]) {
            Some(b'=') if self.word.is_some() => return true,
            Some(b'<' | b'>') => {}
            _ if matches!(self.name, None | Some(Name::Plain)) => self.separator(text, at),
            _ => {}
        }
        false
    }

    /// `<` or `>`: the next word is where to.
    pub(super) fn redirection(&mut self, text: &[u8], at: usize) {
        let number = |word: &[u8]| word.iter().all(u8::is_ascii_digit) || word.ends_with(b"}");
        if self.word.is_some_and(|start| number(&text[start..at])) {
            self.word = None;
        }
        self.word_ends(text, at);
        self.redirect = !self.test;
    }

    /// The target of the redirection was read already.
    pub(super) fn redirected(&mut self) {
        self.redirect = false;
    }

    /// Why a value must not stand at `at`, if there is a reason.
    pub(super) fn refusal(&self, text: &[u8], at: usize) -> Option<Refusal> {
        if self.test {
            return Some(Refusal::DoubleBrackets);
        }
        if self.redirect {
            return None;
        }
        let word = plain(&text[self.word.unwrap_or(at)..at]);
        if self.array {
            return (word.starts_with(b"[") && !is_subscripted(&word)).then_some(Refusal::Subscript);
        }
        let refuse = |holds: bool| holds.then_some(Refusal::Evaluated);
        match self.name {
            None if in_subscript(&word) => Some(Refusal::Subscript),
            None => refuse(is_counted(&word)),
            Some(Name::Plain) => None,
            Some(Name::Evaluates) => Some(Refusal::Evaluated),
            Some(Name::Code) => Some(Refusal::Code),
            Some(Name::Declares) if in_subscript(&word) => Some(Refusal::Subscript),
            Some(Name::Declares) => refuse(self.evaluates || !is_assignment(&word) || is_counted(&word)),
            Some(Name::Prints) if self.arguments == 0 && word.first().is_none_or(|byte| b"\x01$`-".contains(byte)) => {
                Some(Refusal::Format)
            }
            Some(Name::Prints | Name::Tests) => {
                let before = plain(&text[self.last.clone()]);
                let names = word.starts_with(b"-v") || matches!(&*before, b"-v" | b"-R");
                // A value there could be `-v` itself.
                refuse(names || self.name == Some(Name::Tests) && before.first() == Some(&1) && word.is_empty())
            }
        }
    }
}

fn named(word: &[u8]) -> Name {
    match word {
        b"let" | b"unset" | b"read" | b"mapfile" | b"readarray" | b"getopts" | b"wait" | b"integer" | b"float" => {
            Name::Evaluates
        }
        b"eval" | b"trap" | b"alias" | b"compgen" | b"complete" => Name::Code,
        b"declare" | b"typeset" | b"local" | b"readonly" | b"export" => Name::Declares,
        b"printf" => Name::Prints,
        b"test" | b"[" => Name::Tests,
        _ => Name::Plain,
    }
}

/// A word without its quotes. What is expanded stays as it is written.
fn plain(raw: &[u8]) -> Vec<u8> {
    let mut word = Vec::with_capacity(raw.len().min(64));
    let mut bytes = raw.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => word.extend(bytes.next().filter(|next| **next != b'\n')),
            b'\'' | b'"' => {}
            _ => word.push(*byte),
        }
    }
    word
}

/// The length of the identifier that a word begins with.
fn identifier(word: &[u8]) -> usize {
    if word.first().is_none_or(u8::is_ascii_digit) {
        return 0;
    }
    word.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

fn is_assignment(word: &[u8]) -> bool {
    let rest = &word[identifier(word)..];
    rest.len() < word.len() && (rest.starts_with(b"=") || rest.starts_with(b"+=") || is_subscripted(rest))
}

/// `[3]=`: a subscript that is over, and that holds nothing but a plain word.
fn is_subscripted(rest: &[u8]) -> bool {
    let Some(rest) = rest.strip_prefix(b"[") else { return false };
    let inside = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(byte)).count();
    rest[inside..].starts_with(b"]=") || rest[inside..].starts_with(b"]+=")
}

/// `name[ … `
fn in_subscript(word: &[u8]) -> bool {
    let name = identifier(word);
    name > 0 && word[name..].starts_with(b"[") && !is_subscripted(&word[name..])
}

/// An assignment to one of the variables that are numbers, or whose text is expanded later.
fn is_counted(word: &[u8]) -> bool {
    let name = &word[..identifier(word)];
    let counted: [&[u8]; 7] = [b"RANDOM", b"SRANDOM", b"SECONDS", b"OPTIND", b"LINENO", b"HISTCMD", b"PS4"];
    counted.contains(&name) && is_assignment(word)
}
