//! A flow program as the command line knows it: the flow file that it is, what it is asked, what it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use laminar_core::flow::problem::{Format, Problem, Problems, Source as Text};
use laminar_core::flow::template::Scope;
use laminar_core::flow::{Answers, Parameters};
use serde_json::{Map, Value, json};

use super::evaluate::{MARKER, words};
use super::failure::Result;
use super::flow::{Answer, Around, Declared, Flow, Node, NodeId, Wrong};
use super::source::{Source, Task};

/// What the execution's flow file is called.
const SOURCE: &str = "the program";

/// A flow that is built.
#[derive(Clone)]
pub(crate) struct Program {
    pub(super) name: String,
    pub(super) nodes: Vec<Node>,
    parameters: Option<Declared>,
    settings: Map<String, Value>,
    around: Vec<Arc<Around>>,
    wrong: Vec<Wrong>,
    answers: BTreeMap<String, Arc<Answer>>,
}

/// Where the program is, as its layers start it.
#[derive(Clone, Debug)]
pub(crate) struct Placement<'a> {
    /// What runs the layers that say no backend.
    pub(crate) main: &'a str,
    /// The backends whose layers run in images.
    pub(crate) in_images: Vec<&'a str>,
    /// For the program's layers in images that do not say it themselves.
    pub(crate) inside: Inside,
}

impl Placement<'_> {
    /// Whether a layer runs in an image.
    fn is_in_image(&self, node: &Node) -> bool {
        let backend = node.keys.get("backend").and_then(Value::as_str).unwrap_or(self.main);
        self.in_images.contains(&backend)
    }
}

/// Where the program is among images: what `--image` and `--program` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    /// The image of layers that name none.
    pub(crate) image: Option<String>,
    /// Where an image has the program, if it is not its entrypoint.
    pub(crate) program: Option<String>,
}

impl Inside {
    /// The same; what is not said here is as it was.
    pub(crate) fn or(self, was: Inside) -> Inside {
        Inside { image: self.image.or(was.image), program: self.program.or(was.program) }
    }
}

impl Program {
    pub(crate) fn new(flow: &Flow) -> Program {
        let nodes = flow.nodes.borrow().clone();
        let mut answers = BTreeMap::new();
        for node in &nodes {
            answers
                .extend(node.answers.iter().map(|(key, answer)| (format!("{}_{key}", node.name), Arc::clone(answer))));
        }
        Program {
            name: flow.name.clone(),
            nodes,
            parameters: flow.parameters.borrow().clone(),
            settings: flow.settings.borrow().clone(),
            around: flow.around.borrow().clone(),
            wrong: flow.wrong.borrow().clone(),
            answers,
        }
    }

