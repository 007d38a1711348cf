//! `laminar cat`: an artifact's bytes; of a folder its entries, or the bytes of one.

use std::io;

use laminar_core::datastore::local::LocalDatastore;
use laminar_core::datastore::{Content, Datastore, Digest, Entry, EntryKind};
use serde_json::json;

use crate::args::CatArgs;
use crate::context::Context;
use crate::error::Error;
use crate::execution::Execution;
use crate::exit::Code;
use crate::output::Shape;
use crate::place::{ArtifactPath, LATEST};
use crate::text::table::Table;
use crate::text::{size, visible};
use crate::transfer::Transfer;

/// How many links are followed before they are taken for a circle.
const MOST_LINKS: usize = 40;

/// Writes an artifact to standard output.
pub(crate) fn run(context: &mut Context<'_>, args: &CatArgs) -> Result<Code, Error> {
    let (name, path) = match &args.second {
        Some(path) => (args.first.as_str(), path),
        None => (LATEST, &args.first),
    };
    let path = ArtifactPath::parse(path)?;
    let execution = Execution::open(context, name)?;
    let artifact = execution.artifact(&path)?;
    let datastore = LocalDatastore::new(context.root.objects());
    match artifact.content {
        Content::File { digest, size } if path.entry.is_empty() => write(context, &datastore, digest, size)?,
        Content::File { .. } => {
            let what = format!("`{}/{}` is a file; there is nothing below it", path.layer, path.artifact);
            return Err(Error::missing(what));
        }
        Content::Folder { manifest, .. } => {
            let entries =
                datastore.entries(manifest).map_err(|error| Error::because("cannot read the folder", &error))?;
            folder(context, &datastore, &entries, &path)?;
        }
    }
    Ok(Code::Finished)
}

fn folder(
    context: &mut Context<'_>,
    datastore: &dyn Datastore,
    entries: &[Entry],
    path: &ArtifactPath,
) -> Result<(), Error> {
    match find(entries, path.entry.as_bytes().to_vec()) {
        Found::File(digest, size) => write(context, datastore, digest, size),
        Found::Folder(below) => list(context, entries, &below),
        Found::Nothing => {
            let whole = format!("{}/{}", path.layer, path.artifact);
            let look = context.invocation.line(&["cat", &whole]);
            Err(Error::missing(format!("there is no `{}` in `{whole}`", path.entry))
                .hint(format!("`{look}` lists what there is")))
        }
    }
}

/// What a path within a folder artifact leads to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    File(Digest, u64),
    /// The folder's own path; empty for the artifact itself.
    Folder(Vec<u8>),
    Nothing,
}

/// Follows a path, and the links it meets on its way.
fn find(entries: &[Entry], path: Vec<u8>) -> Found {
    let mut open: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect();
    let mut at: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(component) = open.pop() {
        match component.as_slice() {
            b"" | b"." => continue,
            b".." => {
                let parent = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                at.truncate(parent);
                continue;
            }
            _ => {}
        }
        let parent = at.len();
        if parent > 0 {
            at.push(b'/');
        }
        at.extend_from_slice(&component);
        let Some(entry) = entries.iter().find(|entry| entry.path == at) else { return Found::Nothing };
        match &entry.kind {
            EntryKind::Folder => {}
            EntryKind::File { digest, size } if open.iter().all(Vec::is_empty) => return Found::File(*digest, *size),
            EntryKind::File { .. } => return Found::Nothing,
            EntryKind::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Found::Nothing;
                }
                at.truncate(parent);
                open.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            }
        }
    }
    Found::Folder(at)
}

fn list(context: &mut Context<'_>, entries: &[Entry], folder: &[u8]) -> Result<(), Error> {
    let mut below = folder.to_vec();
    if !below.is_empty() {
        below.push(b'/');
    }
    let inside = entries.iter().filter_map(|entry| Some((entry.path.strip_prefix(below.as_slice())?, &entry.kind)));
    if context.output.shape() == Shape::Json {
        for (path, kind) in inside {
            let path = String::from_utf8_lossy(path);
            let object = match kind {
                EntryKind::File { digest, size } => {
                    json!({"path": path, "kind": "file", "size": size, "digest": digest})
                }
                EntryKind::Folder => json!({"path": path, "kind": "folder"}),
                EntryKind::Link(to) => json!({"path": path, "kind": "link", "target": String::from_utf8_lossy(to)}),
            };
            context.output.object(&object)?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["PATH", "KIND", "SIZE"]);
    for (path, kind) in inside {
        let path = shown(path);
        match kind {
            EntryKind::File { size, .. } => table.row([path, "file".to_owned(), size::short(*size)]),
            EntryKind::Folder => table.row([format!("{path}/"), "folder".to_owned(), String::new()]),
            EntryKind::Link(target) => {
                table.row([format!("{path} -> {}", shown(target)), "link".to_owned(), String::new()])
            }
        }
    }
    let drawn = table.draw(context.output.data_style());
    context.output.print(&drawn)
}

fn shown(path: &[u8]) -> String {
    visible::line(&visible::text(path))
}

fn write(context: &mut Context<'_>, datastore: &dyn Datastore, digest: Digest, size: u64) -> Result<(), Error> {
    let mut object =
        datastore.open(digest, size).map_err(|error| Error::because("cannot read the artifact", &error))?;
    let unreadable = |error: &io::Error| Error::because("cannot read the artifact", error);
    let mut transfer = Transfer::default();
    transfer.copy(&mut object, &mut context.output, &unreadable)?;
    transfer.end(&mut context.output)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest { hash: [byte; 32], executable: false }
    }

    fn entries() -> Vec<Entry> {
        let entry = |path: &str, kind| Entry { path: path.as_bytes().to_vec(), kind };
        let link = |target: &str| EntryKind::Link(target.as_bytes().to_vec());
        vec![
            entry("a", EntryKind::Folder),
            entry("a/b", EntryKind::File { digest: digest(1), size: 1 }),
            entry("a/up", link("../c")),
            entry("c", EntryKind::File { digest: digest(2), size: 2 }),
            entry("loop", link("loop")),
            entry("there", link("a")),
        ]
    }

    #[test]
    fn links_within_the_folder_are_followed() {
        let find = |path: &str| find(&entries(), path.as_bytes().to_vec());
        assert_eq!(find("a/b"), Found::File(digest(1), 1));
        assert_eq!(find("a/up"), Found::File(digest(2), 2));
        assert_eq!(find("there/b"), Found::File(digest(1), 1));
        assert_eq!(find("there/up"), Found::File(digest(2), 2));
        assert_eq!(find("there"), Found::Folder(b"a".to_vec()));
        assert_eq!(find(""), Found::Folder(Vec::new()));
    }

    #[test]
    fn what_leads_nowhere_is_nothing() {
        let find = |path: &str| find(&entries(), path.as_bytes().to_vec());
        for path in ["x", "a/x", "c/x", "loop", "loop/x"] {
            assert_eq!(find(path), Found::Nothing, "{path}");
        }
    }
}
