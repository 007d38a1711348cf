//! Hostile secrets for tests, and who tells of them.
#![expect(clippy::missing_panics_doc, reason = "a test that cannot go on panics, and says why")]

use std::path::{Path, PathBuf};

use crate::world::Ran;

/// One that may come from a variable: it means something to shells, to formats and to terminals, has several lines, and is no
/// text.
pub const TOKEN: &[u8] = b"hunt3r-%s-'$(id)'\\\"`\n\x1b[31m-second line, \xff\xfe\n\n${HOME} and a third one";
/// One that can only come from a file.
pub const BINARY: &[u8] = b"\0\x01key\0of-binary\r\n\0\xff-and-a-line-more\n";

/// Parts of them by which they are told, also where what is no text was changed on its way.
const TELLING: [&[u8]; 6] =
    [b"hunt3r-", b"-second line", b"and a third one", b"of-binary", b"-and-a-line-more", b"another-secret"];

/// Whether any secret can be told from these bytes.
#[must_use]
pub fn tells_of(bytes: &[u8]) -> bool {
    TELLING.iter().any(|part| bytes.windows(part.len()).any(|window| window == *part))
}

/// Panics if what a program said tells of any.
#[track_caller]
pub fn hides(ran: &Ran) {
    assert!(!tells_of(&ran.bytes), "{}", ran.stdout);
    assert!(!tells_of(ran.stderr.as_bytes()), "{}", ran.stderr);
}

/// The files below a folder that tell of any, by what is in them or their names.
#[must_use]
pub fn tells_of_any(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().ok();
            let is_named = tells_of(path.as_os_str().as_encoded_bytes());
            if kind.is_some_and(|kind| kind.is_dir()) {
                folders.push(path.clone());
            }
            if is_named
                || kind.is_some_and(|kind| kind.is_file()) && tells_of(&std::fs::read(&path).unwrap_or_default())
            {
                found.push(path);
            }
        }
    }
    found
}

/// The folders on memory with secrets of an execution.
#[must_use]
pub fn shelves(execution: &str) -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut bases: Vec<PathBuf> =
        runtime.into_iter().chain([format!("/run/user/{user}").into(), "/dev/shm".into()]).collect();
    bases.dedup();
    let places = bases.into_iter().map(|base| base.join(format!("laminar-secrets-{user}")).join(execution));
    places.filter(|place| place.exists()).collect()
}
