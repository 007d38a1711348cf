//! The builder: an ordinary program says which layers there are, and what each reads.
//!
//! Nothing runs here. What is built is written as a flow file ([`Program::source`](super::program::Program)), so that all
//! that holds for flow files holds for programs too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use laminar_core::flow::problem::{Format, Problem, Source as Text};
use laminar_core::flow::template::Scope;
use laminar_core::flow::{Parameters as Values, file};
use laminar_core::json;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::artifact::scratching;
use super::artifacts::{Artifacts, VALUE};
use super::failure::{Failure, Result};
use super::handle::{Fan, Foreign, Layer};
use super::input::{Input, Parameters, Plug, together};
use super::over::{Keys, Over};
use super::settings::{Container, Limits, Retry};
use super::source::{Source, Task};

/// The place of a layer among those of its flow.
pub(super) type NodeId = usize;

/// What one layer does, from where it reads to where it writes.
pub(super) type Work = dyn Fn(&dyn Source, &Path, Form) -> Result<()> + Send + Sync;
/// What the scheduler is answered.
pub(super) type Answer = dyn Fn(&Scope<'_>) -> Result<Value, String> + Send + Sync;
/// An answer whose failure is told in words.
pub(super) fn told(answer: impl Fn(&Scope<'_>) -> Result<Value> + Send + Sync + 'static) -> Arc<Answer> {
    Arc::new(move |scope| answer(scope).map_err(|failure| failure.to_string()))
}

/// What wraps the call of a layer's function.
pub(super) type Around = dyn Fn(&Task, &mut dyn FnMut() -> Result<()>) -> Result<()> + Send + Sync;
/// Whether a failure is one that counts as finished.
pub(super) type Caught = dyn Fn(&Failure) -> bool + Send + Sync;
pub(super) type Fits = dyn Fn(&Values) -> Result<(), String> + Send + Sync;

/// The exit code of a layer whose error is one that [`Layer::catch`] names.
pub(crate) const CAUGHT: u8 = 121;

/// A flow, as it is being built: layers, and what they read of each other.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use laminar::Flow;
///
/// fn main() -> ExitCode {
///     let flow = Flow::new("HelloFlow");
///     let hello = flow.layer("Hello", || Ok("hello".to_owned()));
///     let parts = flow.layer("Parts", || Ok(vec![1, 2, 3])).sharded();
///     let square = flow.foreach("Square", parts, |n: i32| Ok(n * n));
///     flow.layer_with("World", (hello, square.join()), |(hello, squares)| {
///         println!("{hello} {squares:?}");
///         Ok(())
///     });
///     laminar::main(flow)
/// }
/// ```
///
/// A layer can only read what was declared before it, so there are no cycles. The functions run in processes of their own:
/// what they need beside their inputs is moved into them, and must be the same each time that the program is started.
pub struct Flow {
    pub(super) name: String,
    pub(super) nodes: RefCell<Vec<Node>>,
    pub(super) parameters: RefCell<Option<Declared>>,
    pub(super) settings: RefCell<Map<String, Value>>,
    pub(super) around: RefCell<Vec<Arc<Around>>>,
    pub(super) wrong: RefCell<Vec<Wrong>>,
}

/// The parameters, with their defaults.
#[derive(Clone)]
pub(super) struct Declared {
    pub(super) defaults: Map<String, Value>,
    pub(super) fits: Arc<Fits>,
}

/// How the artifact is kept that has no name of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// What it is called.
    pub(super) name: &'static str,
    /// Whether it is a list in pieces.
    pub(super) is_sharded: bool,
}

/// Something wrong with what was built, and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) place: &'static Location<'static>,
}

