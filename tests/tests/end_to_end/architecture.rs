//! The import law of `ARCHITECTURE.md`: who may know whom.

use std::path::{Path, PathBuf};

const BACKENDS: [&str; 4] = ["backend-local", "backend-oci", "backend-docker", "backend-podman"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust source below a folder of the project, with its path relative to the root and its code without comments
/// and without tests.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && !name.contains("/tests/") {
                let text = std::fs::read_to_string(&path).unwrap();
                let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {"];
                let end = tests.iter().filter_map(|tests| text.find(tests)).min().unwrap_or(text.len());
                let code = text[..end].lines();
                let code: Vec<_> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
                all.push((name, code.join("\n")));
            }
        }
    }
    assert!(!all.is_empty(), "no sources in {folder}");
    all
}

/// Panics when a source of `folder`, but for those excepted, has one of these words in its code.
#[track_caller]
fn does_not_know(folder: &str, but: &[&str], words: &[&str]) {
    for (name, code) in sources(folder) {
        for word in words {
            let allowed = but.iter().any(|but| name.starts_with(but));
            assert!(allowed || !code.contains(word), "{name} knows `{word}`");
        }
    }
}

#[test]
fn the_core_knows_no_backend_no_command_line_and_no_terminal() {
    let manifest = std::fs::read_to_string(root().join("core/Cargo.toml")).unwrap();
    for word in ["laminar-backend", "clap", "indicatif", "annotate-snippets"] {
        assert!(!manifest.contains(word), "core depends on {word}");
    }
    does_not_know("core/src", &[], &["println!", "print!(", "eprintln!", "std::process::exit"]);
}

#[test]
fn only_the_plan_knows_petgraph() {
    for folder in ["core/src", "backend-local/src", "backend-oci/src", "cli/src"] {
        does_not_know(folder, &["core/src/plan.rs"], &["petgraph"]);
    }
}

#[test]
fn the_scheduler_has_no_clock_no_files_and_no_async() {
    let words = ["tokio", "async ", "Instant", "SystemTime", "std::fs", "rustix", "libc", "rusqlite", "HashSet<"];
    does_not_know("core/src/scheduler", &[], &words);
}

#[test]
fn only_the_store_knows_sqlite_and_only_the_datastore_knows_hashes() {
    does_not_know("core/src", &["core/src/store"], &["rusqlite"]);
    does_not_know("core/src", &["core/src/datastore"], &["blake3"]);
    does_not_know("core/src", &["core/src/flow"], &["minijinja", "serde_yaml", "saphyr", "schemars"]);
}

#[test]
fn an_executor_knows_no_flow_no_plan_no_store_and_no_reporter() {
    let words = ["laminar_core::plan", "laminar_core::scheduler", "laminar_core::engine", "laminar_core::store"];
    for backend in BACKENDS {
        let folder = format!("{backend}/src");
        does_not_know(&folder, &[], &words);
        does_not_know(&folder, &[], &["laminar_core::event", "laminar_core::datastore", "flow::Flow"]);
    }
}

#[test]
fn a_backend_knows_no_other_backend() {
    for backend in BACKENDS {
        let manifest = std::fs::read_to_string(root().join(backend).join("Cargo.toml")).unwrap();
        let known = manifest.lines().filter(|line| line.starts_with("laminar-backend-"));
        for line in known {
            let shared = line.starts_with("laminar-backend-oci.") && backend != "backend-local";
            assert!(shared, "{backend} knows `{line}`");
        }
    }
    // What docker and podman share has no case for either: what differs is a value of theirs.
    does_not_know("backend-oci/src", &[], &["\"docker\"", "\"podman\""]);
}

#[test]
fn a_backend_of_ones_own_needs_no_more_than_executors_know() {
    let words = ["laminar_core::plan", "laminar_core::scheduler", "laminar_core::engine", "laminar_core::store"];
    for folder in ["examples/bubblewrap/src", "examples/template/src"] {
        does_not_know(folder, &[], &words);
        does_not_know(folder, &[], &["laminar_core::event", "laminar_core::datastore", "laminar_core::flow"]);
        does_not_know(folder, &[], &["laminar_core::folder", "laminar_core::id", "supervise"]);
    }
}

#[test]
fn one_file_of_the_command_line_names_the_built_in_backends() {
    does_not_know("cli/src", &["cli/src/backends.rs"], &["laminar_backend_"]);
}

#[test]
fn reporters_know_events_and_names_only() {
    let words = ["laminar_core::store", "laminar_core::plan", "laminar_core::executor::Executor", "rusqlite", "tokio"];
    does_not_know("cli/src/report", &[], &words);
}

/// `docs/security.md` names a test for each promise. Names that are cut short (`…`) stand beside the whole ones.
#[test]
fn every_test_that_is_said_to_hold_a_promise_is_there() {
    let text = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut all = String::new();
    let mut folders = ["core", "cli", "backend-local", "backend-oci", "tests"].map(|name| root().join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                all.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let is_name =
        |word: &&str| word.matches('_').count() > 2 && word.bytes().all(|it| it == b'_' || it.is_ascii_lowercase());
    let (mut named, mut missing) = (0, Vec::new());
    for name in text.split('`').filter(is_name) {
        named += 1;
        if !all.contains(&format!("fn {name}(")) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "there is no test {missing:?}");
    assert!(named > 40, "{named}");
}
