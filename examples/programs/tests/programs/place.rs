//! Where a program's layers run, and a folder with a program for one test there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use laminar_tests::engines;
use laminar_tests::world::{Ran, World, finish};
use serde_json::Value;

/// A backend; where it runs images, with one that holds all programs.
pub(crate) struct Place {
    pub(crate) backend: &'static str,
    image: Option<Image>,
}

/// An image with nothing in it but the programs, under two names. It goes in the end.
struct Image {
    engine: &'static str,
    id: String,
    names: [String; 2],
}

/// A program in a folder of its own.
pub(crate) struct Stage<'p> {
    place: &'p Place,
    program: &'static str,
    pub(crate) world: World,
}

/// The programs that layers of tests run in containers.
const PROGRAMS: [(&str, &str); 10] = [
    ("hello", env!("CARGO_BIN_EXE_hello")),
    ("grid", env!("CARGO_BIN_EXE_grid")),
    ("decide", env!("CARGO_BIN_EXE_decide")),
    ("sizes", env!("CARGO_BIN_EXE_sizes")),
    ("parameters", env!("CARGO_BIN_EXE_parameters")),
    ("files", env!("CARGO_BIN_EXE_files")),
    ("combine", env!("CARGO_BIN_EXE_combine")),
    ("mixed", env!("CARGO_BIN_EXE_mixed")),
    ("again", env!("CARGO_BIN_EXE_again")),
    ("odd", env!("CARGO_BIN_EXE_odd")),
];

impl Place {
    pub(crate) fn local() -> Place {
        Place { backend: "local", image: None }
    }

    /// Runs tests on an engine, if it is there for whoever runs them.
    pub(crate) fn on(engine: &'static str, tests: fn(&Place)) {
        if matches!(engines::place(engine), engines::Place::Here) {
            tests(&Place { backend: engine, image: Some(Image::new(engine)) });
        }
    }

    pub(crate) fn has_images(&self) -> bool {
        self.image.is_some()
    }

    /// Two names of its image.
    pub(crate) fn images(&self) -> Vec<String> {
        self.image.iter().flat_map(|image| image.names.clone()).collect()
    }

    pub(crate) fn stage(&self, program: &'static str) -> Stage<'_> {
        let (_, path) = PROGRAMS.into_iter().find(|(name, _)| *name == program).unwrap();
        Stage { place: self, program, world: World::new(path) }
    }
}

impl Image {
    /// `FROM scratch`, and the programs without what only debuggers read.
    fn new(engine: &'static str) -> Image {
        let folder = tempfile::tempdir().unwrap();
        for (name, path) in PROGRAMS {
            strip(Path::new(path), &folder.path().join(name));
        }
        let unique = folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_lowercase();
        let names = ["one", "two"].map(|tag| format!("laminar-test:programs-{}-{unique}-{tag}", std::process::id()));
        std::fs::write(
            folder.path().join("Dockerfile"),
            "FROM scratch\nLABEL laminar.test=1\nCOPY * /\nENTRYPOINT [\"/hello\"]\n",
        )
        .unwrap();
        let context = folder.path().to_str().unwrap();
        // Podman would keep an image of each step.
        let alone: &[&str] = if engine == "podman" { &["--layers=false"] } else { &[] };
        ask(engine, &[&["build", "--quiet", "--tag", &names[0]], alone, &[context]].concat());
        let id = ask(engine, &["image", "inspect", "--format", "{{.Id}}", &names[0]]);
        let image = Image { engine, id, names };
        ask(engine, &["tag", &image.id, &image.names[1]]);
        image
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new(self.engine).args(["rmi", "--force", &self.id]).output();
    }
}

fn strip(from: &Path, to: &Path) {
    let stripped = Command::new("strip").arg("-o").args([to, from]).status();
    if !stripped.is_ok_and(|status| status.success()) {
        std::fs::copy(from, to).unwrap();
    }
}

fn ask(engine: &str, words: &[&str]) -> String {
    let output = Command::new(engine).args(words).output().unwrap();
    assert!(output.status.success(), "{engine} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Stage<'_> {
    /// The program with these words; `run` runs it at this place.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        finish(self.start(words))
    }

    /// The same, while it runs.
    pub(crate) fn start(&self, words: &[&str]) -> Child {
        let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
        if words[0] == "run" {
            words.extend(["--backend".to_owned(), self.place.backend.to_owned()]);
            if let Some(image) = &self.place.image {
                words.extend(["--image".to_owned(), image.names[0].clone()]);
                // One of them is the image's entrypoint.
                if self.program != "hello" {
                    words.extend(["--program".to_owned(), format!("/{}", self.program)]);
                }
            }
        }
        self.world.start(words)
    }

    /// An artifact of the latest execution.
    pub(crate) fn text(&self, artifact: &str) -> String {
        self.world.run(["cat", artifact]).exits(0).stdout
    }

    /// The value in one.
    pub(crate) fn value(&self, artifact: &str) -> Value {
        serde_json::from_str(&self.text(artifact)).unwrap()
    }

    /// What `status` says of a split.
    pub(crate) fn status(&self, layer: &str, index: u32) -> Value {
        let all = self.world.run(["status", "--json"]).exits(0).document();
        let mut lines = all["layers"].as_array().unwrap().iter();
        lines.find(|line| line["layer"] == layer && line["index"] == index).unwrap_or_else(|| panic!("{all}")).clone()
    }

    /// The state of each split of a layer.
    pub(crate) fn states(&self, layer: &str) -> Vec<String> {
        let all = self.world.run(["status", "--json"]).exits(0).document();
        let of_layer = all["layers"].as_array().unwrap().iter().filter(|line| line["layer"] == layer);
        let mut of_layer: Vec<&Value> = of_layer.collect();
        of_layer.sort_by_key(|line| line["index"].as_u64());
        of_layer.into_iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect()
    }

    /// What a layer has printed.
    pub(crate) fn said(&self, layer: &str) -> String {
        self.world.run(["logs", "latest", layer]).exits(0).stdout
    }
}

impl Drop for Stage<'_> {
    /// Whatever a failed test has left goes, by its executions.
    fn drop(&mut self) {
        let Some(Image { engine, .. }) = &self.place.image else { return };
        let executions: Vec<PathBuf> = std::fs::read_dir(self.world.path().join(".laminar/executions"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        for id in executions.iter().filter_map(|path| path.file_name()?.to_str()) {
            let label = format!("label=laminar.execution={id}");
            let list = Command::new(engine).args(["ps", "-a", "-q", "--filter", &label]).output();
            let list = list.map(|list| String::from_utf8_lossy(&list.stdout).into_owned()).unwrap_or_default();
            for container in list.split_whitespace() {
                let _ = Command::new(engine).args(["rm", "-f", "-v", container]).output();
            }
        }
    }
}
