//! What tests leave out on this machine, and whether they may.
//!
//! The usual harness shows nothing of a test that passes, so that what was skipped would be skipped in silence. It is also
//! put on record, in the file that `LAMINAR_TEST_SKIPPED` names: `tests/run` shows all of it in the end.

use std::io::Write;

/// Puts on record that something was left out, and why.
#[expect(clippy::print_stderr, reason = "where there is no file, whoever runs the test with its output sees it")]
pub fn skip(what: &str, why: &str) {
    let line = format!("{what}: {}\n", why.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim());
    eprint!("SKIPPED: {line}");
    let Some(path) = std::env::var_os("LAMINAR_TEST_SKIPPED") else { return };
    // In one write, since many tests have the file open.
    let written = std::fs::OpenOptions::new().append(true).open(&path).and_then(|mut it| it.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("cannot write to {}: {error}", path.display());
    }
}

/// Whether it is a failure that this is not here: `LAMINAR_TEST_REQUIRE` names what must be, separated by commas.
#[must_use]
pub fn is_required(what: &str) -> bool {
    std::env::var("LAMINAR_TEST_REQUIRE").is_ok_and(|all| all.split(',').any(|name| name == what))
}
