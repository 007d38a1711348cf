//! The program that is mounted into containers: this very one, copied beside the tasks.
//!
//! A copy, because a program that is replaced while its flow runs (an upgrade, a build) would be another one, or none, for
//! the containers that are still to come; and because only our own files may be labelled for SELinux.

use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use laminar_core::executor::ExecutorError;

use crate::place::file;

/// The beginning of the copy's name; the rest tells one build from another.
const NAME: &str = "entry";

/// Copies the program to this folder, unless it is there, and returns where it is.
pub(crate) fn provide(program: &Path, folder: &Path, engine: &str) -> Result<PathBuf, ExecutorError> {
    let copy = folder.join(NAME);
    if copy.exists() {
        return Ok(copy);
    }
    let mut source = std::fs::File::open(program).map_err(|source| file("open", program, source))?;
    if needs_loader(&mut source).map_err(|source| file("read", program, source))? {
        return Err(ExecutorError::Refused {
            engine: engine.to_owned(),
            verb: "run layers with this build of laminar".to_owned(),
            reason: "it is linked dynamically, so it cannot run inside other images; build it with \
                     `-C target-feature=+crt-static` or for a musl target"
                .to_owned(),
        });
    }
    let draft = folder.join(format!(".{NAME}-{}", std::process::id()));
    let copied = std::fs::copy(program, &draft)
        .and_then(|_| std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o555)))
        .and_then(|()| std::fs::rename(&draft, &copy));
    copied.map_err(|source| file("write", &copy, source))?;
    Ok(copy)
}

/// Removes the copy. Containers that have it mounted keep it.
pub(crate) fn withdraw(folder: &Path) {
    // What stays goes with the execution's folder.
    let _ = std::fs::remove_file(folder.join(NAME));
}

/// Whether an ELF file names an interpreter: then it needs a loader and libraries that an image may not have.
fn needs_loader(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    const INTERPRETER: u32 = 3;
    let mut head = [0u8; 64];
    file.read_exact(&mut head)?;
    let at = |bytes: &[u8], from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap_or_default());
    let short = |from: usize| u64::from(u16::from_le_bytes([head[from], head[from + 1]]));
    if head[..6] != *b"\x7fELF\x02\x01" {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no 64-bit ELF file"));
    }
    let (table, size, count) = (at(&head, 32), short(54), short(56));
    for entry in 0..count {
        let mut kind = [0u8; 4];
        file.seek(SeekFrom::Start(table + entry * size))?;
        file.read_exact(&mut kind)?;
        if u32::from_le_bytes(kind) == INTERPRETER {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn elf(kinds: &[u32]) -> io::Cursor<Vec<u8>> {
        let mut bytes = vec![0u8; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = kinds.len() as u8;
        for kind in kinds {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        io::Cursor::new(bytes)
    }

    #[test]
    fn a_program_that_names_an_interpreter_is_told_apart() {
        assert!(!needs_loader(&mut elf(&[1, 4, 1])).unwrap());
        assert!(needs_loader(&mut elf(&[6, 3, 1])).unwrap());
        assert!(needs_loader(&mut io::Cursor::new(b"#!/bin/sh\n".repeat(20))).is_err());
    }

    #[test]
    fn these_tests_are_linked_as_the_program_is() {
        let folder = tempfile::tempdir().unwrap();
        let copy = provide(Path::new("/proc/self/exe"), folder.path(), "engine").unwrap();
        assert_eq!(provide(Path::new("/nowhere"), folder.path(), "engine").unwrap(), copy);
        withdraw(folder.path());
        assert!(provide(Path::new("/nowhere"), folder.path(), "engine").is_err());
    }
}
