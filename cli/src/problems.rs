//! Draws what is wrong with a flow file, as compilers do: the message, the place, the line, and what to do about it.
//!
//! A text, and values for `--json`; it is unaware of streams. Whatever the file holds, what is drawn stays small and
//! harmless: long lines are cut around what matters, control characters are made visible.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet};
use laminar_core::flow::problem::{Place, Problem, Problems, Source};
use serde_json::{Value, json};

use crate::text::style::Style;
use crate::text::{count, visible};

/// The most problems that are drawn, unless everything is asked for.
const MOST_PROBLEMS: usize = 20;
/// The most places of one problem that are drawn.
const MOST_PLACES: usize = 12;
/// Places so many lines apart or nearer are drawn together.
const NEAR: usize = 30;
/// Lines longer than this, in bytes, are cut.
const LONG: usize = 400;
/// How much is left of a cut line on each side of what matters.
const AROUND: usize = 80;
/// The most characters of a message or a hint.
const MOST_WORDS: usize = 1000;

/// The problems as a text, and how many there are as the last line. Of many only the first ones, unless `all` are wanted.
pub(crate) fn draw(problems: &Problems, style: Style, width: usize, all: bool) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    }
    .term_width(width);
    let source = problems.source.as_ref().map(Lines::new);
    let mut text = String::new();
    if let (None, [one]) = (&source, problems.list.as_slice()) {
        return draw_one(one, None, &renderer, style);
    }
    let number = problems.list.len();
    let most = if all { number } else { MOST_PROBLEMS };
    for problem in problems.list.iter().take(most) {
        text.push_str(&draw_one(problem, source.as_ref(), &renderer, style));
        text.push_str("\n\n");
    }
    let name =
        problems.source.as_ref().map_or(String::new(), |source| format!(" in `{}`", visible::line(&source.name)));
    if number > most {
        text.push_str(&format!("and {} more; ", number - most));
    }
    text.push_str(&format!("{}{name}", count(number, "problem")));
    if number > most {
        text.push_str("; `-v` shows all, and `--json` all as data");
    }
    text
}

fn draw_one(problem: &Problem, source: Option<&Lines<'_>>, renderer: &Renderer, style: Style) -> String {
    let mut group = Level::ERROR.primary_title(words(&problem.message)).elements(Vec::<Element<'_>>::new());
    let mut columns = Vec::new();
    let source = source.filter(|_| !problem.places.is_empty());
    if let Some(source) = source {
        let name = visible::line(&source.source.name);
        for (at, excerpt) in excerpts(source, &problem.places).into_iter().enumerate() {
            columns.extend(excerpt.columns(&name));
            let kind =
                |mark: &Mark| if mark.main && at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation =
                |mark: Mark| kind(&mark).span(mark.span).label((!mark.label.is_empty()).then_some(mark.label));
            let annotations: Vec<_> = excerpt.marks.into_iter().map(annotation).collect();
            let snippet = Snippet::source(excerpt.text).path(name.clone()).line_start(excerpt.first);
            group = group.element(snippet.annotations(annotations));
        }
        if problem.places.len() > MOST_PLACES {
            let more = count(problem.places.len() - MOST_PLACES, "more place");
            group = group.element(Level::NOTE.message(format!("and {more}")));
        }
    }
    if let (Some(hint), Some(_)) = (&problem.hint, source) {
        group = group.element(Level::HELP.with_name("hint").message(words(hint)));
    }
    let mut drawn = renderer.render(&[group]).trim_end().to_owned();
    // Without a line to hang on, a hint stands alone.
    if let (Some(hint), None) = (&problem.hint, source) {
        drawn.push_str(&format!("\n{}: {}", style.cyan("hint"), words(hint)));
    }
    columns.iter().fold(drawn, |drawn, (shown, real)| drawn.replacen(shown, real, 1))
}

fn words(text: &str) -> String {
    visible::cut(&visible::text(text.as_bytes()), MOST_WORDS)
}

/// The problems as values: `message`, `file`, `line`, `column`, `end` (`line`, `column`), `label`, `hint`, and `places`,
/// the other places with the same fields. Lines and columns count from 1, columns count characters.
pub(crate) fn objects(problems: &Problems) -> Vec<Value> {
    let source = problems.source.as_ref().map(Lines::new);
    let list = problems.list.iter();
    list.map(|problem| {
        let mut places = problem.places.iter().filter_map(|place| Some(position(source.as_ref()?, place)));
        let main = places.next().unwrap_or_else(|| json!({"line": null, "column": null, "end": null, "label": null}));
        json!({
            "message": problem.message,
            "file": problems.source.as_ref().map(|source| &source.name),
            "line": main["line"],
            "column": main["column"],
            "end": main["end"],
            "label": main["label"],
            "hint": problem.hint,
            "places": places.collect::<Vec<_>>(),
        })
    })
    .collect()
}

fn position(source: &Lines<'_>, place: &Place) -> Value {
    let (line, column) = source.line_and_column(place.span.start);
    let (end_line, end_column) = source.line_and_column(place.span.end);
    json!({"line": line, "column": column, "end": {"line": end_line, "column": end_column}, "label": place.label})
}

/// A source with the places where its lines begin.
struct Lines<'a> {
    source: &'a Source,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(source: &'a Source) -> Lines<'a> {
        let newlines = source.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Lines { source, starts }
    }

    /// The line a byte is on, from 0.
    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// The bytes of a line, without its end.
    fn span(&self, line: usize) -> Range<usize> {
        let start = self.starts[line];
        let end = self.starts.get(line + 1).map_or(self.source.text.len(), |next| next - 1);
        let end = if self.source.text[start..end].ends_with('\r') { end - 1 } else { end };
        start..end
    }

    fn line_and_column(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.source.text.len());
        let line = self.line(at);
        let before = self.source.text.get(self.starts[line]..at).unwrap_or_default();
        (line + 1, before.chars().count() + 1)
    }
}

