//! How this command line was called, so that it can tell how to call it again.

use std::path::Path;

/// A program and where its state is.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    program: String,
    root: Option<String>,
}

impl Invocation {
    /// A program, and `--root` if it has to be said again.
    pub(crate) fn new(program: &str, root: Option<&Path>) -> Invocation {
        Invocation { program: program.to_owned(), root: root.map(|root| quoted(&root.to_string_lossy())) }
    }

    /// The name that the program was called by.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// The line to type for another root.
    pub(crate) fn elsewhere(&self, root: &Path, words: &[&str]) -> String {
        Invocation::new(&self.program, Some(root)).line(words)
    }

    /// The line to type: `laminar status 019a8f3c1d2e --root elsewhere`.
    pub(crate) fn line(&self, words: &[&str]) -> String {
        let mut line = self.program.clone();
        for word in words {
            line.push(' ');
            line.push_str(&quoted(word));
        }
        if let Some(root) = &self.root {
            line.push_str(" --root ");
            line.push_str(root);
        }
        line
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_the_line_as_it_is_meant() {
        let laminar = Invocation::new("laminar", None);
        assert_eq!(laminar.line(&["logs", "019a", "Train[3]"]), "laminar logs 019a 'Train[3]'");
        let elsewhere = Invocation::new("laminar", Some(Path::new("it's here")));
        assert_eq!(elsewhere.line(&["status"]), r"laminar status --root 'it'\''s here'");
    }
}
