//! What the benchmarks share: the program in release mode, and how commands are timed.

#![allow(clippy::zombie_processes, reason = "it is waited for by wait4")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Builds laminar in release mode, and returns the program.
pub fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--release", "--quiet", "--package", "laminar"]).status().unwrap();
    assert!(built.success(), "laminar does not build");
    let bench = std::env::current_exe().unwrap();
    let laminar = bench.ancestors().nth(2).unwrap().join("laminar");
    assert!(laminar.is_file(), "there is no {}", laminar.display());
    laminar
}

/// Runs a command that must succeed, and returns how long it took and its peak resident memory in KiB.
pub fn time(command: &mut Command) -> (Duration, i64) {
    // cargo's folders of libraries would make the start of every `true` slower than it is for anybody else.
    command.env_remove("LD_LIBRARY_PATH");
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: both pointers are valid for writes; the child is ours and is waited for here alone.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    let took = start.elapsed();
    assert!(waited == pid && status == 0, "{command:?} failed with status {status:#x}");
    // SAFETY: wait4 has filled it in, and zeroes are a valid value.
    (took, unsafe { usage.assume_init() }.ru_maxrss)
}

/// The middle one.
pub fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> T {
    all.sort_by(|one, other| one.partial_cmp(other).unwrap());
    all[all.len() / 2]
}

/// The number after an option.
pub fn option(args: &[String], name: &str, default: usize) -> usize {
    let at = args.iter().position(|arg| arg == name);
    at.map_or(default, |at| args.get(at + 1).and_then(|value| value.parse().ok()).expect("a number after the option"))
}
