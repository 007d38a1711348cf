//! Finds the file that a program's name means, as a shell does.
//!
//! Unaware of processes. What was found is remembered; what was not found is looked for again.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use laminar_core::executor::Cause;
use rustix::fs::{Access, access};

/// Where programs are when nobody says.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// Why there is no file to execute.
pub(super) type Missing = (Cause, String);

/// Files by the names that mean them.
type Files = HashMap<Box<[u8]>, CString>;

/// The files found so far.
#[derive(Default)]
pub(super) struct Lookup {
    /// By search path.
    found: HashMap<Box<[u8]>, Files>,
}

impl Lookup {
    /// The file that `program` means under this search path. With a slash it is the file itself, seen from the current
    /// folder.
    pub(super) fn find(&mut self, program: &CStr, path: Option<&[u8]>) -> Result<CString, Missing> {
        let name = program.to_bytes();
        if name.contains(&b'/') {
            return Ok(program.to_owned());
        }
        let path = path.unwrap_or(DEFAULT_PATH);
        if let Some(file) = self.found.get(path).and_then(|files| files.get(name)) {
            return Ok(file.clone());
        }
        let file = search(name, path)?;
        self.found.entry(path.into()).or_default().insert(name.into(), file.clone());
        Ok(file)
    }

    /// Forgets what was found: it has turned out to be no longer there.
    pub(super) fn clear(&mut self) {
        self.found.clear();
    }
}

fn search(name: &[u8], path: &[u8]) -> Result<CString, Missing> {
    let shown = String::from_utf8_lossy(name).into_owned();
    let mut refused = None;
    for folder in path.split(|byte| *byte == b':').filter(|_| !name.is_empty()) {
        let folder = if folder.is_empty() { b"." } else { folder };
        let file = Path::new(OsStr::from_bytes(folder)).join(OsStr::from_bytes(name));
        if !file.is_file() {
            continue;
        }
        if access(&file, Access::EXEC_OK).is_ok()
            && let Ok(file) = CString::new(file.as_os_str().as_bytes())
        {
            return Ok(file);
        }
        refused.get_or_insert(file);
    }
    match refused {
        Some(file) => Err((Cause::NotExecutable, format!("`{}` is not executable", file.display()))),
        None => {
            let path = String::from_utf8_lossy(path);
            Err((Cause::NotFound, format!("`{shown}` is in none of the folders of PATH: {path}")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_executable_file_of_the_search_path_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (file, mode) in [("a/tool", 0o644), ("b/tool", 0o755), ("a/plain", 0o644)] {
            std::fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            std::fs::write(path(file), "").unwrap();
            std::fs::set_permissions(path(file), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir(path("a/folder")).unwrap();
        let search = format!("{}:/nowhere:{}", path("a").display(), path("b").display());
        let mut lookup = Lookup::default();
        let mut find = |name: &CStr| lookup.find(name, Some(search.as_bytes()));
        assert_eq!(find(c"tool").unwrap().to_str().unwrap(), path("b/tool").to_str().unwrap());
        assert_eq!(find(c"./tool").unwrap().as_c_str(), c"./tool");
        assert_eq!(find(c"plain").unwrap_err().0, Cause::NotExecutable);
        assert_eq!(find(c"folder").unwrap_err().0, Cause::NotFound);
        assert_eq!(find(c"").unwrap_err().0, Cause::NotFound);
        let (cause, evidence) = find(c"tol").unwrap_err();
        assert_eq!(cause, Cause::NotFound);
        assert!(evidence.contains("/nowhere"), "{evidence}");
    }
}
