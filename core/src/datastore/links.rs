//! Where a symbolic link leads, found in a list of what there is instead of on disk.
//!
//! It is unaware of files: whoever calls tells what is where. So nothing can change between the look and the leap, and
//! no link can have us read what is not in the list.

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A link with this target.
    Link(&'a [u8]),
}

/// Why a link leads nowhere that could be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Astray {
    /// It, or a link on the way, is an absolute path.
    Absolute,
    /// It leaves the root.
    Outside,
    /// There is nothing.
    Dangling,
    /// It does not end.
    Cyclic,
}

/// As many links are followed as the kernel follows.
const MOST_HOPS: usize = 40;

/// As many steps as the longest path can have, so that no set of links takes long.
const MOST_STEPS: usize = 4096;

/// Follows `target` from `folder` to what is no link. All paths are relative to one root; the empty path is the root.
/// `folder` must be a folder that is reached without links.
pub(super) fn resolve<'a>(
    folder: &[u8],
    target: &'a [u8],
    find: impl Fn(&[u8]) -> Option<Place<'a>>,
) -> Result<Vec<u8>, Astray> {
    let mut at = folder.to_vec();
    let mut place = Place::Folder;
    let mut ahead = Vec::new();
    push_target(target, &mut ahead)?;
    let mut hops = 0;
    for _ in 0..MOST_STEPS {
        let Some(step) = ahead.pop() else { return Ok(at) };
        if place != Place::Folder {
            return Err(Astray::Dangling);
        }
        match step {
            b"" | b"." => {}
            b".." if at.is_empty() => return Err(Astray::Outside),
            b".." => at.truncate(parent(&at).len()),
            name => {
                let next = join(&at, name);
                match find(&next).ok_or(Astray::Dangling)? {
                    Place::Link(target) => {
                        hops += 1;
                        if hops > MOST_HOPS {
                            return Err(Astray::Cyclic);
                        }
                        push_target(target, &mut ahead)?;
                    }
                    found => (at, place) = (next, found),
                }
            }
        }
    }
    Err(Astray::Cyclic)
}

/// Puts the components of a target on the stack, the first on top.
fn push_target<'a>(target: &'a [u8], ahead: &mut Vec<&'a [u8]>) -> Result<(), Astray> {
    if target.starts_with(b"/") {
        return Err(Astray::Absolute);
    }
    ahead.extend(target.rsplit(|byte| *byte == b'/'));
    Ok(())
}

/// The folder that holds a path; empty for a path of one component.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// The last component of a path.
pub(super) fn last(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// A name within a folder.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(path: &[u8]) -> Option<Place<'static>> {
        Some(match path {
            b"" | b"d" | b"d/sub" => Place::Folder,
            b"f" | b"d/f" => Place::File,
            b"into" => Place::Link(b"d/sub"),
            b"chain" => Place::Link(b"into/../f"),
            b"self" => Place::Link(b"self"),
            b"absolute" => Place::Link(b"/etc"),
            _ => return None,
        })
    }

    #[test]
    fn a_link_is_followed_as_the_kernel_would() {
        let to = |target: &'static str| resolve(b"d", target.as_bytes(), find);
        assert_eq!(to("f").unwrap(), b"d/f");
        assert_eq!(to("./sub/").unwrap(), b"d/sub");
        assert_eq!(to("..").unwrap(), b"");
        assert_eq!(to("../chain").unwrap(), b"d/f", "`..` after a link is the parent of where it leads");
        assert_eq!(to("../into/../../f").unwrap(), b"f");
        assert_eq!(to("f/"), Err(Astray::Dangling), "a file is no folder");
        assert_eq!(to("f/.."), Err(Astray::Dangling));
        assert_eq!(to("gone/../f"), Err(Astray::Dangling));
        assert_eq!(to("../../f"), Err(Astray::Outside));
        assert_eq!(to("../into/../../.."), Err(Astray::Outside));
        assert_eq!(to("../self"), Err(Astray::Cyclic));
        assert_eq!(to("/etc"), Err(Astray::Absolute));
        assert_eq!(to("../absolute"), Err(Astray::Absolute));
        assert_eq!(resolve(b"", "./".repeat(5000).leak().as_bytes(), find), Err(Astray::Cyclic));
    }
}
