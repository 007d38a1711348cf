//! Where tasks find their secrets: folders on memory, one for each task that is handed any.
//!
//! ```text
//! $XDG_RUNTIME_DIR, or /dev/shm
//!   laminar-secrets-<uid>/           its owner's alone (mode 0700)
//!     <execution>/
//!       .of                          a link to the execution's folder: whose these are
//!       .seen                        a link that names the mount namespace in which that folder is there
//!       <Layer>.<index>.<attempt>/   what one task is handed
//!         TOKEN                      exact bytes (mode 0400)
//! ```
//!
//! A reboot clears them. What a killed scheduler has left is taken away by whoever next resumes, cancels or removes its
//! execution, and by any later run of laminar that finds that nothing of it is alive. Unaware of that judgement.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Value;
use crate::id::{ExecutionId, TaskId};
use crate::private;
use crate::units::plain_words;

/// The file systems that are on memory, by the numbers the kernel has for them: tmpfs, ramfs.
const ON_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
/// The link to the execution's folder.
const OF: &str = ".of";
/// The link to where that folder is seen.
const SEEN: &str = ".seen";

/// The places on this machine where such folders can be, the best first.
#[derive(Clone, Debug)]
pub struct Shelves(Vec<PathBuf>);

/// What there is of one execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// Which.
    pub execution: ExecutionId,
    /// Its folder; it may be gone.
    pub folder: PathBuf,
    /// Whether its folder was seen elsewhere: in another mount namespace, such as a container's. Then it is not gone because it is
    /// not there for us.
    pub elsewhere: bool,
    /// When a task was last handed something, or had it taken away.
    pub changed: SystemTime,
}

impl Shelf {
    /// How long ago that was.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.changed.elapsed().unwrap_or_default()
    }
}

/// Why secrets cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// No folder is on memory.
    #[error("there is no folder on memory for secrets: {0}")]
    Nowhere(String),
    /// A file or folder could not be made.
    #[error("cannot write `{}`: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Shelves {
    /// Those of this user.
    #[must_use]
    pub fn here() -> Shelves {
        let user = rustix::process::geteuid().as_raw();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let usual = PathBuf::from(format!("/run/user/{user}"));
        let mut bases: Vec<PathBuf> = runtime.into_iter().chain([usual, PathBuf::from("/dev/shm")]).collect();
        bases.dedup();
        Shelves::below(bases)
    }

    fn below(bases: impl IntoIterator<Item = PathBuf>) -> Shelves {
        let user = rustix::process::geteuid().as_raw();
        Shelves(bases.into_iter().map(|base| base.join(format!("laminar-secrets-{user}"))).collect())
    }

    /// The best place there is; it is made if it is not there.
    ///
    /// # Errors
    /// When there is none on memory.
    pub fn place(&self) -> Result<&Path, ShelfError> {
        let mut why = Vec::new();
        for place in &self.0 {
            match usable(place) {
                Ok(()) => return Ok(place),
                Err(reason) => why.push(reason),
            }
        }
        Err(ShelfError::Nowhere(why.join("; ")))
    }

    /// Makes the folder of a task with these files in it; `folder` is that of its execution.
    ///
    /// # Errors
    /// When there is no place on memory, or no room.
    pub fn put(&self, folder: &Path, task: &TaskId, files: &[(&str, &Value)]) -> Result<PathBuf, ShelfError> {
        let place = self.place()?;
        let execution = place.join(task.execution.to_string());
        let own = execution.join(task.name());
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ShelfError::File { path, source }
        };
        private::make(&execution).map_err(failed(&execution))?;
        match std::os::unix::fs::symlink(folder, execution.join(OF)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&execution)(error)),
            _ => {}
        }
        if let Some(here) = namespace()
            && std::fs::read_link(execution.join(SEEN)).ok().as_ref() != Some(&here)
        {
            let _ = std::fs::remove_file(execution.join(SEEN)); // mostly it is not there
            match std::os::unix::fs::symlink(here, execution.join(SEEN)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&execution)(error)),
                _ => {}
            }
        }
        // Somebody may have got this far before.
        remove(&own);
        private::make(&own).map_err(failed(&own))?;
        for (name, value) in files {
            let path = own.join(name);
            let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path);
            let written = options.and_then(|mut file| file.write_all(value.bytes()));
            written.map_err(failed(&path)).inspect_err(|_| remove(&own))?;
        }
        Ok(own)
    }

    /// Removes what a task was handed.
    pub fn remove(&self, task: &TaskId) {
        for place in self.own() {
            remove(&place.join(task.execution.to_string()).join(task.name()));
        }
    }

    /// Removes what all tasks of an execution were handed.
    pub fn clear(&self, execution: ExecutionId) {
        for place in self.own() {
            remove(&place.join(execution.to_string()));
        }
    }

    /// What there is, of any execution.
    #[must_use]
    pub fn all(&self) -> Vec<Shelf> {
        let mut all = Vec::new();
        for place in self.own() {
            let entries = place.read_dir().into_iter().flatten().flatten();
            all.extend(entries.filter_map(|entry| {
                let execution = entry.file_name().to_str()?.parse().ok()?;
                let folder = std::fs::read_link(entry.path().join(OF)).unwrap_or_default();
                let changed = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::now());
                let elsewhere = std::fs::read_link(entry.path().join(SEEN)).is_ok_and(|seen| Some(seen) != namespace());
                Some(Shelf { execution, folder, elsewhere, changed })
            }));
        }
        all
    }

    /// Those that are there and nobody else's.
    fn own(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.iter().filter(|place| private::check(place).is_ok())
    }
}