    /// The flow's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The flow file that the program is.
    ///
    /// # Errors
    /// With all that is wrong with how the flow was built.
    pub(crate) fn source(&self, placement: &Placement<'_>) -> Result<Text, Problems> {
        if !self.wrong.is_empty() {
            let list = self.wrong.iter().map(|Wrong { what, place }| Problem {
                message: format!("{what}, at {}:{}", place.file(), place.line()),
                places: Vec::new(),
                hint: None,
            });
            return Err(Problems { source: None, list: list.collect() });
        }
        let mut file = Map::new();
        file.insert("flow".to_owned(), self.name.as_str().into());
        if let Some(declared) = &self.parameters {
            file.insert("parameters".to_owned(), declared.defaults.clone().into());
        }
        for key in ["on_failure", "max_parallel"] {
            file.extend(self.settings.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        let program = own_path();
        let layers = self.nodes.iter().map(|node| (node.name.to_string(), self.layer(node, placement, &program)));
        file.insert("layers".to_owned(), Value::Object(layers.collect()));
        // Layers that follow each other are one by one what people look at.
        let text = serde_json::to_string_pretty(&file).unwrap_or_default();
        Ok(Text { name: SOURCE.to_owned(), text: text.into(), format: Format::Json })
    }

    fn layer(&self, node: &Node, placement: &Placement<'_>, program: &Path) -> Value {
        let mut keys = node.keys.clone();
        if let Some(condition) = self.runs_without(node) {
            keys.entry("when").or_insert_with(|| condition.into());
        }
        let needs: Vec<Value> = node.needs.iter().map(|id| self.nodes[*id].name.to_string().into()).collect();
        if node.work.is_none() {
            return keys.into();
        }
        for block in ["container", "retry", "limits"] {
            if self.settings.contains_key(block) {
                keys.insert(block.to_owned(), self.said(node, block).into());
            }
        }
        let mut command = vec![json!(MARKER), json!(self.name), json!(*node.name)];
        if placement.is_in_image(node) {
            let container = keys.entry("container").or_insert_with(|| json!({}));
            let Inside { image, program } = &placement.inside;
            if let (Value::Object(container), Some(image)) = (&mut *container, image) {
                container.entry("image").or_insert_with(|| image.as_str().into());
            }
            if let (Value::Object(container), Some(program)) = (container, program) {
                container.entry("entrypoint").or_insert_with(|| json!([program]));
            }
        } else {
            let program = program.to_string_lossy().into_owned();
            if let Some(Value::Bool(true)) = keys.get("cache") {
                // Another build may do something else.
                keys.insert("cache".to_owned(), json!({"sources": [program]}));
            }
            command.insert(0, program.into());
        }
        keys.insert("command".to_owned(), command.into());
        if !needs.is_empty() {
            keys.insert("needs".to_owned(), needs.into());
        }
        let promised = node.promised();
        if !promised.is_empty() {
            keys.insert("outputs".to_owned(), promised.into());
        }
        keys.into()
    }

    /// The condition of a layer that reads others as `maybe()`: it is skipped only with those that it cannot do without.
    fn runs_without(&self, node: &Node) -> Option<String> {
        if node.needs == node.strict {
            return None;
        }
        let runs = |id: &NodeId| format!("{}.state != 'skipped'", self.nodes[*id].name);
        let runs: Vec<String> = node.strict.iter().map(runs).collect();
        Some(format!("${{{{ {} }}}}", if runs.is_empty() { "true".to_owned() } else { runs.join(" and ") }))
    }

    /// What a layer says in a block, over what the flow says there.
    fn said(&self, node: &Node, block: &str) -> Map<String, Value> {
        let of_flow = self.settings.get(block).and_then(Value::as_object);
        let of_layer = node.keys.get(block).and_then(Value::as_object);
        of_flow.into_iter().chain(of_layer).flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// What `--image` and `--program` said when the program was this flow file: layers have it that say nothing themselves.
    pub(crate) fn inside(&self, text: &str) -> Inside {
        let file: Value = serde_json::from_str(text).unwrap_or_default();
        let find = |key: &str, value: fn(&Value) -> Option<&str>| {
            let silent = |node: &&Node| node.work.is_some() && !self.said(node, "container").contains_key(key);
            let mut silent = self.nodes.iter().filter(silent);
            silent.find_map(|node| value(&file["layers"][&*node.name]["container"][key])).map(str::to_owned)
        };
        Inside { image: find("image", Value::as_str), program: find("entrypoint", |words| words[0].as_str()) }
    }

    /// The layers of the program that would run in images and have none.
    pub(crate) fn without_image(&self, placement: &Placement<'_>) -> Vec<&str> {
        let lacks = |node: &&Node| {
            let is_named = placement.inside.image.is_some() || self.said(node, "container").contains_key("image");
            node.work.is_some() && placement.is_in_image(node) && !is_named
        };
        self.nodes.iter().filter(lacks).map(|node| &*node.name).collect()
    }

    /// Whether the values of the parameters are what the program takes them for.
    ///
    /// # Errors
    /// Why they are not.
    pub(crate) fn check_parameters(&self, values: &Parameters) -> Result<(), String> {
        self.parameters.as_ref().map_or(Ok(()), |declared| (declared.fits)(values))
    }

    /// The layer of this name, if it is one of the program's own.
    pub(super) fn own(&self, layer: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.work.is_some() && *node.name == *layer)
    }

    /// Calls a layer's function, within all that wraps it.
    pub(super) fn call(&self, node: &Node, source: &dyn Source, outputs: &Path) -> Result<()> {
        let Some(work) = &node.work else {
            return Err(format!("`{}` is no layer of the program itself", node.name).into());
        };
        let wraps: Vec<&Arc<Around>> = self.around.iter().chain(&node.around).collect();
        wrapped(&wraps, source.task(), &mut || work(source, outputs, node.form))
    }
}

/// Calls something within what wraps it; the first is outermost.
fn wrapped(wraps: &[&Arc<Around>], task: &Task, call: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    match wraps.split_first() {
        None => call(),
        Some((first, rest)) => first(task, &mut || wrapped(rest, task, call)),
    }
}

/// This program's file. It may have been replaced since, by a new build.
pub(crate) fn own_path() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    match path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => path.into(),
        None => path,
    }
}

