//! Where a command's words go: data to standard output, everything else to standard error.
//!
//! It decides once what the streams can take (colour, live lines, width) and how much is to be said. It is unaware of
//! flows and executions. Only errors of standard output matter: who closes our standard error does not want to hear.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use crate::error::{Error, Failure};
use crate::problems;
use crate::text::style::Style;
use crate::text::visible;

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors and failures only.
    Quiet,
    /// What most want to know.
    Normal,
    /// Everything.
    Verbose,
}

/// One of the two streams.
struct Stream {
    writer: Box<dyn Write>,
    terminal: bool,
    style: Style,
}

/// Both streams, and how they are to be used.
pub(crate) struct Output {
    data: Stream,
    talk: Stream,
    shape: Shape,
    verbosity: Verbosity,
}

impl Output {
    /// The process's own streams.
    pub(crate) fn standard(shape: Shape, verbosity: Verbosity) -> Output {
        let data = Stream::new(Box::new(BufWriter::with_capacity(1 << 16, io::stdout())), io::stdout().is_terminal());
        let talk = Stream::new(Box::new(io::stderr()), io::stderr().is_terminal());
        Output { data, talk, shape, verbosity }
    }

    /// How data is written.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// How much is said.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Whether standard output is a terminal, where raw bytes do harm.
    pub(crate) fn data_is_terminal(&self) -> bool {
        self.data.terminal
    }

    /// Whether standard error is a terminal on which lines can be drawn again.
    pub(crate) fn talk_is_live(&self) -> bool {
        self.talk.terminal && !is_dumb()
    }

    /// The style of standard output.
    pub(crate) fn data_style(&self) -> Style {
        self.data.style
    }

    /// The style of standard error.
    pub(crate) fn talk_style(&self) -> Style {
        self.talk.style
    }

    /// Writes to standard output.
    pub(crate) fn data(&mut self) -> &mut dyn Write {
        &mut self.data.writer
    }

    /// Writes a text to standard output.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Error> {
        Ok(self.data.writer.write_all(text.as_bytes())?)
    }

    /// Writes one JSON object as one line.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Error> {
        let text = visible::json(object, false).map_err(io::Error::from)?;
        self.print(&text)?;
        self.print("\n")
    }

    /// Writes a JSON document over several lines.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> Result<(), Error> {
        let text = visible::json(document, true).map_err(io::Error::from)?;
        self.print(&text)?;
        self.print("\n")
    }

    /// Sends what was written to standard output on its way.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        Ok(self.data.writer.flush()?)
    }

    /// Says something on standard error, unless quiet.
    pub(crate) fn say(&mut self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.tell(text);
        }
    }

    /// Says something that is good to know.
    pub(crate) fn note(&mut self, text: &str) {
        let note = self.talk.style.cyan("note");
        self.say(&format!("{note}: {text}"));
    }

    /// Says something on standard error, also when quiet.
    pub(crate) fn tell(&mut self, text: &str) {
        let _ = writeln!(self.talk.writer, "{}", text.trim_end_matches('\n'));
    }

    /// Shows an error.
    pub(crate) fn error(&mut self, error: &Error) {
        match (error, self.shape) {
            (Error::ReaderGone, _) => {}
            (Error::Problems(found), Shape::Text) => {
                let drawn = problems::draw(found, self.talk.style, talk_width(), self.verbosity == Verbosity::Verbose);
                self.tell(&drawn);
            }
            (Error::Problems(found), Shape::Json) => {
                for object in problems::objects(found) {
                    self.tell_object(&object);
                }
            }
            (Error::Failure(failure), Shape::Text) => {
                let text = draw(failure, self.talk.style);
                self.tell(&text);
            }
            (Error::Failure(failure), Shape::Json) => {
                let object = serde_json::json!({
                    "error": failure.what,
                    "places": failure.places,
                    "reason": failure.why,
                    "hint": failure.hint,
                    "exit_code": failure.code.number(),
                });
                self.tell_object(&object);
            }
        }
    }

    fn tell_object(&mut self, object: &serde_json::Value) {
        // A value that is there already can be written.
        self.tell(&visible::json(object, false).unwrap_or_default());
    }
}

impl Stream {
    fn new(writer: Box<dyn Write>, terminal: bool) -> Stream {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = if terminal && !refused && !is_dumb() { Style::Coloured } else { Style::Plain };
        Stream { writer, terminal, style }
    }
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// How wide standard error is, or what fits most places.
pub(crate) fn talk_width() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col >= 40 => usize::from(size.ws_col),
        Ok(size) if size.ws_col > 0 => 40,
        _ => 120,
    }
}

/// How many lines standard error has.
pub(crate) fn talk_height() -> usize {
    rustix::termios::tcgetwinsize(io::stderr()).map_or(24, |size| usize::from(size.ws_row).max(6))
}

fn draw(failure: &Failure, style: Style) -> String {
    let mut text = format!("{}: {}", style.red("error"), visible::text(failure.what.as_bytes()));
    if let Some(why) = &failure.why {
        text.push_str(": ");
        text.push_str(&visible::text(why.trim_end().as_bytes()));
    }
    for place in &failure.places {
        text.push_str(&format!("\n  {}", visible::line(place)));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("\n{}: {}", style.cyan("hint"), visible::text(hint.as_bytes())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        let Error::Failure(failure) =
            Error::broken("cannot open `a\x1b[2Jb`").why("disk on fire").at("layer `Train`").hint("put it out")
        else {
            unreachable!("made from a text")
        };
        *failure
    }

    #[test]
    fn an_error_says_what_why_where_and_what_to_do() {
        assert_eq!(
            draw(&failure(), Style::Plain),
            "error: cannot open `a\\x1b[2Jb`: disk on fire\n  layer `Train`\nhint: put it out"
        );
    }

    #[test]
    fn colours_are_ours_alone() {
        let drawn = draw(&failure(), Style::Coloured);
        assert!(drawn.starts_with("\x1b[1;31merror\x1b[0m: cannot open `a\\x1b[2Jb`"), "{drawn}");
    }
}
