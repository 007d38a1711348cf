//! Warm containers: splits of one layer that follow each other in one container, each with what is its own.
//!
//! What is mounted is decided when a container is made, and a split has folders of its own. So each container has a [`desk`]:
//! folders that are mounted once, and lent to one split at a time. Its outputs folder *is* the split's while that runs (the two
//! change places, by their names alone), and what was left in it is moved out when the split is over. What is to be done is an
//! [`errand`]: a file that the supervisor inside takes by renaming it, so that either it has begun or it never will. A bell (a
//! named pipe) wakes it, and tells it by the kernel whether a scheduler is there at all. The [`pool`] is what this process
//! knows of the containers of an execution.
//!
//! ```text
//! <execution>/<backend>/warm/
//!   lock            held for the moment in which a desk is lent or cleared
//!   <n>/
//!     plate         whose container it is and what may share it, as JSON
//!     held          locked by the scheduler that hands out errands here, as long as it lives
//!     task          the name of the task that it is lent to, while it is; `.task` otherwise
//!     bell          the named pipe
//!     inside/       mounted
//!       bell        the same pipe
//!       born        made by the supervisor inside before anything else: it never serves twice
//!       errand      what is to be done next; whoever renames it has it, the supervisor as `started`
//!       leave       the scheduler wants the supervisor to leave
//!       leaving     the supervisor takes nothing more
//!       log         the log of the task that is here: the same file
//!       ...         what `place` says of a task's `inside`, which is a link to here
//!     oom           left by podman's monitor, whose working folder this is
//!     outputs/      mounted, but while it is lent: then it has the name of the task's, and that is here
//!     each/         mounted, not to be written
//!     used/         folders of tasks that are over; with `.errand`, `.each`, `.log`: to be used again
//! ```
//!
//! A layer can do to `inside` and `outputs` whatever it likes, as to those of a container of its own; the rest is not seen
//! inside. So nothing in `inside` says which task is here or where its files are, no link in it is followed, and what a task has
//! left there is removed before the next. What a layer can change is what is said of its own tasks.

pub(crate) mod desk;
pub(crate) mod errand;
pub(crate) mod pool;
