//! `image`, of flow programs only: an image that holds the program, and nothing else.
//!
//! The engine's own command line builds it, from a folder with the program and three lines of a Dockerfile.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::args::ImageArgs;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::output::Shape;
use crate::program::own_path;

/// The base of an image that has nothing else in it.
const NOTHING: &str = "scratch";
/// What an image of a release build is smaller than, in bytes.
const LARGE: u64 = 20_000_000;

/// Builds it, and prints its name.
pub(crate) fn run(context: &mut Context<'_>, args: &ImageArgs) -> Result<Code, Error> {
    let Some(program) = context.program else {
        return Err(Error::usage("`image` is a command of flow programs").hint("this is laminar itself"));
    };
    let engine = engine(context, args.backend.as_deref())?;
    let path = own_path();
    let unread = |error: &io::Error| Error::because(format!("cannot read `{}`", path.display()), error);
    let bytes = fs::read(&path).map_err(|error| unread(&error))?;
    if args.from == NOTHING && is_dynamic(&bytes) {
        let error = Error::usage("the program needs libraries, which an image of nothing else does not have");
        return Err(error
            .hint("link it statically: `RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu`")
            .hint("or build on an image that has them: `--from debian:12-slim`"));
    }
    if bytes.len() as u64 > LARGE {
        context.output.note("the program is large; `cargo build --release`, with `strip = true`, makes a small one");
    }
    let failed = |error: &io::Error| Error::because("cannot make the folder to build from", error);
    let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
    let text = dockerfile(&args.from, program.name());
    fs::copy(&path, folder.path().join("program")).map_err(|error| failed(&error))?;
    fs::write(folder.path().join("Dockerfile"), text).map_err(|error| failed(&error))?;
    build(engine, &args.tag, folder.path())?;
    match context.output.shape() {
        Shape::Json => context.output.object(&json!({"image": args.tag, "backend": engine}))?,
        Shape::Text => context.output.print(&format!("{}\n", args.tag))?,
    }
    let run = context.invocation.line(&["run", "--backend", engine, "--image", &args.tag]);
    context.output.say(&format!("`{run}` runs the flow in it"));
    Ok(Code::Finished)
}

fn engine<'a>(context: &Context<'a>, named: Option<&str>) -> Result<&'a str, Error> {
    if let Some(name) = named {
        let backend = context.backend(Some(name))?;
        return match backend.runs_images {
            true => Ok(backend.name),
            false => Err(Error::usage(format!("the backend `{name}` has no images"))),
        };
    }
    let mut engines = context.backends.iter().filter(|backend| backend.runs_images).map(|backend| backend.name);
    let is_here = |name: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
    };
    engines
        .find(is_here)
        .ok_or_else(|| Error::broken("there is no engine that could build an image").hint("install docker or podman"))
}

fn dockerfile(from: &str, flow: &str) -> String {
    format!("FROM {from}\nLABEL laminar.flow={flow}\nCOPY program /program\nENTRYPOINT [\"/program\"]\n")
}

fn build(engine: &str, tag: &str, folder: &Path) -> Result<(), Error> {
    // What it says on its way is no data.
    let mut command = Command::new(engine);
    let built = command.args(["build", "--tag", tag]).arg(folder).stdin(Stdio::null()).stdout(io::stderr()).status();
    match built {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::broken(format!("{engine} cannot build the image")).why(status.to_string())),
        Err(error) => Err(Error::because(format!("cannot start {engine}"), &error)),
    }
}

/// Whether a program in the format ELF (64 bits) names an interpreter that loads its libraries.
fn is_dynamic(elf: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let at = |from: usize, length: usize| elf.get(from..from + length).unwrap_or_default();
    let number = |from, length| at(from, length).iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|nth| number(headers + nth * size, 4) == INTERPRETER as usize)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_need_libraries_are_told_from_those_that_do_not() {
        assert!(!is_dynamic(&fs::read("/proc/self/exe").unwrap()), "tests are linked statically, like all");
        let dynamic = ["/bin/ls", "/usr/bin/env"].into_iter().find_map(|path| fs::read(path).ok()).unwrap();
        assert!(is_dynamic(&dynamic));
        assert!(!is_dynamic(b"#!/bin/sh"));
    }
}
