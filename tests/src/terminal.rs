//! A terminal of its own for a program under test: what it shows, byte by byte.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a test that cannot go on panics, and says why")]

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

/// What a program has shown on a terminal.
#[derive(Debug)]
pub struct Shown {
    /// Its exit code; nothing where a signal has ended it.
    pub code: Option<i32>,
    /// Both of its streams, as the terminal got them: lines end in `\r\n`.
    pub bytes: Vec<u8>,
}

/// Runs a program with both streams on a terminal of 120 columns and 40 lines.
#[must_use]
pub fn show(mut command: Command) -> Shown {
    let (ours, theirs) = open();
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").stdin(Stdio::null());
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    // With our copies of its end, so that there is an end.
    drop(command);
    let mut bytes = Vec::new();
    let mut ours = File::from(ours);
    // A terminal that nobody has open any more is an error to read.
    let _ = ours.read_to_end(&mut bytes);
    Shown { code: child.wait().unwrap().code(), bytes }
}

#[expect(
    unsafe_code,
    reason = "neither the standard library nor the features of rustix that are built have a word for it"
)]
fn open() -> (OwnedFd, OwnedFd) {
    let size = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (-1, -1);
    let nothing = std::ptr::null_mut();
    // SAFETY: both descriptors are ours to write to, the name and the settings may be left out, and the size is read only.
    let opened = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, nothing, std::ptr::null_mut(), (&raw const size).cast_mut())
    };
    assert_eq!(opened, 0, "there is no terminal: {}", std::io::Error::last_os_error());
    // SAFETY: they are open, and nobody else has them.
    let fds = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    for fd in [&fds.0, &fds.1] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).unwrap();
    }
    fds
}

impl Shown {
    /// What of it is no text: whatever moves the cursor, talks to the terminal, or turns or hides text, but for what laminar
    /// itself draws with (colours, and the lines of the live display).
    #[must_use]
    pub fn harm(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut found = Vec::new();
        let mut rest = &*text;
        while let Some(character) = rest.chars().next() {
            if let Some(length) = drawing(rest) {
                rest = &rest[length..];
                continue;
            }
            let hides = matches!(character, '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
            if hides || character.is_control() && !matches!(character, '\n' | '\r' | '\t') {
                found.push(rest.chars().take(20).collect::<String>().escape_debug().to_string());
            }
            rest = &rest[character.len_utf8()..];
        }
        found
    }

    /// Whether it has shown this text.
    #[must_use]
    pub fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.bytes).contains(text)
    }
}

/// How long the sequence is that begins here, if it is one of laminar's own.
fn drawing(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\x1b[")?;
    let end = inner.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    matches!(inner.as_bytes()[end], b'm' | b'A' | b'J' | b'K').then_some(end + 3).filter(|_| {
        // To clear the whole screen is not among them.
        inner.as_bytes()[end] != b'J' || end == 0
    })
}