/// What the kernel calls the mount namespace of this process.
fn namespace() -> Option<PathBuf> {
    std::fs::read_link("/proc/self/ns/mnt").ok()
}

/// Makes a place for secrets, if it is not there; says why it cannot be one.
fn usable(place: &Path) -> Result<(), String> {
    let base = place.parent().unwrap_or(place);
    let told = |error: io::Error| format!("`{}`: {}", base.display(), plain_words(&error));
    let found = rustix::fs::statfs(base).map_err(|error| told(error.into()))?;
    #[allow(clippy::useless_conversion, reason = "its type differs between platforms")]
    if !ON_MEMORY.contains(&i64::from(found.f_type)) {
        return Err(format!("`{}` is on a disk", base.display()));
    }
    private::make(place).map_err(told)?;
    private::check(place).map_err(|error| error.to_string())
}

/// Mostly it is there, or another has removed it. What is left all the same goes with the next look.
fn remove(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    fn task(layer: &str) -> TaskId {
        TaskId { execution: ExecutionId::now(), layer: layer.into(), index: 0, attempt: 1 }
    }

    #[test]
    fn a_task_finds_its_secrets_on_memory_and_nobody_else_does() {
        let base = tempfile::tempdir_in("/dev/shm").unwrap();
        let shelves = Shelves::below([PathBuf::from("/proc"), base.path().to_owned()]);
        let (one, value) = (task("A"), Value::from(b"\0a\xff\n".to_vec()));
        let home = Path::new("/somewhere/executions/x");
        for _ in 0..2 {
            let folder = shelves.put(home, &one, &[("TOKEN", &value)]).unwrap();
            assert_eq!(std::fs::read(folder.join("TOKEN")).unwrap(), value.bytes());
            let modes = [&folder.join("TOKEN"), &folder, &folder.join("../..")].map(|path| mode(path));
            assert_eq!(modes, [0o400, 0o700, 0o700]);
        }
        let [shelf] = &shelves.all()[..] else { panic!("there is one") };
        assert_eq!((shelf.execution, &*shelf.folder, shelf.elsewhere), (one.execution, home, false));
        let seen = base.path().join(format!("laminar-secrets-{}", rustix::process::geteuid().as_raw()));
        let seen = seen.join(one.execution.to_string()).join(SEEN);
        std::fs::remove_file(&seen).unwrap();
        std::os::unix::fs::symlink("mnt:[1]", &seen).unwrap();
        assert!(shelves.all()[0].elsewhere, "in a container, say");
        shelves.remove(&one);
        assert_eq!(shelves.all().len(), 1, "others may still be there");
        shelves.clear(one.execution);
        assert_eq!(shelves.all(), []);
    }

    #[test]
    fn a_place_that_is_not_ours_alone_or_not_on_memory_is_passed_over() {
        let base = tempfile::tempdir_in("/dev/shm").unwrap();
        let shelves = Shelves::below([PathBuf::from("/proc"), base.path().to_owned()]);
        let place = shelves.0[1].clone();
        std::fs::create_dir(&place).unwrap();
        std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
        let value = Value::from(b"x".to_vec());
        let error = shelves.put(Path::new("/x"), &task("A"), &[("TOKEN", &value)]).unwrap_err().to_string();
        assert!(error.contains("`/proc` is on a disk") && error.contains("open to others"), "{error}");
        // A link in its place leads nowhere.
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::remove_dir(&place).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &place).unwrap();
        assert!(shelves.put(Path::new("/x"), &task("A"), &[("TOKEN", &value)]).is_err());
        assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0);
        assert_eq!(shelves.all(), []);
    }
}
