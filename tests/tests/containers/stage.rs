//! The program on an engine: a folder for flows, whose containers are gone in the end whatever became of the test.

use std::process::{Child, Command, Stdio};

use laminar_tests::world::{Ran, World as Program, finish};

use crate::world::{World, image, program};

/// A folder with the program.
pub(crate) struct Stage<'a> {
    pub(crate) world: &'a World,
    pub(crate) program: Program,
    /// Variables for the program, and so for the engine's clients.
    pub(crate) env: Vec<(String, String)>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(world: &'a World) -> Stage<'a> {
        Stage { world, program: Program::new(program()), env: Vec::new() }
    }

    /// Writes a flow of this engine: `text` follows the flow's name. `IMAGE` is the image of all tests.
    pub(crate) fn flow(&self, text: &str) {
        let name = self.world.flow();
        self.program.write("flow.yaml", format!("flow: {name}\n{}", text.replace("IMAGE", &image())));
    }

    /// The program with these arguments on this engine, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program.command(args);
        if args.first() == Some(&"run") {
            command.args(["--backend", self.world.dialect.name]);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        finish(self.start(args))
    }

    /// What a layer of the latest execution has printed.
    pub(crate) fn said(&self, layer: &str) -> String {
        self.program.run(["logs", "latest", layer]).exits(0).stdout
    }
}