/// A layer, as far as it has been declared.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) name: Arc<str>,
    /// The keys of the flow file that it has, but for `command` and `needs`.
    pub(super) keys: Map<String, Value>,
    pub(super) needs: BTreeSet<NodeId>,
    /// Those of them without which it has nothing to read: it is skipped when they are.
    pub(super) strict: BTreeSet<NodeId>,
    /// Its function; a layer of the flow file has none.
    pub(super) work: Option<Arc<Work>>,
    pub(super) form: Form,
    files: fn(&str) -> Vec<String>,
    pub(super) answers: BTreeMap<&'static str, Arc<Answer>>,
    pub(super) around: Vec<Arc<Around>>,
    pub(super) caught: Vec<Arc<Caught>>,
}

impl Node {
    fn new(name: &str) -> Node {
        Node {
            name: name.into(),
            keys: Map::new(),
            needs: BTreeSet::new(),
            strict: BTreeSet::new(),
            work: None,
            form: Form { name: VALUE, is_sharded: false },
            files: |_| Vec::new(),
            answers: BTreeMap::new(),
            around: Vec::new(),
            caught: Vec::new(),
        }
    }

    /// What it promises to leave. One whose errors are caught may leave nothing.
    pub(super) fn promised(&self) -> Vec<String> {
        match self.form {
            _ if self.keys.contains_key("catch") => Vec::new(),
            Form { name, is_sharded: true } => vec![name.to_owned()],
            Form { name, .. } => (self.files)(name),
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Flow {
    /// A flow without layers. Its name, and those of layers, are identifiers.
    #[must_use]
    pub fn new(name: &str) -> Flow {
        Flow {
            name: name.to_owned(),
            nodes: RefCell::default(),
            parameters: RefCell::default(),
            settings: RefCell::default(),
            around: RefCell::default(),
            wrong: RefCell::default(),
        }
    }

    /// A layer that reads nothing.
    #[track_caller]
    pub fn layer<T: Artifacts>(
        &self,
        name: &str,
        function: impl Fn() -> Result<T> + Send + Sync + 'static,
    ) -> Layer<'_, T> {
        self.layer_with(name, (), move |()| function())
    }

    /// A layer that reads what others have left, parameters, or who it is.
    #[track_caller]
    pub fn layer_with<'f, I: Input<'f>, T: Artifacts>(
        &'f self,
        name: &str,
        inputs: I,
        function: impl Fn(I::Value) -> Result<T> + Send + Sync + 'static,
    ) -> Layer<'f, T>
    where
        I::Value: 'static,
    {
        let Plug { needs, strict, flows, read } = inputs.plug();
        self.check_flows(&flows, name);
        let node = Node { needs, strict, ..Node::new(name) };
        Layer::new(self, self.add(node, move |source| function(read(source)?)))
    }

    /// A layer with a split for each value: of a list, of a sequence that another layer has left ([`Layer::sharded`]), of what
    /// each split of another foreach layer has left (one to one), or for each combination of several, as a tuple: the last
    /// varies fastest.
    #[track_caller]
    pub fn foreach<'f, O: Over<'f>, T: Artifacts>(
        &'f self,
        name: &str,
        over: O,
        function: impl Fn(O::Item) -> Result<T> + Send + Sync + 'static,
    ) -> Fan<'f, T>
    where
        O::Item: 'static,
    {
        self.foreach_with(name, over, (), move |item, ()| function(item))
    }

    /// The same, with inputs that every split is given.
    #[track_caller]
    pub fn foreach_with<'f, O: Over<'f>, I: Input<'f>, T: Artifacts>(
        &'f self,
        name: &str,
        over: O,
        inputs: I,
        function: impl Fn(O::Item, I::Value) -> Result<T> + Send + Sync + 'static,
    ) -> Fan<'f, T>
    where
        O::Item: 'static,
        I::Value: 'static,
    {
        let mut keys = Keys::new(name);
        let (item, input) = (over.spread(&mut keys), inputs.plug());
        let Plug { needs, strict, flows, read } = together!(item, input);
        self.check_flows(&flows, name);
        let mut node = Node { needs, strict, ..Node::new(name) };
        node.keys.insert("foreach".to_owned(), keys.values.into());
        node.answers.extend(keys.answers);
        for what in keys.wrong {
            self.wrong(what);
        }
        Fan::new(
            self,
            self.add(node, move |source| {
                let (item, input) = read(source)?;
                function(item, input)
            }),
        )
    }

    /// A layer as a flow file has it, in any language: the same keys (`run`, `command`, `needs`, `foreach`, …), in which
    /// `${{ }}` can name the program's layers. What it leaves is read by name: [`Layer::artifact`].
    ///
    /// ```
    /// # use laminar::{Flow, json};
    /// # let flow = Flow::new("Digits");
    /// # let train = flow.layer("Train", || Ok(1_u32));
    /// let plot = flow.declare("Plot", json!({ "run": "echo ${{ Train.value }} > $LAMINAR_OUTPUTS/doubled.json" }));
    /// flow.layer_with("Report", plot.artifact::<u32>("doubled"), |doubled| Ok(println!("{doubled}")));
    /// ```
    #[track_caller]
    pub fn declare(&self, name: &str, keys: Value) -> Layer<'_, Foreign> {
        let mut node = Node::new(name);
        match keys {
            Value::Object(keys) => node.keys = keys,
            _ => self.wrong(format!("layer `{name}`: what a flow file says of a layer is a map")),
        }
        Layer::new(self, self.push(node))
    }

