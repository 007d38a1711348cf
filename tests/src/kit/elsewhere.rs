//! A case that is judged in another process: the same test program, run as another user.

use std::process::{Command, Stdio};

use super::case::Verdict;

/// Runs the program for this one test, and reads what it made of it.
pub(super) fn judge(mut program: Command, test: &str, on_request: bool) -> Verdict {
    program.args(["--exact", test]);
    if on_request {
        program.arg("--include-ignored");
    }
    let ran = match program.stderr(Stdio::piped()).stdout(Stdio::piped()).output() {
        Ok(ran) => ran,
        Err(error) => return Verdict::Failed(format!("cannot run {program:?}: {error}")),
    };
    let (said, erred) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    read(&said, test)
        .unwrap_or_else(|| Verdict::Failed(format!("its process ended with {}: {said}{erred}", ran.status)))
}

fn read(said: &str, test: &str) -> Option<Verdict> {
    let beginning = format!("test {test} ... ");
    let result = said.lines().find_map(|line| line.strip_prefix(beginning.as_str()))?;
    if let Some(reason) = result.strip_prefix("ignored, declared: ") {
        // How long it took is no part of the reason.
        let reason = reason.strip_suffix("s)").and_then(|it| it.rsplit_once(" (")).map_or(reason, |(reason, _)| reason);
        return Some(Verdict::Declared(reason.to_owned()));
    }
    match result.split(' ').next()? {
        "ok" => Some(Verdict::Passed),
        _ => {
            let why = said.split_once("failures:\n").map_or(said, |(_, why)| why);
            let why = why.split_once(" ----\n").map_or(why, |(_, why)| why);
            let why = why.rsplit_once("\ntest result:").map_or(why, |(why, _)| why);
            Some(Verdict::Failed(why.trim().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_says_is_what_was_seen_there() {
        let said = |result: &str| read(&format!("\nrunning 1 test\ntest a::b ... {result}\n"), "a::b");
        assert_eq!(said("ok (3.1s)"), Some(Verdict::Passed));
        assert_eq!(said("ignored, declared: lacks x: y"), Some(Verdict::Declared("lacks x: y".to_owned())));
        assert_eq!(
            said("ignored, declared: no (small) disk (4.1s)"),
            Some(Verdict::Declared("no (small) disk".to_owned()))
        );
        let failed = "FAILED\n\nfailures:\n\n---- a::b ----\nleft: 1\nright: 2\n\ntest result: FAILED. 0 passed";
        assert_eq!(said(failed), Some(Verdict::Failed("left: 1\nright: 2".to_owned())));
        assert_eq!(read("no such test", "a::b"), None);
    }
}