/// Some lines of a source that are drawn together.
struct Excerpt {
    text: String,
    /// The number of its first line.
    first: usize,
    /// Where its first mark is: the line and column of the source, whatever was cut.
    line: usize,
    column: usize,
    marks: Vec<Mark>,
}

impl Excerpt {
    /// Its position as the renderer will write it, and as it really is, where something was cut off before it.
    fn columns(&self, name: &str) -> Option<(String, String)> {
        let lead = self.marks.iter().find(|mark| mark.main).or(self.marks.first())?;
        let start = self.text[..lead.span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let shown = self.text[start..lead.span.start].chars().count() + 1;
        let position = |column: usize| format!("{name}:{}:{column}", self.line);
        (shown != self.column).then(|| (position(shown), position(self.column)))
    }
}

/// Something to point at in an excerpt.
struct Mark {
    span: Range<usize>,
    label: String,
    main: bool,
}

/// A place, cut to its first line.
struct Spot<'a> {
    line: usize,
    span: Range<usize>,
    label: &'a str,
    main: bool,
}

fn excerpts(source: &Lines<'_>, places: &[Place]) -> Vec<Excerpt> {
    let mut spots: Vec<Spot<'_>> = places
        .iter()
        .take(MOST_PLACES)
        .enumerate()
        .map(|(at, place)| {
            let line = source.line(place.span.start);
            let within = source.span(line);
            let start = place.span.start.clamp(within.start, within.end);
            Spot { line, span: start..place.span.end.clamp(start, within.end), label: &place.label, main: at == 0 }
        })
        .collect();
    spots.sort_by_key(|spot| spot.line);
    let mut groups: Vec<&[Spot<'_>]> = spots.chunk_by(|one, next| next.line - one.line <= NEAR).collect();
    // The main place is drawn first.
    if let Some(main) = groups.iter().position(|group| group.iter().any(|spot| spot.main)) {
        groups[..=main].rotate_right(1);
    }
    groups.into_iter().map(|group| excerpt(source, group)).collect()
}

fn excerpt(source: &Lines<'_>, spots: &[Spot<'_>]) -> Excerpt {
    let lead = spots.iter().find(|spot| spot.main).unwrap_or(&spots[0]);
    let (line, column) = source.line_and_column(lead.span.start);
    let (first, last) = (spots[0].line, spots[spots.len() - 1].line);
    let mut excerpt = Excerpt { text: String::new(), first: first + 1, line, column, marks: Vec::new() };
    for line in first..=last {
        let on_line: Vec<&Spot<'_>> = spots.iter().filter(|spot| spot.line == line).collect();
        push_line(&mut excerpt, &source.source.text, source.span(line), &on_line);
        excerpt.text.push('\n');
    }
    excerpt
}

/// Adds a line to an excerpt; of a long one only the pieces around what is pointed at.
fn push_line(excerpt: &mut Excerpt, text: &str, line: Range<usize>, spots: &[&Spot<'_>]) {
    let pieces = pieces(text, &line, spots);
    for piece in &pieces {
        if piece.start > line.start {
            excerpt.text.push('…');
        }
        let shift = excerpt.text.len();
        excerpt.text.push_str(&text[piece.clone()]);
        for spot in spots.iter().filter(|spot| piece.contains(&spot.span.start) || piece.end == spot.span.start) {
            let start = spot.span.start - piece.start + shift;
            let end = spot.span.end.min(piece.end) - piece.start + shift;
            let label = visible::cut(&visible::line(spot.label), 200);
            excerpt.marks.push(Mark { span: start..end.max(start), label, main: spot.main });
        }
    }
    if pieces.last().is_some_and(|piece| piece.end < line.end) {
        excerpt.text.push('…');
    }
}

/// What to show of a line: all of a short one, else the surroundings of each spot, apart from each other.
fn pieces(text: &str, line: &Range<usize>, spots: &[&Spot<'_>]) -> Vec<Range<usize>> {
    if line.len() <= LONG {
        return vec![line.clone()];
    }
    if spots.is_empty() {
        return std::iter::once(line.start..boundary(text, line.start + AROUND)).collect();
    }
    let mut wanted: Vec<Range<usize>> = spots
        .iter()
        .map(|spot| {
            let end = spot.span.end.min(spot.span.start + AROUND);
            let start = spot.span.start.saturating_sub(AROUND).max(line.start);
            boundary(text, start)..boundary(text, (end + AROUND).min(line.end))
        })
        .collect();
    wanted.sort_by_key(|piece| piece.start);
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for piece in wanted {
        match pieces.last_mut() {
            Some(last) if piece.start <= last.end => last.end = last.end.max(piece.end),
            _ => pieces.push(piece),
        }
    }
    pieces
}

/// The nearest place at or before this one that is between two characters.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
