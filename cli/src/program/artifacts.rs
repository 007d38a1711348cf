//! All that one layer leaves: one artifact, or several with names.

use std::any::TypeId;
use std::marker::PhantomData;
use std::path::Path;

use serde_json::Value;

use super::artifact::Artifact;
use super::failure::{Context, Failure, Result};
use super::shards::Shards;
use super::source::Stored;

/// The name of an artifact that has no other.
pub(super) const VALUE: &str = "value";

/// Where an artifact was found.
#[doc(hidden)]
#[derive(Debug)]
pub struct Found(pub(super) Stored);

/// Everything that a layer leaves: an [`Artifact`], called `value`; nothing, for `()`; or several with names, declared by
/// [`artifacts!`](crate::artifacts).
#[diagnostic::on_unimplemented(
    message = "a layer cannot leave `{Self}`",
    label = "what the function returns, in its `Ok`, must be artifacts",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, with data that it owns (`String`, not `&str`)",
    note = "for several artifacts declare it in `laminar::artifacts! {{ … }}`; for files there are `laminar::File`, `Folder` and `Bytes`"
)]
pub trait Artifacts: Sized + Send + 'static {
    /// The names of the files and folders. `single` is what one without a name is called.
    #[doc(hidden)]
    fn files(single: &str) -> Vec<String>;

    /// Writes them into a folder.
    #[doc(hidden)]
    fn leave(self, folder: &Path, single: &str) -> Result<()>;

    /// Writes one that is a list in pieces.
    #[doc(hidden)]
    fn leave_pieces(self, folder: &Path, single: &str) -> Result<()> {
        let _ = (folder, single);
        Err(Failure::new("only a list can be kept in pieces"))
    }

    /// Reads them from where they are found.
    #[doc(hidden)]
    fn find(single: &str, find: &Find<'_>) -> Result<Self>;
}

#[doc(hidden)]
pub type Find<'a> = dyn Fn(&str) -> Result<Found> + 'a;

impl<T: Artifact> Artifacts for T {
    fn files(single: &str) -> Vec<String> {
        if is_nothing::<T>() { Vec::new() } else { vec![file::<T>(single)] }
    }

    fn leave(self, folder: &Path, single: &str) -> Result<()> {
        if is_nothing::<T>() {
            return Ok(());
        }
        save(self, folder, single)
    }

    fn leave_pieces(self, folder: &Path, single: &str) -> Result<()> {
        match self.into_value()? {
            Value::Array(items) => save(Shards::collect(items)?, folder, single),
            _ => Err(Failure::new("only a list can be kept in pieces")),
        }
    }

    fn find(single: &str, find: &Find<'_>) -> Result<T> {
        if is_nothing::<T>() {
            return T::from_value(serde_json::Value::Null);
        }
        load(find, single)
    }
}

fn is_nothing<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<()>()
}

/// The name of an artifact's file, with its ending.
#[doc(hidden)]
pub fn file<T: Artifact>(name: &str) -> String {
    format!("{name}{}", T::ENDING)
}

#[doc(hidden)]
pub fn save<T: Artifact>(artifact: T, folder: &Path, name: &str) -> Result<()> {
    artifact.save(&folder.join(file::<T>(name))).context(format!("cannot leave `{name}`"))
}

#[doc(hidden)]
pub fn load<T: Artifact>(find: &Find<'_>, name: &str) -> Result<T> {
    find(&file::<T>(name))?.0.read()
}

/// One of the artifacts of `A`, which is a `T`.
pub struct Field<A, T> {
    pub(super) name: &'static str,
    kind: PhantomData<fn(A) -> T>,
}

impl<A, T> Field<A, T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str) -> Field<A, T> {
        Field { name, kind: PhantomData }
    }
}

impl<A, T> Clone for Field<A, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, T> Copy for Field<A, T> {}

impl<A, T> std::fmt::Debug for Field<A, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Field").field(&self.name).finish()
    }
}

/// Declares a struct whose fields are the artifacts of a layer, each with a file of its own.
///
/// ```
/// laminar::artifacts! {
///     /// What training leaves.
///     pub struct Trained {
///         /// How good it is: `accuracy.json`.
///         pub accuracy: f64,
///         /// The model: `model.bin`.
///         pub model: laminar::Bytes = "model.bin",
///     }
/// }
///
/// let flow = laminar::Flow::new("Digits");
/// let train = flow.layer("Train", || Ok(Trained { accuracy: 0.9, model: laminar::Bytes(vec![1]) }));
/// flow.layer_with("Report", train.get(Trained::accuracy), |accuracy: f64| Ok(println!("{accuracy}")));
/// ```
///
/// An artifact has its field's name, or the one behind `=`; values have the ending `.json` besides.
#[macro_export]
macro_rules! artifacts {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$inner:meta])* $fvis:vis $field:ident: $kind:ty $(= $called:literal)?),* $(,)?
    })+) => {$(
        $(#[$meta])*
        $vis struct $name {
            $($(#[$inner])* $fvis $field: $kind,)*
        }

        #[allow(non_upper_case_globals)]
        impl $name {
            $($(#[$inner])*
            $fvis const $field: $crate::Field<$name, $kind> =
                $crate::Field::new($crate::artifacts!(@name $field $($called)?));)*
        }

        impl $crate::Artifacts for $name {
            fn files(_: &str) -> ::std::vec::Vec<::std::string::String> {
                ::std::vec![$($crate::__private::file::<$kind>($crate::artifacts!(@name $field $($called)?)),)*]
            }

            fn leave(self, folder: &::std::path::Path, _: &str) -> $crate::Result<()> {
                $($crate::__private::save(self.$field, folder, $crate::artifacts!(@name $field $($called)?))?;)*
                ::std::result::Result::Ok(())
            }

            fn find(_: &str, find: &$crate::__private::Find<'_>) -> $crate::Result<Self> {
                ::std::result::Result::Ok($name {
                    $($field: $crate::__private::load(find, $crate::artifacts!(@name $field $($called)?))?,)*
                })
            }
        }
    )+};
    (@name $field:ident) => { ::std::stringify!($field) };
    (@name $field:ident $called:literal) => { $called };
}