impl Answers for Program {
    fn answer(&self, question: &str, scope: &Scope<'_>) -> Result<Value, String> {
        match self.answers.get(question) {
            Some(answer) => catch_unwind(AssertUnwindSafe(|| answer(scope)))
                .unwrap_or_else(|panic| Err(format!("the program panicked: {}", words(&*panic)))),
            None => Err(format!("this program has no answer to `{question}`; it may be another version")),
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::settings::Container;
    use super::*;

    fn said(image: &str, program: Option<&str>) -> Inside {
        Inside { image: Some(image.to_owned()), program: program.map(str::to_owned) }
    }

    fn file(flow: &Flow, inside: Inside) -> (Program, String) {
        let program = Program::new(flow);
        let placement = Placement { main: "docker", in_images: vec!["docker"], inside };
        let text = program.source(&placement).unwrap().text.to_string();
        (program, text)
    }

    #[test]
    fn where_the_program_was_among_images_is_found_by_the_layers_that_say_nothing() {
        let flow = Flow::new("Images");
        flow.container(Container::new().memory("1GiB"));
        flow.layer("Own", || Ok(1)).container(Container::new().image("own:1").entrypoint(["/own"]));
        flow.layer("By", || Ok(2)).image_by(|_| Ok("by:1".to_owned()));
        flow.layer("Silent", || Ok(3));
        for inside in [said("given:1", Some("/given")), said("given:1", None), Inside::default()] {
            let (program, text) = file(&flow, inside.clone());
            assert_eq!(program.inside(&text), inside);
        }
        let (_, text) = file(&flow, said("given:1", Some("/given")));
        let text: Value = serde_json::from_str(&text).unwrap();
        let container = |layer: &str, key: &str| text["layers"][layer]["container"][key].clone();
        assert_eq!((container("Own", "image"), container("Own", "entrypoint")), (json!("own:1"), json!(["/own"])));
        assert_eq!(
            (container("By", "entrypoint"), container("Silent", "image")),
            (json!(["/given"]), json!("given:1"))
        );
        assert_eq!(container("Own", "memory"), "1GiB");
        let changed = said("new:1", None).or(said("given:1", Some("/given")));
        assert_eq!(changed, said("new:1", Some("/given")));
    }

    #[test]
    fn what_is_wrong_is_told_where_it_was_written() {
        let flow = Flow::new("Wrong");
        flow.include("layers:\n  One: { rum: 'true' }\n");
        flow.find("Two");
        flow.include("layers: { Three: { run: 'true' }, Four: { run: 'true' } }");
        flow.include("layers: { Three: { run: 'true' } }");
        let placement = Placement { main: "local", in_images: Vec::new(), inside: Inside::default() };
        let problems = Program::new(&flow).source(&placement).unwrap_err();
        let said: Vec<String> = problems.list.into_iter().map(|problem| problem.message).collect();
        let parts = ["line 2: unknown field `rum`", "there is no layer `Two`", "there are two layers `Three`"];
        assert_eq!(said.len(), parts.len(), "{said:?}");
        for (said, part) in said.iter().zip(parts) {
            assert!(said.contains(part) && said.contains(concat!("at ", file!(), ":")), "{said}");
        }
    }

    #[test]
    fn who_reads_maybe_is_skipped_only_with_what_it_cannot_do_without() {
        let flow = Flow::new("Maybe");
        let skipped = flow.layer("Skipped", || Ok(1)).when((), |()| Ok(false));
        let there = flow.layer("There", || Ok(2));
        let either = flow.layer_with("Either", (skipped.maybe(), there), |(a, b)| Ok(a.unwrap_or(b)));
        flow.layer_with("Both", (there.maybe(), skipped), |(_, b)| Ok(b));
        // Read in both ways, it is one that cannot be done without.
        flow.layer_with("Twice", (skipped.maybe(), skipped), |(_, b)| Ok(b));
        let fan = flow.foreach_with("Fan", vec![1, 2], skipped.maybe(), |n, a| Ok(a.unwrap_or(n)));
        // A condition of its own decides alone.
        flow.layer_with("Never", skipped.maybe(), Ok).when((), |()| Ok(false));
        let ran = flow.in_process().run().unwrap();
        assert_eq!((ran.read(either).unwrap(), ran.read(fan.join()).unwrap()), (2, vec![1, 2]));
        let skipped = ["Skipped", "Both", "Twice", "Never"].map(|layer| ran.layer(layer).unwrap().state);
        assert_eq!(skipped, [Some("skipped"); 4]);
    }
}
