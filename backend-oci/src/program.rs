//! The program that is mounted into containers: this very one, copied beside the tasks.
//!
//! A copy, because a program that is replaced while its flow runs (an upgrade, a build) would be another one, or none, for
//! the containers that are still to come; and because only our own files may be labelled for SELinux.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use laminar_core::executor::ExecutorError;

use crate::place::file;

/// The beginning of the copy's name; the rest tells one build from another.
const NAME: &str = "entry";

/// Whether the program needs a loader and libraries that an image may not have.
pub(crate) fn needs_loader(program: &Path) -> Result<bool, ExecutorError> {
    let mut source = File::open(program).map_err(|source| file("open", program, source))?;
    names_interpreter(&mut source).map_err(|source| file("read", program, source))
}

/// Copies the program to this folder, unless this very build is there, and returns where it is. What another build has left
/// stays for the containers that have it.
pub(crate) fn provide(program: &Path, folder: &Path) -> Result<PathBuf, ExecutorError> {
    let failed = |source| file("open", program, source);
    let mut source = File::open(program).map_err(failed)?;
    let metadata = source.metadata().map_err(failed)?;
    let build = format!("{:x}-{:x}{:09}", metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    let copy = folder.join(format!("{NAME}-{build}"));
    if copy.exists() {
        return Ok(copy);
    }
    let draft = folder.join(format!(".{NAME}-{}", std::process::id()));
    let copied = File::create(&draft)
        .and_then(|mut draft| io::copy(&mut source, &mut draft))
        .and_then(|_| std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o555)))
        .and_then(|()| std::fs::rename(&draft, &copy));
    copied.map_err(|source| file("write", &copy, source))?;
    Ok(copy)
}

/// Whether a file of this name in the folder is a copy, or was to be one.
pub(crate) fn is_copy(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.strip_prefix(b".").unwrap_or(name).starts_with(NAME.as_bytes())
}

/// Removes the copies. Containers that have them mounted keep them.
pub(crate) fn withdraw(folder: &Path) {
    // What stays goes with the execution's folder.
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if is_copy(&entry.file_name()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether an ELF file names an interpreter.
fn names_interpreter(file: &mut (impl Read + Seek)) -> io::Result<bool> {
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
        assert!(!names_interpreter(&mut elf(&[1, 4, 1])).unwrap());
        assert!(names_interpreter(&mut elf(&[6, 3, 1])).unwrap());
        assert!(names_interpreter(&mut io::Cursor::new(b"#!/bin/sh\n".repeat(20))).is_err());
    }

    #[test]
    fn these_tests_are_linked_as_the_program_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!needs_loader(Path::new("/proc/self/exe")).unwrap());
        let copy = provide(Path::new("/proc/self/exe"), folder.path()).unwrap();
        assert_eq!(provide(Path::new("/proc/self/exe"), folder.path()).unwrap(), copy);
        withdraw(folder.path());
        assert!(!copy.exists());
    }

    #[test]
    fn another_build_is_another_copy() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let copy = |text: &str| {
            std::fs::write(&program, text).unwrap();
            let copy = provide(&program, folder.path()).unwrap();
            assert_eq!(std::fs::read_to_string(&copy).unwrap(), text);
            copy
        };
        assert_ne!(copy("one"), copy("another"));
    }
}