    /// The layers of a flow file, or of a part of one, as YAML: they are part of this flow, and can read what its layers leave as these can read
    /// theirs ([`Flow::find`]). What else the file says does not count.
    #[track_caller]
    pub fn include(&self, yaml: &str) {
        let text = Text { name: "included".to_owned(), text: yaml.into(), format: Format::Yaml };
        match file::layers(&text) {
            // Not in closures: whoever called this is told of what is wrong.
            Ok(layers) => {
                for (name, keys) in layers {
                    self.declare(&name, keys);
                }
            }
            Err(problems) => {
                let said = |problem: &Problem| match problem.places.first() {
                    Some(place) => format!("line {}: {}", text.line_and_column(place.span.start).0, problem.message),
                    None => problem.message.clone(),
                };
                let said: Vec<String> = problems.list.iter().map(said).collect();
                self.wrong(format!("the flow file that is included cannot be read: {}", said.join("; ")));
            }
        }
    }

    /// A layer that was declared, by its name, to read what it leaves.
    #[track_caller]
    pub fn find(&self, name: &str) -> Layer<'_, Foreign> {
        let found = self.nodes.borrow().iter().position(|node| &*node.name == name);
        let node = match found {
            Some(node) => node,
            None => {
                self.wrong(format!("there is no layer `{name}` to read from; it is declared before it is read"));
                self.push(Node::new(name))
            }
        };
        Layer::new(self, node)
    }

    /// The flow's parameters: the fields of a struct, with their defaults. `--parameter field=value` sets one.
    ///
    /// ```
    /// # use laminar::Flow;
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Parameters {
    ///     seed: u64,
    ///     depths: Vec<u32>,
    /// }
    ///
    /// let flow = Flow::new("Digits");
    /// let parameters = flow.parameters(Parameters { seed: 7, depths: vec![2, 4, 8] });
    /// flow.foreach_with("Train", parameters.list(|p| p.depths), parameters, |depth, p| Ok(u64::from(depth) + p.seed));
    /// ```
    #[track_caller]
    pub fn parameters<P: Serialize + DeserializeOwned + 'static>(&self, defaults: P) -> Parameters<'_, P> {
        match json::to_value(&defaults) {
            Ok(Value::Object(defaults)) => {
                let usual = defaults.clone();
                let fits: Arc<Fits> = Arc::new(move |values: &Values| {
                    let fit = |values: Values| serde_json::from_value::<P>(Value::Object(values)).map(drop);
                    let Err(error) = fit(values.clone()) else { return Ok(()) };
                    // Which it is: the one that does not fit among the defaults either.
                    let alone = values.iter().find_map(|(name, value)| {
                        let mut one = usual.clone();
                        one.insert(name.clone(), value.clone());
                        Some(format!("`{name}`: {}", fit(one).err()?))
                    });
                    Err(alone.unwrap_or_else(|| error.to_string()))
                });
                if self.parameters.replace(Some(Declared { defaults, fits })).is_some() {
                    self.wrong("a flow has its parameters only once".to_owned());
                }
            }
            Ok(_) => self.wrong("parameters are a struct with named fields".to_owned()),
            Err(error) => self.wrong(format!("the parameters cannot be written as JSON: {error}")),
        }
        Parameters { flow: self, kind: PhantomData }
    }

    /// Where the program's layers run that say nothing else, and with what limits.
    pub fn container(&self, container: Container) -> &Flow {
        self.set("container", container.into_value())
    }

    /// How often layers are tried that say nothing else.
    pub fn retry(&self, retry: Retry) -> &Flow {
        self.set("retry", retry.into_value())
    }

    /// How much an attempt of layers may leave and print that say nothing else.
    pub fn limits(&self, limits: Limits) -> &Flow {
        self.set("limits", limits.into_value())
    }

    /// The most tasks at once, whatever `--jobs` says.
    pub fn max_parallel(&self, most: u32) -> &Flow {
        self.set("max_parallel", most.into())
    }

    /// After a failure everything runs that does not need the layer that failed; else nothing new starts.
    pub fn go_on_after_failures(&self) -> &Flow {
        self.set("on_failure", "continue".into())
    }

    /// Wraps every call of a layer's function, where it runs: `call` is the function, or what was wrapped before.
    ///
    /// ```
    /// # let flow = laminar::Flow::new("Digits");
    /// flow.around(|task, call| {
    ///     println!("{}[{}] begins", task.layer, task.index);
    ///     call()
    /// });
    /// ```
    pub fn around(
        &self,
        wrap: impl Fn(&Task, &mut dyn FnMut() -> Result<()>) -> Result<()> + Send + Sync + 'static,
    ) -> &Flow {
        self.around.borrow_mut().push(Arc::new(wrap));
        self
    }

    fn set(&self, key: &str, value: Value) -> &Flow {
        self.settings.borrow_mut().insert(key.to_owned(), value);
        self
    }

    pub(super) fn parameter_names(&self) -> Vec<String> {
        let declared = self.parameters.borrow();
        declared.iter().flat_map(|declared| declared.defaults.keys().cloned()).collect()
    }

    #[track_caller]
    fn add<T: Artifacts>(
        &self,
        node: Node,
        function: impl Fn(&dyn Source) -> Result<T> + Send + Sync + 'static,
    ) -> NodeId {
        let work = move |source: &dyn Source, outputs: &Path, form: Form| {
            scratching(outputs, || match (function(source)?, form) {
                (left, Form { name, is_sharded: true }) => left.leave_pieces(outputs, name),
                (left, Form { name, .. }) => left.leave(outputs, name),
            })
        };
        self.push(Node { files: T::files, work: Some(Arc::new(work)), ..node })
    }

    #[track_caller]
    fn push(&self, node: Node) -> NodeId {
        let mut nodes = self.nodes.borrow_mut();
        if nodes.iter().any(|other| other.name == node.name) {
            self.wrong(format!("there are two layers `{}`", node.name));
        }
        nodes.push(node);
        nodes.len() - 1
    }

    /// Changes a layer.
    pub(super) fn change(&self, node: NodeId, change: impl FnOnce(&mut Node)) {
        change(&mut self.nodes.borrow_mut()[node]);
    }

    #[track_caller]
    pub(super) fn check_flows(&self, flows: &[&Flow], reader: &str) {
        if flows.iter().any(|flow| !std::ptr::eq(*flow, self)) {
            self.wrong(format!("layer `{reader}` reads from another flow"));
        }
    }

    #[track_caller]
    pub(super) fn wrong(&self, what: String) {
        self.wrong.borrow_mut().push(Wrong { what, place: Location::caller() });
    }
}
