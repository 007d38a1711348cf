//! `laminar init`: a crate for a backend of one's own, to begin with.
//!
//! What is written is the crate `examples/template`, which is compiled and tested with laminar, under another name; only its
//! manifest differs, since it stands alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use laminar_core::folder::ExecutionFolder;
use serde_json::json;

use crate::args::InitArgs;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::output::Shape;

/// The files, with the template's name in them.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("init/manifest.txt")),
    (".cargo/config.toml", include_str!("init/config.txt")),
    ("src/main.rs", include_str!("../../../examples/template/src/main.rs")),
    ("src/lib.rs", include_str!("../../../examples/template/src/lib.rs")),
    ("tests/conformance.rs", include_str!("../../../examples/template/tests/conformance.rs")),
];

/// The crates that the manifest names.
const CRATES: [&str; 4] = ["cli", "core", "backend-local", "tests"];

/// Writes the crate.
pub(crate) fn run(context: &mut Context<'_>, args: &InitArgs) -> Result<Code, Error> {
    let name = args.backend.as_str();
    if !ExecutionFolder::may_hold(name) {
        let error = Error::usage(format!("`{name}` cannot be the name of a backend"));
        return Err(
            error.hint("take lower-case letters, digits, `-` and `_`, beginning with a letter, such as `slurm`")
        );
    }
    if context.backends.iter().any(|backend| backend.name == name) {
        return Err(Error::usage(format!("there is a backend `{name}` already")));
    }
    let source = Source::find(args.laminar.as_deref())?;
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(format!("laminar-{name}")));
    let failed = |error: std::io::Error| Error::because(format!("cannot write into `{}`", folder.display()), &error);
    // A file of somebody's must not be lost, nor mixed with these.
    match folder.read_dir().map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(Error::usage(format!("`{}` is not empty", folder.display()))),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    for (path, text) in FILES {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&folder)).map_err(failed)?;
        std::fs::write(&path, named(&source.told(text), name)).map_err(failed)?;
    }
    match context.output.shape() {
        Shape::Json => context.output.object(&json!({"folder": folder, "files": FILES.map(|(path, _)| path)}))?,
        Shape::Text => {
            let shown = folder.display();
            context.output.print(&format!("{shown}\n"))?;
            let hint = format!("`cargo test` in it runs the conformance kit, `cargo run -- run -b {name}` a flow");
            context.output.say(&hint);
        }
    }
    Ok(Code::Finished)
}

/// The template's text with another name.
fn named(text: &str, name: &str) -> String {
    let words = name.split(['-', '_']).filter(|word| !word.is_empty());
    let kind: String = words.map(|word| word[..1].to_uppercase() + &word[1..]).collect();
    let text = text.replace("laminar-mine", &format!("laminar-{name}"));
    let text = text.replace("laminar_mine", &format!("laminar_{}", name.replace('-', "_")));
    text.replace("\"mine\"", &format!("\"{name}\"")).replace("Mine", &kind)
}

/// Where cargo gets laminar from.
enum Source {
    /// A clone on this machine.
    Folder(PathBuf),
    /// A repository.
    Git(String),
}

impl Source {
    fn find(said: Option<&OsStr>) -> Result<Source, Error> {
        let hint = "name a clone of it, or its repository: `--laminar PATH`, `--laminar https://…`";
        let Some(said) = said else {
            return match env!("CARGO_PKG_REPOSITORY") {
                "" => Err(Error::usage("this program does not know where laminar's crates are").hint(hint)),
                url => Ok(Source::Git(url.to_owned())),
            };
        };
        if let Some(url) = said.to_str().filter(|url| url.contains("://") || url.starts_with("git@")) {
            return Ok(Source::Git(url.to_owned()));
        }
        let folder = Path::new(said).canonicalize();
        match folder.ok().filter(|folder| CRATES.iter().all(|it| folder.join(it).join("Cargo.toml").is_file())) {
            Some(folder) => Ok(Source::Folder(folder)),
            None => {
                let shown = Path::new(said).display();
                Err(Error::usage(format!("`{shown}` is neither a clone of laminar nor an address")).hint(hint))
            }
        }
    }

    /// The manifest with what cargo is told of each crate.
    fn told(&self, manifest: &str) -> String {
        // As TOML strings, which are JSON's for all that is in paths and addresses.
        let dependency = |of: &str| match self {
            Source::Folder(folder) => format!("path = {}", json!(folder.join(of))),
            Source::Git(url) => format!("git = {}", json!(url)),
        };
        CRATES.iter().fold(manifest.to_owned(), |text, of| text.replace(&format!("@{of}"), &dependency(of)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_templates_name_is_left() {
        for (_, text) in FILES {
            let text = named(text, "bubble-wrap2");
            assert!(
                !text.to_lowercase().contains("laminar-mine") && !text.contains("Mine") && !text.contains("\"mine\"")
            );
        }
        let text = named("Mine laminar_mine::x laminar-mine \"mine\"", "bubble-wrap2");
        assert_eq!(text, "BubbleWrap2 laminar_bubble_wrap2::x laminar-bubble-wrap2 \"bubble-wrap2\"");
    }

    #[test]
    fn the_manifest_names_every_crate_by_where_it_is() {
        let manifest = FILES[0].1;
        let git = Source::Git("https://example.org/laminar".to_owned()).told(manifest);
        assert_eq!(git.matches("git = \"https://example.org/laminar\"").count(), 4);
        let path = Source::Folder("/a b/laminar".into()).told(manifest);
        assert!(path.contains("laminar-tests = { path = \"/a b/laminar/tests\" }"), "{path}");
        assert!(!path.contains('@') && !git.contains('@'));
    }
}
