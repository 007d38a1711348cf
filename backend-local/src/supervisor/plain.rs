//! Scripts that are one plain command: started without a shell, which would only make one more process, as make does.
//!
//! Only where nobody can tell the difference: the words mean themselves in every shell, and the first of them is a program. What
//! cannot be started so is left to the shell, which says why in its own words. Unaware of processes.

use std::ffi::{CStr, CString};

/// How flows have scripts run where they do not say otherwise.
const SHELL: [&CStr; 3] = [c"sh", c"-e", c"-c"];

/// What means itself in every shell, wherever it stands in a word; `=` too, but for the first word.
const PLAIN: &[u8] = b"_./:,+@%-";

/// What shells do themselves, or read as grammar: those of POSIX, dash, bash, ksh, mksh, zsh, yash and busybox.
const OWN: &str = "
    . : alias autoload bg bind break builtin caller case cat cd chdir command compgen complete compopt continue coproc
    declare dirs disown do done echo elif else enable esac eval exec exit export false fc fg fi float for foreach function
    functions getconf getopts global hash help history if in integer jobs kill let local logout mapfile mknod nameref
    namespace nocorrect noglob popd print printf pushd pwd read readarray readonly realpath rename repeat return select
    set setopt shift shopt sleep source stop suspend test then time times trap true type typeset ulimit umask unalias
    unset unsetopt until wait whence where which while";

/// The words of a script that is one plain command; `None` where a shell is needed.
pub(super) fn words(argv: &[&CStr], env: &[&CStr]) -> Option<Vec<CString>> {
    let script = argv.strip_prefix(&SHELL[..]).filter(|rest| rest.len() == 1)?[0].to_bytes();
    let script = script.strip_suffix(b"\n").unwrap_or(script);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || PLAIN.contains(byte);
    if !script.iter().all(|byte| is_plain(byte) || matches!(byte, b' ' | b'=')) {
        return None;
    }
    let words: Vec<&[u8]> = script.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    let first = *words.first()?;
    // bash takes functions from its environment, which may have any name.
    let has_functions = || env.iter().any(|entry| entry.to_bytes().starts_with(b"BASH_FUNC_"));
    // A `%` names a job.
    if !first.iter().all(is_plain) || first.starts_with(b"%") || is_own(first) || has_functions() {
        return None;
    }
    words.into_iter().map(|word| CString::new(word).ok()).collect()
}

fn is_own(word: &[u8]) -> bool {
    OWN.split_ascii_whitespace().any(|own| own.as_bytes() == word)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    fn read(script: &str) -> Option<Vec<String>> {
        let script = CString::new(script).unwrap();
        let words = words(&[c"sh", c"-e", c"-c", &script], &[])?;
        Some(words.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    #[test]
    fn plain_words_are_those_that_a_shell_reads() {
        for script in ["/bin/true", "x  --a=b\n", " python3 train.py -n 1 data/x_1.csv ", "a @b %1 +c d:e,f -"] {
            let words = read(script).unwrap();
            let told = Command::new("sh").args(["-c", &format!("printf '%s\\n' {script}")]).output().unwrap();
            assert_eq!(String::from_utf8(told.stdout).unwrap().lines().collect::<Vec<_>>(), words, "{script}");
        }
    }

    #[test]
    fn everything_else_is_for_the_shell() {
        for script in [
            "", " ", "\n", "true", "cd x", "if", "A=1 x", "x $A", "x; y", "x\ny", "x &", "x > y", "x *", "x ~/y",
            "x 'y'", "x \\y", "x\ty", "x #y", "! x", "x {a,b}", "x [a]", "x \"$1\"", "x | y", "x `y`", "x é", "%1",
            "./=b c=d",
        ] {
            assert_eq!(read(script), None, "{script}");
        }
        let argv = |shell: &'static [&'static CStr]| words(&[shell, &[c"x"]].concat(), &[]);
        assert_eq!(argv(&[c"sh", c"-e", c"-c"]).unwrap(), [c"x".to_owned()]);
        assert_eq!(argv(&[c"bash", c"-e", c"-c"]), None);
        assert_eq!(argv(&[c"sh", c"-c"]), None);
        assert_eq!(words(&[c"sh", c"-e", c"-c", c"x", c"y"], &[]), None);
        assert_eq!(words(&[c"sh", c"-e", c"-c", c"x"], &[c"BASH_FUNC_x%%=() { :; }"]), None);
    }
}
